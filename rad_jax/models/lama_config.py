"""The architecture of a `Lama` as data; importable without JAX."""

import dataclasses

from rad_jax.errors import UserError
from rad_jax.models.architecture import DTYPES

LEVELS = 3
"""Times that LaMa halves its images before the Fourier convolutions."""

GLOBAL_SHARE = 0.75
"""Share of the channels that see the whole image, within the residual blocks."""


@dataclasses.dataclass(frozen=True)
class LamaConfig:
    """Architecture of a `Lama`: LaMa-Fourier and Big LaMa (Suvorov et al., WACV 2022).

    Attributes:
      num_blocks: residual blocks of Fourier convolutions: 9 in LaMa-Fourier, 18 in Big
        LaMa.
      base_channels: channels of the full resolution; 64 in both, a multiple of 2.
      image_size: pixels per side that it was trained at. It fills images of any size.
      dtype: of the convolutions, "float32" or "bfloat16". Parameters, Fourier
        transforms and the last convolution are float32.

    Raises:
      UserError: naming the key whose value cannot be built.
    """

    num_blocks: int
    base_channels: int = 64
    image_size: int = 256
    dtype: str = "float32"

    def __post_init__(self):
        """Refuses what cannot be built."""
        for name in ("num_blocks", "base_channels", "image_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be positive")
        if self.base_channels % 2:  # half of the global channels are transformed
            raise UserError(f"base_channels is {self.base_channels}; it must be even")
        if self.dtype not in DTYPES:
            raise UserError(f"dtype is {self.dtype!r}; use one of {', '.join(DTYPES)}")

    @property
    def stride(self) -> int:
        """Heights and widths of inputs are multiples of it."""
        return 2**LEVELS

    @property
    def out_channels(self) -> int:
        """Channels of its images: colours."""
        return 3

    @property
    def num_classes(self) -> None:
        """It is told no labels."""
        return None

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each resolution, finest first; within the blocks the last."""
        return tuple(self.base_channels << level for level in range(LEVELS + 1))

    @property
    def global_channels(self) -> int:
        """Those of a block that see the whole image."""
        return int(self.widths[-1] * GLOBAL_SHARE)

    @property
    def local_channels(self) -> int:
        """Those of a block that see their neighbours."""
        return self.widths[-1] - self.global_channels
