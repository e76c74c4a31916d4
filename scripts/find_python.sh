#!/usr/bin/env bash
# Print the first interpreter that can make our virtual environment: Python >= 3.11 with venv and pip inside.
# PYTHON=... asks for one interpreter and no other.
set -euo pipefail

fits() {  # some "python3.12" on a path are only shims of a version manager, so each candidate has to run
  "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

for candidate in ${PYTHON:-python3.11 python3.12 python3 python3.13 python3.14}; do
  if command -v "$candidate" >/dev/null && fits "$candidate"; then
    command -v "$candidate"
    exit 0
  fi
done

{
  echo "animeflow needs Python 3.11 or newer with its venv module, and found none among: ${PYTHON:-python3.11 python3.12 python3 ...}"
  for candidate in ${PYTHON:-python3.11 python3.12 python3 python3.13 python3.14}; do
    path=$(command -v "$candidate" || true)
    [ -n "$path" ] && echo "  $path says: $("$path" --version 2>&1 | head -n 1)"
  done
  echo "  do: install one (on Debian and Ubuntu the packages python3 and python3-venv), or name it: make PYTHON=/path/to/python3.12 ..."
} >&2
exit 1
