"""The paper's ablation (Table 3) and ours, on digits, from one pretrained plain ADM.

Each variant is trained from three seeds and evaluated by `rad-jax evaluate`'s code on
the held-out digits. What was done is kept: a run that was stopped goes on, and says
what is still to do. On a CPU two processes of one core each (`taskset`) that share the
seeds (`--seeds`) are faster than one of two cores, once the ADM is trained. Then:
  rad-jax report docs/results/ablation --output docs/ablation
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.measured import measured, store
from benchmarks.training_run import trained
from rad_jax.checkpoints.load import load_diffusion
from rad_jax.checkpoints.model import Model
from rad_jax.diffusion.options import SamplingOptions
from rad_jax.evaluate.evaluate import evaluate
from rad_jax.evaluate.protocol import RESULTS
from rad_jax.evaluate.settings import Evaluation
from rad_jax.inference.file_options import FileOptions
from rad_jax.prepare.command import prepare
from rad_jax.runtime.compilation_cache import enable_compilation_cache
from rad_jax.runtime.sharding import use_cpu_cores

STEPS = 800  # of fine-tuning; the ADM has 3000 before them
SAMPLING = SamplingOptions(steps=25)
MASKS = ("box", "extreme", "wide", "perlin")
SEEDS = (0, 1, 2)

RANK = ("lora.rank=4", "lora.alpha=4.0")
"""As small a part of the width as the paper's 16 in its networks."""

VARIANTS = {
    "RAD": (),
    "Cfg. 2: t embedding": ("model.noise_embedding=time",),
    "phase 1 only": ("schedule.known_steps=0",),
    "loss on all pixels": ("loss.all_pixels=True",),
    "VLB weight 1": ("loss.vlb_weight=1.0",),
    "box masks": ("mask.kind=box",),
    "mixed masks": ("mask.kind=mixed",),
    "soft masks": ("mask.blur=1.0",),
    "all parameters": ("lora.rank=0",),
    "LoRA rank 16": ("lora.rank=16", "lora.alpha=16.0"),
    "LoRA rank 64": ("lora.rank=64", "lora.alpha=64.0"),
}
"""Overrides of configs/digits_lora.py after `RANK`."""

UNTRAINED = "Cfg. 1: pretrained ADM"


class Run(NamedTuple):
    """One variant from one seed of training."""

    name: str
    seed: int

    @property
    def folder(self) -> str:
        """Its name in a file system."""
        words = "".join(c if c.isalnum() else " " for c in self.name).split()
        return "_".join([*words, str(self.seed)])


def runs() -> Iterator[Run]:
    """All of them, every variant once before any is repeated."""
    yield Run(UNTRAINED, 0)
    for seed in SEEDS:
        for name in VARIANTS:
            yield Run(name, seed)


def left(output: Path) -> list[Run]:
    """What has no result yet."""
    return [run for run in runs() if not (output / run.folder / RESULTS).exists()]


def train_one(run: Run, workdir: Path) -> Model | None:
    """A run's model; None if training was stopped."""
    data, base = workdir / "data", workdir / "adm"
    if run.name == UNTRAINED:
        return load_diffusion(base, noise_embedding="time")
    changes = (
        f"data.data_dir={data}",
        f"pretrained={base}",
        f"seed={run.seed}",
        f"train.num_steps={STEPS}",
        "train.sample_every=0",
        *RANK,
        *VARIANTS[run.name],
    )
    folder = workdir / run.folder
    done = trained("configs/digits_lora.py", changes, folder)
    return load_diffusion(folder) if done else None


def pretrain(workdir: Path) -> bool:
    """The plain ADM that all begin from; False if it was stopped."""
    prepare("digits", workdir / "data")
    data = f"data.data_dir={workdir / 'data'}"
    return trained("configs/digits_adm.py", [data], workdir / "adm")


def main() -> None:
    """Trains, evaluates, stores, and says what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--output", type=Path, default=Path("docs/results/ablation"))
    parser.add_argument("--most", type=int, help="runs to do now, at most")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    args = parser.parse_args()
    use_cpu_cores()
    enable_compilation_cache()
    missing = [run for run in left(args.output) if run.seed in args.seeds]
    if missing and not pretrain(args.workdir):
        return
    for run in missing[: args.most]:
        where = measured()
        model = train_one(run, args.workdir)
        if model is None:
            break
        settings = Evaluation(
            "digits",
            args.workdir / "data",
            "test",
            masks=MASKS,
            num_images=297,
            sampling=SAMPLING,
            files=FileOptions(batch_size=99),
        )
        folder = args.workdir / f"{run.folder}_evaluation"
        record = evaluate(model, settings, folder, name=run.name)
        record |= {
            "measured": where,
            "training_seed": run.seed,
            "training_steps": STEPS,
        }
        for scores in record["masks"].values():
            # One network throughout: they would tell only what else ran meanwhile.
            del scores["seconds_per_image"], scores["scoring_seconds_per_image"]
        store(args.output / run.folder / RESULTS, record)
        print(
            json.dumps({k: v["frechet_classifier"] for k, v in record["masks"].items()})
        )
    names = [run.folder for run in left(args.output)]
    print(f"not run yet: {', '.join(names)}" if names else "all is done")


if __name__ == "__main__":
    main()
