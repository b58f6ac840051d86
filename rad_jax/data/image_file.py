"""One image file of a data set: its name, its bytes, its pixels. Taken for hostile."""

import collections
import contextlib
import io
from pathlib import PurePosixPath

import numpy as np
from PIL import Image, ImageOps

from rad_jax.errors import UserError, first_line
from rad_jax.files.decode import FORMATS, SUFFIXES

MAX_BYTES = 1 << 28  # of a file, packed or not
MAX_PIXELS = 1 << 26  # of a picture, before it is scaled


class Others(collections.Counter[str]):
    """How many files of a source are no images, by suffix."""

    def add(self, name: str) -> None:
        """Counts one, unless it is a folder or hidden."""
        last = name.rpartition("/")[2]
        if last and not last.startswith(".") and "__MACOSX" not in name:
            self[PurePosixPath(last).suffix.lower() or "no suffix"] += 1


class BadImage(UserError):
    """An image that cannot be used, where the others of its source may well be.

    The line starts with its name within the source.
    """


def is_image_name(name: str) -> bool:
    """Whether a path within a source, with "/", is that of an image file.

    Hidden files are none, nor are those that macOS adds to zips.
    """
    parts = name.split("/")
    hidden = any((x.startswith(".") and x != "..") or x == "__MACOSX" for x in parts)
    return name.lower().endswith(SUFFIXES) and not hidden


def check_bytes(name: str, size: int) -> None:
    """Refuses a file that would fill the memory.

    Raises:
        BadImage: it has more than ``MAX_BYTES``.
    """
    if size > MAX_BYTES:
        raise BadImage(f"{name}: {size >> 20} MiB, more than {MAX_BYTES >> 20}")


def decode_rgb(name: str, data: bytes) -> Image.Image:
    """Decodes an image file, upright and in RGB.

    Of what is no 8-bit RGB, an EXIF orientation is followed, transparency and colour
    profiles are dropped, CMYK and palettes are converted, 16-bit grey keeps its upper
    byte, and of several frames the first is taken.

    Args:
        name: what to call it in errors.
        data: the file.

    Raises:
        BadImage: it is no picture, of a kind we do not read, broken, cut short, has too
            many pixels, or samples that are not 8 or 16 bits.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as file:
            if file.width * file.height > MAX_PIXELS:
                raise BadImage(f"{name}: more than {MAX_PIXELS} pixels")
            file.load()
            image = file
            with contextlib.suppress(Exception):  # a bad EXIF block, a good picture
                image = ImageOps.exif_transpose(file)
            if image.mode.startswith("I;16"):  # Pillow would cut to 255, not scale
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            if image.mode in ("I", "F"):
                raise BadImage(f"{name}: samples of mode {image.mode}")
            return image.convert("RGB")
    except UserError:
        raise
    except MemoryError:
        raise
    except Exception as error:  # decoders raise nearly anything on broken files
        reason = first_line(error)
        if isinstance(error, Image.UnidentifiedImageError):  # its line has an address
            reason = f"not a picture ({', '.join(FORMATS)})"
        raise BadImage(f"{name}: {reason}") from error
