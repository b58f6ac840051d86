"""The architecture of an `Autoencoder` as data; importable without JAX."""

import dataclasses
from collections.abc import Sequence

from rad_jax.errors import UserError
from rad_jax.models.architecture import DTYPES, Architecture, StageSpec

GROUPS = 32
"""Groups of every normalisation; all widths are multiples of it."""

AUTOENCODERS = ("kl", "vq")
"""What keeps latents small: a Gaussian near the unit one, or a book of codes."""


@dataclasses.dataclass(frozen=True)
class AutoencoderConfig:
    """Architecture of an `Autoencoder` of latent diffusion (Rombach et al. 2022).

    Attributes:
      kind: "kl": an image's latents are the mean of a Gaussian; "vq": they are
        replaced by the nearest codes before they are decoded.
      widths: channels of each resolution, finest first; multiples of 32. Kept as a
        tuple.
      num_res_blocks: residual blocks of a resolution of the encoder; the decoder has
        one more.
      latent_channels: channels of the latents.
      num_codes: in the book, of "vq"; 0 of "kl".
      scaling_factor: latents are multiplied by it after they are encoded, so that
        their variance is about 1: 0.18215 of Stable Diffusion, 1 of "vq".
      image_channels: of the images.
      image_size: pixels per side that it was trained at. It takes images of any size.
      dtype: of convolutions and attention, "float32" or "bfloat16". Parameters,
        normalisations and what makes latents and pixels are float32.

    Raises:
      UserError: naming the key whose value cannot be built.
    """

    kind: str
    widths: Sequence[int]
    num_res_blocks: int
    latent_channels: int
    num_codes: int = 0
    scaling_factor: float | int = 1.0
    image_channels: int = 3
    image_size: int = 256
    dtype: str = "float32"

    def __post_init__(self):
        """Takes a list (of a JSON file) for a tuple, and refuses what has no sense."""
        object.__setattr__(self, "widths", tuple(self.widths))
        if self.kind not in AUTOENCODERS:
            raise UserError(
                f"kind is {self.kind!r}; use one of {', '.join(AUTOENCODERS)}"
            )
        names = "num_res_blocks latent_channels scaling_factor image_channels"
        for name in (*names.split(), "image_size"):
            # Asked this way round, NaN is refused, too.
            if not 0 < getattr(self, name) < float("inf"):
                raise UserError(f"{name} is {getattr(self, name)}; it must be positive")
        if self.kind == "vq" and self.num_codes < 1:
            raise UserError(f"num_codes is {self.num_codes}; kind vq needs 1 or more")
        if self.kind == "kl" and self.num_codes:
            raise UserError(f"num_codes is {self.num_codes}; kind kl has none: use 0")
        if not self.widths:
            raise UserError("widths is empty; give the channels of each resolution")
        for width in self.widths:
            if width < GROUPS or width % GROUPS:
                raise UserError(
                    f"widths has {width}; it must be a multiple of {GROUPS}, the "
                    "groups of the normalisation"
                )
        if self.dtype not in DTYPES:
            raise UserError(f"dtype is {self.dtype!r}; use one of {', '.join(DTYPES)}")

    @property
    def stride(self) -> int:
        """Pixels along a side of a latent cell, f; sides of images are multiples."""
        return 2 ** (len(self.widths) - 1)

    @property
    def encoded_channels(self) -> int:
        """Channels that the encoder gives: of "kl" means and log-variances."""
        return self.latent_channels * (2 if self.kind == "kl" else 1)


def require_codec(config: Architecture, codec: AutoencoderConfig) -> None:
    """Refuses an autoencoder whose latents are not what a network denoises.

    Raises:
      UserError: naming both numbers.
    """
    if codec.latent_channels != config.out_channels:
        raise UserError(
            f"the autoencoder has latents of {codec.latent_channels} channels, and the "
            f"network denoises {config.out_channels}; they are of different models"
        )


def encoder_stages(config: AutoencoderConfig) -> list[StageSpec]:
    """Residual blocks of the encoder, in order; the last of a resolution halves it."""
    stages, channels = [], config.widths[0]
    last = len(config.widths) - 1
    for level, width in enumerate(config.widths):
        for block in range(config.num_res_blocks):
            halves = block == config.num_res_blocks - 1 and level < last
            down = "down" if halves else None
            stages.append(StageSpec(level, channels, width, True, 0, down))
            channels = width
    return stages


def decoder_stages(config: AutoencoderConfig) -> list[StageSpec]:
    """The same of the decoder; the last block of a resolution doubles it."""
    stages, channels = [], config.widths[-1]
    for level, width in reversed(list(enumerate(config.widths))):
        for block in range(config.num_res_blocks + 1):
            doubles = block == config.num_res_blocks and level > 0
            up = "up" if doubles else None
            stages.append(StageSpec(level, channels, width, True, 0, up))
            channels = width
    return stages
