"""What an experiment is: one frozen dataclass for each block of a config file.

It comes of a config file (`config.file`) and is stored as JSON with every checkpoint;
whoever loads a model reads it from there.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from rad_jax.config.blocks import DataConfig, OptimizerConfig, TrainConfig, make_plain
from rad_jax.diffusion.denoise import check_base
from rad_jax.diffusion.distil_config import STUDENTS, DistilConfig
from rad_jax.diffusion.losses import LossConfig
from rad_jax.diffusion.options import OF_TEACHERS
from rad_jax.diffusion.schedule_config import ScheduleConfig
from rad_jax.errors import UserError
from rad_jax.files.from_dict import build
from rad_jax.masks.training import MaskConfig
from rad_jax.models.autoencoder_config import AutoencoderConfig, require_codec
from rad_jax.models.config import LoRAConfig
from rad_jax.models.network import NetworkConfig


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything that determines a training run.

    Attributes:
      seed: of the parameters, the order of the data and all noise, >= 0.
      pretrained: folder of the model to start from (a model folder, or the workdir of a
        run), or its hf:// address; "" draws new parameters.
      data: the images.
      model: the network.
      schedule: the noise.
      mask: what is a hole.
      loss: what is minimised.
      lora: which parameters train.
      optimizer: how.
      train: how long.
      distil: what is minimised instead of `loss`, for few evaluations.
      codec: the autoencoder whose latents the network denoises, and `pretrained` brings
        along; None trains on the images themselves.
    """

    seed: int
    pretrained: str
    data: DataConfig
    model: NetworkConfig
    schedule: ScheduleConfig
    mask: MaskConfig
    loss: LossConfig
    lora: LoRAConfig
    optimizer: OptimizerConfig
    train: TrainConfig
    distil: DistilConfig = dataclasses.field(default_factory=DistilConfig)
    codec: AutoencoderConfig | None = None

    def __post_init__(self):
        """Makes the path plain; refuses blocks that contradict each other."""
        if self.pretrained:
            make_plain(self, "pretrained")
        for name in ("teacher", "weights"):
            if getattr(self.distil, name):
                make_plain(self.distil, name, "distil.")
        weight_decay = self.optimizer.weight_decay
        check_base(self.model, self.schedule, self.loss, weight_decay)
        if self.model.num_classes is not None:
            raise UserError("model.num_classes: training with labels is not built yet")
        if self.model.architecture == "sd":
            raise UserError(
                "model.architecture=sd: training on texts is not built yet; take a "
                "base that is told none"
            )
        # Upsamplers take a second image, which the data sets do not have.
        if self.model.in_channels != self.model.out_channels:
            raise UserError("model.in_channels and out_channels must be equal")
        most, steps = self.schedule.hole_steps, self.train.sample_steps
        if self.train.sample_every and not 1 <= steps <= most:
            raise UserError(
                f"train.sample_steps is {steps}; it must lie in 1 .. {most}"
            )
        if self.lora.rank and not self.start_from:
            raise UserError(
                f"lora.rank is {self.lora.rank}, and adapters need a network to adapt: "
                "set pretrained to the folder of a model, or lora.rank to 0"
            )
        # Grain takes 32 bits.
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed is {self.seed}; it must lie in 0 .. 2**32 - 1")
        self._check_distil()
        self._check_codec()

    def _check_codec(self) -> None:
        """Refuses what latents do not have."""
        if self.codec is None:
            return
        require_codec(self.model, self.codec)
        if not self.start_from:
            raise UserError(
                "codec: an autoencoder is not trained here; set pretrained to the "
                "folder of a model that has this one"
            )
        if self.loss.vlb_weight:
            raise UserError(
                "loss.vlb_weight is of bytes, which latents are not; set it to 0"
            )
        if self.distil.features == "lpips":
            raise UserError(
                "distil.features=lpips is of pictures, and the network denoises "
                "latents; use pixels, patches or random"
            )

    def _check_distil(self) -> None:
        """Refuses what no student can be, and a student's prediction of no student."""
        config, predicts = self.distil, self.loss.parametrisation
        if not config.kind:
            if predicts in OF_TEACHERS:
                raise UserError(
                    f"loss.parametrisation={predicts} is a student's; set distil.kind"
                )
            return
        if not self.start_from:
            raise UserError(
                f"distil.kind={config.kind} goes on from a model; set pretrained to "
                "its folder"
            )
        if predicts not in STUDENTS:
            raise UserError(
                f"loss.parametrisation={predicts} gives no clean image where all is "
                f"noise; for distil.kind set it to {predicts}_as_v, which has the same "
                "weights"
            )
        if self.loss.vlb_weight:
            raise UserError("loss.vlb_weight is of no use to distil.kind; set it to 0")
        steps, most = self.schedule.hole_steps, self.train.num_steps
        if config.times[0] != steps:
            raise UserError(
                f"distil.times begin at {config.times[0]}; they must begin at {steps}, "
                "schedule.hole_steps, where the hole is all noise"
            )
        if config.teacher_steps > steps:
            raise UserError(
                f"distil.teacher_steps is {config.teacher_steps}; it must lie in "
                f"1 .. {steps}"
            )
        if config.energy_steps >= most:
            raise UserError(
                f"distil.energy_steps is {config.energy_steps}, of train.num_steps="
                f"{most} in all; leave some to distil.kind={config.kind}"
            )

    @property
    def channels(self) -> int:
        """Channels of the pictures."""
        return self.codec.image_channels if self.codec else self.model.in_channels

    @property
    def image_size(self) -> int:
        """Pixels per side of the pictures."""
        return self.model.image_size * (self.codec.stride if self.codec else 1)

    @property
    def start_from(self) -> str:
        """Folder of the model that training starts from, "" for none."""
        return self.pretrained or self.distil.teacher

    @property
    def few_steps(self) -> tuple[int, ...]:
        """Times at which the trained model is to be asked; () for any."""
        return tuple(self.distil.times) if self.distil.kind else ()


def from_dict(blocks: Mapping[str, Any]) -> Experiment:
    """Builds an experiment from nested dictionaries (a config file, or stored JSON).

    Raises:
      UserError: a key is unknown (naming the nearest), missing, or of the wrong type.
    """
    return build(Experiment, blocks, prefix="")


def to_dict(experiment: Experiment) -> dict[str, Any]:
    """The inverse of ``from_dict``, as JSON stores it (lists for tuples)."""
    # Through JSON, so that it equals what a checkpoint gives back.
    return json.loads(json.dumps(dataclasses.asdict(experiment)))
