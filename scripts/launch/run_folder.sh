#!/usr/bin/env bash
# The folder of a run, from the words of its command: run=FOLDER, else runs/NAME of name=NAME.
set -euo pipefail
name='' folder=''
for word in "$@"; do
  case $word in
    name=*) name=${word#name=} ;;
    run=*) folder=${word#run=} ;;
  esac
done
if [ -z "$name$folder" ]; then
  echo "error: say name=RUN: the job looks into runs/RUN for how the run ended" >&2
  exit 2
fi
echo "${folder:-runs/$name}"
