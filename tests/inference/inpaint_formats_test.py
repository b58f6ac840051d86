"""``rad-jax inpaint``: results as PNG, WebP, TIFF and JPEG, and their names."""

import io
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

import rad_jax
from tests.files import metadata_test
from tests.inference.inpaint_command_test import (
    FILES,
    HOLE,
    RGB,
    read,
    results,
    save,
)

GREY = RGB[..., 0]
ALPHA = np.where(GREY % 3, 255, GREY)  # also 0, under which colours must stay
PICTURES = {
    "1": GREY > 99,
    "L": GREY,
    "LA": np.dstack([GREY, ALPHA]),
    "RGB": RGB,
    "RGBA": np.dstack([RGB, ALPHA]),
    "I;16": GREY.astype(np.uint16) * 257 + 3,
}
COLOURS = {"1": "RGB", "L": "RGB", "LA": "RGBA"}
"""What WebP makes of grey."""

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = metadata_test.ALBUM.format("", "").encode()
PREFIX = (
    f"Software: rad_jax {rad_jax.__version__}; Sampler: ddpm, 1 steps, grid uniform"
)


def opened(path) -> Any:
    with Image.open(path) as image:
        image.load()
        return image


def webp_of(array, mode):
    """What a lossless WebP file of a picture holds."""
    image = Image.fromarray(array)
    image = image.convert("L") if mode == "1" else image
    return np.asarray(image.convert(COLOURS.get(mode, mode)))


@pytest.mark.parametrize("form", ["png", "webp", "tiff"])
def test_lossless_formats_keep_known_pixels(form, inpaint):
    modes = [mode for mode in PICTURES if form != "webp" or mode != "I;16"]
    for mode in modes:
        save(Path("i") / f"{mode}.png", PICTURES[mode])
    save(Path("m.png"), HOLE)
    flags = ["--image", "i", "--mask", "m.png", "--keep_alpha", "--format", form]
    code, out, err = inpaint(*flags, "--output", "o")
    assert (code, err) == (0, []) and not any("JPEG" in line for line in out)
    suffix = ".tif" if form == "tiff" else f".{form}"
    assert results("o") == sorted(f"{mode}{suffix}" for mode in modes)
    for mode in modes:
        result = opened(f"o/{mode}{suffix}")
        assert result.format == form.upper()
        assert result.mode == (COLOURS.get(mode, mode) if form == "webp" else mode)
        before = PICTURES[mode]
        if form == "webp":
            before = webp_of(before, mode)
        after = np.asarray(result)
        assert after.dtype == before.dtype
        np.testing.assert_array_equal(after[~HOLE], before[~HOLE])
        changed = after[HOLE] != before[HOLE]
        assert changed.reshape(HOLE.sum(), -1).any(axis=1).mean() > 0.3, mode


def test_jpeg_says_that_known_pixels_may_change(inpaint):
    smooth = np.linspace(0, 255, 32, dtype=np.float32).round().astype(np.uint8)
    smooth = np.broadcast_to(smooth[:, None], (32, 32)).copy()
    save(Path("i/a.png"), np.dstack([smooth] * 3))
    save(Path("i/b.png"), smooth)
    save(Path("i/c.png"), smooth > 99)
    hole = HOLE.copy()
    hole[:, 16:] = False  # whole blocks of 8 without a hole are near what they were
    save(Path("m.png"), hole)
    flags = ["--image", "i", "--mask", "m.png", "--format", "jpeg"]
    sizes = []
    for quality in ([], ["--quality", 95], ["--quality", 1]):
        o = f"o{len(sizes)}"
        code, out, err = inpaint(*flags, "--output", o, *quality)
        assert (code, err) == (0, [])
        line = f"{o}: known pixels may change in JPEG; in other formats they stay"
        assert out.count(line) == 1
        assert results(o) == ["a.jpg", "b.jpg", "c.jpg"]
        assert [opened(f"{o}/{x}.jpg").mode for x in "abc"] == ["RGB", "L", "L"]
        sizes.append(os.path.getsize(f"{o}/a.jpg"))
        if quality != ["--quality", 1]:
            assert np.abs(read(f"{o}/b.jpg").astype(int) - smooth)[:, 24:].max() <= 4
    assert sizes[0] == sizes[1] > sizes[2]


CANNOT = {
    # What a format cannot hold, its picture, and the reason.
    "webp of 16 bits": ("webp", "I;16", "has 16 bits, which webp cannot hold; choose"),
    "jpeg of 16 bits": ("jpeg", "I;16", "has 16 bits, which jpeg cannot hold; choose"),
    "jpeg of alpha": ("jpeg", "RGBA", "has alpha, which jpeg cannot hold; choose"),
    "jpeg of grey alpha": ("jpeg", "LA", "has alpha, which jpeg cannot hold; choose"),
}


@pytest.mark.parametrize("name", CANNOT)
def test_what_a_format_cannot_hold(name, inpaint):
    form, mode, reason = CANNOT[name]
    save(Path("i/a.png"), PICTURES[mode])
    save(Path("i/b.png"), RGB)
    save(Path("m.png"), HOLE)
    flags = ["--mask", "m.png", "--format", form, "--output"]
    code, _, [line] = inpaint("--image", "i/a.png", *flags, "o")
    assert code == 2 and f"i/a.png: {reason}" in line and not os.path.exists("o")
    code, _, [line] = inpaint("--image", "i", *flags, "o")
    assert code == 1 and line.startswith(f"left out a.png: i/a.png: {reason}")
    assert len(results("o")) == 1


def test_a_picture_that_is_too_long_for_webp(inpaint):
    save(Path("a.png"), np.zeros((1, 16_384), np.uint8))
    save(Path("m.png"), np.zeros((1, 16_384), bool))
    files = ["--image", "a.png", "--mask", "m.png", "--output"]
    code, _, [line] = inpaint(*files, "o.webp")
    assert (
        code == 2 and "a.png: has more than 16383 pixels on a side, which webp" in line
    )
    assert inpaint(*files, "o.tif")[0] == 0 and read("o.tif").shape == (1, 16_384)


NAMES = {
    "x.webp": "WEBP",
    "x.tif": "TIFF",
    "x.TIFF": "TIFF",
    "x.jpg": "JPEG",
    "x.jpeg": "JPEG",
    "x.png": "PNG",
}


@pytest.mark.parametrize("name", NAMES)
def test_the_suffix_chooses_the_format(name, inpaint):
    save(Path("a.png"), RGB)
    save(Path("m.png"), HOLE)
    assert inpaint(*FILES[:-1], name)[::2] == (0, [])
    assert opened(name).format == NAMES[name]


def test_several_samples_of_a_file_s_name_lie_beside_each_other(inpaint):
    save(Path("a.png"), RGB)
    save(Path("m.png"), HOLE)
    for name in "new/filled.png", "f.webp":
        code, out, err = inpaint(*FILES[:-1], name, "--num_samples", 2)
        assert (code, err) == (0, []) and "2 images" in out[-1]
    assert sorted(os.listdir("new")) == ["filled_0.png", "filled_1.png"]
    assert {"f_0.webp", "f_1.webp"} < {*os.listdir()} and not os.path.exists("f.webp")
    first, second = read("new/filled_0.png"), read("new/filled_1.png")
    assert (first[HOLE] != second[HOLE]).mean() > 0.3
    for result in first, second, read("f_0.webp"):
        np.testing.assert_array_equal(result[~HOLE], RGB[~HOLE])
    np.testing.assert_array_equal(first, read("f_0.webp"))
    save(Path("f_1.png"), HOLE)
    flags = ["--image", "a.png", "--mask", "f_1.png", "--output", "f.png"]
    code, _, [line] = inpaint(*flags, "--num_samples", 2)
    assert code == 2 and "f_1.png: would overwrite an input" in line


BAD = {
    "contradiction": (["--format", "webp"], "o.png: is no name for the format webp; n"),
    "quality of png": (["--quality", "90"], "quality is 90, and png has none; leave"),
    "none": (
        ["--format", "jpeg", "--quality", "0"],
        "quality is 0; it must lie in 1 .",
    ),
    "more": (["--quality", "101"], "quality is 101; it must lie in 1 .. 100"),
    "unknown": (["--format", "bmp"], "argument --format: invalid choice: 'bmp'"),
    "a bitmap": (["--output", "o.bmp"], "results are .png, .webp, .tif, .jpg files; n"),
}


@pytest.mark.parametrize("name", BAD)
def test_mistakes_are_one_line(name, inpaint):
    save(Path("a.png"), RGB)
    save(Path("m.png"), HOLE)
    flags, message = BAD[name]
    code, out, [line] = inpaint(*FILES, *flags)
    assert (code, out) == (2, []) and message in line
    assert sorted(os.listdir()) == ["a.png", "m.png"]


def exif(**more):
    """Tags that are carried, and some that say how samples of another file lie."""
    tags = Image.Exif()
    tags[0x010F], tags[0x0100], tags[0x0103] = "a maker", 5, 7
    tags[0x8769] = {0x9003: "2026:01:02 03:04:05"}
    tags[0x8825] = {1: "N", 2: (1.0, 2.0, 3.0)}
    for tag, value in more.items():
        tags[{"description": 0x010E}[tag]] = value
    return tags


@pytest.mark.parametrize("described", [False, True])
@pytest.mark.parametrize("form", ["webp", "tiff", "jpeg"])
def test_metadata_is_carried(form, described, inpaint):
    tags = exif(description="a cat") if described else exif()
    info = metadata_test.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", XMP.decode())
    options = {"exif": tags, "icc_profile": PROFILE, "pnginfo": info}
    save(Path("i/a.png"), RGB, dpi=(300, 150), **options)
    save(Path("m.png"), HOLE)
    flags = ["--image", "i", "--mask", "m.png", "--output", "o", "--format", form]
    assert inpaint(*flags)[::2] == (0, [])
    (name,) = results("o")
    path = Path("o") / name
    result = opened(path)
    assert result.info["icc_profile"] == PROFILE and result.info["xmp"] == XMP
    found = result.getexif()
    assert found[0x010F] == "a maker"
    inner = found.get_ifd(0x8769)
    assert inner[0x9003] == "2026:01:02 03:04:05"
    assert found.get_ifd(0x8825)[2] == (1.0, 2.0, 3.0)
    x, y = result.info["dpi"] if form != "webp" else (found[0x011A], found[0x011B])
    assert (round(x), round(y)) == (300, 150)
    ours = f"{PREFIX}; Seed: 0"
    if not described:
        assert found[0x010E] == ours
    else:
        assert found[0x010E] == "a cat"
        comment = None if form == "tiff" else b"ASCII\0\0\0" + ours.encode()
        assert inner.get(0x9286) == comment
    if form != "jpeg":
        np.testing.assert_array_equal(read(path)[~HOLE], RGB[~HOLE])


def test_hostile_metadata_spoils_no_result(inpaint):
    """Pictures lie in it, blocks are longer than JPEG takes, a profile is of grey."""
    for number, block in enumerate(metadata_test.EXIF.values()):
        save(Path(f"i/exif{number}.jpg"), RGB, exif=block)
    info = metadata_test.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", metadata_test.ALBUM.format("", "x" * 200_000))
    long = Image.Exif()
    long[0x010E], long[0x9C9C] = "y" * 65_000, b"z" * 65_000
    grey = PROFILE[:16] + b"GRAY" + PROFILE[20:]
    dpi = (70_000, 70_000)  # more than JPEG can say
    save(Path("i/l.png"), GREY, pnginfo=info, exif=long, icc_profile=grey, dpi=dpi)
    save(Path("m.png"), HOLE)
    for form in "webp", "tiff", "jpeg":
        flags = ["--image", "i", "--mask", "m.png", "--format", form, "--output", form]
        assert inpaint(*flags)[::2] == (0, [])
        assert len(results(form)) == len(metadata_test.EXIF) + 1
        for path in (Path(form) / name for name in results(form)):
            data = path.read_bytes()
            result = opened(io.BytesIO(data))
            assert metadata_test.SECRET[100:160] not in data
            if path.stem == "l":
                assert ("icc_profile" in result.info) == (form != "webp")
                assert len(result.info.get("xmp", b"")) != 65_533
            if form != "jpeg":
                known = result.convert("RGB").tobytes()
                known = np.frombuffer(known, np.uint8).reshape(RGB.shape)[~HOLE]
                (source,) = Path("i").glob(f"{path.stem}.*")
                before = np.asarray(opened(source).convert("RGB"))
                np.testing.assert_array_equal(known, before[~HOLE])


def test_resolutions_that_have_no_unit_stay_in_png(tmp_path):
    from rad_jax.files.encode import encode
    from rad_jax.files.metadata import Metadata

    said = Metadata(chunks=((b"pHYs", struct.pack(">IIB", 3, 2, 0)),))
    for form in "webp", "tiff", "jpeg":
        image = Image.fromarray(RGB)
        result = opened(io.BytesIO(encode(image, said, {"a": "b"}, form, 90)))
        assert result.info.get("dpi", (1, 1)) in ((1, 1), (72, 72))
        assert 0x011A not in result.getexif()
