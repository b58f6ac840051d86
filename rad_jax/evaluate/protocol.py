"""What was evaluated, and how: it goes with every number."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rad_jax.checkpoints.model import Model
from rad_jax.errors import UserError
from rad_jax.files.atomic import atomic_write

METHODS = ("rad", "originals")
"""RAD; or the originals themselves, whose FID is the least that so few images have."""

FILE = "protocol.json"
RESULTS = "results.json"
"""What an evaluation is described in, and what it is written to, in its folder."""


@dataclasses.dataclass(frozen=True)
class Protocol:
    """All that determines the pictures of an evaluation, but for the kinds of masks.

    Attributes:
      model: `fingerprint` of the model.
      data: name of the data set, or the folder of images.
      split: which part of it; of this the first images, in order.
      num_images: how many.
      image_size: pixels per side.
      seed: of masks and noise. Masks are the same for every model and method.
      method: one of `METHODS`.
      steps: network evaluations per image.
      sampler: one of `sampling.METHODS`.
      grid: one of `sampling.GRIDS`.
      num_samples: fillings of every image.
      max_coverage: of strokes, see `evaluation_masks.evaluation_mask`.
    """

    model: str
    data: str
    split: str
    num_images: int
    image_size: int
    seed: int = 0
    method: str = "rad"
    steps: int = 100
    sampler: str = "ddpm"
    grid: str = "uniform"
    num_samples: int = 1
    max_coverage: float | None = 0.5

    def __post_init__(self):
        """Refuses what cannot be."""
        if self.method not in METHODS:
            raise UserError(
                f"method {self.method!r} is unknown; there are {', '.join(METHODS)}"
            )
        for name in ("num_images", "num_samples"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be >= 1")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed is {self.seed}; it must lie in 0 .. 2**32 - 1")

    def __str__(self) -> str:
        """One line, to stand beside a number."""
        images = f"{self.num_images} images of {self.data} {self.split}"
        size = f"{self.image_size}x{self.image_size}"
        samples = f", {self.num_samples} samples each" if self.num_samples > 1 else ""
        filled = f"{self.sampler}, {self.steps} steps, grid {self.grid}"
        if self.method == "originals":
            filled = "not filled"
        any_coverage = ", strokes of any coverage" if self.max_coverage is None else ""
        return (
            f"{images} at {size}{samples}; {self.method}: {filled}; seed {self.seed}"
            f"{any_coverage}; 8-bit pictures"
        )


def fingerprint(model: Model) -> str:
    """Sixteen digits that tell a network and its parameters from others."""
    digest = hashlib.sha256()
    described = (model.config, model.schedule, model.parametrisation)
    digest.update(repr(described).encode())
    for path, leaf in jax.tree.leaves_with_path(model.params):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()[:16]


def claim(folder: Path, protocol: Protocol) -> None:
    """Makes a folder that of this evaluation, or goes on with one that is.

    Raises:
      UserError: it holds something else, or an evaluation that differs in a setting.
    """
    path, mine = folder / FILE, dataclasses.asdict(protocol)
    if path.is_file():
        for name, value in _read(path).items():
            if mine.get(name) != value:
                raise UserError(
                    f"{folder}: holds an evaluation with {name} {value!r}, not "
                    f"{mine.get(name)!r}; give another --output, or delete it"
                )
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(
            f"{folder}: holds something that is no evaluation; give another --output"
        )
    with atomic_write(path) as part:
        part.write_text(json.dumps(mine, indent=2) + "\n")


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
        if not isinstance(found, dict):
            raise ValueError
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: cannot be read; delete the folder and evaluate again"
        ) from error
    return found
