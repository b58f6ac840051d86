"""A trained network: its architecture, its parameters, and what else it is used by."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from rad_jax.diffusion.schedule_config import ScheduleConfig
from rad_jax.errors import UserError
from rad_jax.models import lama, network
from rad_jax.models.apply import Params
from rad_jax.models.lama_config import LamaConfig
from rad_jax.models.network import NetworkConfig
from rad_jax.typing import Labels


class Model(NamedTuple):
    """A trained denoiser and what it was trained for: any base of RAD.

    Attributes:
      config: its network.
      schedule: the noise it knows: RAD's phases, and the clock of its base.
      parametrisation: what it predicts, one of `options.PARAMETRISATIONS`.
      params: its parameters; float32, the kernels maybe bfloat16.
      few_steps: times, falling from T1, at which it is asked if it was distilled for
        few evaluations, see `SamplingOptions.for_model`; of others none.
    """

    config: NetworkConfig
    schedule: ScheduleConfig
    parametrisation: str
    params: Params
    few_steps: tuple[int, ...] = ()

    @property
    def channels(self) -> int:
        """Channels of its images."""
        return self.config.out_channels

    def abstract_params(self) -> dict[str, Any]:
        """Shapes and dtypes of its parameters."""
        return network.abstract_params(self.config)


class LamaModel(NamedTuple):
    """A trained LaMa, which fills holes in one pass: it knows no noise and no steps.

    Attributes:
      config: its architecture.
      params: its parameters, and the statistics of batch normalisation.
    """

    config: LamaConfig
    params: Params

    @property
    def channels(self) -> int:
        """Channels of its images."""
        return self.config.out_channels

    def abstract_params(self) -> dict[str, Any]:
        """Shapes and dtypes of its parameters."""
        return lama.abstract_params(self.config)


AnyModel = Model | LamaModel
"""What a folder of a model may hold."""


def require_diffusion(model: AnyModel, use: str) -> Model:
    """The model, if it is a denoiser.

    Args:
      model: from ``load``.
      use: what it is wanted for, for the message.

    Raises:
      UserError: it is none.
    """
    if isinstance(model, LamaModel):
        raise UserError(
            f"{use}: the model is a LaMa, which fills holes and does nothing else; "
            "give a diffusion model"
        )
    return model


def require_inpainting(config: NetworkConfig) -> None:
    """Refuses a network that cannot inpaint.

    Raises:
      UserError: saying why.
    """
    if config.in_channels != config.out_channels:
        raise UserError(
            f"the model takes {config.in_channels} channels and gives "
            f"{config.out_channels}: it enlarges images and cannot inpaint them"
        )


def check_labels(config: NetworkConfig | LamaConfig, labels: np.ndarray | None) -> None:
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


def batch_labels(
    config: NetworkConfig | LamaConfig,
    count: int,
    labels: Labels | None,
    label: int | None,
) -> Labels | None:
    """The classes of a batch of so many images.

    Args:
      config: the network's.
      count: images.
      labels: of each, or None.
      label: of all where there are no labels.

    Raises:
      UserError: they do not fit the model.
    """
    if labels is None and label is not None:
        labels = jnp.full(count, label, jnp.int32)
    check_labels(config, None if labels is None else np.asarray(labels))
    return labels
