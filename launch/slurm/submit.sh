#!/usr/bin/env bash
# Submits train.sbatch.
#
#   launch/slurm/submit.sh [--dry_run]
#
# Configured by variables: launch/README.md. Flags of the cluster, such as --partition,
# go into SBATCH_FLAGS.
set -euo pipefail
cd "$(dirname "$0")/../.."
. launch/common.sh

need CONFIG configs/ffhq256.py
need WORKDIR /shared/runs/ffhq256
need NODES 2
need GPUS_PER_NODE 8
need TIME 24:00:00
read -ra cluster <<<"${SBATCH_FLAGS:-}"
read -ra more <<<"${TRAIN_FLAGS:-}"
run sbatch --nodes="$NODES" --gpus-per-node="$GPUS_PER_NODE" \
  --ntasks-per-node="$GPUS_PER_NODE" --cpus-per-task="${CPUS_PER_TASK:-8}" \
  --time="$TIME" ${NAME:+--job-name="$NAME"} \
  --export=ALL${CACHE_DIR:+,JAX_COMPILATION_CACHE_DIR="$CACHE_DIR"} \
  "${cluster[@]+"${cluster[@]}"}" \
  launch/slurm/train.sbatch --config "$CONFIG" --workdir "$WORKDIR" \
  ${DATA_DIR:+--config.data.data_dir="$DATA_DIR"} "${more[@]+"${more[@]}"}"
