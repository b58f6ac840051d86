"""The architecture of an `NCSNpp` as data: its configuration, and the stages it makes.

The modules are built from these stages, and the converter names their weights by them.
"""

import dataclasses
import math
from collections.abc import Sequence

from rad_jax.errors import UserError
from rad_jax.models.architecture import Architecture, StageSpec

ARCHITECTURE = "ncsnpp"

CHOICES = {
    "embedding": ("fourier", "positional"),
    "block": ("biggan", "ddpm"),
    "progressive": ("none", "output_skip", "residual"),
    "progressive_input": ("none", "input_skip", "residual"),
    "progressive_combine": ("sum", "cat"),
    "architecture": (ARCHITECTURE,),
}
"""The values of the keys that name something."""


@dataclasses.dataclass(frozen=True)
class NCSNppConfig(Architecture):
    """Architecture of an `NCSNpp`.

    On the way up, resolutions have attention after their last block alone.

    Attributes:
      embedding: what the network is told and embeds: "fourier", log sigma by random
        frequencies; or "positional", a timestep by a sinusoid.
      fourier_scale: standard deviation of new Fourier frequencies.
      block: what changes the resolution: residual blocks ("biggan") or convolutions
        ("ddpm").
      fir: resolutions change with a filter; else by nearest neighbour and mean.
      skip_rescale: sums of two branches are divided by sqrt(2).
      progressive: how images of lower resolutions make the output: "none",
        "output_skip" (each resolution adds one) or "residual" (as features).
      progressive_input: how smaller input images enter: "none", "input_skip" or
        "residual".
      progressive_combine: an input_skip is added ("sum") or concatenated ("cat").
      groups: of every normalisation; 0 is a quarter of the channels, at most 32.
      architecture: "ncsnpp", which tells stored configurations apart.

    Others, and what is raised, as of `Architecture`.
    """

    image_size: int
    model_channels: int
    channel_mult: Sequence[float | int]
    num_res_blocks: int
    attention_resolutions: Sequence[int]
    in_channels: int = 3
    out_channels: int = 3
    embedding: str = "fourier"
    fourier_scale: float | int = 16.0
    block: str = "biggan"
    fir: bool = True
    skip_rescale: bool = True
    progressive: str = "none"
    progressive_input: str = "none"
    progressive_combine: str = "sum"
    groups: int = 0
    dropout: float | int = 0.0
    dtype: str = "float32"
    use_remat: bool = False
    noise_embedding: str = "spatial"
    architecture: str = ARCHITECTURE

    def __post_init__(self):
        """Refuses what cannot be built."""
        super().__post_init__()
        self.check_choices(**CHOICES)
        # Asked this way round, NaN is refused, too.
        if not 0 < self.fourier_scale < math.inf:
            raise UserError(
                f"fourier_scale is {self.fourier_scale}; it must be positive"
            )
        if self.groups < 0:
            raise UserError(
                f"groups is {self.groups}; give a number, or 0 for NCSN++'s"
            )
        _check_widths(self)

    def free(self) -> set[str]:
        """As of `Architecture`; frequencies are weights, once they are drawn."""
        return super().free() | {"fourier_scale"}

    @property
    def output_channels(self) -> int:
        """Channels of the network's output."""
        return self.out_channels

    @property
    def learn_sigma(self) -> bool:
        """It predicts no variance."""
        return False

    @property
    def num_classes(self) -> None:
        """It has no labels."""
        return None

    def num_groups(self, channels: int) -> int:
        """Groups that a normalisation of so many channels has."""
        return self.groups or min(channels // 4, 32)


@dataclasses.dataclass(frozen=True)
class NCSNppStage(StageSpec):
    """What stands between two skip connections of an `NCSNpp`.

    Attributes:
      pyramid: channels of the pyramid of images or features that meets the stage's
        output, before the resolution changes on the way up; 0 where none does.
    """

    pyramid: int = 0


def encoder_stages(config: NCSNppConfig) -> list[NCSNppStage]:
    """Stages of the way down; each one's output, and the input's, becomes a skip."""
    stages = []
    channels, pyramid = config.widths[0], config.in_channels
    for level, width in enumerate(config.widths):
        heads = int(config.has_attention(level))
        for _ in range(config.num_res_blocks):
            stages.append(NCSNppStage(level, channels, width, True, heads, None))
            channels = width
        if level == config.num_resolutions - 1:
            continue
        kind = config.progressive_input
        if kind == "input_skip" and config.progressive_combine == "cat":
            channels = 2 * width
        meets = 0 if kind == "none" else pyramid
        stages.append(NCSNppStage(level, width, channels, False, 0, "down", meets))
        if kind == "residual":
            pyramid = width  # from now on of features
    return stages


def decoder_stages(config: NCSNppConfig) -> list[NCSNppStage]:
    """Stages of the way up; each takes its skip beside the stage before."""
    skips = [config.widths[0], *(stage.outputs for stage in encoder_stages(config))]
    stages = []
    channels = pyramid = config.widths[-1]
    for level, width in reversed(list(enumerate(config.widths))):
        for block in range(config.num_res_blocks + 1):
            inputs, channels = channels + skips.pop(), width
            if block < config.num_res_blocks:
                stages.append(NCSNppStage(level, inputs, width, True, 0, None))
                continue
            heads = int(config.has_attention(level))
            up = "up" if level else None
            meets = {"none": 0, "output_skip": config.out_channels}.get(
                config.progressive, pyramid
            )
            stages.append(NCSNppStage(level, inputs, width, True, heads, up, meets))
            pyramid = width
    return stages


def _check_widths(config: NCSNppConfig) -> None:
    width = config.model_channels
    # The sinusoid has as many sines as cosines, and no single frequency.
    if config.embedding == "positional" and (width % 2 or width < 4):
        raise UserError(
            f"model_channels is {width}; a positional embedding needs an even number "
            "from 4"
        )
    for stage in [*encoder_stages(config), *decoder_stages(config)]:
        for channels in (stage.inputs, stage.outputs):
            groups = config.num_groups(channels)
            if not groups or channels % groups:
                raise UserError(
                    f"model_channels {width} and channel_mult {config.channel_mult} "
                    f"make a normalisation of {channels} channels, which "
                    f"{config.groups or 'min(channels // 4, 32)'} groups do not divide"
                )
