#!/usr/bin/env bash
# Trains on Cloud TPU VMs that a queued resource asks for.
#
#   launch/tpu/tpu.sh create|setup|run|status|logs|stop|watch|delete [--dry_run]
#
# Configured by variables: launch/README.md.
set -euo pipefail
cd "$(dirname "$0")/../.."
. launch/common.sh

resource() {
  run gcloud compute tpus queued-resources "$@" --project="$PROJECT" --zone="$ZONE"
}

vm() {
  run gcloud compute tpus tpu-vm "$@" --project="$PROJECT" --zone="$ZONE"
}

# ACTIVE, WAITING_FOR_RESOURCES, ..., FAILED, or nothing if there is none.
state() { resource list --filter="name~/$NAME\$" --format='value(state.state)'; }

# READY, PREEMPTED, ..., of the slice itself.
node_state() { vm list --filter="name~/$NAME\$" --format='value(state)'; }

ask() {
  resource create "$NAME" --node-id="$NAME" --accelerator-type="$ACCELERATOR_TYPE" \
    --runtime-version="$RUNTIME_VERSION" --async ${SPOT:+--spot}
}

create() {
  local now
  need ACCELERATOR_TYPE v6e-16
  need RUNTIME_VERSION v2-alpha-tpuv6e
  if [ -n "$dry_run" ]; then
    state
  else
    now=$(state)
    if [ -n "$now" ]; then
      say "$NAME is there: $now"
      return
    fi
  fi
  ask
}

on_workers() {
  vm ssh "$NAME" --worker="${2:-all}" --quiet --command="$1"
}

setup() {
  need WHEEL dist/rad_jax-0.1.0-py3-none-any.whl
  on_workers 'mkdir -p rad-jax && rm -f rad-jax/*.whl' &&
    vm scp --recurse "$WHEEL" requirements-tpu.txt configs launch/tpu/on_worker.sh \
      "$NAME:rad-jax" --worker=all --quiet &&
    on_workers 'bash rad-jax/on_worker.sh install'
}

train() {
  need CONFIG configs/ffhq256.py
  need WORKDIR /shared/runs/ffhq256
  local more command mount=
  if [ -n "${MOUNT:-}" ]; then mount="{ $MOUNT; } && "; fi
  read -ra more <<<"${TRAIN_FLAGS:-}"
  command=$(quoted env RAD_JAX_STOPPED_EXIT_CODE=143 \
    ${HOSTS:+RAD_JAX_EXPECT_PROCESSES="$HOSTS"} \
    ${CACHE_DIR:+JAX_COMPILATION_CACHE_DIR="$CACHE_DIR"} \
    rad-jax train --config "$CONFIG" --workdir "$WORKDIR" \
    ${DATA_DIR:+--config.data.data_dir="$DATA_DIR"} "${more[@]+"${more[@]}"}")
  on_workers "${mount}bash rad-jax/on_worker.sh start $command"
}

status() { on_workers 'bash rad-jax/on_worker.sh status'; }
stop() { on_workers 'bash rad-jax/on_worker.sh stop'; }
logs() { on_workers 'tail -n 100 -F rad-jax/train.log' "${WORKER:-0}"; }
delete() { resource delete "$NAME" --force --quiet; }

# Until training is done: asks for the slice again when it is taken away, starts the
# program again when it ends early; not after a mistake, nor for ever.
watch() {
  need ACCELERATOR_TYPE v6e-16
  need RUNTIME_VERSION v2-alpha-tpuv6e
  need WHEEL dist/rad_jax-0.1.0-py3-none-any.whl
  need CONFIG configs/ffhq256.py
  need WORKDIR /shared/runs/ffhq256
  if [ -n "$dry_run" ]; then
    state && ask && state && node_state && status && setup && train
    return
  fi
  local slice restarts=0
  while :; do
    # What cannot be asked is asked again later.
    slice=$(state) || slice=unknown
    if [ "$slice" = ACTIVE ] && [[ $(node_state) =~ PREEMPTED|TERMINATED ]]; then
      slice=PREEMPTED
    fi
    case $slice in
    '') ask || say "not created; trying again" ;;
    FAILED | SUSPENDED | PREEMPTED)
      say "$slice: asking for another"
      restarts=0
      delete || true
      ;;
    ACTIVE) tend ;;
    esac
    sleep "${POLL_SECONDS:-60}"
  done
}

# One look at the workers of a slice that is there.
tend() {
  local program
  program=$(status 2>/dev/null | grep -E '^(running|lost|exit [0-9]+)' | sort -u |
    tr -d '\r' | paste -sd' ') || true
  case " $program " in
  '  ') start setup train ;;
  ' exit 0 ')
    say "done"
    exit
    ;;
  *' exit 2 '*) fail "rad-jax names a mistake: see launch/tpu/tpu.sh logs" ;;
  *' exit '[!0]* | *' lost '*)
    restarts=$((restarts + 1))
    if [ "$restarts" -gt "${MAX_RESTARTS:-10}" ]; then
      say "$program: given up"
      exit 1
    fi
    say "$program: restart $restarts"
    start stop train
    ;;
  esac
}

start() {
  if ! { "$1" && "$2"; }; then say "not started; trying again"; fi
}

need NAME ffhq256
need PROJECT my-project
need ZONE europe-west4-a
case ${1:-} in
create | setup | status | stop | logs | watch | delete) "$1" ;;
run) train ;;
*) fail "give a verb: create, setup, run, status, logs, stop, watch or delete" ;;
esac
