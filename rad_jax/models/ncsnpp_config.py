"""The architecture of an `NCSNpp` as data: its configuration, and the stages it makes.

The modules are built from these stages, and the converter names their weights by them.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from rad_jax.errors import UserError
from rad_jax.models.config import DTYPES, NOISE_EMBEDDINGS, StageSpec

ARCHITECTURE = "ncsnpp"

CHOICES = {
    "embedding": ("fourier", "positional"),
    "block": ("biggan", "ddpm"),
    "progressive": ("none", "output_skip", "residual"),
    "progressive_input": ("none", "input_skip", "residual"),
    "progressive_combine": ("sum", "cat"),
    "dtype": DTYPES,
    "noise_embedding": NOISE_EMBEDDINGS,
    "architecture": (ARCHITECTURE,),
}
"""The values of the keys that name something."""


@dataclasses.dataclass(frozen=True)
class NCSNppConfig:
    """Architecture of an `NCSNpp`; a config block splats into it.

    Attributes:
      image_size: pixels; gives `attention_resolutions` their meaning. The network runs
        on any size that its stride divides.
      model_channels: width C of a resolution at multiplier 1.
      channel_mult: width of each resolution in C, finest first; int(mult * C). Kept as
        a tuple.
      num_res_blocks: residual blocks of a resolution on the way down (one more on the
        way up).
      attention_resolutions: sides in pixels, at image_size, that have attention; on the
        way up after their last block alone. Kept as a tuple.
      in_channels: channels of the input.
      out_channels: channels predicted.
      embedding: what the network is told and embeds: "fourier", log sigma by random
        frequencies; or "positional", a timestep by a sinusoid.
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
      dropout: rate in [0, 1), where the call gives a key.
      dtype: of convolutions and attention, "float32" or "bfloat16". Parameters, and
        all that is small and delicate, are float32.
      use_remat: recompute each block in the backward pass instead of storing it.
      noise_embedding: what the network is conditioned on: "spatial" (RAD), each
        pixel's noise level; or "time", one timestep for the image (`conditioning`).
      architecture: "ncsnpp", which tells stored configurations apart.

    Raises:
      UserError: naming the key whose value cannot be built.
    """

    image_size: int
    model_channels: int
    channel_mult: Sequence[float | int]
    num_res_blocks: int
    attention_resolutions: Sequence[int]
    in_channels: int = 3
    out_channels: int = 3
    embedding: str = "fourier"
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
        """Takes lists (of a JSON file) for tuples, and refuses what cannot be built."""
        # What compiles a network is cached by its configuration: lists have no hash.
        for name in ("channel_mult", "attention_resolutions"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        _check_values(self)
        _check_resolutions(self)
        _check_widths(self)

    @property
    def num_resolutions(self) -> int:
        """Number of resolutions, each half the size of the one before."""
        return len(self.channel_mult)

    @property
    def stride(self) -> int:
        """Heights and widths of inputs are multiples of it."""
        return 2 ** (self.num_resolutions - 1)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each resolution."""
        return tuple(int(mult * self.model_channels) for mult in self.channel_mult)

    @property
    def embedding_channels(self) -> int:
        """Width of the noise embedding."""
        return 4 * self.model_channels

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

    def differences(self, other: "NCSNppConfig") -> dict[str, tuple[Any, Any]]:
        """`network.differences` of two of these."""
        free = {"dropout", "dtype", "use_remat", "noise_embedding"}
        names = {field.name for field in dataclasses.fields(self)} - free
        pairs = {n: (getattr(self, n), getattr(other, n)) for n in sorted(names)}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    def has_attention(self, level: int) -> bool:
        """Whether resolution `level` (0 is the finest) has attention."""
        return self.image_size >> level in self.attention_resolutions

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


def _check_values(config: NCSNppConfig) -> None:
    positive = "image_size model_channels num_res_blocks in_channels out_channels"
    for name in positive.split():
        if getattr(config, name) < 1:
            raise UserError(f"{name} is {getattr(config, name)}; it must be positive")
    if config.groups < 0:
        raise UserError(f"groups is {config.groups}; give a number, or 0 for NCSN++'s")
    # Asked this way round, NaN is refused, too.
    if not 0 <= config.dropout < 1:
        raise UserError(f"dropout is {config.dropout}; it must lie in [0, 1)")
    for name, values in CHOICES.items():
        if getattr(config, name) not in values:
            raise UserError(
                f"{name} is {getattr(config, name)!r}; use {' or '.join(values)}"
            )


def _check_resolutions(config: NCSNppConfig) -> None:
    if not config.channel_mult:
        raise UserError("channel_mult is empty; give a multiplier per resolution")
    if config.image_size % config.stride:
        raise UserError(
            f"image_size is {config.image_size}; the {config.num_resolutions} "
            f"resolutions of channel_mult need a multiple of {config.stride}"
        )
    sides = [config.image_size >> level for level in range(config.num_resolutions)]
    for side in config.attention_resolutions:
        if side not in sides:
            raise UserError(
                f"attention_resolutions has {side}; the network has the resolutions "
                f"{', '.join(map(str, sides))}"
            )


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
