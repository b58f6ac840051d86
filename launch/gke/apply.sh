#!/usr/bin/env bash
# Fills in a JobSet and hands it to Kubernetes.
#
#   launch/gke/apply.sh tpu|gpu [--dry_run]
#
# Configured by variables: launch/README.md. JobSet has to be on the cluster.
set -euo pipefail
cd "$(dirname "$0")/../.."
. launch/common.sh

need NAME ffhq256
need IMAGE europe-docker.pkg.dev/my-project/rad/rad-jax:cuda
need CONFIG configs/ffhq256.py
need WORKDIR /shared/runs/ffhq256
need SHARED_CLAIM filestore
need DATA_BUCKET my-bucket
need HOSTS 4
names=(NAME IMAGE CONFIG WORKDIR SHARED_CLAIM DATA_BUCKET DATA_PATH CACHE_DIR
  SERVICE_ACCOUNT MAX_RESTARTS HOSTS PROCESSES)
case ${1:-} in
tpu)
  need TPU_ACCELERATOR tpu-v6e-slice
  need TPU_TOPOLOGY 4x4
  need CHIPS_PER_HOST 4
  names+=(TPU_ACCELERATOR TPU_TOPOLOGY CHIPS_PER_HOST SLICES)
  ;;
gpu)
  need GPU_ACCELERATOR nvidia-h100-80gb
  need GPUS_PER_HOST 8
  names+=(GPU_ACCELERATOR GPUS_PER_HOST)
  ;;
*) fail "say which: tpu or gpu" ;;
esac
: "${DATA_PATH:=}" "${CACHE_DIR:=/tmp/jax-cache}" "${SERVICE_ACCOUNT:=default}"
: "${MAX_RESTARTS:=100}" "${SLICES:=1}"
export PROCESSES=$((HOSTS * SLICES))

text=$(<"launch/gke/jobset-$1.yaml")
for name in "${names[@]}"; do
  case ${!name} in
  *[\"\\[:space:]]*) fail "$name holds a blank, a quote or a backslash" ;;
  esac
  text=${text//"\${$name}"/"${!name}"}
done

# One line for each word of TRAIN_FLAGS, or none.
indent='                    - '
read -ra more <<<"${TRAIN_FLAGS:-}"
flags=
for word in "${more[@]+"${more[@]}"}"; do
  flags+="$indent'${word//\'/\'\'}'"$'\n'
done
text=${text/"$indent\"\${TRAIN_FLAGS}\""$'\n'/"$flags"}

if [ -n "$dry_run" ]; then
  printf "kubectl apply --filename - <<'EOF'\n%s\nEOF\n" "$text"
else
  printf '%s\n' "$text" | kubectl apply --filename -
fi
