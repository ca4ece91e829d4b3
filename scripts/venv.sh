#!/usr/bin/env bash
# Make a virtual environment, unless it is there already: venv.sh DIRECTORY REQUIREMENT...
# A stamp in it says what it was made from, so that the second call ends at once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=$1
shift

find_python() {
  local name
  for name in ${PYTHON:+"$PYTHON"} python3.13 python3.12 python3.11 python3 python; do
    if "$name" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
      echo "$name"
      return
    fi
  done
  echo "error: no Python 3.11 or newer on the PATH; install one, or say PYTHON=/path/to/python" >&2
  return 1
}

stamp() {
  "$1" - "$PWD" "${@:2}" <<'PYTHON'
import hashlib, sys
made_from = "\n".join([sys.version, *sys.argv[1:]]).encode() + open("pyproject.toml", "rb").read()
print(hashlib.sha256(made_from).hexdigest())
PYTHON
}

python=$(find_python)
wanted=$(stamp "$python" "$@")
if [[ -x $venv/bin/python && $(cat "$venv/stamp" 2>/dev/null) == "$wanted" ]]; then
  exit 0
fi

echo "Setting up $venv with $("$python" --version); this happens once." >&2
if "$python" -c 'import ensurepip' >/dev/null 2>&1; then
  "$python" -m venv --clear "$venv"
  pip=("$venv/bin/python" -m pip)
else
  # Some distributions split ensurepip off; the pip of the system can fill the environment too.
  "$python" -m venv --clear --without-pip "$venv"
  pip=("$python" -m pip --python "$venv/bin/python")
fi
"${pip[@]}" install -qq --no-input --disable-pip-version-check "$@"
echo "$wanted" >"$venv/stamp"
