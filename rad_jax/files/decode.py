"""Decodes image files, which are all taken for hostile.

Few formats (none that runs a program), a limit on pixels, no repair of truncated files,
and whatever a decoder raises becomes one line.
"""

import contextlib
import dataclasses
import io
import threading
import warnings
from collections.abc import Iterator
from typing import NamedTuple

from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError, features

from rad_jax.errors import UserError, first_line
from rad_jax.files.file_bytes import AnyFile, FileBytes
from rad_jax.files.metadata import Metadata, metadata_of, png_chunks

OPTIONAL = {"AVIF": "avif", "JPEG2000": "jpg_2000"}
"""What Pillow opens where it was built with their libraries, by its names of these."""

FORMATS = (
    *("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"),
    *(name for name, library in OPTIONAL.items() if features.check(library)),
)
"""What Pillow may open. Of a file with several frames we take the first."""

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".tif", ".tiff", ".gif"),
    *(".avif" for name in FORMATS if name == "AVIF"),
    *(x for x in (".jp2", ".j2k", ".jpx", ".jpf") if "JPEG2000" in FORMATS),
)
"""Which files of a folder are pictures; compared in lower case."""

_ORIENTATION = 0x0112  # EXIF tag; 5 to 8 swap height and width
_DEEP = (";16B", ";16L", ";16N")  # Pillow's names of 16-bit samples it cuts to 8


class Decoded(NamedTuple):
    """A picture's samples, and what there is to say of its file.

    Attributes:
        image: turned upright, its mode 1, L, LA, RGB, RGBA or I;16 (in either byte
            order), and of a mask I or F as well.
        metadata: what the file says of it.
        orientation: EXIF's, 1 to 8, that was followed; 5 to 8 swap height and width.
        frames: whether there are more than this first one.
    """

    image: Image.Image
    metadata: Metadata
    orientation: int
    frames: bool


class _Quietly:
    """While files are decoded, in however many threads: no warnings but of bombs.

    Python's own `catch_warnings` takes what another thread has set for what was there.
    """

    def __init__(self):
        """No thread is in it."""
        self._lock, self._count = threading.Lock(), 0

    def __enter__(self) -> None:
        """The first thread sets the filters."""
        with self._lock:
            self._count += 1
            if self._count == 1:
                self._before = warnings.catch_warnings()
                self._before.__enter__()
                warnings.simplefilter("ignore")
                warnings.simplefilter("error", Image.DecompressionBombWarning)

    def __exit__(self, *_: object) -> None:
        """The last one takes them back."""
        with self._lock:
            self._count -= 1
            if not self._count:
                self._before.__exit__(None, None, None)


_QUIETLY = _Quietly()


def picture_size(path: AnyFile) -> tuple[int, int]:
    """Height and width of a picture in pixels, upright.

    Only the header is read, but for a PNG file, whose orientation may come last.

    Raises:
        UserError: as `decode`, as far as we read.
    """
    with _opened(path) as image:
        width, height = image.size
        # Pillow turns the size of a TIFF by itself.
        if image.format != "TIFF" and _orientation(image) >= 5:
            return width, height
        return height, width


def decode(path: AnyFile, *, as_mask: bool = False) -> Decoded:
    """Decodes a picture, turned upright as its EXIF orientation says.

    A palette becomes RGB or, with transparency, RGBA; a transparent colour becomes an
    alpha channel; CMYK becomes RGB and loses its colour profile, which would not fit.

    Args:
        path: of the file.
        as_mask: whole numbers of 32 bits and floats are read, too: a mask is not
            written back.

    Raises:
        UserError: the file is missing, broken, empty, too large, no picture, or holds
            samples that Pillow changes (16-bit colour, ...) or, but for a mask, that
            we could not write back unchanged (floats, ...).
    """
    with _opened(path) as file:
        _refuse_lossy(file, path, as_mask)
        # Before it is read: a JPEG file with previews is no animation.
        frames = file.format != "MPO" and bool(getattr(file, "is_animated", False))
        if frames:
            file.seek(0)
        chunks = png_chunks(file)
        orientation = 1 if file.format == "TIFF" else _orientation(file)
        upright = ImageOps.exif_transpose(file)
        swapped = orientation in range(5, 9)
        metadata = metadata_of(file, upright, chunks, swapped=swapped)
        if upright.mode == "CMYK":
            metadata = dataclasses.replace(metadata, icc_profile=None)
        return Decoded(as_grey_or_rgb(upright), metadata, orientation, frames)


def _orientation(image: Image.Image) -> int:
    found = image.getexif().get(_ORIENTATION)
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


@contextlib.contextmanager
def _opened(path: AnyFile) -> Iterator[ImageFile.ImageFile]:
    """An open image file; whatever goes wrong meanwhile is a `UserError`."""
    try:
        if isinstance(path, FileBytes):
            file = io.BytesIO(path.data)
        elif path.is_file():  # opening a pipe would wait for ever
            file = path
        else:
            reason = "not a file" if path.exists() else "no such file"
            raise UserError(f"{path}: {reason}; check the name")
        with _QUIETLY, Image.open(file, formats=FORMATS) as image:
            _drop_broken_exif(image)
            yield image
    except UserError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise UserError(
            f"{path}: more than {Image.MAX_IMAGE_PIXELS} pixels; scale it down"
        ) from error
    except UnidentifiedImageError as error:
        raise UserError(
            f"{path}: not a picture ({', '.join(FORMATS)}), or broken; save it as PNG"
        ) from error
    except Exception as error:  # decoders raise nearly anything on broken files
        reason = getattr(error, "strerror", None) or first_line(error)
        mend = "check its name and who may read it"
        if not getattr(error, "errno", None):  # the decoder's complaint, not the disk's
            mend = "copy or save the file again"
        raise UserError(f"{path}: cannot be read ({reason}); {mend}") from error


def _drop_broken_exif(image: ImageFile.ImageFile) -> None:
    """A good picture may have a bad EXIF block, over which Pillow would stumble."""
    if "exif" in image.info:
        try:
            image.getexif()
        except Exception:  # like a decoder
            del image.info["exif"]


def _refuse_lossy(image: ImageFile.ImageFile, path: AnyFile, as_mask: bool) -> None:
    """Refuses an opened, not yet decoded image whose samples Pillow would change."""
    codings = [
        str(tile.args[0] if isinstance(tile.args, tuple) and tile.args else tile.args)
        for tile in image.tile
    ]
    grey16 = image.mode.startswith("I;16")
    bits = _coded_bits(image)
    reason = "which we could not write back unchanged"
    if "I;12" in codings or bits not in (8, 16):
        kind = f"{12 if 'I;12' in codings else bits}-bit samples"
        reason = "which Pillow reads as others"
    elif not grey16 and (bits == 16 or any(x.endswith(_DEEP) for x in codings)):
        kind = "16-bit colour or alpha (only 16-bit grey without alpha is read whole)"
        reason = "of which Pillow reads the upper 8 bits alone"
    elif "transparency" in image.info and (grey16 or {"L;2", "L;4"} & {*codings}):
        kind = "a transparent grey level in a file that is not 8-bit"
        reason = "which Pillow does not find"
    elif image.mode in ("I", "F") and as_mask:
        return
    elif not grey16 and image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK"):
        kind = {"I": "32-bit samples", "F": "samples that are floats"}.get(
            image.mode, f"samples of mode {image.mode}"
        )
    else:
        return
    raise UserError(f"{path}: has {kind}, {reason}; save it as an 8-bit PNG file")


def _coded_bits(image: ImageFile.ImageFile) -> int:
    """Bits of a sample in formats of which Pillow does not tell; 8 in the others."""
    if image.format not in OPTIONAL or image.fp is None:
        return 8
    at = image.fp.tell()
    image.fp.seek(0)
    head = image.fp.read(2**16)
    image.fp.seek(at)
    if image.format == "AVIF":  # of its configuration, high_bitdepth and twelve_bit
        flags = head[head.find(b"av1C") + 6 :][:1] if b"av1C" in head else b"\0"
        return {0x40: 10, 0x60: 12}.get(flags[0] & 0x60, 8) if flags else 8
    # JPEG 2000: of the first component, behind SOC, SIZ and the sizes.
    size = head.find(b"\xff\x4f\xff\x51")
    depth = head[size + 42 : size + 43] if size >= 0 else b""
    return (depth[0] & 0x7F) + 1 if depth else 8


def as_grey_or_rgb(image: Image.Image) -> Image.Image:
    """Turns palettes, transparent colours and CMYK into grey or RGB, with alpha."""
    if image.mode == "CMYK":
        return image.convert("RGB")
    if image.mode == "P":
        return image.convert("RGBA" if image.has_transparency_data else "RGB")
    if "transparency" in image.info and image.mode in ("1", "L", "RGB"):
        return image.convert("RGBA" if image.mode == "RGB" else "LA")
    return image
