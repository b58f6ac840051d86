#!/usr/bin/env bash
# Fills in a JobSet to train, or a Job to inpaint, and hands it to Kubernetes.
#
#   launch/gke/apply.sh tpu|gpu|inpaint-tpu|inpaint-gpu [--dry_run]
#
# Configured by variables: launch/README.md. To train, JobSet has to be on the cluster.
set -euo pipefail
cd "$(dirname "$0")/../.."
. launch/common.sh

need NAME ffhq256
need IMAGE europe-docker.pkg.dev/my-project/rad/rad-jax:cuda
need SHARED_CLAIM filestore
names=(NAME IMAGE SHARED_CLAIM CACHE_DIR SERVICE_ACCOUNT MAX_RESTARTS)
case ${1:-} in
tpu | gpu)
  file=jobset-$1.yaml
  need CONFIG configs/ffhq256.py
  need WORKDIR /shared/runs/ffhq256
  need DATA_BUCKET my-bucket
  need HOSTS 4
  names+=(CONFIG WORKDIR DATA_BUCKET DATA_PATH HOSTS SLICES PROCESSES)
  : "${MAX_RESTARTS:=100}" "${DATA_PATH:=}" "${SLICES:=1}"
  export PROCESSES=$((HOSTS * SLICES))
  read -ra more <<<"${TRAIN_FLAGS:-}"
  ;;
inpaint-tpu | inpaint-gpu)
  file=$1.yaml
  need MODEL /shared/runs/ffhq256
  need IMAGES /shared/photos
  need OUTPUT /shared/filled
  need SHARDS 8
  : "${MAX_RESTARTS:=20}" "${MOST_AT_ONCE:=$SHARDS}" "${MASKS:=}" "${GPUS_PER_HOST:=1}"
  need_count SHARDS
  need_count MOST_AT_ONCE
  names+=(MODEL IMAGES MASKS OUTPUT SHARDS MOST_AT_ONCE)
  read -ra more <<<"${INPAINT_FLAGS:-}"
  if [ -n "$MASKS" ]; then more=(--mask="$MASKS" "${more[@]+"${more[@]}"}"); fi
  ;;
*) fail "say which: tpu, gpu, inpaint-tpu or inpaint-gpu" ;;
esac
case $1 in
*tpu)
  need TPU_ACCELERATOR tpu-v6e-slice
  need TPU_TOPOLOGY 4x4
  need CHIPS_PER_HOST 4
  names+=(TPU_ACCELERATOR TPU_TOPOLOGY CHIPS_PER_HOST)
  ;;
*gpu)
  need GPU_ACCELERATOR nvidia-h100-80gb
  need GPUS_PER_HOST 8
  names+=(GPU_ACCELERATOR GPUS_PER_HOST)
  ;;
esac
: "${CACHE_DIR:=/tmp/jax-cache}" "${SERVICE_ACCOUNT:=default}"

text=$(<"launch/gke/$file")
if [ -z "${SPOT:-}" ]; then text=$(grep -v gke-spot <<<"$text"); fi
for name in "${names[@]}"; do
  case ${!name} in
  *[\"\\[:space:]]*) fail "$name holds a blank, a quote or a backslash" ;;
  esac
  text=${text//"\${$name}"/"${!name}"}
done

# One line for each further flag, or none.
indent=${text%%"\"\${FLAGS}\""*}
indent=${indent##*$'\n'}
flags=
for word in "${more[@]+"${more[@]}"}"; do
  flags+="$indent'${word//\'/\'\'}'"$'\n'
done
text=${text/"$indent\"\${FLAGS}\""$'\n'/"$flags"}

if [ -n "$dry_run" ]; then
  printf "kubectl apply --filename - <<'EOF'\n%s\nEOF\n" "$text"
else
  printf '%s\n' "$text" | kubectl apply --filename -
fi
