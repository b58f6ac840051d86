"""What a picture's file says beside its samples, and what of it our PNG files carry.

Colour, resolution, EXIF, XMP and text are carried. A second picture is not: it would
show what was removed from the first. Cameras and programs put small copies of a picture
into a second EXIF directory, makers' notes, XMP and text.
"""

import dataclasses
import io
import math
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree import ElementTree

from PIL import ExifTags, Image, ImageFile

COLOUR_CHUNKS = {
    b"gAMA": 4,
    b"cHRM": 32,
    b"sRGB": 1,
    b"cICP": 4,
    b"mDCV": 24,
    b"cLLI": 8,
}
"""Chunks of a PNG file that say what colours its samples are, and their bytes."""

RESOLUTION = b"pHYs"
CARRIED_CHUNKS = {**COLOUR_CHUNKS, RESOLUTION: 9}
MOST_TEXT = 2**16
MOST_XMP = 2**20
MOST_BLOB = 256

_DROPPED = {
    ExifTags.Base.MakerNote,  # holds previews, at offsets that no longer fit
    ExifTags.Base.JpegIFOffset,
    ExifTags.Base.JpegIFByteCount,
    ExifTags.Base.StripOffsets,
    ExifTags.Base.StripByteCounts,
    ExifTags.Base.TileOffsets,
    ExifTags.Base.TileByteCounts,
    ExifTags.Base.SubIFDs,
    ExifTags.Base.XMLPacket,  # XMP, which is carried as such
    ExifTags.Base.ImageResources,  # Photoshop's, with its thumbnail
    ExifTags.Base.InterColorProfile,
}
"""Tags of EXIF that are pictures, or say where one is."""

_DIGITS = re.compile(r"[A-Za-z0-9+/=]*")
_ENCODED = re.compile(r"[A-Za-z0-9+/=]{1024}")


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What goes from a picture's file into ours.

    Attributes:
        icc_profile: the colour profile, or None.
        exif: the EXIF block without previews, or None.
        xmp: the XMP packet without thumbnails, or None.
        chunks: PNG chunks of colour and resolution, type and content.
        text: keys and texts.
    """

    icc_profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    chunks: tuple[tuple[bytes, bytes], ...] = ()
    text: Mapping[str, str] = dataclasses.field(default_factory=dict)


NONE = Metadata()


def metadata_of(
    file: ImageFile.ImageFile,
    upright: Image.Image,
    chunks: Mapping[bytes, bytes],
    *,
    swapped: bool,
) -> Metadata:
    """What a picture's file says.

    Args:
        file: the picture, opened and read.
        upright: the same, turned upright; its EXIF says so.
        chunks: from `png_chunks`.
        swapped: whether turning it swapped height and width.
    """
    profile = upright.info.get("icc_profile") or None
    colour = {kind: data for kind, data in chunks.items() if kind != RESOLUTION}
    if profile:  # says the same, and by the format only one of them may
        colour.pop(b"sRGB", None)
    physical = chunks.get(RESOLUTION) or _physical(file.info.get("dpi"))
    if physical and swapped:
        physical = physical[4:8] + physical[:4] + physical[8:]
    resolution = [(RESOLUTION, physical)] if physical else []
    return Metadata(
        profile,
        _without_previews(upright.info.get("exif")),
        _without_thumbnails(upright.info.get("xmp")),
        tuple(colour.items()) + tuple(resolution),
        _texts(file),
    )


def with_chunks(png: bytes, chunks: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """A PNG file with chunks put right behind its header; none are there twice."""
    start = 8 + 25  # the signature and IHDR
    encoded = b"".join(
        struct.pack(">I", len(data))
        + kind
        + data
        + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return png[:start] + encoded + png[start:]


def png_chunks(image: ImageFile.ImageFile) -> dict[bytes, bytes]:
    """The chunks of colour and resolution of an opened, not yet read PNG file.

    Pillow knows some of them only, and those as numbers that it has rounded.
    """
    if image.format != "PNG" or image.fp is None:
        return {}
    position = image.fp.tell()
    chunks = dict(_chunks(image.fp))
    image.fp.seek(position)
    return chunks


def _chunks(file: Any) -> Iterator[tuple[bytes, bytes]]:
    """Those that stand before the pixels and are intact."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind in (b"IDAT", b"IEND"):
            return
        if length == CARRIED_CHUNKS.get(kind):
            data, crc = file.read(length), file.read(4)
            if crc == struct.pack(">I", zlib.crc32(kind + data)):
                yield kind, data
        else:
            file.seek(length + 4, io.SEEK_CUR)


def _physical(dpi: object) -> bytes | None:
    """The chunk's pixels per metre of a resolution in pixels per inch."""
    if not isinstance(dpi, tuple) or len(dpi) != 2:
        return None
    try:
        x, y = (float(value) / 0.0254 for value in dpi)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    if not (math.isfinite(x + y) and min(x, y) > 0.5 and max(x, y) < 2**31 - 1):
        return None
    return struct.pack(">IIB", round(x), round(y), 1)


def _without_previews(data: bytes | None) -> bytes | None:
    """An EXIF block with what is known of its tags, but without pictures."""
    if not data:
        return None
    try:
        exif, kept = Image.Exif(), Image.Exif()
        exif.load(data)
        kept.endian = exif.endian
        # The second directory, of the thumbnail, is not among these.
        kept.update(_plain_tags(exif, ExifTags.TAGS))
        for kind, names in (
            (ExifTags.IFD.Exif, ExifTags.TAGS),
            (ExifTags.IFD.GPSInfo, ExifTags.GPSTAGS),
        ):
            if tags := _plain_tags(exif.get_ifd(kind), names):
                kept[kind] = tags
        return kept.tobytes() if len(kept) else None
    except Exception:  # a good picture may have a bad EXIF block
        return None


def _plain_tags(tags: Mapping, names: Mapping) -> dict:
    def plain(tag: int, value: object) -> bool:
        pointer = tag in (*ExifTags.IFD, *_DROPPED) or tag not in names
        text = tag == ExifTags.Base.UserComment or str(names.get(tag)).startswith("XP")
        most = MOST_TEXT if text or isinstance(value, str) else MOST_BLOB
        return not pointer and not (hasattr(value, "__len__") and len(value) > most)  # pyright: ignore[reportArgumentType]

    return {tag: value for tag, value in tags.items() if plain(tag, value)}


def _without_thumbnails(xmp: bytes | None) -> bytes | None:
    """An XMP packet without the pictures in it; None if it cannot be understood."""
    if not xmp or len(xmp) > MOST_XMP or b"<!" in xmp:  # no entities: they can grow
        return None
    try:
        events = ElementTree.iterparse(io.BytesIO(xmp.strip(b"\0 ")), ["start-ns"])
        for _, (prefix, address) in events:
            if not re.fullmatch(r"ns\d+|", prefix):
                ElementTree.register_namespace(prefix, address)
        root = events.root  # pyright: ignore[reportAttributeAccessIssue]
        if not _drop_pictures(root):
            return xmp
        packet = ElementTree.tostring(root, encoding="unicode")
    except (ElementTree.ParseError, ValueError, RecursionError):
        return None
    head = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    return f'{head}{packet}<?xpacket end="w"?>'.encode()


def _drop_pictures(root: ElementTree.Element) -> bool:
    """Takes elements and attributes out that hold a picture; whether there were any."""
    found = False
    for parent in list(root.iter()):
        for child in list(parent):
            if "thumbnail" in child.tag.lower() or is_encoded(child.text or ""):
                parent.remove(child)
                found = True
        for name in [x for x, value in parent.attrib.items() if is_encoded(value)]:
            del parent.attrib[name]
            found = True
    return found


def _texts(file: ImageFile.ImageFile) -> dict[str, str]:
    """The texts of a PNG file, or the comment of another, but for encoded pictures."""
    found = dict(getattr(file, "text", {}))
    comment = file.info.get("comment")
    if isinstance(comment, bytes):
        found["Comment"] = comment.decode("utf-8", "replace")
    return {
        str(key): str(value)
        for key, value in found.items()
        if key != "XML:com.adobe.xmp"
        and not re.match("raw profile|thumb", key, re.IGNORECASE)
        and len(value) <= MOST_TEXT
        and not is_encoded(value)
    }


def is_encoded(text: str) -> bool:
    """Whether a text is, or has in it, the base64 or hex digits of a file."""
    *words, last = text.split() or [""]
    digits = "".join([*words, last])
    long = len(digits) > 1024 and all(len(word) >= 16 for word in words)
    return bool((long and _DIGITS.fullmatch(digits)) or _ENCODED.search(text))
