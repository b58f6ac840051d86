#!/usr/bin/env bash
# What tpu.sh has every worker do; it lies in ~/rad-jax, beside the wheel.
#
#   on_worker.sh install | start COMMAND ... | status | stop
set -euo pipefail
cd "$(dirname "$0")"
export PATH="$PWD/env/bin:$HOME/.local/bin:$PATH"
pid=${MEMORY:-/dev/shm}/rad-jax.pid # a reboot removes it

running() { [ -f "$pid" ] && kill -0 "$(cat "$pid")" 2>/dev/null; }

case ${1:-} in
install) # the TPU images' own Python may be too old
  python3 -m pip install --quiet --user uv==0.13.9
  uv venv --quiet --allow-existing --python 3.12 env
  uv pip install --quiet --python env/bin/python -r requirements-tpu.txt
  uv pip install --quiet --python env/bin/python --no-deps --reinstall ./*.whl
  ;;
start)
  shift
  if running; then
    echo "already running"
    exit
  fi
  rm -f exit_code "$pid"
  # shellcheck disable=SC2016 # expanded by the inner shell
  nohup setsid bash -c 'pid=$1; shift; "$@" & echo $! >"$pid"; wait $!; echo $? >exit_code' \
    - "$pid" "$@" >>train.log 2>&1 </dev/null &
  until [ -f "$pid" ]; do sleep 0.1; done
  echo started
  ;;
status) # or "lost": it ended without a word, e.g. by a reboot
  if [ -f exit_code ]; then
    echo "exit $(cat exit_code)"
  elif running; then
    echo running
  else
    echo lost
  fi
  ;;
stop)
  if running; then
    kill -TERM "$(cat "$pid")"
    for _ in {1..60}; do
      running || break
      sleep 1
    done
    if running; then kill -KILL "$(cat "$pid")"; fi
  fi
  rm -f exit_code "$pid"
  echo stopped
  ;;
*)
  echo "on_worker.sh: verbs are install, start, status and stop" >&2
  exit 2
  ;;
esac
