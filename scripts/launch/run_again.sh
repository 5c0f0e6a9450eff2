#!/bin/bash
# Runs a command again while it ends with exit code 75 (stopped, or another process has ended) or 137
# (killed), at most MAX_RESTARTS times. SIGTERM is passed on and ends it.
#
#   scripts/launch/run_again.sh tljax train --config=quickstart
set -u

stopped=
child=
trap 'stopped=1; [[ -n $child ]] && kill -TERM "$child"' TERM

for (( restarts = 0; ; restarts++ )); do
  "$@" &
  child=$!
  [[ -n $stopped ]] && kill -TERM "$child" # the signal came before the command had a number
  wait "$child"
  code=$?
  while kill -0 "$child" 2> /dev/null; do # a signal ends `wait` before the command has ended
    wait "$child"
    code=$?
  done
  [[ -z $stopped && ( $code == 75 || $code == 137 ) ]] || exit "$code"
  (( restarts < ${MAX_RESTARTS:-20} )) || exit "$code"
  echo "run_again.sh: exit code $code, starting again ($((restarts + 1)) of ${MAX_RESTARTS:-20})" >&2
  sleep "${RESTART_SECONDS:-10}"
done
