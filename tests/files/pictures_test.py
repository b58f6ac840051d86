"""Known samples survive reading, filling and writing, whatever the file's kind."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageCms

from rad_jax.errors import UserError
from rad_jax.files.contact_sheet import contact_sheet
from rad_jax.files.pictures import (
    Picture,
    compose,
    model_input,
    pad_to_size,
    padded_size,
    read_picture,
    save_png,
    write_picture,
)

H, W = 33, 25
RANDOM = np.random.default_rng(0)
RGB = RANDOM.integers(0, 256, (H, W, 3), np.uint8)
ALPHA = RANDOM.integers(0, 256, (H, W, 1), np.uint8)
GREY = RGB[..., 0]
GREY16 = RANDOM.integers(0, 65536, (H, W), np.uint16)
SOME = RANDOM.random((H, W)) < 0.5
PALETTE = Image.fromarray(RGB).quantize(16)

KINDS = {  # what is saved, how, and the mode of the file that we write
    "1": (Image.fromarray(SOME), "PNG", {}, "1"),
    "1 with a transparent level": (
        Image.fromarray(SOME),
        "PNG",
        {"transparency": 0},
        "LA",
    ),
    "L": (Image.fromarray(GREY), "PNG", {}, "L"),
    "L with a transparent level": (
        Image.fromarray(GREY),
        "PNG",
        {"transparency": int(GREY[0, 0])},
        "LA",
    ),
    "L jpeg": (Image.fromarray(GREY), "JPEG", {}, "L"),
    "LA": (Image.fromarray(np.dstack([GREY, ALPHA])), "PNG", {}, "LA"),
    "P": (PALETTE, "PNG", {}, "RGB"),
    "P with a transparent entry": (PALETTE, "PNG", {"transparency": 3}, "RGBA"),
    "P with alpha": (PALETTE, "PNG", {"transparency": bytes(range(16))}, "RGBA"),
    "P gif": (PALETTE, "GIF", {}, "RGB"),
    "RGB": (Image.fromarray(RGB), "PNG", {}, "RGB"),
    "RGB with a transparent colour": (
        Image.fromarray(RGB),
        "PNG",
        {"transparency": tuple(RGB[0, 0].tolist())},
        "RGBA",
    ),
    "RGB jpeg": (Image.fromarray(RGB), "JPEG", {}, "RGB"),
    "RGB webp": (Image.fromarray(RGB), "WEBP", {}, "RGB"),
    "RGB bmp": (Image.fromarray(RGB), "BMP", {}, "RGB"),
    "RGB tiff": (Image.fromarray(RGB), "TIFF", {}, "RGB"),
    "RGBA": (Image.fromarray(np.dstack([RGB, ALPHA])), "PNG", {}, "RGBA"),
    "CMYK": (Image.fromarray(RGB).convert("CMYK"), "JPEG", {}, "RGB"),
    "I;16": (Image.fromarray(GREY16), "PNG", {}, "I;16"),
    "I;16 tiff": (Image.fromarray(GREY16), "TIFF", {}, "I;16"),
}


def saved(path, array):
    Image.fromarray(array).save(path)
    return path


def numbers(image):
    array = np.asarray(image)
    return array.reshape(*array.shape[:2], -1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_known_samples_and_alpha_are_kept(kind, channels, tmp_path):
    image, image_format, options, mode = KINDS[kind]
    image.save(tmp_path / "in", image_format, **options)
    picture = read_picture(tmp_path / "in")
    hole = np.zeros((H, W), bool)
    hole[5:20, 3:17] = True
    seen = model_input(picture, channels)
    assert seen.shape == (H, W, channels) and seen.dtype == np.float32
    filled = compose(picture, -seen, hole)
    write_picture(tmp_path / "out.png", filled, picture, {})

    with Image.open(tmp_path / "in") as before, Image.open(tmp_path / "out.png") as out:
        assert (out.format, out.mode) == ("PNG", mode)
        expected = numbers(before if mode == "I;16" else before.convert(mode))
        result = numbers(out)
    np.testing.assert_array_equal(result[~hole], expected[~hole])
    colours = 3 if mode.startswith("RGB") else 1
    np.testing.assert_array_equal(result[..., colours:], expected[..., colours:])
    assert (result[hole] != expected[hole]).mean() > 0.2  # the hole was filled


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535)])
def test_every_level_survives_the_model_s_range(dtype, top):
    levels = np.arange(top + 1, dtype=dtype).reshape(-1, 16, 1)
    blank = Picture(np.zeros_like(levels))
    seen = model_input(Picture(levels), 1)
    assert seen.min() == -1 and seen.max() == 1
    everywhere = np.ones(levels.shape[:2], bool)
    np.testing.assert_array_equal(compose(blank, seen, everywhere), levels)
    # Rounded to the nearest, and clipped at the ends.
    near = seen + np.float32(0.8 / top)
    np.testing.assert_array_equal(compose(blank, near, everywhere), levels)
    assert (compose(blank, seen * 0 + 7, everywhere) == top).all()


def test_colours_are_converted_between_picture_and_model():
    hole = np.ones((1, 1), bool)
    colour = Picture(np.array([[[255, 0, 0]]], np.uint8))
    grey = Picture(np.array([[[51]]], np.uint8))
    bilevel = Picture(np.array([[[0]]], np.uint8), bilevel=True)
    generated = np.array([[[-1, 0.2, 1]]], np.float32)
    np.testing.assert_allclose(model_input(colour, 1), 2 * 0.299 - 1, rtol=1e-6)
    np.testing.assert_allclose(model_input(grey, 3), [[[-0.6] * 3]], rtol=1e-6)
    assert compose(grey, generated, hole).tolist() == [[[136]]]  # their mean: 0.0667
    assert compose(bilevel, generated, hole).tolist() == [[[255]]]
    assert compose(colour, generated[..., 1:2], hole).tolist() == [[[153] * 3]]


def test_profile_exif_and_text_are_written(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x010E] = "a description"
    Image.fromarray(RGB).save(tmp_path / "a.jpg", icc_profile=profile, exif=exif)
    picture = read_picture(tmp_path / "a.jpg")
    text = {"seed": "7", "model": "rad é 模"}
    write_picture(tmp_path / "b.png", picture.samples, picture, text)
    with Image.open(tmp_path / "b.png") as image:
        assert image.info["icc_profile"] == profile
        assert image.getexif()[0x010E] == "a description"
        assert {key: image.info[key] for key in text} == text


def test_padding_continues_images_and_knows_the_mask():
    assert padded_size((H, W), 16) == (48, 32)
    image, mask = pad_to_size(RGB, (48, 32)), pad_to_size(SOME, (48, 32))
    assert image.shape == (48, 32, 3) and mask.shape == (48, 32)
    np.testing.assert_array_equal(image[:H, :W], RGB)
    assert (image[H:, W:] == RGB[-1, -1]).all()
    assert (image[H:, :W] == RGB[-1]).all()
    np.testing.assert_array_equal(mask[:H, :W], SOME)
    assert not mask[H:].any() and not mask[:, W:].any()
    assert pad_to_size(RGB, padded_size((H, W), 1)).shape == RGB.shape


def test_contact_sheet_lays_tiles_out():
    black = np.zeros((1, 2), np.uint8)
    red = np.array([[[255, 0, 0]], [[200, 0, 0]]], np.uint8)
    sheet = contact_sheet([[red, black], [black[..., None]]], scale=2, pad=1)
    assert sheet.shape == (1 + 4 + 1 + 2 + 1, 1 + 4 + 1 + 4 + 1, 3)
    expected = np.full_like(sheet, 255)
    expected[1:3, 1:3, 1:] = 0
    expected[3:5, 1:3] = [200, 0, 0]
    expected[1:3, 6:10] = 0
    expected[6:8, 1:5] = 0
    np.testing.assert_array_equal(sheet, expected)


@pytest.mark.parametrize("rows", [[], [[]], [[RGB / 255]], [[RGB[..., :2]]]])
def test_contact_sheet_refuses_what_is_no_tile(rows):
    with pytest.raises(ValueError, match="tile"):
        contact_sheet(rows)


@pytest.mark.parametrize("array", [GREY, RGB[..., :1], RGB, np.dstack([RGB, ALPHA])])
def test_save_png_round_trip(array, tmp_path):
    path = tmp_path / "new" / "a.png"
    for _ in range(2):  # the second time it exists
        save_png(array, path)
    with Image.open(path) as image:
        np.testing.assert_array_equal(numbers(image), array.reshape(H, W, -1))
    assert os.listdir(path.parent) == ["a.png"]


def test_save_png_to_a_folder_s_name_leaves_nothing(tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(UserError, match=r"a\.png: cannot be written"):
        save_png(RGB, tmp_path / "a.png")
    assert os.listdir(tmp_path) == ["a.png"]


def test_full_disk_leaves_the_old_file_whole(tmp_path):
    path = saved(tmp_path / "a.png", RGB)
    old = path.read_bytes()
    code = f"""
import resource, numpy, rad_jax.errors, rad_jax.files.pictures
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
noise = numpy.random.default_rng(0).integers(0, 256, (99, 99, 3), numpy.uint8)
try:
    rad_jax.files.pictures.save_png(noise, {str(path)!r})
except rad_jax.errors.UserError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert f"{path}: cannot be written (File too large)" in run.stdout, run.stderr
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["a.png"]
