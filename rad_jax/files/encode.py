"""Image files of samples: PNG, WebP and TIFF keep every one, JPEG does not.

Each carries of the metadata what it can: PNG all; the others the colour profile, EXIF,
XMP and the resolution, and in the EXIF block a line of text.
"""

import io
import struct
from collections.abc import Mapping

from PIL import ExifTags, Image, TiffImagePlugin, TiffTags
from PIL.PngImagePlugin import PngInfo

from rad_jax.files.metadata import RESOLUTION, Metadata, with_chunks

_MOST_SEGMENT = 65_000
"""Bytes of EXIF or XMP in a JPEG file, whose segments end at 65,533."""

_DESCRIPTIVE = {
    ExifTags.Base.ImageDescription,
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.Software,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.HostComputer,
    ExifTags.Base.Copyright,
}
"""What a TIFF file takes from EXIF. Its other tags say how samples are stored."""


def encode(
    image: Image.Image,
    said: Metadata,
    text: Mapping[str, str],
    form: str,
    quality: int,
) -> bytes:
    """An image file's bytes.

    Args:
        image: mode 1, L, LA, RGB, RGBA or I;16; see `formats.why_not`.
        said: what is carried.
        text: of our own, instead of the picture's of the same keys. PNG has a chunk for
            each; the others a line, in EXIF's ImageDescription or, where the picture
            has one, in its UserComment. A TIFF file has but the first.
        form: of `formats.FORMATS`.
        quality: of JPEG, 1 to 100.
    """
    if form == "png":
        return _png(image, said, text)
    exif = _described(said, "; ".join(f"{key}: {x}" for key, x in text.items()))
    options = {"icc_profile": said.icc_profile, "xmp": said.xmp, "exif": exif}
    if form == "tiff":
        # Not compressed: libtiff, which packs, cannot write EXIF's inner directories.
        options = {"compression": "raw", "tiffinfo": _tags(exif, said)}
    elif form == "webp":
        image = _in_colour(image)
        options |= {"lossless": True, "exact": True}
        if said.icc_profile and said.icc_profile[16:20] != b"RGB ":
            del options["icc_profile"]  # of grey: the file has but colour
    else:
        image = image.convert("L") if image.mode == "1" else image
        if dpi := _dots_per_inch(said):
            options["dpi"] = dpi
        for kind, data in (("exif", exif.tobytes()), ("xmp", said.xmp or b"")):
            if len(data) > _MOST_SEGMENT:
                del options[kind]
        options |= {"quality": quality, "subsampling": 0}
    encoded = io.BytesIO()
    given = {name: value for name, value in options.items() if value is not None}
    image.save(encoded, form, **given)
    return encoded.getvalue()


def _png(image: Image.Image, said: Metadata, text: Mapping[str, str]) -> bytes:
    chunks = PngInfo()
    for key, value in {**said.text, **text}.items():
        chunks.add_text(key, value)
    if said.xmp:
        chunks.add_itxt("XML:com.adobe.xmp", said.xmp.decode("utf-8", "replace"))
    encoded = io.BytesIO()
    image.save(
        encoded,
        "png",
        pnginfo=chunks,
        icc_profile=said.icc_profile,
        exif=said.exif,
    )
    return with_chunks(encoded.getvalue(), said.chunks)


def _in_colour(image: Image.Image) -> Image.Image:
    """WebP has no grey; every level stays what it is, three times."""
    if image.mode in ("1", "L"):
        return image.convert("L").convert("RGB")
    return image.convert("RGBA") if image.mode == "LA" else image


def _described(said: Metadata, line: str) -> Image.Exif:
    """The EXIF block with the resolution and, where there is room, a line of text."""
    exif = Image.Exif()
    if said.exif:
        exif.load(said.exif)
    if dpi := _dots_per_inch(said):
        exif[ExifTags.Base.XResolution], exif[ExifTags.Base.YResolution] = dpi
        exif[ExifTags.Base.ResolutionUnit] = 2  # inch
    if ExifTags.Base.ImageDescription not in exif:
        exif[ExifTags.Base.ImageDescription] = line
    elif ExifTags.Base.UserComment not in (inner := exif.get_ifd(ExifTags.IFD.Exif)):
        comment = b"ASCII\0\0\0" + line.encode("ascii", "replace")
        exif[ExifTags.IFD.Exif] = {**inner, ExifTags.Base.UserComment: comment}
    return exif


def _dots_per_inch(said: Metadata) -> tuple[float, float] | None:
    """The resolution, if it is one that every format can say."""
    for kind, data in said.chunks:
        if kind == RESOLUTION:
            x, y, unit = struct.unpack(">IIB", data)
            dpi = x * 0.0254, y * 0.0254
            if unit == 1 and 1 <= min(dpi) <= max(dpi) <= 65_535:
                return dpi
    return None


def _tags(exif: Image.Exif, said: Metadata) -> TiffImagePlugin.ImageFileDirectory_v2:
    """A TIFF file's own tags."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for tag in _DESCRIPTIVE & exif.keys():
        if isinstance(exif[tag], str):
            tags[tag] = exif[tag]
    if dpi := _dots_per_inch(said):
        tags[TiffImagePlugin.X_RESOLUTION], tags[TiffImagePlugin.Y_RESOLUTION] = dpi
        tags[TiffImagePlugin.RESOLUTION_UNIT] = 2
    for tag, kind, value in (
        (TiffImagePlugin.XMP, TiffTags.BYTE, said.xmp),
        (TiffImagePlugin.ICCPROFILE, TiffTags.UNDEFINED, said.icc_profile),
    ):
        if value:
            tags.tagtype[tag] = kind
            tags[tag] = value
    for kind in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        if inner := exif.get_ifd(kind):
            tags[kind] = dict(inner)
    return tags
