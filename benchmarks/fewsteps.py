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

from benchmarks.measured import measured, store
from rad_jax.checkpoints.load import load_diffusion
from rad_jax.checkpoints.model import Model
from rad_jax.config.file import load_config
from rad_jax.data.splits import load_split
from rad_jax.evaluate.demo import KINDS, fill_samples, hole_masks
from rad_jax.files.pixel_ranges import to_float
from rad_jax.inference.inpaint import fill
from rad_jax.metrics import frechet
from rad_jax.metrics.bootstrap import mean_interval
from rad_jax.metrics.digits import Classifier
from rad_jax.prepare.command import prepare
from rad_jax.runtime.compilation_cache import enable_compilation_cache
from rad_jax.runtime.sharding import use_cpu_cores
from rad_jax.train.loop import train
from rad_jax.train.stop import stop_on_signals

NUM_SAMPLES = 4
EVALUATIONS = (1, 2, 4, 8)
TIMES_8 = (1000, 820, 640, 500, 360, 260, 160, 80)
"""More times than students are trained for, asked for as such."""

SPEED_BATCH = 16

RESAMPLES = 200
"""Of the Frechet distance's interval."""

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


def trained(config: str, changes: tuple[str, ...], workdir: Path) -> bool:
    """Trains, or goes on; False if it was stopped."""
    experiment = load_config(config, [f"--config.{change}" for change in changes])
    with stop_on_signals() as stop:
        train(experiment, workdir, stop)
    return not stop


class Scores(NamedTuple):
    """Of fillings under one kind of mask: a number for each image, in [0, 1].

    Attributes:
      energy: the energy score by all pairs of samples, distances the hole's RMS.
      accuracy: share of samples read as the digit that was there.
      square: mean square of the differences to the truth, in the hole.
      diversity: mean distance of two samples.
      features: of the classifier, (s, n, d).
    """

    energy: np.ndarray
    accuracy: np.ndarray
    square: np.ndarray
    diversity: np.ndarray
    features: np.ndarray


class Digits(NamedTuple):
    """What students are held against.

    Attributes:
      images: held-out digits, bytes.
      labels: what they show.
      classifier: of real digits.
      training: those that were trained on, bytes.
    """

    images: np.ndarray
    labels: np.ndarray
    classifier: Classifier
    training: np.ndarray


def load_digits(data_dir: Path) -> Digits:
    """The splits, and a classifier of the one for training."""
    training, labels = load_split("digits", data_dir, "train", 1)
    classifier = Classifier(to_float(training), labels.astype(np.int32))
    images, labels = load_split("digits", data_dir, "test", 1)
    return Digits(images, labels, classifier, training)


def scores(
    model: Model, digits: Digits, kind: str, what: str, **options: Any
) -> Scores:
    """Fills the held-out digits under one kind of mask, and scores them."""
    masks = hole_masks(kind, digits.images)
    samples, _ = fill_samples(model, digits.images, masks, what, NUM_SAMPLES, **options)
    return score(samples, digits, masks)


def score(samples: np.ndarray, digits: Digits, masks: np.ndarray) -> Scores:
    """Of samples (s, n, h, w, 1), bytes."""
    hole = masks[..., None] > 0
    pixels = np.maximum(hole.sum((1, 2, 3)), 1)

    def apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        square = np.where(hole, (a.astype(float) - b) / 255.0, 0.0) ** 2
        return square.sum((1, 2, 3)) / pixels

    to_truth = np.stack([apart(each, digits.images) for each in samples])
    count = len(samples)
    pairs = [
        np.sqrt(apart(samples[i], samples[j]))
        for i in range(count)
        for j in range(i + 1, count)
    ]
    diversity = np.mean(pairs, axis=0)
    read = [digits.classifier.predict(to_float(each)) for each in samples]
    features = [digits.classifier.features(to_float(each)) for each in samples]
    return Scores(
        np.sqrt(to_truth).mean(0) - diversity / 2,
        np.mean([each == digits.labels for each in read], axis=0),
        to_truth.mean(0),
        diversity,
        np.stack(features),
    )


def distance(features: np.ndarray, real: np.ndarray) -> float:
    """Frechet, of the features of all samples to those of the images themselves."""
    filled = frechet.of_features(features.reshape(-1, features.shape[-1]))
    return frechet.frechet_distance(filled, frechet.of_features(real))


def summary(found: Scores, real: np.ndarray, against: Scores | None) -> dict[str, Any]:
    """Means, and intervals of the differences to others under the same masks."""
    values = found._asdict()
    features = values.pop("features")
    record = {name: float(np.mean(each)) for name, each in values.items()}
    record["rms"] = float(np.sqrt(record.pop("square")))
    record["frechet"] = distance(features, real)
    if against is None:
        return record
    others = against._asdict()
    differences: dict[str, Any] = {}
    for name, each in values.items():
        differences[name] = mean_interval(each - others[name], seed=0)._asdict()
    draws, ours, theirs = np.random.RandomState(0), features, against.features
    drawn = []
    for _ in range(RESAMPLES):
        picked = draws.randint(0, len(real), len(real))
        a, b = (distance(x[:, picked], real[picked]) for x in (ours, theirs))
        drawn.append(a - b)
    low, high = np.percentile(drawn, [2.5, 97.5])
    mean = record["frechet"] - distance(theirs, real)
    differences["frechet"] = {"mean": mean, "low": float(low), "high": float(high)}
    return record | {"difference": differences}


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

    def memorised(self, model: Model, options: dict[str, Any]) -> dict[str, float]:
        """How near whole fillings are to what was trained on, and real digits are.

        Medians of the RMS distance to the nearest training digit, under the mask that
        leaves the least, and the energy scores on as many training digits.
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
        held_out = scores(model, self.digits, "extreme", "held out", **options)
        return {
            "nearest_filled": _nearest(samples[0], self.digits.training),
            "nearest_real": _nearest(self.digits.images, self.digits.training),
            "energy_trained_on": float(np.mean(seen.energy)),
            "energy_held_out": float(np.mean(held_out.energy)),
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


def _nearest(images: np.ndarray, training: np.ndarray) -> float:
    """Median over images of the RMS distance to the nearest of others."""
    a, b = (x.reshape(len(x), -1) / 255.0 for x in (images, training))
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    nearest = np.sqrt(np.maximum(squares.min(1), 0) / a.shape[1])
    return float(np.median(nearest))


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
        memorised = study.memorised(study.teacher, {"steps": 100})
        found = {"100": reference} | few
        store(
            path,
            {"measured": where, "evaluations": found, "memorisation": memorised},
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
            record["memorisation"] = study.memorised(model, {"steps": 4})
            record["images_per_second"] = images_per_second(
                study.teacher, model, study.digits.images
            )
        store(args.output / f"{run.name}.json", record)
        jax.clear_caches()  # students are of one program each
    left = sum(not (args.output / f"{run.name}.json").exists() for run in runs())
    print(f"fewsteps: {left} are left; run this again" if left else "fewsteps: done")


if __name__ == "__main__":
    main()
