"""Hostile and odd files: one line each, never a traceback, never changed samples."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from rad_jax.errors import UserError
from rad_jax.files.decode import decode, picture_size

RGB = np.random.default_rng(0).integers(0, 256, (30, 20, 3), np.uint8)


def encoded(image_format, array=RGB, **options):
    data = io.BytesIO()
    Image.fromarray(array).save(data, image_format, **options)
    return data.getvalue()


def png_by_hand(depth, colour_type, row_bytes, height=2, width=2, extra=b""):
    """A PNG file from the specification, for what Pillow cannot write."""

    def chunk(kind, body):
        crc = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + bytes(row_bytes) for _ in range(height))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + (chunk(b"tRNS", extra) if extra else b"")
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def tiff_by_hand(bits, channels, photometric=None):
    """A 2x2 TIFF file of zeros, little-endian and uncompressed."""
    if photometric is None:
        photometric = 1 if channels == 1 else 2
    data = bytes(bits * channels * 4 // 8)
    tags = [(256, 2), (257, 2), (258, bits), (259, 1), (262, photometric)]
    tags += [(273, 200), (277, channels), (278, 2), (279, len(data))]
    entries = b""
    for tag, value in tags:
        count = channels if tag == 258 else 1
        value = 150 if count > 2 else value
        entries += struct.pack("<HHIHH", tag, 3, count, value, 0)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    head = head.ljust(150, b"\0") + struct.pack("<H", bits) * channels
    return head.ljust(200, b"\0") + data


UNREADABLE = {
    "empty": (b"", "not a picture"),
    "text": (b"hello", "not a picture"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9", "not a picture"),
    "truncated png": (encoded("PNG")[:900], "truncated"),
    "truncated jpeg": (encoded("JPEG")[:-200], "truncated"),
    "truncated gif": (encoded("GIF")[:-500], "cannot be read"),
    "truncated webp": (encoded("WEBP")[:-50], "not a picture|cannot be"),
    "corrupt png": (encoded("PNG")[:500] + b"!" + encoded("PNG")[501:], "cannot be"),
    "zero size": (png_by_hand(8, 0, [0], height=0), "not a picture"),
    "text chunk bomb": (
        encoded("PNG", icc_profile=bytes(2_000_000)),
        "cannot be read",
    ),
}

LOSSY = {
    "16-bit rgb": png_by_hand(16, 2, range(12)),
    "16-bit rgba": png_by_hand(16, 6, range(16)),
    "16-bit grey with alpha": png_by_hand(16, 4, range(8)),
    "16-bit grey with a transparent level": png_by_hand(16, 0, range(4), extra=b"\0\1"),
    "2-bit grey with a transparent level": png_by_hand(2, 0, [27], extra=b"\0\1"),
    "16-bit rgb tiff": tiff_by_hand(16, 3),
    "12-bit tiff": tiff_by_hand(12, 1),
    "float tiff": encoded("TIFF", RGB[..., 0].astype(np.float32)),
    "32-bit tiff": encoded("TIFF", RGB[..., 0].astype(np.int32)),
    "lab tiff": tiff_by_hand(8, 3, photometric=8),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_unreadable_files_are_one_line_that_names_them(name, tmp_path):
    data, reason = UNREADABLE[name]
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with pytest.raises(UserError, match=reason) as error:
        decode(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", LOSSY)
def test_samples_that_pillow_would_change_are_refused(name, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(LOSSY[name])
    with pytest.raises(
        UserError, match=r"a\.png: has .*, (which|of which) .*8-bit PNG"
    ):
        decode(path)


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for name, reason in [
        ("pipe.png", "not a file"),
        (".", "not a file"),
        ("none.png", "no such file"),
        ("long" * 99, "too long"),
    ]:
        with pytest.raises(UserError, match=reason):
            decode(tmp_path / name)


@pytest.mark.parametrize("limit", [200, 400])  # an error and a warning of Pillow's
def test_too_many_pixels_are_refused(limit, tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(encoded("PNG"))
    decode(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    for read in decode, picture_size:
        with pytest.raises(UserError, match=f"a.png: more than {limit} pixels"):
            read(path)


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"])
def test_damaged_files_decode_or_are_refused(image_format, tmp_path):
    good = np.frombuffer(encoded(image_format), np.uint8)
    random = np.random.default_rng(0)
    path = tmp_path / "a"
    refused = 0
    for _ in range(60):
        data = good.copy()
        spots = random.integers(0, min(len(data), 200), 4)
        data[spots] = random.integers(0, 256, 4)
        path.write_bytes(data.tobytes())
        for read in picture_size, decode:
            try:
                read(path)
            except UserError:
                refused += 1
    assert refused > 0


def test_of_several_frames_the_first_counts(tmp_path):
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    path = tmp_path / "a.png"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(np.asarray(decode(path).image), RGB)


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_orientation_is_applied_once(image_format, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    path = tmp_path / "a"
    path.write_bytes(encoded(image_format, exif=exif, lossless=True))  # for WebP
    image = decode(path).image
    assert picture_size(path) == (20, 30)
    assert image.size == (30, 20)
    assert image.getexif().get(0x0112) is None
    if image_format != "JPEG":
        np.testing.assert_array_equal(np.asarray(image), np.rot90(RGB, -1))


def test_broken_exif_does_not_stop_a_good_picture(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded("PNG", exif=b"Exif\0\0garbage"))
    assert picture_size(path) == (30, 20)
    np.testing.assert_array_equal(np.asarray(decode(path).image), RGB)


def test_cmyk_loses_the_profile_that_no_longer_fits(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(RGB).convert("CMYK").save(path, icc_profile=b"for inks")
    image = decode(path).image
    assert image.mode == "RGB"
    assert decode(path).metadata.icc_profile is None
