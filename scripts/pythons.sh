#!/usr/bin/env bash
# All tests but the slow ones on every supported Python that is installed: those on the PATH,
# and pyenv's. Further arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

candidates() {
  local minor
  for minor in {11..19}; do
    command -v "python3.$minor" || true
  done
  # Newest patch releases first.
  printf '%s\n' "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.*/bin/python | sort --version-sort --reverse
}

# Of each minor version the first one that works, as lines of "3.12 /path/to/python".
pythons() {
  local python version seen=" "
  while read -r python; do
    # A shim may stand for a version that is not there.
    version=$("$python" -c 'import sys, venv; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    if [[ ${version#3.} -ge 11 && $seen != *" $version "* ]]; then
      seen+="$version "
      echo "$version $python"
    fi
  done < <(candidates)
}

ROUTER_TEST_MYSQL_URLS=${ROUTER_TEST_MYSQL_URLS:-$(scripts/mariadb.sh)}
export ROUTER_TEST_MYSQL_URLS

mapfile -t found < <(pythons | sort --version-sort)
failed=()
for line in "${found[@]}"; do
  read -r version python <<<"$line"
  printf '\n== tests on Python %s (%s)\n' "$version" "$python"
  PYTHON=$python scripts/venv.sh ".venv-$version" -e '.[demo,test]'
  ".venv-$version/bin/python" -m pytest \
    --numprocesses logical --maxprocesses "${PYTEST_WORKERS:-8}" -m 'not slow' "$@" \
    || failed+=("$version")
done

printf '\nPythons tested: %s; failed: %s\n' "${found[*]%% *}" "${failed[*]:-none}"
[[ ${#found[@]} -gt 0 && ${#failed[@]} == 0 ]]
