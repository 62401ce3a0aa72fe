#!/bin/sh
# Run a program, and end it with SIGTERM when a file in the folder of its code is written. Whoever started this script starts
# it again: in containers the engine does (`restart: unless-stopped` in compose.yaml). Only compose.dev.yaml uses it.
#
#   tools/reload.sh FOLDER PROGRAM [ARGUMENT ...]
set -u
folder=$1
shift
begun=$(mktemp) # made before the program reads its code: a file that is written meanwhile is newer
stopped=
trap 'stopped=1' TERM INT # before the start: without it, an early stop would end this script and leave the program
"$@" &
program=$!
while kill -0 $program 2>/dev/null; do
    if [ -n "$stopped" ] || [ -n "$(find "$folder" -type f -not -path '*/__pycache__/*' -newer "$begun" -print -quit)" ]; then
        kill -TERM $program 2>/dev/null
        break
    fi
    sleep 1 &
    wait $!
done
wait $program
code=$?
rm -f "$begun"
exit $code
