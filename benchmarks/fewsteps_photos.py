"""Few evaluations on crops of photographs, 64x64, by a network that a CPU trains.

A teacher that predicts noise, as every ADM does; students of it choose by measurement
the gain of `gaussian.MOST_GAIN` and the features of the energy score. What was done is
kept: a run that was stopped goes on.
"""

import argparse
import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measured import measured, store
from benchmarks.methods import SMALL
from benchmarks.training_run import trained
from rad_jax.checkpoints.load import load_diffusion
from rad_jax.checkpoints.model import Model
from rad_jax.data.splits import load_split
from rad_jax.diffusion import gaussian
from rad_jax.diffusion.distil_config import DistilConfig
from rad_jax.evaluate.demo import fill_samples, hole_masks
from rad_jax.files.contact_sheet import contact_sheet, grey_holes
from rad_jax.files.pictures import save_png
from rad_jax.files.pixel_ranges import to_float
from rad_jax.metrics import image
from rad_jax.metrics.bootstrap import mean_interval
from rad_jax.prepare.command import prepare
from rad_jax.runtime.compilation_cache import enable_compilation_cache
from rad_jax.runtime.sharding import use_cpu_cores
from rad_jax.train.distances import make_distance

MASKS = ("box", "wide")
IMAGES, NUM_SAMPLES = 16, 4
EVALUATIONS = (1, 2, 4)
FEATURES = ("pixels", "patches", "random")
OURS = gaussian.MOST_GAIN
"""Kept: the module's is replaced."""

GAINS = (OURS, 2.0, 5.0, math.inf)

SHOWN = 4
STEPS = {"teacher": 2500, "trajectory": 600, "energy": 400}


class Student(NamedTuple):
    """A run that begins as the teacher, or goes on from another.

    Attributes:
      name: of its folder and its result.
      changes: of the config.
      start: the one it goes on from; "" for the teacher.
      gain: in place of `gaussian.MOST_GAIN`.
    """

    name: str
    changes: tuple[str, ...]
    start: str = ""
    gain: float = OURS


def students() -> Iterator[Student]:
    """Gains by trajectories alone, features after them, then adapters."""
    whole = f"train.num_steps={STEPS['trajectory']}", "distil.energy_steps=0"
    for gain in GAINS:
        yield Student(f"gain_{gain:g}", whole, gain=gain)
    for features in FEATURES:
        own = (
            "distil.kind=energy",
            "distil.energy_steps=0",
            f"distil.features={features}",
            "optimizer.learning_rate=2e-4",
            f"train.num_steps={STEPS['energy']}",
        )
        yield Student(features, own, start=f"gain_{OURS:g}")
    for rank in (16, 64):
        own = (
            f"lora.rank={rank}",
            f"lora.alpha={float(rank)}",
            # Adapters take larger steps than whole kernels.
            "optimizer.learning_rate=1e-3",
            "distil.energy_learning_rate=5e-4",
            f"distil.energy_steps={STEPS['energy']}",
            f"train.num_steps={STEPS['trajectory'] + STEPS['energy']}",
        )
        yield Student(f"lora{rank}", own)


class Photos(NamedTuple):
    """Held-out crops, and what they are filled by.

    Attributes:
      images: bytes.
      masks: by kind.
    """

    images: np.ndarray
    masks: dict[str, np.ndarray]


def load_photos(data_dir: Path) -> Photos:
    """The first of them, and masks that are the same in every run."""
    images, _ = load_split("photos", data_dir, "test", 3, most=IMAGES, image_size=64)
    return Photos(images, {kind: hole_masks(kind, images) for kind in MASKS})


def fillings(
    model: Model, photos: Photos, kind: str, what: str, options: dict[str, Any]
) -> np.ndarray:
    """Samples (s, n, h, w, 3), bytes."""
    masks = photos.masks[kind]
    samples, _ = fill_samples(
        model, photos.images, masks, f"{what} {kind}", NUM_SAMPLES, **options
    )
    return samples


def scores(samples: np.ndarray, photos: Photos, kind: str) -> dict[str, np.ndarray]:
    """A number for each image: the energy score by each distance, PSNR, seam."""
    masks = jnp.asarray(photos.masks[kind])
    truth, each = jnp.asarray(to_float(photos.images)), jnp.asarray(to_float(samples))
    found = {
        f"energy_{name}": np.asarray(_energy(each, truth, masks[..., None], name))
        for name in FEATURES
    }
    inside = [image.psnr_in_hole(x, truth, masks).value for x in each]
    seams = [image.seam_excess(image.seam(x, truth, masks)) for x in each]
    found["psnr_hole"] = np.mean(inside, axis=0)
    found["seam_excess"] = np.mean(seams, axis=0)
    pairs = [_apart(each[i], each[j], masks[..., None], "pixels") for i, j in _PAIRS]
    found["diversity"] = np.mean(pairs, axis=0)
    return found


_PAIRS = [(i, j) for i in range(NUM_SAMPLES) for j in range(i + 1, NUM_SAMPLES)]


@functools.partial(jax.jit, static_argnames="name")
def _apart(a, b, hole, name: str):
    """Distances in grey levels of [0, 1]."""
    return make_distance(DistilConfig(features=name))(a, b, hole) / 2


def _energy(samples, truth, hole, name: str):
    """By all pairs of samples."""
    to_truth = jnp.stack([_apart(x, truth, hole, name) for x in samples]).mean(0)
    pairs = [_apart(samples[i], samples[j], hole, name) for i, j in _PAIRS]
    return to_truth - jnp.stack(pairs).mean(0) / 2


def summary(
    found: dict[str, np.ndarray], against: dict[str, np.ndarray] | None
) -> dict[str, Any]:
    """Means, and intervals of the differences to others under the same masks."""
    record: dict[str, Any] = {name: float(np.mean(x)) for name, x in found.items()}
    if against is not None:
        record["difference"] = {
            name: mean_interval(x - against[name], seed=0)._asdict()
            for name, x in found.items()
        }
    return record


class Study:
    """The teacher's fillings in 100 steps, and what is compared with them."""

    def __init__(self, photos: Photos, teacher: Model, workdir: Path):
        """Fills with the teacher, or reads what was filled."""
        self.photos, self.teacher = photos, teacher
        self.samples: dict[str, np.ndarray] = {}
        for kind in MASKS:
            path = workdir / "teacher_samples" / f"{kind}.npz"
            if not path.exists():
                made = fillings(teacher, photos, kind, "teacher 100", {"steps": 100})
                path.parent.mkdir(parents=True, exist_ok=True)
                np.savez(path, allow_pickle=False, samples=made)
            with np.load(path) as stored:
                self.samples[kind] = stored["samples"]
        self.reference = {
            kind: scores(x, photos, kind) for kind, x in self.samples.items()
        }

    def compare(
        self, model: Model, name: str, **options: Any
    ) -> tuple[dict[str, Any], np.ndarray]:
        """By evaluations and masks; and the samples of boxes in 4 evaluations."""
        found: dict[str, Any] = {}
        shown = np.empty(0)
        for count in EVALUATIONS:
            own = {"steps": count, **options}
            found[str(count)] = {}
            for kind in MASKS:
                what = f"{name} {count}"
                samples = fillings(model, self.photos, kind, what, own)
                found[str(count)][kind] = summary(
                    scores(samples, self.photos, kind), self.reference[kind]
                )
                if (kind, count) == ("box", 4):
                    shown = samples
        return found, shown

    def picture(self, samples: np.ndarray, path: Path) -> None:
        """Input, teacher in 100 steps, student in 4, truth, of the first images."""
        given = grey_holes(self.photos.images, self.photos.masks["box"])
        rows = [
            [
                given[i],
                *self.samples["box"][:2, i],
                *samples[:2, i],
                self.photos.images[i],
            ]
            for i in range(SHOWN)
        ]
        save_png(contact_sheet(rows, scale=2), path)


def main() -> None:
    """Trains, measures, stores, and says what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=Path, default=Path("runs/fewsteps_photos"))
    parser.add_argument(
        "--output", type=Path, default=Path("docs/results/fewsteps_photos")
    )
    parser.add_argument("--most", type=int, help="students to do now, at most")
    args = parser.parse_args()
    use_cpu_cores()
    enable_compilation_cache()
    data, teacher = args.workdir / "data", args.workdir / "teacher"
    prepare("photos", data)
    config, *small = SMALL
    own = (*small, f"data.data_dir={data}")
    if not trained(config, (*own, f"train.num_steps={STEPS['teacher']}"), teacher):
        return
    study = Study(load_photos(data), load_diffusion(teacher), args.workdir)
    where, path = measured(), args.output / "teacher.json"
    if not path.exists():
        solver = {"sampler": "dpm++", "grid": "quadratic"}
        few, _ = study.compare(study.teacher, "teacher", **solver)
        few["100"] = {kind: summary(x, None) for kind, x in study.reference.items()}
        store(path, {"measured": where, "steps": STEPS, "evaluations": few})
    missing = [x for x in students() if not (args.output / f"{x.name}.json").exists()]
    for student in missing[: args.most]:
        where = measured()
        changes = (
            f"distil.teacher={teacher}",
            "distil.kind=trajectory",
            "loss.parametrisation=eps_as_v",
            "loss.vlb_weight=0.0",
            "optimizer.warmup_steps=100",
            "optimizer.ema_decay=0.99",
            *student.changes,
        )
        if student.start:
            changes = (*changes, f"pretrained={args.workdir / student.start}")
        # A constant of the module: what was compiled with another must go.
        gaussian.MOST_GAIN = student.gain
        jax.clear_caches()
        if not trained(config, (*own, *changes), args.workdir / student.name):
            break
        model = load_diffusion(args.workdir / student.name)
        found, shown = study.compare(model, student.name)
        if student.name in FEATURES:
            study.picture(shown, args.output / f"{student.name}.png")
        record = {"measured": where, **student._asdict(), "gain": f"{student.gain:g}"}
        store(args.output / f"{student.name}.json", record | {"evaluations": found})
    left = sum(not (args.output / f"{x.name}.json").exists() for x in students())
    print(f"fewsteps: {left} are left; run this again" if left else "fewsteps: done")


if __name__ == "__main__":
    main()
