"""What was evaluated, and how: it goes with every number."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from rad_jax.baselines.choice import Baseline
from rad_jax.baselines.methods import described
from rad_jax.checkpoints.fingerprint import fingerprint
from rad_jax.checkpoints.model import AnyModel, LamaModel, Model
from rad_jax.diffusion.options import GRIDS, Sampling, require_at_least
from rad_jax.errors import UserError, first_line
from rad_jax.evaluate.settings import METHODS, ORIGINALS, Evaluation
from rad_jax.files.atomic import atomic_write
from rad_jax.inference.comparison import is_cfg_1, require_plain, resolved
from rad_jax.inference.file_options import require_seed
from rad_jax.inference.lama import require_one_pass

LAMA = "lama"
"""The method of a model that is a LaMa, which has no steps: `steps` is 1."""

CFG_1 = "rad, Cfg. 1"
"""RAD's steps on a plain ADM, told one timestep: a row of the paper's Table 3."""

FILE = "protocol.json"
RESULTS = "results.json"
"""What an evaluation is described in, and what it is written to, in its folder."""


@dataclasses.dataclass(frozen=True)
class Protocol:
    """All that determines the pictures of an evaluation, except the kinds of masks.

    Attributes:
      model: `fingerprint` of the model.
      data: name of the data set, or the folder of images.
      split: which part of it; of this the first images, in order.
      num_images: how many.
      image_size: pixels per side.
      seed: of masks and noise. Masks are the same for every model and method.
      method: one of `METHODS` or of `choice.METHODS`, `LAMA` or `CFG_1`.
      steps: of the reverse process: of RAD network evaluations per image.
      sampler: of RAD, one of `options.METHODS`; of others "".
      grid: of RAD, one of `options.GRIDS`, or the times between commas; of others "".
      num_samples: fillings of every image.
      max_coverage: of strokes, see `masks.evaluation.evaluation_mask`.
      preset: of a comparison method, one of `choice.PRESETS`; of others "".
      settings: all of a comparison method, as ``--set`` takes them; of others "".
    """

    model: str
    data: str
    split: str
    num_images: int
    image_size: int
    seed: int
    method: str
    steps: int
    sampler: str
    grid: str
    num_samples: int
    max_coverage: float | None
    preset: str = ""
    settings: str = ""

    def __post_init__(self):
        """Refuses what cannot be."""
        for name in ("num_images", "num_samples"):
            require_at_least(name, getattr(self, name), 1)
        require_seed(self.seed)

    def __str__(self) -> str:
        """One line, to stand beside a number."""
        images = f"{self.num_images} images of {self.data} {self.split}"
        size = f"{self.image_size}x{self.image_size}"
        samples = f", {self.num_samples} samples each" if self.num_samples > 1 else ""
        if self.method in ("rad", CFG_1):
            named = self.grid in GRIDS
            grid = self.grid if named else tuple(map(int, self.grid.split(",")))
            filled = str(Sampling(self.steps, self.sampler, grid))
        else:
            special = {ORIGINALS: "not filled", LAMA: "one pass"}
            filled = special.get(self.method, f"{self.preset}, {self.settings}")
        any_coverage = ", strokes of any coverage" if self.max_coverage is None else ""
        return (
            f"{images} at {size}{samples}; {self.method}: {filled}; seed {self.seed}"
            f"{any_coverage}; 8-bit pictures"
        )


def protocol_of(model: AnyModel, settings: Evaluation) -> Protocol:
    """The protocol of these settings.

    Raises:
      UserError: a setting cannot be.
    """
    sampling, method = settings.sampling, settings.method
    if method not in METHODS:
        raise UserError(f"method {method!r} is unknown; there are {', '.join(METHODS)}")
    if isinstance(sampling, Baseline):
        method = sampling.method
        resolved_settings = resolved(require_plain(model, method), sampling)
        how: dict[str, Any] = {
            "steps": resolved_settings.steps,
            "sampler": "",
            "grid": "",
            "preset": sampling.preset,
            "settings": described(resolved_settings),
        }
    elif isinstance(model, LamaModel) and method == "rad":
        require_one_pass(sampling, num_samples=settings.files.num_samples)
        method, how = LAMA, {"steps": 1, "sampler": "", "grid": ""}
    else:
        if isinstance(model, Model) and method == "rad" and is_cfg_1(model):
            method = CFG_1
        few_steps = model.few_steps if isinstance(model, Model) else ()
        run = sampling.for_model(few_steps)
        named = isinstance(run.grid, str)
        how = {"steps": run.steps, "sampler": run.method}
        how["grid"] = run.grid if named else ",".join(map(str, run.grid))
    return Protocol(
        model=fingerprint(model),
        data=str(settings.data_dir) if settings.data == "folder" else settings.data,
        split=settings.held_out_split,
        num_images=settings.num_images,
        image_size=model.image_size,
        seed=settings.files.seed,
        method=method,
        num_samples=settings.files.num_samples,
        max_coverage=settings.max_coverage,
        **how,
    )


def claim(folder: Path, protocol: Protocol) -> None:
    """Claims a folder for this evaluation, or resumes the one that it holds.

    Raises:
      UserError: it holds something else, or an evaluation that differs in a setting.
    """
    path, mine = folder / FILE, dataclasses.asdict(protocol)
    if path.is_file():
        for name, value in _read(path).items():
            if mine.get(name) != value:
                raise UserError(
                    f"{folder}: holds an evaluation with {name} {value!r}, not "
                    f"{mine.get(name)!r}; give another --output"
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
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: cannot be read ({first_line(error)}); give another --output"
        ) from error
    return found
