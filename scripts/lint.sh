#!/usr/bin/env bash
# Everything that is checked without running the code.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
.venv/bin/basedpyright --pythonpath .venv/bin/python
if command -v shellcheck >/dev/null; then
  shellcheck scripts/*.sh .ci/run
fi
