"""Runs the scripts of launch/ beside stand-ins of the programs that they call.

`python tests/launch/scripts.py` writes tests/launch/dry_runs/ anew: look at what git
says has changed.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
DRY_RUNS = Path(__file__).parent / "dry_runs"

# Writes down what it is called with; answers are taken from files, a line each time.
STAND_IN = r"""#!/usr/bin/env bash
printf '%s\x1f' "${0##*/}" "$@" >>"$ANSWERS/calls"
printf '\x1e' >>"$ANSWERS/calls"
answer() {
  text=$(head -n 1 "$ANSWERS/$1" 2>/dev/null)
  sed -i 1d "$ANSWERS/$1" 2>/dev/null
  if [ "$text" = error ]; then exit 1; fi
  if [ -n "$text" ]; then tr , '\n' <<<"$text"; fi
}
case "${0##*/} $*" in
*'queued-resources list'*) answer slice ;;
*'tpu-vm list'*) answer node ;;
*'on_worker.sh status'*) answer program ;;
*'on_worker.sh '*) answer on_worker ;;
'kubectl '*) cat >"$ANSWERS/stdin" ;;
'srun '*)
  if [ -n "${SRUN_SIGNAL:-}" ]; then kill -TERM "$PPID"; fi
  exit "${SRUN_CODE:-0}"
  ;;
esac
"""
PROGRAMS = ("gcloud", "kubectl", "sbatch", "scontrol", "srun", "docker")

TPU = {
    "NAME": "ffhq256",
    "PROJECT": "my-project",
    "ZONE": "europe-west4-a",
    "ACCELERATOR_TYPE": "v6e-16",
    "RUNTIME_VERSION": "v2-alpha-tpuv6e",
    "SPOT": "1",
    "WHEEL": "dist/rad_jax-0.1.0-py3-none-any.whl",
    "CONFIG": "configs/ffhq256.py",
    "WORKDIR": "/shared/runs/ffhq256",
    "DATA_DIR": "/shared/data",
    "HOSTS": "4",
    "MOUNT": "mountpoint -q /shared || sudo mount -t nfs 10.0.0.2:/share /shared",
    "TRAIN_FLAGS": "--config.train.fsdp=4 --config.lora.targets=('qkv','proj')",
    "POLL_SECONDS": "0",
}
GKE = {
    "NAME": "ffhq256",
    "IMAGE": "europe-docker.pkg.dev/my-project/rad/rad-jax:1",
    "CONFIG": "configs/ffhq256.py",
    "WORKDIR": "/shared/runs/ffhq256",
    "SHARED_CLAIM": "filestore",
    "DATA_BUCKET": "my-data",
    "HOSTS": "4",
    "TRAIN_FLAGS": "--config.train.fsdp=4 --config.lora.targets=('qkv','proj')",
}
GKE_TPU = GKE | {
    "TPU_ACCELERATOR": "tpu-v6e-slice",
    "TPU_TOPOLOGY": "4x4",
    "CHIPS_PER_HOST": "4",
    "SLICES": "2",
}
GKE_GPU = GKE | {"GPU_ACCELERATOR": "nvidia-h100-80gb", "GPUS_PER_HOST": "8"}
INPAINT = {
    "MODEL": "/shared/runs/ffhq256",
    "IMAGES": "/shared/photos/*.jpg",
    "MASKS": "/shared/masks",
    "OUTPUT": "/shared/filled",
    "SHARDS": "16",
    "MOST_AT_ONCE": "4",
    "INPAINT_FLAGS": "--mask_pattern {stem}_mask.png --seed 7",
}
GKE_INPAINT = INPAINT | {
    "NAME": "fill",
    "IMAGE": "europe-docker.pkg.dev/my-project/rad/rad-jax:1",
    "SHARED_CLAIM": "filestore",
}
GKE_INPAINT_TPU = GKE_INPAINT | {
    "TPU_ACCELERATOR": "tpu-v6e-slice",
    "TPU_TOPOLOGY": "2x2",
    "CHIPS_PER_HOST": "4",
}
GKE_INPAINT_GPU = GKE_INPAINT | {
    "GPU_ACCELERATOR": "nvidia-l4",
    "SPOT": "1",
}
SLURM_INPAINT = INPAINT | {
    "OUTPUT": "/shared/filled 2",
    "CACHE_DIR": "/shared/cache",
    "TIME": "4:00:00",
    "SBATCH_FLAGS": "--partition=gpu --account=me",
}
SLURM = {
    "CONFIG": "configs/ffhq256.py",
    "WORKDIR": "/shared/runs/ffhq 256",
    "DATA_DIR": "/shared/data",
    "CACHE_DIR": "/shared/cache",
    "NODES": "2",
    "GPUS_PER_NODE": "8",
    "TIME": "24:00:00",
    "SBATCH_FLAGS": "--partition=gpu --account=me",
    "TRAIN_FLAGS": "--config.train.fsdp=4",
}
DOCKER = {"IMAGE": "rad-jax:1", "PUSH": "1"}
LOCAL = (
    f"{sys.executable} launch/local/launch.py --processes 2 --devices 4 --port 5000 "
    "--dry_run -- rad-jax train --config configs/digits.py --workdir 'my runs'"
)
WORKERS = (
    f"{sys.executable} launch/local/workers.py --dry_run -- "
    "rad-jax inpaint --model runs/digits --image 'my photos' --output filled"
)

CASES = {
    **{
        f"tpu_{verb}": (f"launch/tpu/tpu.sh {verb} --dry_run", TPU)
        for verb in (
            *("create", "setup", "run", "status", "logs", "stop", "watch", "delete"),
        )
    },
    "gke_tpu": ("launch/gke/apply.sh tpu --dry_run", GKE_TPU),
    "gke_gpu": ("launch/gke/apply.sh gpu --dry_run", GKE_GPU),
    "gke_inpaint_tpu": ("launch/gke/apply.sh inpaint-tpu --dry_run", GKE_INPAINT_TPU),
    "gke_inpaint_gpu": ("launch/gke/apply.sh inpaint-gpu --dry_run", GKE_INPAINT_GPU),
    "slurm_inpaint": ("launch/slurm/inpaint.sh --dry_run", SLURM_INPAINT),
    "slurm": ("launch/slurm/submit.sh --dry_run", SLURM),
    "docker_tpu": ("launch/docker/build.sh tpu --dry_run", DOCKER),
    "docker_cuda": ("launch/docker/build.sh cuda --dry_run", DOCKER),
    "local": (LOCAL, {}),
    "local_workers": (WORKERS, {"CUDA_VISIBLE_DEVICES": "0,1"}),
}
"""Name of the stored dry run -> command and its variables."""


class Runner:
    """Runs commands in the repository, beside stand-ins of the programs."""

    def __init__(self, folder: Path):
        self.answers = folder
        for name in PROGRAMS:
            (folder / name).write_text(STAND_IN)
            (folder / name).chmod(0o755)

    def __call__(self, command: str, **variables: str):
        env = {
            "PATH": f"{self.answers}:{os.defpath}",
            "ANSWERS": str(self.answers),
            "HOME": str(self.answers),
        }
        return subprocess.run(
            shlex.split(command),
            cwd=ROOT,
            env=env | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
        )

    def answer(self, kind: str, *lines: str) -> None:
        """What the next calls of a kind print; "error" fails."""
        (self.answers / kind).write_text("".join(f"{line}\n" for line in lines))

    def calls(self) -> list[list[str]]:
        """The commands that stand-ins were called as."""
        path = self.answers / "calls"
        text = path.read_text() if path.exists() else ""
        return [call.split("\x1f")[:-1] for call in text.split("\x1e")[:-1]]


def main() -> None:
    import tempfile

    for name, (command, variables) in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            result = Runner(Path(folder))(command, **variables)
        assert not result.returncode, result
        (DRY_RUNS / f"{name}.txt").write_text(result.stdout)


if __name__ == "__main__":
    main()
