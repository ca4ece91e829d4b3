#!/usr/bin/env bash
# Lint, types, a short run on the oldest SQLAlchemy, then all tests; pytest's line comes last.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

oldest=2.0.40

section() {
  printf '\n== %s\n' "$1"
}

section "lint and types"
scripts/lint.sh

ROUTER_TEST_MYSQL_URLS=${ROUTER_TEST_MYSQL_URLS:-$(scripts/mariadb.sh)}
export ROUTER_TEST_MYSQL_URLS

pytest_options=(--numprocesses logical --maxprocesses "${PYTEST_WORKERS:-8}")

section "tests on SQLAlchemy $oldest, without the slow ones"
scripts/venv.sh .venv-oldest -e '.[demo,test]' "SQLAlchemy==$oldest"
.venv-oldest/bin/python -m pytest "${pytest_options[@]}" -m 'not slow'

section "all tests"
.venv/bin/python -m pytest "${pytest_options[@]}"
