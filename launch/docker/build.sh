#!/usr/bin/env bash
# Builds an image, and pushes it with PUSH=1.
#
#   IMAGE=NAME:TAG launch/docker/build.sh tpu|cuda [--dry_run]
set -euo pipefail
cd "$(dirname "$0")/../.."
. launch/common.sh

need IMAGE europe-docker.pkg.dev/my-project/rad/rad-jax:cuda
case ${1:-} in
tpu | cuda) ;;
*) fail "say which: tpu or cuda" ;;
esac
run docker build --file "launch/docker/Dockerfile.$1" --tag "$IMAGE" .
if [ -n "${PUSH:-}" ]; then run docker push "$IMAGE"; fi
