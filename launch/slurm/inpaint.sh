#!/usr/bin/env bash
# Submits inpaint.sbatch: SHARDS workers, each with a GPU and its part of the images.
#
#   launch/slurm/inpaint.sh [--dry_run]
#
# Configured by variables: launch/README.md. Flags of the cluster, such as --partition,
# go into SBATCH_FLAGS.
set -euo pipefail
cd "$(dirname "$0")/../.."
. launch/common.sh

need MODEL /shared/runs/ffhq256
need IMAGES /shared/photos
need OUTPUT /shared/filled
need SHARDS 8
need TIME 4:00:00
need_count SHARDS
if [ -n "${MOST_AT_ONCE:-}" ]; then need_count MOST_AT_ONCE; fi
read -ra cluster <<<"${SBATCH_FLAGS:-}"
read -ra more <<<"${INPAINT_FLAGS:-}"
run sbatch --array="0-$((SHARDS - 1))${MOST_AT_ONCE:+%$MOST_AT_ONCE}" \
  --nodes=1 --ntasks=1 --gpus-per-node=1 --cpus-per-task="${CPUS_PER_TASK:-8}" \
  --time="$TIME" ${NAME:+--job-name="$NAME"} \
  --export=ALL,SHARDS="$SHARDS"${CACHE_DIR:+,JAX_COMPILATION_CACHE_DIR="$CACHE_DIR"} \
  "${cluster[@]+"${cluster[@]}"}" \
  launch/slurm/inpaint.sbatch --model "$MODEL" --image "$IMAGES" \
  ${MASKS:+--mask "$MASKS"} --output "$OUTPUT" "${more[@]+"${more[@]}"}"
