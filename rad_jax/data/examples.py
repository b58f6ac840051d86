"""From a record to what the network takes: decoded, cut to its size, mirrored.

Cropping follows the data loader of ADM (Dhariwal and Nichol, "Diffusion Models Beat
GANs on Image Synthesis", 2021, in the code that they published).
"""

import dataclasses
import math
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from rad_jax.data.image_file import BadImage, decode_rgb
from rad_jax.data.records import FIX_HINT, Record
from rad_jax.data.resize import center_crop, scale
from rad_jax.errors import UserError

MIN_CROP_FRACTION = 0.8  # ADM's: the least that a random crop keeps of the shorter side


@dataclasses.dataclass(frozen=True)
class ToExample:
    """Makes an example of the network's size out of a record.

    Attributes:
        channels: 1 for grey, 3 for RGB; a file of the other kind is converted.
        image_size: pixels per side; see `fit`.
        random_crop: crop at random what is larger, not the centre.
        random_flip: mirror every other image, left to right.

    Raises:
        UserError: ``channels`` is another number.
    """

    channels: int
    image_size: int
    random_crop: bool = False
    random_flip: bool = False

    def __post_init__(self):
        """Refuses other numbers of channels."""
        require_channels(self.channels)

    def __call__(self, record: Record, rng: np.random.Generator) -> dict[str, Any]:
        """One example.

        Args:
            record: what it is made of.
            rng: where the crop and the mirroring come from.

        Returns:
            ``image``, uint8 (image_size, image_size, channels), and ``label``, an int32
            that is 0 where there are no classes.

        Raises:
            UserError: the image cannot be decoded, or is too small.
        """
        # Drawn first: whether crops are random does not change what is mirrored.
        mirrored = self.random_flip and rng.random() < 0.5
        image = decode(record, self.channels)
        crop_rng = rng if self.random_crop else None
        image = fit(image, self.image_size, record, crop_rng)
        if mirrored:
            # NumPy's reversed view would cost four times as much when it is stacked.
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return {"image": to_array(image), "label": label(record)}


def require_channels(channels: int) -> None:
    """Raises UserError for a number that images do not have."""
    if channels not in (1, 3):
        raise UserError(f"channels={channels}: must be 1 (grey) or 3 (RGB)")


def label(record: Record) -> np.int32:
    """The class of a record, 0 where there are none."""
    return np.int32(record.get("label", 0))


def decode(record: Record, channels: int) -> Image.Image:
    """The image of a record, upright, in RGB (3 channels) or grey (1).

    Raises:
        UserError: it cannot be decoded.
    """
    try:
        image = decode_rgb(record["name"], record["image"])
    except BadImage as error:
        raise UserError(f"{error}; {FIX_HINT}") from error
    return image if channels == 3 else image.convert("L")


def fit(
    image: Image.Image,
    size: int,
    record: Record,
    rng: np.random.Generator | None = None,
) -> Image.Image:
    """The network's square of an image; an image of just that size stays as it is.

    Args:
        image: of mode L or RGB.
        size: pixels per side.
        record: where it comes from, for errors.
        rng: where random crops come from; None crops the centre.

    Raises:
        UserError: the image is smaller.
    """
    if min(image.size) < size:
        raise UserError(
            f"{record['name']}: the images of {record['data_set']} have {image.width}x"
            f"{image.height} pixels, image_size is {size}; make them equal"
        )
    if image.size == (size, size):
        return image
    try:
        return (
            center_crop(image, size) if rng is None else random_crop(image, size, rng)
        )
    except ValueError as error:
        raise UserError(f"{record['name']}: {error}; {FIX_HINT}") from error


def random_crop(image: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    """A random square of an image, from four fifths of its shorter side to all of it.

    ADM scales the shorter side to a random number of pixels, ``size`` to
    ``ceil(size / 0.8)``, as `center_crop` scales it, and cuts a random square out.

    Args:
        image: of mode L or RGB, each side at least ``size``.
        size: pixels per side of what is returned.
        rng: three numbers are drawn from it.
    """
    largest = math.ceil(size / MIN_CROP_FRACTION)
    image = scale(image, int(rng.integers(size, largest, endpoint=True)))
    left = int(rng.integers(image.width - size, endpoint=True))
    top = int(rng.integers(image.height - size, endpoint=True))
    return image.crop((left, top, left + size, top + size))


def to_array(image: Image.Image) -> UInt8[np.ndarray, "h w c"]:
    """The pixels of an image of mode L or RGB."""
    # PIL's grey has no axis of channels.
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels
