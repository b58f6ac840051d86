"""What the configurations of the denoising networks share, and the stages they make.

All are U-Nets: encoder, middle and decoder over resolutions, each half the size of the
one before.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, cast

from rad_jax.errors import UserError

DTYPES = ("float32", "bfloat16")

NOISE_EMBEDDINGS = ("spatial", "time")

Resampling = Literal["down", "up"]


class Architecture:
    """Base of the frozen dataclasses that configure a network; has no fields itself.

    Each declares these among its own: files store fields in their order, of which
    fingerprints are made. A config block splats into it.

    Attributes:
      image_size: pixels; gives `attention_resolutions` their meaning. The network runs
        on any size that its stride divides.
      model_channels: width C of a resolution at multiplier 1.
      channel_mult: width of each resolution in C, finest first; int(mult * C). Kept as
        a tuple.
      num_res_blocks: residual blocks of a resolution on the way down (one more on the
        way up).
      attention_resolutions: sides in pixels, at image_size, that have attention. Kept
        as a tuple.
      in_channels: channels of the input.
      out_channels: channels predicted.
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
    in_channels: int
    out_channels: int
    dropout: float | int
    dtype: str
    use_remat: bool
    noise_embedding: str

    def __post_init__(self):
        """Takes lists (of a JSON file) for tuples, and refuses what cannot be built."""
        # What compiles a network is cached by its configuration: lists have no hash.
        for name in ("channel_mult", "attention_resolutions"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        _check_numbers(self)
        self.check_choices(dtype=DTYPES, noise_embedding=NOISE_EMBEDDINGS)
        _check_resolutions(self)

    @property
    def num_resolutions(self) -> int:
        """Number of resolutions."""
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
        """Width of the noise embedding."""
        return 4 * self.model_channels

    def has_attention(self, level: int) -> bool:
        """Whether resolution `level` (0 is the finest) has attention."""
        return self.image_size >> level in self.attention_resolutions

    def free(self) -> set[str]:
        """Attributes that do not change what function the network is.

        They say how it is computed, regularised, and conditioned on the noise.
        """
        return {"dropout", "dtype", "use_remat", "noise_embedding"}

    def differences(self, other: "Architecture") -> dict[str, tuple[Any, Any]]:
        """`network.differences` of two of one architecture."""
        names = {field.name for field in dataclasses.fields(cast(Any, self))}
        names -= self.free()
        pairs = {n: (getattr(self, n), getattr(other, n)) for n in sorted(names)}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    def check_choices(self, **choices: Sequence[str]) -> None:
        """Refuses another value than those of a key that names something."""
        for name, values in choices.items():
            if getattr(self, name) not in values:
                raise UserError(
                    f"{name} is {getattr(self, name)!r}; use {' or '.join(values)}"
                )


@dataclasses.dataclass(frozen=True)
class StageSpec:
    """What stands between two skip connections of a network.

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


def _check_numbers(config: Architecture) -> None:
    positive = "image_size model_channels num_res_blocks in_channels out_channels"
    for name in positive.split():
        if getattr(config, name) < 1:
            raise UserError(f"{name} is {getattr(config, name)}; it must be positive")
    # Asked this way round, NaN is refused, too.
    if not 0 <= config.dropout < 1:
        raise UserError(f"dropout is {config.dropout}; it must lie in [0, 1)")


def _check_resolutions(config: Architecture) -> None:
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
