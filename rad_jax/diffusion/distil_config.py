"""How a model is taught to fill holes in few evaluations."""

import dataclasses
from collections.abc import Sequence

from rad_jax.diffusion.options import (
    OF_TEACHERS,
    require_at_least,
    require_falling,
    require_one_of,
    require_unit,
)
from rad_jax.errors import UserError

TAUGHT = ("trajectory", "consistency")
"""Kinds that ask a teacher."""

KINDS = (*TAUGHT, "energy")
FEATURES = ("pixels", "patches", "random", "lpips")
STUDENTS = ("v", "x0", *OF_TEACHERS)
"""What can predict the clean image from noise alone."""


@dataclasses.dataclass(frozen=True)
class DistilConfig:
    """A training for few evaluations, in place of `LossConfig`'s (docs/fewsteps.md).

    Attributes:
      kind: "" for none of it; "trajectory": the ends of the teacher's own paths;
        "consistency": itself, one step of the teacher nearer to the image; "energy":
        real images, by the energy score.
      teacher: folder of the model, or its hf:// address, that gives the paths. A
        student starts as its teacher where `Experiment.pretrained` names no other.
      times: at which the student is to be asked, falling from T1.
      start_share: of what it is asked in training, at T1.
      teacher_steps: of DPM-Solver++ on a path; of "consistency" how many there are.
      points: of each path that the student is asked at; there are as many fewer paths
        than images in a batch.
      energy_steps: of `TrainConfig.num_steps` the last so many are of "energy".
      energy_learning_rate: of those, the peak.
      features: in which images are compared by "energy", one of `FEATURES`.
      weights: of "lpips": folder with its network's files; "" as `metrics.weights`.
    """

    kind: str = ""
    teacher: str = ""
    times: Sequence[int] = (1000, 640, 360, 160)
    start_share: float = 0.5
    teacher_steps: int = 10
    points: int = 4
    energy_steps: int = 0
    energy_learning_rate: float = 3e-4
    features: str = "pixels"
    weights: str = ""

    def __post_init__(self):
        """Refuses what no student can be taught by."""
        if self.kind:
            require_one_of("distil.kind", self.kind, KINDS)
        require_one_of("distil.features", self.features, FEATURES)
        try:
            times = require_falling(self.times, len(self.times))
        except UserError as error:
            raise UserError(f"distil.{error}") from error
        object.__setattr__(self, "times", times)
        require_unit("distil.start_share", self.start_share)
        for name in ("teacher_steps", "points"):
            require_at_least(f"distil.{name}", getattr(self, name), 1)
        require_at_least("distil.energy_steps", self.energy_steps, 0)
        if self.energy_learning_rate <= 0:
            raise UserError("distil.energy_learning_rate must be > 0")
        if self.kind in TAUGHT and not self.teacher:
            raise UserError(
                f"distil.kind={self.kind} learns from a teacher; set distil.teacher to "
                "the folder of a model"
            )
        if self.energy_steps and self.kind not in TAUGHT:
            raise UserError(
                f"distil.energy_steps is {self.energy_steps}, after steps of another "
                "kind; set distil.kind to trajectory or consistency, or these to 0"
            )

    @property
    def unit(self) -> int:
        """What the images are a multiple of that a device takes at once."""
        return self.points if self.kind == "trajectory" else 1
