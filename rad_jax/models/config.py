"""The architecture of a `UNet` as data: its configuration, and the stages it makes.

The modules are built from these stages, and the converters name their weights by them.
"""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from rad_jax.errors import UserError
from rad_jax.models.architecture import DTYPES, Architecture, StageSpec

GROUPS = 32
"""Groups of every normalisation (ADM); all widths are multiples of it."""


class GroupedUNet(Architecture):
    """Base of the configurations of ADM's U-Net and of those built like it.

    Their widths are multiples of 32, and the middle always has attention. It has no
    fields itself.

    Attributes:
      num_heads: attention heads where num_head_channels is -1.
      num_head_channels: channels of a head, or -1.

    Others, and what is raised, as of `Architecture`.
    """

    num_heads: int
    num_head_channels: int

    def __post_init__(self):
        """Refuses what cannot be built."""
        super().__post_init__()
        _check_widths(self)

    def free(self) -> set[str]:
        """As of `Architecture`; and what is not read."""
        unread = {"num_heads"} if self.num_head_channels != -1 else set()
        return super().free() | unread

    def head_settings(self) -> tuple[str, ...]:
        """Attributes that divide the widths among heads."""
        by_channels = self.num_head_channels != -1
        return ("num_head_channels",) if by_channels else ("num_heads",)

    def heads(self, channels: int, *, up: bool) -> int:
        """Attention heads of a block of this width, on the way up or not."""
        if self.num_head_channels != -1:
            return channels // self.num_head_channels
        return self.num_heads


@dataclasses.dataclass(frozen=True)
class UNetConfig(GroupedUNet):
    """Architecture of a `UNet`.

    Attributes:
      learn_sigma: the network also predicts what its variance is made of: its output
        has twice as many channels.
      num_heads_upsample: num_heads of the way up, or -1 for the same.
      use_new_attention_order: of the channels of q, k and v, see `Attention`.
      use_scale_shift_norm: the embedding scales and shifts; else it is added.
      resblock_updown: residual blocks change the resolution; else convolutions do.
      num_classes: number of labels, or None without labels.
      architecture: "adm".

    Others, and what is raised, as of `GroupedUNet`.
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
        """Refuses what cannot be built."""
        super().__post_init__()
        if self.num_classes is not None and self.num_classes < 1:
            raise UserError(f"num_classes is {self.num_classes}; give a number or None")

    @property
    def output_channels(self) -> int:
        """Channels of the network's output."""
        return self.out_channels * (2 if self.learn_sigma else 1)

    def free(self) -> set[str]:
        """As of `GroupedUNet`."""
        unread = {"num_heads_upsample"} if self.num_head_channels != -1 else set()
        return super().free() | unread

    def head_settings(self) -> tuple[str, ...]:
        """As of `GroupedUNet`."""
        # Without a number of its own, the way up has the same.
        unset = self.num_head_channels != -1 or self.num_heads_upsample == -1
        return super().head_settings() + (() if unset else ("num_heads_upsample",))

    def heads(self, channels: int, *, up: bool) -> int:
        """As of `GroupedUNet`."""
        if up and "num_heads_upsample" in self.head_settings():
            return self.num_heads_upsample
        return super().heads(channels, up=up)


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


def encoder_stages(config: GroupedUNet) -> list[StageSpec]:
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


def decoder_stages(config: GroupedUNet) -> list[StageSpec]:
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


def _check_widths(config: GroupedUNet) -> None:
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
    # The middle of the network always has attention.
    for width in [*attended, config.widths[-1]]:
        for name in config.head_settings():
            size = getattr(config, name)
            if size < 1 or width % size:
                raise UserError(
                    f"{name} is {size}; it must divide the width {width} of every "
                    "resolution with attention"
                )
