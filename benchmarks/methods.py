"""RAD beside the methods that its paper compares with, from one plain ADM of digits.

Trains the ADM, and RAD from it by LoRA and in full from three seeds; then every method
fills the same digits under the same masks, by `rad-jax evaluate`'s code, seed by seed.
What was done is kept: a run that was stopped goes on, and says what is still to do.
Then:
  rad-jax report docs/results/methods --output docs/methods
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.measured import measured, store
from benchmarks.training_run import trained
from rad_jax.baselines.choice import Baseline
from rad_jax.checkpoints.load import load_diffusion
from rad_jax.diffusion.options import SamplingOptions
from rad_jax.evaluate.evaluate import evaluate
from rad_jax.evaluate.protocol import RESULTS
from rad_jax.evaluate.settings import Evaluation
from rad_jax.inference.file_options import FileOptions
from rad_jax.prepare.command import prepare
from rad_jax.runtime.compilation_cache import enable_compilation_cache
from rad_jax.runtime.sharding import use_cpu_cores

TRAINED = {"RAD by LoRA": ("lora", ()), "RAD in full": ("full", ("lora.rank=0",))}
"""Name in tables, of the folder, and overrides of a case's RAD."""

RAD_STEPS = (10, 20, 50, 100)

OTHERS = {
    "DDRM": ("ddrm", (20, 100)),
    "DDNM": ("ddnm", (20, 100)),
    "DeqIR": ("deqir", (25, 100)),
    "Score-SDE": ("score_sde", (100, 1000)),
    "RePaint": ("repaint", (100, 250, 2410)),
    "MCG": ("mcg", (50, 100, 1000)),
}
"""Method, and its evaluations: 20 to 100 beside RAD's, and the published numbers."""

LONG = 1000
"""Evaluations from which one seed must do, at the end: hours on a CPU."""


class Case(NamedTuple):
    """Data, what is trained on them, and what is filled.

    Attributes:
        data: name of the data set.
        adm: config of the plain ADM, and overrides.
        rad: config of RAD, and overrides.
        masks: kinds of evaluation masks.
        seeds: of RAD's training, of masks and noise.
        images: of the data's test split.
        samples: fillings of each.
        most: evaluations of a method.
        metrics: of `scores.GROUPS`; none for the data's own.
    """

    data: str
    adm: tuple[str, ...]
    rad: tuple[str, ...]
    masks: tuple[str, ...]
    seeds: tuple[int, ...]
    images: int
    samples: int
    most: int
    metrics: tuple[str, ...] = ()


SMALL = (
    "configs/photos64.py",
    "model.model_channels=32",
    "model.num_head_channels=32",
    "model.channel_mult=(1,2,2)",
    "model.num_res_blocks=1",
    "model.attention_resolutions=()",
    "model.dtype=float32",
    "loss.parametrisation=eps",
    "train.batch_size=8",
    "train.sample_every=0",
    "train.checkpoint_every=250",
)
"""What a CPU trains in the better part of an hour."""

CASES = {
    "digits": Case(
        data="digits",
        adm=("configs/digits_adm.py",),
        rad=("configs/digits_lora.py",),
        masks=("box", "extreme", "wide", "perlin"),
        seeds=(0, 1, 2),
        images=33,
        samples=2,
        most=sys.maxsize,
    ),
    "photos64": Case(
        data="photos",
        adm=(
            *SMALL,
            "mask.kind=full",
            "schedule.known_steps=0",
            "loss.vlb_weight=1.0",
            "train.num_steps=2500",
        ),
        rad=(*SMALL, "lora.rank=16", "lora.alpha=16.0", "train.num_steps=2500"),
        masks=("box", "wide"),
        seeds=(0,),
        images=8,
        samples=2,
        most=249,
        metrics=("pixels",),
    ),
}


class Row(NamedTuple):
    """A method with so many evaluations, from one seed."""

    name: str
    nfe: int
    seed: int

    @property
    def folder(self) -> str:
        """Its name in a file system."""
        word = "".join(c for c in self.name if c.isalnum())
        return f"{word}_{self.nfe:04d}_{self.seed}"


def rows(case: Case) -> Iterator[Row]:
    """All of them: every method once before any is repeated, the long ones last."""
    others = [(name, nfe) for name, (_, many) in OTHERS.items() for nfe in many]
    others = [(name, nfe) for name, nfe in others if nfe <= case.most]
    rad = [(name, nfe) for name in TRAINED for nfe in RAD_STEPS]
    for seed in case.seeds:
        for name, nfe in [*others, *rad]:
            if nfe < LONG:
                yield Row(name, nfe, seed)
    for name, nfe in others:
        if nfe >= LONG:
            yield Row(name, nfe, 0)


def left(case: Case, output: Path) -> list[Row]:
    """What has no result yet."""
    return [row for row in rows(case) if not (output / row.folder / RESULTS).exists()]


def train_one(config: Sequence[str], folder: Path, changes: Sequence[str]) -> bool:
    """Trains, or goes on; False if it was stopped."""
    file, *own = config
    return trained(file, (*own, *changes), folder)


def train_all(case: Case, workdir: Path) -> bool:
    """The plain ADM and all RADs that begin from it; False if it was stopped."""
    data = f"data.data_dir={workdir / 'data'}"
    prepare(case.data, workdir / "data")
    if not train_one(case.adm, workdir / "adm", [data]):
        return False
    for seed in case.seeds:
        for folder, changes in TRAINED.values():
            own = [f"pretrained={workdir / 'adm'}", f"seed={seed}", *changes]
            shared = [data, "train.sample_every=0"]
            if not train_one(case.rad, workdir / f"{folder}_{seed}", [*shared, *own]):
                return False
    return True


def run(case: Case, row: Row, workdir: Path, output: Path) -> None:
    """Fills, scores and stores."""
    where = measured()
    if row.name in TRAINED:
        folder, _ = TRAINED[row.name]
        model = load_diffusion(workdir / f"{folder}_{row.seed}")
        sampling = SamplingOptions(steps=row.nfe)
    else:
        method, _ = OTHERS[row.name]
        model, sampling = load_diffusion(workdir / "adm"), Baseline(method, nfe=row.nfe)
    settings = Evaluation(
        case.data,
        workdir / "data",
        "test",
        masks=case.masks,
        num_images=case.images,
        metrics=case.metrics,
        sampling=sampling,
        files=FileOptions(row.seed, case.samples, case.images * case.samples),
    )
    made = workdir / "evaluations" / row.folder
    record = evaluate(model, settings, made, name=row.name)
    record["measured"] = where
    for scores in record["masks"].values():
        # They would tell what else ran meanwhile; `method_speed` measures.
        del scores["seconds_per_image"], scores["scoring_seconds_per_image"]
    store(output / row.folder / RESULTS, record)


def main() -> None:
    """Trains, evaluates, stores, and says what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=CASES, default="digits")
    parser.add_argument("--workdir", type=Path, default=Path("runs/methods"))
    parser.add_argument("--output", type=Path, default=Path("docs/results/methods"))
    parser.add_argument("--most", type=int, help="rows to do now, at most")
    parser.add_argument("--names", nargs="+", help="of methods; by default all")
    args = parser.parse_args()
    case = CASES[args.case]
    use_cpu_cores()
    enable_compilation_cache()
    missing = [x for x in left(case, args.output) if x.name in (args.names or [x.name])]
    rad = any(row.name in TRAINED for row in missing)
    if missing and not (
        train_all(case, args.workdir) if rad else (args.workdir / "adm").is_dir()
    ):
        return
    for row in missing[: args.most]:
        run(case, row, args.workdir, args.output)
        print(f"{row.folder} is done", flush=True)
    names = [row.folder for row in left(case, args.output)]
    print(f"not run yet: {', '.join(names)}" if names else "all is done")


if __name__ == "__main__":
    main()
