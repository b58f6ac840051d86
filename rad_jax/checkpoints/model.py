"""A trained network: its architecture, its parameters, and what else it is used by."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from rad_jax.diffusion.schedule_config import ScheduleConfig
from rad_jax.errors import UserError
from rad_jax.models import autoencoder, clip, lama, network
from rad_jax.models.apply import Params
from rad_jax.models.autoencoder_config import AutoencoderConfig
from rad_jax.models.clip_config import CLIPConfig
from rad_jax.models.lama_config import LamaConfig
from rad_jax.models.network import NetworkConfig
from rad_jax.text.tokenizer import Tokenizer
from rad_jax.typing import Labels


class Codec(NamedTuple):
    """The autoencoder of a base whose images are another's latents.

    Attributes:
      config: its architecture.
      params: its parameters, float32; nothing trains them.
    """

    config: AutoencoderConfig
    params: Params

    def abstract_params(self) -> dict[str, Any]:
        """Shapes and dtypes of its parameters."""
        return autoencoder.abstract_params(self.config)


class Text(NamedTuple):
    """What tells a base a text: its tokens, and their states.

    Attributes:
      config: architecture of the encoder.
      params: its parameters, float32; nothing trains them.
      tokenizer: of its vocabulary; None where only a record was read.
    """

    config: CLIPConfig
    params: Params
    tokenizer: Tokenizer | None = None

    def abstract_params(self) -> dict[str, Any]:
        """Shapes and dtypes of its parameters."""
        return clip.abstract_params(self.config)


class Model(NamedTuple):
    """A trained denoiser and what it was trained for: any base of RAD.

    Attributes:
      config: its network.
      schedule: the noise it knows: RAD's phases, and the clock of its base.
      parametrisation: what it predicts, one of `options.PARAMETRISATIONS`.
      params: its parameters; float32, the kernels maybe bfloat16.
      few_steps: times, falling from T1, at which it is asked if it was distilled for
        few evaluations, see `SamplingOptions.for_model`; of others none.
      codec: what makes latents of pictures, which the network denoises, and pictures of
        latents; None of a base in pixels.
      text: what it is told texts by; None of a base that is told none.
    """

    config: NetworkConfig
    schedule: ScheduleConfig
    parametrisation: str
    params: Params
    few_steps: tuple[int, ...] = ()
    codec: Codec | None = None
    text: Text | None = None

    @property
    def channels(self) -> int:
        """Channels of its pictures."""
        codec = self.codec
        return codec.config.image_channels if codec else self.config.out_channels

    @property
    def cell(self) -> int:
        """Pixels of a picture along a side of what is one pixel to the network."""
        return self.codec.config.stride if self.codec else 1

    @property
    def image_size(self) -> int:
        """Pixels per side of the pictures that it was trained with."""
        return self.config.image_size * self.cell

    @property
    def stride(self) -> int:
        """Heights and widths of pictures are multiples of it, in pixels."""
        return self.config.stride * self.cell

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

    @property
    def image_size(self) -> int:
        """Pixels per side of the pictures that it was trained with."""
        return self.config.image_size

    def abstract_params(self) -> dict[str, Any]:
        """Shapes and dtypes of its parameters."""
        return lama.abstract_params(self.config)


AnyModel = Model | LamaModel
"""What a folder of a model may hold."""


PARTS = ("codec", "text")
"""Of a `Model`, those that have parameters of their own, if they are there."""


def parts(model: AnyModel) -> dict[str, AnyModel | Codec | Text]:
    """What has parameters: the model itself as "params", and each of `PARTS`."""
    found = {name: getattr(model, name, None) for name in PARTS}
    return {"params": model} | {name: x for name, x in found.items() if x}


def program_params(model: AnyModel) -> Params:
    """What programs of it take: its parameters, or by name those of all `parts`."""
    trees = {name: part.params for name, part in parts(model).items()}
    return trees if len(trees) > 1 else model.params


def with_params(model: AnyModel, trees: Mapping[str, Params]) -> AnyModel:
    """The model with other parameters, of all of its `parts`."""
    for name in trees.keys() - {"params"}:
        part = getattr(model, name)
        model = model._replace(**{name: part._replace(params=trees[name])})
    return model._replace(params=trees["params"])


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
