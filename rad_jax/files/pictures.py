"""Pictures from files, generated pixels into pictures, files written."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, UInt8, UInt16
from PIL import Image

from rad_jax.errors import UserError
from rad_jax.files.atomic import atomic_write
from rad_jax.files.decode import decode
from rad_jax.files.encode import encode
from rad_jax.files.file_bytes import AnyFile
from rad_jax.files.formats import QUALITY, format_of, why_not
from rad_jax.files.metadata import NONE, Metadata

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow's "L"


Samples = (
    UInt8[np.ndarray, "h w k"]
    | UInt16[np.ndarray, "h w 1"]
    | Float32[np.ndarray, "h w k"]
)


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture as its file stores it: what the model sees and what we write back.

    Attributes:
        samples: the stored numbers, with alpha if the file has it (the last channel of
            2 or 4): uint8, or uint16 for 16-bit grey. A 1-bit file has 0 and 255. No
            file's, but a program's: float32 in [-1, 1], without alpha.
        bilevel: the file has 1 bit per pixel.
        metadata: what else its file says.
        orientation: EXIF's, 1 to 8, which was followed; more than 4 swap the sides.
        frames: the file has more than this frame.
    """

    samples: Samples
    bilevel: bool = False
    metadata: Metadata = NONE
    orientation: int = 1
    frames: bool = False

    @property
    def colours(self) -> int:
        """Channels without alpha: 1 (grey) or 3."""
        return 1 if self.samples.shape[2] < 3 else 3

    @property
    def has_alpha(self) -> bool:
        """Whether the last channel is alpha."""
        return self.samples.shape[2] in (2, 4)

    @property
    def colour(self) -> Float32[np.ndarray, "h w colours"]:
        """The samples without alpha, in [-1, 1]."""
        colour = self.samples[..., : self.colours]
        if colour.dtype == np.float32:
            return colour
        top = np.iinfo(colour.dtype).max
        return colour * np.float32(2 / top) - np.float32(1)


def read_picture(path: AnyFile) -> Picture:
    """Reads a picture, upright, its samples as stored.

    1-bit, 8-bit grey and RGB (with or without alpha) and 16-bit grey stay what they
    are; `decode` says what becomes of other files.

    Raises:
        UserError: as `decode`.
    """
    decoded = decode(path)
    return dataclasses.replace(
        of_image(decoded.image, decoded.metadata),
        orientation=decoded.orientation,
        frames=decoded.frames,
    )


def of_image(image: Image.Image, metadata: Metadata) -> Picture:
    """A picture of an image of mode 1, L, LA, RGB, RGBA or I;16."""
    samples = np.asarray(image)
    if image.mode == "1":
        samples = samples.astype(np.uint8) * np.uint8(255)
    elif image.mode.startswith("I;16"):
        samples = samples.astype(np.uint16)  # from either byte order
    return Picture(
        samples=samples[..., None] if samples.ndim == 2 else samples,
        bilevel=image.mode == "1",
        metadata=metadata,
    )


def to_image(
    array: UInt8[np.ndarray, "h w k"] | UInt16[np.ndarray, "h w 1"], picture: Picture
) -> Image.Image:
    """Samples like those of a picture as an image of the picture's mode."""
    image = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
    if picture.bilevel:
        return image.convert("1", dither=Image.Dither.NONE)
    return image


def model_input(picture: Picture, channels: int) -> Float32[np.ndarray, "h w channels"]:
    """The picture in [-1, 1] with 1 channel (its luminance) or 3 (grey repeated)."""
    colour = picture.colour
    if channels == 1 and picture.colours == 3:
        return (colour @ _LUMA)[..., None]
    return np.ascontiguousarray(np.broadcast_to(colour, (*colour.shape[:2], channels)))


def compose(
    picture: Picture,
    generated: Float32[np.ndarray, "h w c"],
    hole: Bool[np.ndarray, "h w"],
    *,
    opaque: bool = False,
) -> Samples:
    """Puts generated pixels into the hole of a picture.

    Outside the hole, and in alpha everywhere unless the hole is to be opaque, the
    result has the picture's own samples.

    Args:
        picture: the picture.
        generated: 1 or 3 channels, clipped to [-1, 1]. A grey picture gets the mean of
            3 channels, an RGB picture 1 channel three times.
        hole: True where the generated pixels go, rounded to the nearest sample.
        opaque: whether alpha becomes opaque in the hole.
    """
    samples = picture.samples.copy()
    inside = pixels_in(hole, generated)
    if picture.colours == 1:
        inside = inside.mean(axis=-1, keepdims=True)
    if samples.dtype == np.float32:
        samples[hole] = np.clip(inside, -1, 1)
        return samples
    top = np.iinfo(samples.dtype).max
    steps = 1 if picture.bilevel else top
    levels = np.rint((np.clip(inside, -1, 1) + 1) / 2 * steps) * (top // steps)
    rows = samples.reshape(-1, samples.shape[2])
    rows[np.flatnonzero(hole), : picture.colours] = levels.astype(samples.dtype)
    if opaque and picture.has_alpha:
        samples[hole, -1] = top
    return samples


def pixels_in(hole: Bool[np.ndarray, "h w"], array: np.ndarray) -> np.ndarray:
    """``array[hole]``, in half the time: the pixels (n, k) of an array (h, w, k)."""
    return array.reshape(-1, array.shape[2]).take(np.flatnonzero(hole), axis=0)


def padded_size(size: tuple[int, int], stride: int) -> tuple[int, int]:
    """Height and width rounded up to multiples of ``stride``."""
    h, w = size
    return h + -h % stride, w + -w % stride


def pad_to_size(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pads below and to the right.

    Args:
        array: an image (h, w, c), continued by its edge, or a mask (h, w), continued by
            zeros: known.
        size: height and width, no smaller than the array's.
    """
    h, w = array.shape[:2]
    if (h, w) == size:
        return array
    widths = [(0, size[0] - h), (0, size[1] - w)]
    if array.ndim == 2:
        return np.pad(array, widths)
    return np.pad(array, [*widths, (0, 0)], mode="edge")


def require_holds(output: Path, picture: Picture, path: AnyFile) -> None:
    """Refuses a picture that a file of results cannot hold as it is.

    Args:
        output: the file; its suffix is its format.
        picture: the picture.
        path: its file, for the message.

    Raises:
        UserError: it has 16 bits, alpha or a size that the format has not.
    """
    form = format_of(output) or "png"
    samples = picture.samples
    bits, side = 8 * samples.itemsize, max(samples.shape[:2])
    if reason := why_not(form, bits, picture.has_alpha, side):
        raise UserError(
            f"{path}: {reason}, which {form} cannot hold; choose the format png or tiff"
        )


def write_picture(
    path: Path,
    array: UInt8[np.ndarray, "h w k"] | UInt16[np.ndarray, "h w 1"],
    picture: Picture,
    text: Mapping[str, str],
    quality: int | None = None,
) -> None:
    """Writes samples as a file of the picture's kind, whole or not at all.

    Args:
        path: the file; one that exists is replaced, missing folders are made. Its
            suffix is its format, one of `formats.FORMATS`, PNG if it is none of these.
        array: samples like those of ``picture``, from `compose`.
        picture: where bit depth and metadata come from.
        text: instead of the picture's own of the same keys, as `encode` carries it;
            keys are Latin-1, at most 79 characters.
        quality: of JPEG.

    Raises:
        UserError: the file cannot be written.
    """
    encoded = encode_picture(path, array, picture, text, quality)
    with atomic_write(path) as part:
        part.write_bytes(encoded)


def encode_picture(
    name: Path,
    array: UInt8[np.ndarray, "h w k"] | UInt16[np.ndarray, "h w 1"],
    picture: Picture,
    text: Mapping[str, str],
    quality: int | None = None,
) -> bytes:
    """The bytes of the file that `write_picture` writes."""
    form = format_of(name) or "png"
    image = to_image(array, picture)
    return encode(image, picture.metadata, text, form, quality or QUALITY)


def save_png(array: np.ndarray, path: str | os.PathLike[str]) -> None:
    """Writes a PNG file whole or not at all; missing folders are made.

    Args:
        array: uint8, (h, w), (h, w, 1), (h, w, 3) or (h, w, 4).
        path: the file; one that exists is replaced.

    Raises:
        UserError: the file cannot be written (disk full, no permission, ...).
    """
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    encoded = encode(Image.fromarray(array), NONE, {}, "png", QUALITY)
    with atomic_write(Path(path)) as part:
        part.write_bytes(encoded)
