"""RAD of digits in one to eight evaluations: students against their teacher.

One teacher, as the demo trains it; students of every kind, three seeds of what the
library recommends. What was done is kept: a run that was stopped goes on.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.digit_scores import (
    NUM_SAMPLES,
    Digits,
    Scores,
    load_digits,
    nearest,
    scores,
    summary,
)
from benchmarks.measured import measured, store
from benchmarks.training_run import trained
from rad_jax.checkpoints.load import load_diffusion
from rad_jax.checkpoints.model import Model
from rad_jax.evaluate.demo import KINDS, fill_samples, hole_masks
from rad_jax.files.pixel_ranges import to_float
from rad_jax.inference.inpaint import fill
from rad_jax.prepare.command import prepare
from rad_jax.runtime.compilation_cache import enable_compilation_cache
from rad_jax.runtime.sharding import use_cpu_cores

EVALUATIONS = (1, 2, 4, 8)
TIMES_8 = (1000, 820, 640, 500, 360, 260, 160, 80)
"""More times than students are trained for, asked for as such."""

SPEED_BATCH = 16

STEPS = {"trajectory": 1900, "energy": 1600, "alone": 1600, "consistency": 2700}
"""Of training; "alone" is the energy score from the teacher at once."""

PARTS = {
    "trajectory": ("distil.energy_steps=0", f"train.num_steps={STEPS['trajectory']}"),
    "energy": (
        "distil.kind=energy",
        "distil.energy_steps=0",
        "optimizer.learning_rate=3e-4",
        f"train.num_steps={STEPS['energy']}",
    ),
    "alone": (
        "distil.kind=energy",
        "distil.energy_steps=0",
        "optimizer.learning_rate=3e-4",
        f"train.num_steps={STEPS['alone']}",
    ),
    "consistency": (
        "distil.kind=consistency",
        "distil.energy_steps=0",
        "distil.teacher_steps=40",
        f"train.num_steps={STEPS['consistency']}",
    ),
}
FEATURES = ("patches", "random")


class Run(NamedTuple):
    """A student.

    Attributes:
      kind: a key of `PARTS`; "energy" goes on from "trajectory".
      seed: of its training.
      rank: of its adapters, 0 for none: those have both parts, of kind "energy".
      features: of the energy score's distance.
    """

    kind: str
    seed: int = 0
    rank: int = 0
    features: str = "pixels"

    @property
    def name(self) -> str:
        """Of its folder and its result."""
        rank = f"_lora{self.rank}" if self.rank else ""
        features = "" if self.features == "pixels" else f"_{self.features}"
        return f"{self.kind}{features}{rank}_{self.seed}"

    def changes(self, workdir: Path) -> tuple[str, ...]:
        """What it changes in ``configs/digits_fewsteps.py``."""
        common = (
            f"data.data_dir={workdir / 'data'}",
            f"distil.teacher={workdir / 'teacher'}",
            f"distil.features={self.features}",
            f"seed={self.seed}",
            "train.sample_every=0",
        )
        if self.rank:
            total = STEPS["trajectory"] + STEPS["energy"]
            rank = f"lora.rank={self.rank}", f"lora.alpha={float(self.rank)}"
            parts = f"distil.energy_steps={STEPS['energy']}"
            # Adapters take larger steps than whole kernels.
            rates = "optimizer.learning_rate=2e-3", "distil.energy_learning_rate=1e-3"
            return (*common, *rank, *rates, parts, f"train.num_steps={total}")
        if self.kind == "energy":
            start = Run("trajectory", self.seed).name
            return (*common, *PARTS[self.kind], f"pretrained={workdir / start}")
        return (*common, *PARTS[self.kind])


def runs() -> Iterator[Run]:
    """What the library recommends first, then every other kind, then more seeds."""
    yield Run("trajectory")
    yield Run("energy")
    for rank in (64, 16):
        yield Run("energy", rank=rank)
    yield Run("consistency")
    for seed in (1, 2):
        yield Run("trajectory", seed)
        yield Run("energy", seed)
    yield Run("alone")
    for features in FEATURES:
        yield Run("energy", features=features)


def student_options(evaluations: int) -> dict[str, Any]:
    """Of a distilled model; more than it knows are asked for as times."""
    return {"grid": TIMES_8} if evaluations == 8 else {"steps": evaluations}


def teacher_options(evaluations: int) -> dict[str, Any]:
    """The best solver for so few (docs/benchmarks.md)."""
    return {"steps": evaluations, "sampler": "dpm++", "grid": "quadratic"}


class Study:
    """The teacher's fillings in 100 steps, and what is compared with them."""

    def __init__(self, workdir: Path):
        """Fills with the teacher, or reads what was filled."""
        self.digits = load_digits(workdir / "data")
        self.real = self.digits.classifier.features(to_float(self.digits.images))
        self.teacher = load_diffusion(workdir / "teacher")
        self._kept = workdir / "teacher_scores"

    def reference(self, kind: str) -> Scores:
        """Of 100 ancestral steps."""
        path = self._kept / f"{kind}.npz"
        if not path.exists():
            found = scores(self.teacher, self.digits, kind, f"teacher {kind}")
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path, allow_pickle=False, **found._asdict())
        with np.load(path) as stored:
            return Scores(**stored)

    def compare(self, model: Model, options: Any, what: str) -> dict[str, Any]:
        """A model at `EVALUATIONS`, under each kind of mask."""
        found: dict[str, Any] = {}
        for count in EVALUATIONS:
            found[str(count)] = {
                kind: summary(
                    scores(
                        model,
                        self.digits,
                        kind,
                        f"{what} {count} {kind}",
                        **options(count),
                    ),
                    self.real,
                    self.reference(kind),
                )
                for kind in KINDS
            }
        return found

    def memorised(
        self, model: Model, options: dict[str, Any], held_out: float
    ) -> dict[str, float]:
        """How near whole fillings are to what was trained on, and real digits are.

        Medians of the RMS distance to the nearest training digit, under the mask that
        leaves the least, and the energy score on as many training digits beside that
        on the held-out ones, which is known.
        """
        masks = hole_masks("extreme", self.digits.images)
        samples, _ = fill_samples(
            model, self.digits.images, masks, "nearest", 1, **options
        )
        count = len(self.digits.images)
        trained = Digits(
            self.digits.training[:count],
            np.zeros(count),
            self.digits.classifier,
            self.digits.training,
        )
        seen = scores(model, trained, "extreme", "trained on", **options)
        return {
            "nearest_filled": nearest(samples[0], self.digits.training),
            "nearest_real": nearest(self.digits.images, self.digits.training),
            "energy_trained_on": float(np.mean(seen.energy)),
            "energy_held_out": held_out,
        }


def images_per_second(teacher: Model, student: Model, images: np.ndarray) -> dict:
    """Of a batch of 16, in one run: ancestral steps, and the student's evaluations."""
    batch = jnp.asarray(to_float(images[:SPEED_BATCH]))
    masks = jnp.asarray(hole_masks("box", images[:SPEED_BATCH]))
    keys = jax.random.split(jax.random.key(0), SPEED_BATCH)
    found = {}
    for name, model, steps in (
        ("teacher, 100", teacher, 100),
        *((f"student, {n}", student, n) for n in (1, 2, 4)),
    ):
        seconds = []
        for _ in range(4):  # the first one compiles
            began = time.monotonic()
            fill(model, batch, masks, keys, steps=steps).block_until_ready()
            seconds.append(time.monotonic() - began)
        found[name] = SPEED_BATCH / float(np.median(seconds[1:]))
    return found


def main() -> None:
    """Trains, measures, stores, and says what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=Path, default=Path("runs/fewsteps"))
    parser.add_argument("--output", type=Path, default=Path("docs/results/fewsteps"))
    parser.add_argument("--most", type=int, help="students to do now, at most")
    args = parser.parse_args()
    use_cpu_cores()
    enable_compilation_cache()
    data, teacher = args.workdir / "data", args.workdir / "teacher"
    prepare("digits", data)
    own = f"data.data_dir={data}", "train.sample_every=0"
    if not trained("configs/digits.py", own, teacher):
        return
    study = Study(args.workdir)
    path = args.output / "teacher.json"
    if not path.exists():
        where = measured()
        reference = {
            kind: summary(study.reference(kind), study.real, None) for kind in KINDS
        }
        few = study.compare(study.teacher, teacher_options, "teacher")
        held_out = reference["extreme"]["energy"]
        memorised = study.memorised(study.teacher, {"steps": 100}, held_out)
        found = {"100": reference} | few
        store(
            path,
            {
                "measured": where,
                "num_images": len(study.digits.images),
                "num_samples": NUM_SAMPLES,
                "evaluations": found,
                "memorisation": memorised,
            },
        )
    missing = [run for run in runs() if not (args.output / f"{run.name}.json").exists()]
    for run in missing[: args.most]:
        where = measured()
        workdir = args.workdir / run.name
        if not trained(
            "configs/digits_fewsteps.py", run.changes(args.workdir), workdir
        ):
            break
        model = load_diffusion(workdir)
        record = {
            "measured": where,
            **run._asdict(),
            "num_images": len(study.digits.images),
            "num_samples": NUM_SAMPLES,
            "evaluations": study.compare(model, student_options, run.name),
        }
        if run.kind == "energy":
            held_out = record["evaluations"]["4"]["extreme"]["energy"]
            record["memorisation"] = study.memorised(model, {"steps": 4}, held_out)
            record["images_per_second"] = images_per_second(
                study.teacher, model, study.digits.images
            )
        store(args.output / f"{run.name}.json", record)
        jax.clear_caches()  # students are of one program each
    left = sum(not (args.output / f"{run.name}.json").exists() for run in runs())
    print(f"fewsteps: {left} are left; run this again" if left else "fewsteps: done")


if __name__ == "__main__":
    main()
