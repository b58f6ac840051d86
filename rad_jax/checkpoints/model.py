"""A trained network: its architecture, its noise, what it predicts, its parameters."""

from typing import NamedTuple

import numpy as np

from rad_jax.diffusion.schedule import ScheduleConfig
from rad_jax.errors import UserError
from rad_jax.models.apply import Params
from rad_jax.models.config import UNetConfig


class Model(NamedTuple):
    """A trained network and what it was trained for.

    Attributes:
      config: its architecture.
      schedule: the noise it knows.
      parametrisation: what it predicts, "eps" or "v".
      params: its parameters; float32, the kernels maybe bfloat16.
    """

    config: UNetConfig
    schedule: ScheduleConfig
    parametrisation: str
    params: Params

    @property
    def channels(self) -> int:
        """Channels of its images."""
        return self.config.out_channels


def check_labels(config: UNetConfig, labels: np.ndarray | None) -> None:
    """Refuses labels that a network does not have, and missing ones.

    Raises:
      UserError: saying which there are.
    """
    classes = config.num_classes
    if classes is None:
        if labels is not None:
            raise UserError("the model has no classes; give no label")
        return
    known = f"0 .. {classes - 1}"
    if labels is None:
        raise UserError(f"the model has {classes} classes; give a label, {known}")
    wrong = labels[(labels < 0) | (labels >= classes)]
    if wrong.size:
        raise UserError(f"there is no class {wrong[0]}; the model's are {known}")
