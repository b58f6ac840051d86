"""RAD on each of its bases on digits: from scratch, and by LoRA from a plain model.

Three seeds of each, under the demo's measures at 100 and at 20 steps; and one of VE as
its published networks are. What was done is kept: a run that was stopped goes on, seed
by seed.
"""

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.measured import measured, store
from benchmarks.training_run import trained
from configs.digits_base import BASES
from rad_jax.checkpoints.load import load_diffusion
from rad_jax.evaluate.demo import measure
from rad_jax.files.contact_sheet import contact_sheet
from rad_jax.files.pictures import save_png
from rad_jax.prepare.command import prepare
from rad_jax.runtime.compilation_cache import enable_compilation_cache
from rad_jax.runtime.sharding import use_cpu_cores

SEEDS = (0, 1, 2)
WAYS = ("scratch", "lora")
STEPS = {"plain": 1500, "scratch": 1200, "lora": 500}
"""Of training."""

FILLING_STEPS = (20, 100)
NUM_IMAGES, NUM_SAMPLES = 99, 2

AS_PUBLISHED = {
    "ve_input": ("schedule.unit_input=False",),
    "ve_fourier": ("model.fourier_scale=16.0",),
    "ve_both": ("schedule.unit_input=False", "model.fourier_scale=16.0"),
}
"""What published VE networks have otherwise than that of the digits, by names."""

LORA = ("lora.rank=16", "lora.alpha=16.0")
PLAIN = ("mask.kind=full", "schedule.known_steps=0")
PLAIN_VLB = "loss.vlb_weight=1.0"
"""As ADM was trained, where there is a bound."""


class Run(NamedTuple):
    """One base, trained in one way from one seed."""

    base: str
    way: str
    seed: int

    @property
    def name(self) -> str:
        """Of its folder and its result."""
        return f"{self.base}_{self.way}_{self.seed}"


def runs() -> Iterator[Run]:
    """All of them, every kind once before any is repeated."""
    for seed in SEEDS:
        for way, base in itertools.product(WAYS, BASES):
            yield Run(base, way, seed)
        if seed == SEEDS[0]:
            for base in AS_PUBLISHED:
                yield Run(base, "scratch", seed)


def changes(run: Run, workdir: Path) -> tuple[str, ...]:
    """What a run changes in its base's config."""
    learned = run.base in ("adm", "iddpm")
    own = {
        "plain": (*PLAIN, PLAIN_VLB) if learned else PLAIN,
        "scratch": (),
        "lora": (*LORA, f"pretrained={workdir / plain_of(run).name}"),
    }
    return (
        f"data.data_dir={workdir / 'data'}",
        f"seed={run.seed}",
        f"train.num_steps={STEPS[run.way]}",
        "train.sample_every=0",
        *own[run.way],
        *AS_PUBLISHED.get(run.base, ()),
    )


def plain_of(run: Run) -> Run:
    """The plain model that adapters are trained of: one for all seeds."""
    return Run(run.base, "plain", 0)


def train_one(run: Run, workdir: Path) -> bool:
    """Trains a run, or goes on with it; False if it was stopped."""
    base = "ve" if run.base in AS_PUBLISHED else run.base
    config = f"configs/digits_base.py:{base}"
    return trained(config, changes(run, workdir), workdir / run.name)


def scores(run: Run, workdir: Path) -> tuple[dict[str, Any], list]:
    """The demo's measures of a trained run by steps, and rows of a picture."""
    model = load_diffusion(workdir / run.name)
    found: dict[str, Any] = {}
    rows: list = []
    for steps in FILLING_STEPS:
        found[str(steps)], rows = measure(
            model,
            workdir / "data",
            steps=steps,
            num_samples=NUM_SAMPLES,
            num_images=NUM_IMAGES,
        )
        for kind in found[str(steps)].values():
            del kind["seconds_per_image"]  # it tells but what else ran meanwhile
    return found, rows


def missing(output: Path) -> list[Run]:
    """The runs that have no result yet."""
    return [run for run in runs() if not (output / f"{run.name}.json").exists()]


def main() -> None:
    """Trains, measures, stores, and says what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=Path, default=Path("runs/bases"))
    parser.add_argument("--output", type=Path, default=Path("docs/results/bases"))
    parser.add_argument("--most", type=int, help="runs to do now, at most")
    args = parser.parse_args()
    use_cpu_cores()
    enable_compilation_cache()
    prepare("digits", args.workdir / "data")
    for run in missing(args.output)[: args.most]:
        where = measured()
        base = [plain_of(run)] if run.way == "lora" else []
        if not all(train_one(each, args.workdir) for each in (*base, run)):
            break
        found, rows = scores(run, args.workdir)
        if run.seed == SEEDS[0] and run.base in BASES:
            sheet = contact_sheet(rows[:: len(rows) // 6][:6], scale=3)
            save_png(sheet, args.output / f"{run.base}_{run.way}.png")
        record = {
            "measured": where,
            "base": run.base,
            "way": run.way,
            "training_seed": run.seed,
            "training_steps": STEPS[run.way],
            "plain_steps": STEPS["plain"],
            "num_images": NUM_IMAGES,
            "num_samples": NUM_SAMPLES,
            "steps": found,
        }
        store(args.output / f"{run.name}.json", record)
    left = len(missing(args.output))
    print(f"bases: {left} runs are left; run this again" if left else "bases: done")


if __name__ == "__main__":
    main()
