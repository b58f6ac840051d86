"""Decodes image files, which are all taken for hostile.

Few formats (none that runs a program), a limit on pixels, no repair of truncated files,
and whatever a decoder raises becomes one line.
"""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from rad_jax.errors import UserError, first_line

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
"""What Pillow may open. Of a file with several frames we take the first."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
"""Which files of a folder are pictures; compared in lower case."""

_ORIENTATION = 0x0112  # EXIF tag; 5 to 8 swap height and width
_DEEP = (";16B", ";16L", ";16N")  # Pillow's names of 16-bit samples it cuts to 8


def picture_size(path: Path) -> tuple[int, int]:
    """Height and width of a picture in pixels, upright.

    Only the header is read, but for a PNG file, whose orientation may come last.

    Raises:
        UserError: as `decode`, as far as we read.
    """
    with _opened(path) as image:
        width, height = image.size
        # Pillow turns the size of a TIFF by itself.
        if image.format != "TIFF" and image.getexif().get(_ORIENTATION) in range(5, 9):
            return width, height
        return height, width


def decode(path: Path) -> Image.Image:
    """Decodes a picture, turned upright as its EXIF orientation says.

    A palette becomes RGB or, with transparency, RGBA; a transparent colour becomes an
    alpha channel; CMYK becomes RGB and loses its colour profile, which would not fit.

    Returns:
        An image of mode 1, L, LA, RGB, RGBA or I;16 (in either byte order), with what
        the file holds of ``info["icc_profile"]`` and ``info["exif"]``.

    Raises:
        UserError: the file is missing, broken, empty, too large, no picture, or holds
            samples that we could not write back unchanged (16-bit colour, floats).
    """
    with _opened(path) as image:
        _refuse_lossy(image, path)
        return _plain(ImageOps.exif_transpose(image))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[ImageFile.ImageFile]:
    """An open image file; whatever goes wrong meanwhile is a `UserError`."""
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            reason = "not a file" if path.exists() else "no such file"
            raise UserError(f"{path}: {reason}; check the name")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
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


def _refuse_lossy(image: ImageFile.ImageFile, path: Path) -> None:
    """Refuses an opened, not yet decoded image whose samples Pillow would change."""
    codings = [
        str(tile.args[0] if isinstance(tile.args, tuple) and tile.args else tile.args)
        for tile in image.tile
    ]
    grey16 = image.mode.startswith("I;16")
    if grey16 and "I;12" in codings:
        kind = "12-bit samples"
    elif not grey16 and any(coding.endswith(_DEEP) for coding in codings):
        kind = "16-bit colour or alpha (only 16-bit grey without alpha is kept)"
    elif "transparency" in image.info and (grey16 or {"L;2", "L;4"} & {*codings}):
        kind = "a transparent grey level in a file that is not 8-bit"
    elif not grey16 and image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK"):
        kind = f"samples of mode {image.mode}"
    else:
        return
    raise UserError(
        f"{path}: has {kind}, which we could not write back unchanged; save it as an "
        "8-bit PNG file"
    )


def _plain(image: Image.Image) -> Image.Image:
    """Turns palettes, transparent colours and CMYK into grey or RGB, with alpha."""
    if image.mode == "CMYK":
        image.info.pop("icc_profile", None)
        return image.convert("RGB")
    if image.mode == "P":
        return image.convert("RGBA" if image.has_transparency_data else "RGB")
    if "transparency" in image.info and image.mode in ("1", "L", "RGB"):
        return image.convert("RGBA" if image.mode == "RGB" else "LA")
    return image
