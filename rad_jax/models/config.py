"""The architecture of a `UNet` as data: its configuration, and the stages it makes.

The modules are built from these stages, and the converters name their weights by them.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from rad_jax.errors import UserError

GROUPS = 32
"""Groups of every normalisation (ADM); all widths are multiples of it."""

DTYPES = ("float32", "bfloat16")

NOISE_EMBEDDINGS = ("spatial", "time")

Resampling = Literal["down", "up"]


@dataclasses.dataclass(frozen=True)
class UNetConfig:
    """Architecture of a `UNet`; a config block splats into it.

    Attributes:
      image_size: pixels; gives `attention_resolutions` their meaning. The network runs
        on any size that its stride divides.
      model_channels: width C of a resolution at multiplier 1; a multiple of 32.
      channel_mult: width of each resolution in C, finest first; int(mult * C). Kept as
        a tuple.
      num_res_blocks: residual blocks of a resolution on the way down (one more on the
        way up).
      attention_resolutions: sides in pixels, at image_size, that have attention. Kept
        as a tuple.
      in_channels: channels of the input.
      out_channels: channels predicted; the output has twice as many with learn_sigma.
      learn_sigma: the network also predicts what its variance is made of.
      num_heads: attention heads where num_head_channels is -1.
      num_head_channels: channels of a head, or -1.
      num_heads_upsample: num_heads of the way up, or -1 for the same.
      use_new_attention_order: of the channels of q, k and v, see `Attention`.
      use_scale_shift_norm: the embedding scales and shifts; else it is added.
      resblock_updown: residual blocks change the resolution; else convolutions do.
      num_classes: number of labels, or None without labels.
      dropout: rate in [0, 1), where the call gives a key.
      dtype: of convolutions and attention, "float32" or "bfloat16". Parameters, and
        all that is small and delicate, are float32.
      use_remat: recompute each block in the backward pass instead of storing it.
      noise_embedding: what the network is conditioned on: "spatial" (RAD), each
        pixel's noise level; or "time", one timestep for the image (`conditioning`).

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
    learn_sigma: bool = True
    num_heads: int = 4
    num_head_channels: int = -1
    num_heads_upsample: int = -1
    use_new_attention_order: bool = False
    use_scale_shift_norm: bool = True
    resblock_updown: bool = True
    num_classes: int | None = None
    dropout: float | int = 0.0
    dtype: str = "float32"
    use_remat: bool = False
    noise_embedding: str = "spatial"
    architecture: ClassVar[str] = "adm"

    def __post_init__(self):
        """Takes lists (of a JSON file) for tuples, and refuses what cannot be built."""
        # What compiles a network is cached by its configuration: lists have no hash.
        for name in ("channel_mult", "attention_resolutions"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        _check_numbers(self)
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
        # Cut, not rounded: so ADM does with multipliers such as 0.5.
        return tuple(int(mult * self.model_channels) for mult in self.channel_mult)

    @property
    def embedding_channels(self) -> int:
        """Width of the time embedding."""
        return 4 * self.model_channels

    @property
    def output_channels(self) -> int:
        """Channels of the network's output."""
        return self.out_channels * (2 if self.learn_sigma else 1)

    def differences(self, other: Any) -> dict[str, tuple[Any, Any]]:
        """`network.differences` of two of these."""
        free = {"dropout", "dtype", "use_remat", "noise_embedding"}
        if self.num_head_channels != -1:
            free |= {"num_heads", "num_heads_upsample"}
        names = {field.name for field in dataclasses.fields(self)} - free
        pairs = {n: (getattr(self, n), getattr(other, n, None)) for n in sorted(names)}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    def has_attention(self, level: int) -> bool:
        """Whether resolution `level` (0 is the finest) has attention."""
        return self.image_size >> level in self.attention_resolutions

    def heads(self, channels: int, *, up: bool) -> int:
        """Attention heads of a block of this width, on the way up or not."""
        if self.num_head_channels != -1:
            return channels // self.num_head_channels
        if up and self.num_heads_upsample != -1:
            return self.num_heads_upsample
        return self.num_heads


LORA_TARGETS = ("conv_in", "conv_out", "conv1", "conv2", "qkv", "proj")
"""The layers that RAD adapts (RAD Sec. 3.4)."""

ADAPTABLE = (*LORA_TARGETS, "shortcut", "conv")
"""All that can be adapted; "conv" are those that change the resolution."""


@dataclasses.dataclass(frozen=True)
class LoRAConfig:
    """Low-rank adapters of a frozen network (`models.lora`).

    Attributes:
      rank: of each adapter; 0 is no adapters: every parameter trains.
      alpha: what the adapters add is multiplied by alpha / rank.
      targets: names of the layers that have one, of `ADAPTABLE`. Kept as a tuple.
      base_dtype: what the frozen kernels are kept in, "float32" or "bfloat16".

    Raises:
      UserError: naming the key whose value makes no adapters.
    """

    rank: int = 0
    alpha: float | int = 16.0
    targets: Sequence[str] = LORA_TARGETS
    base_dtype: str = "float32"

    def __post_init__(self):
        """Takes a list for a tuple, and refuses what cannot be built."""
        object.__setattr__(self, "targets", tuple(self.targets))
        if self.rank < 0 or self.alpha <= 0:
            raise UserError("lora.rank must be >= 0 and lora.alpha > 0")
        unknown = set(self.targets) - set(ADAPTABLE)
        if unknown or not self.targets:
            raise UserError(
                f"lora.targets is {self.targets}; name some of {', '.join(ADAPTABLE)}"
            )
        if self.base_dtype not in DTYPES:
            raise UserError(
                f"lora.base_dtype is {self.base_dtype!r}; use one of "
                f"{', '.join(DTYPES)}"
            )


NO_LORA = LoRAConfig()


@dataclasses.dataclass(frozen=True)
class StageSpec:
    """What stands between two skip connections of the network.

    Attributes:
      level: resolution at which it starts, 0 the finest.
      inputs: channels that come in.
      outputs: channels that go out.
      residual: has a residual block; a stage of the encoder that halves has none.
      heads: of the attention after the residual block, 0 without attention.
      resampling: changes the resolution, after these.
    """

    level: int
    inputs: int
    outputs: int
    residual: bool
    heads: int
    resampling: Resampling | None

    @property
    def resampled_level(self) -> int:
        """Resolution at which it ends."""
        return self.level + {None: 0, "down": 1, "up": -1}[self.resampling]


def encoder_stages(config: UNetConfig) -> list[StageSpec]:
    """Stages of the way down; each one's output, and the input's, becomes a skip."""
    stages = []
    channels = config.widths[0]
    for level, width in enumerate(config.widths):
        heads = config.heads(width, up=False) if config.has_attention(level) else 0
        for _ in range(config.num_res_blocks):
            stages.append(StageSpec(level, channels, width, True, heads, None))
            channels = width
        if level < config.num_resolutions - 1:
            stages.append(StageSpec(level, width, width, False, 0, "down"))
    return stages


def decoder_stages(config: UNetConfig) -> list[StageSpec]:
    """Stages of the way up; each takes its skip beside the stage before."""
    skips = [config.widths[0], *(stage.outputs for stage in encoder_stages(config))]
    stages = []
    channels = config.widths[-1]
    for level, width in reversed(list(enumerate(config.widths))):
        heads = config.heads(width, up=True) if config.has_attention(level) else 0
        for block in range(config.num_res_blocks + 1):
            last = level > 0 and block == config.num_res_blocks
            inputs = channels + skips.pop()
            up = "up" if last else None
            stages.append(StageSpec(level, inputs, width, True, heads, up))
            channels = width
    return stages


def _check_numbers(config: UNetConfig) -> None:
    positive = "image_size model_channels num_res_blocks in_channels out_channels"
    for name in positive.split():
        if getattr(config, name) < 1:
            raise UserError(f"{name} is {getattr(config, name)}; it must be positive")
    if config.num_classes is not None and config.num_classes < 1:
        raise UserError(f"num_classes is {config.num_classes}; give a number or None")
    # Asked this way round, NaN is refused, too.
    if not 0 <= config.dropout < 1:
        raise UserError(f"dropout is {config.dropout}; it must lie in [0, 1)")
    if config.dtype not in DTYPES:
        raise UserError(f"dtype is {config.dtype!r}; use one of {', '.join(DTYPES)}")
    if config.noise_embedding not in NOISE_EMBEDDINGS:
        raise UserError(
            f"noise_embedding is {config.noise_embedding!r}; use 'spatial' or 'time'"
        )


def _check_resolutions(config: UNetConfig) -> None:
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


def _check_widths(config: UNetConfig) -> None:
    for width in config.widths:
        if width < GROUPS or width % GROUPS:
            raise UserError(
                f"model_channels {config.model_channels} and channel_mult "
                f"{config.channel_mult} make a width of {width}; it must be a multiple "
                f"of {GROUPS}, the groups of the normalisation"
            )
    if config.model_channels % 2:
        raise UserError(f"model_channels is {config.model_channels}; it must be even")
    attended = [w for i, w in enumerate(config.widths) if config.has_attention(i)]
    by_channels = config.num_head_channels != -1
    names = (
        ("num_head_channels",) if by_channels else ("num_heads", "num_heads_upsample")
    )
    # The middle of the network always has attention.
    for width in [*attended, config.widths[-1]]:
        for name in names:
            size = getattr(config, name)
            unset = name == "num_heads_upsample" and size == -1
            if not unset and (size < 1 or width % size):
                raise UserError(
                    f"{name} is {size}; it must divide the width {width} of every "
                    "resolution with attention"
                )
