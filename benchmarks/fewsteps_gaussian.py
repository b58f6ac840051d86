"""RAD of Gaussian fields in few evaluations, where the right answer is known.

Fields of 8x8 pixels, of which what is in a hole given the rest is Gaussian, too: the
2-Wasserstein distance of fillings to it is exact up to sampling. A small teacher is
trained, students of it, and every solver is asked as often.
"""

import argparse
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measured import measured, store
from benchmarks.training_run import trained
from rad_jax.checkpoints.load import load_diffusion
from rad_jax.checkpoints.model import Model
from rad_jax.files.pictures import save_png
from rad_jax.files.pixel_ranges import to_bytes, to_float
from rad_jax.inference.inpaint import fill
from rad_jax.metrics import frechet
from rad_jax.progress import progress
from rad_jax.runtime.compilation_cache import enable_compilation_cache
from rad_jax.runtime.sharding import use_cpu_cores

SIZE, IMAGES = 8, 8192
CONTENTS, SAMPLES = 16, 512
"""Of known pixels, and fillings of each."""

EVALUATIONS = (1, 2, 4, 8, 20)
SOLVERS = {
    "ancestral": {"sampler": "ddpm", "grid": "uniform"},
    "DDIM": {"sampler": "ddim", "grid": "quadratic"},
    "DPM-Solver++": {"sampler": "dpm++", "grid": "quadratic"},
    "Heun": {"sampler": "heun", "grid": "quadratic"},
}
NETWORK = (
    f"model.image_size={SIZE}",
    "model.channel_mult=(1, 2)",
    "model.attention_resolutions=(4,)",
    "data.name=folder",
    "data.train_split=all",
    "train.sample_every=0",
    "optimizer.ema_decay=0.998",
)
STUDENTS = {
    "student, trajectories": ("distil.energy_steps=0", "train.num_steps=3000"),
    "student, both": ("distil.energy_steps=3000", "train.num_steps=6000"),
}
TEACHER_STEPS = 6000


class Field:
    """Pixels that are alike where they are near, 0.25 in deviation.

    Attributes:
      covariance: of all pixels.
      mask: (h, w), 1 in the hole.
      after: covariance of the hole's pixels given the others.
    """

    def __init__(self):
        """Makes the field, and a hole in the middle."""
        y, x = np.divmod(np.arange(SIZE**2), SIZE)
        apart = np.hypot(y[:, None] - y, x[:, None] - x)
        self.covariance = 0.0625 * np.exp(-apart / 3.0)
        self.mask = np.zeros((SIZE, SIZE), np.float32)
        self.mask[2:6, 2:6] = 1
        self._hole = self.mask.ravel() > 0
        known = ~self._hole
        inside = self.covariance[np.ix_(self._hole, known)]
        self._gain = np.linalg.solve(self.covariance[np.ix_(known, known)], inside.T).T
        self.after = self.covariance[np.ix_(self._hole, self._hole)]
        self.after = self.after - self._gain @ inside.T

    def draw(self, count: int, seed: int) -> np.ndarray:
        """Images (n, h, w, 1) of bytes: what is trained on has no more."""
        numbers = np.random.RandomState(seed).standard_normal((count, SIZE**2))
        fields = numbers @ np.linalg.cholesky(self.covariance).T
        return to_bytes(np.float32(fields).reshape(count, SIZE, SIZE, 1))

    def mean(self, image: np.ndarray) -> np.ndarray:
        """Of the hole's pixels given the others of an image in [-1, 1]."""
        return self._gain @ image.ravel()[~self._hole].astype(np.float64)

    def distance(self, samples: np.ndarray, image: np.ndarray) -> float:
        """2-Wasserstein, of Gaussians with the moments of fillings and of the truth."""
        inside = samples.reshape(len(samples), -1)[:, self._hole]
        truth = frechet.Statistics(self.mean(image), self.after, None)
        found = frechet.of_features(inside.astype(np.float64))
        return float(np.sqrt(frechet.frechet_distance(found, truth)))


def error(field: Field, images: np.ndarray, model: Model, **options: Any) -> float:
    """Mean distance over known contents."""
    masks = jnp.asarray(np.repeat(field.mask[None], SAMPLES, 0))
    found = []
    what = " ".join(str(value) for value in options.values())
    for i, image in enumerate(progress(images, desc=what, unit="content")):
        keys = jax.random.split(jax.random.key(i), SAMPLES)
        batch = jnp.repeat(jnp.asarray(image)[None], SAMPLES, 0)
        filled = fill(model, batch, masks, keys, **options)
        found.append(field.distance(np.asarray(filled), image))
    return float(np.mean(found))


def exact(field: Field, images: np.ndarray) -> float:
    """The same of as many exact draws: what sampling alone gives."""
    root, random = np.linalg.cholesky(field.after), np.random.RandomState(0)
    found = []
    for image in images:
        numbers = random.standard_normal((SAMPLES, len(root)))
        samples = np.repeat(image[None], SAMPLES, 0).astype(np.float64)
        hole = np.broadcast_to(field.mask[None, ..., None] > 0, samples.shape)
        samples[hole] = (field.mean(image) + numbers @ root.T).ravel()
        found.append(field.distance(samples, image))
    return float(np.mean(found))


def main() -> None:
    """Trains, measures and stores; what was trained is kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=Path, default=Path("runs/gaussian"))
    parser.add_argument(
        "--output", type=Path, default=Path("docs/results/fewsteps_gaussian.json")
    )
    args = parser.parse_args()
    use_cpu_cores()
    enable_compilation_cache()
    where, field = measured(), Field()
    folder = args.workdir / "images"
    if not (folder / f"{IMAGES - 1:05}.png").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for i, image in enumerate(field.draw(IMAGES, 0)):
            save_png(image, folder / f"{i:05}.png")
    own = (*NETWORK, f"data.data_dir={folder}")
    teacher = args.workdir / "teacher"
    steps = f"train.num_steps={TEACHER_STEPS}"
    if not trained("configs/digits.py", (*own, steps), teacher):
        return
    images = to_float(field.draw(CONTENTS, 1))
    of = functools.partial(error, field, images)
    found: dict[str, dict[str, float]] = {}
    for name, changes in STUDENTS.items():
        workdir = args.workdir / name.replace(", ", "_")
        taught = f"distil.teacher={teacher}"
        if not trained("configs/digits_fewsteps.py", (*own, taught, *changes), workdir):
            return
        student = load_diffusion(workdir)
        found[name] = {str(n): of(student, steps=n) for n in (1, 2, 4)}
    model = load_diffusion(teacher)
    for name, options in SOLVERS.items():
        twice = 2 if name == "Heun" else 1
        found[name] = {
            str(n): of(model, steps=n // twice, **options)
            for n in (*EVALUATIONS, 100)
            if n >= twice and (n < 100 or name == "ancestral")
        }
    store(
        args.output,
        {
            "measured": where,
            "contents": CONTENTS,
            "samples": SAMPLES,
            "teacher_steps": TEACHER_STEPS,
            "students": {name: list(changes) for name, changes in STUDENTS.items()},
            "exact_draws": exact(field, images),
            "deviation": float(np.sqrt(np.diag(field.after).mean())),
            "distance": found,
        },
    )


if __name__ == "__main__":
    main()
