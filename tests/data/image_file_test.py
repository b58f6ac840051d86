import pickle

import numpy as np
import pytest
from PIL import Image

from rad_jax.data import image_file
from rad_jax.data.image_file import BadImage, decode_rgb, is_image_name
from tests.data.image_files import encoded

RGB = np.random.default_rng(0).integers(0, 256, (6, 4, 3), np.uint8)


def pixels(data):
    image = decode_rgb("x.png", data)
    assert image.mode == "RGB"
    return np.asarray(image)


def test_rgb_is_left_alone():
    np.testing.assert_array_equal(pixels(encoded(Image.fromarray(RGB))), RGB)
    for kind in ("BMP", "TIFF"):
        np.testing.assert_array_equal(pixels(encoded(Image.fromarray(RGB), kind)), RGB)


def test_grey_is_repeated_and_16_bits_keep_the_upper_byte():
    grey = np.array([[0, 100], [200, 255]], np.uint8)
    np.testing.assert_array_equal(
        pixels(encoded(Image.fromarray(grey))), np.stack([grey] * 3, -1)
    )
    deep = np.array([[0, 255], [256, 65535]], np.uint16)
    for kind in ("PNG", "TIFF"):
        expected = np.stack([deep >> 8] * 3, -1)
        np.testing.assert_array_equal(
            pixels(encoded(Image.fromarray(deep), kind)), expected
        )


def test_alpha_and_palette_are_dropped_but_not_the_colours():
    alpha = np.arange(24, dtype=np.uint8).reshape(6, 4, 1)
    rgba = Image.fromarray(np.concatenate([RGB, alpha], -1))
    np.testing.assert_array_equal(pixels(encoded(rgba)), RGB)
    few = np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8)
    np.testing.assert_array_equal(
        pixels(encoded(Image.fromarray(few).quantize(2), "GIF")), few
    )


def test_cmyk_becomes_rgb():
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    np.testing.assert_allclose(
        pixels(encoded(red, "JPEG")), np.full((8, 8, 3), (255, 0, 0)), atol=4
    )


def test_exif_orientation_is_followed_and_a_broken_one_forgiven():
    exif = Image.Exif()
    exif[0x0112] = 6  # the first row is the right side
    data = encoded(Image.fromarray(RGB), exif=exif)
    np.testing.assert_array_equal(pixels(data), np.rot90(RGB, -1))
    broken = encoded(Image.fromarray(RGB), exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff")
    np.testing.assert_array_equal(pixels(broken), RGB)


NOISE = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", r"not a picture \(PNG, JPEG"),
        (b"hello", r"not a picture \(PNG, JPEG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", r"not a picture \(PNG, JPEG"),
        (encoded(Image.fromarray(NOISE), "PPM"), r"not a picture \(PNG, JPEG"),
        (encoded(Image.fromarray(NOISE))[:-200], "truncated|broken"),
        (encoded(Image.fromarray(NOISE), "JPEG")[:-200], "truncated"),
        (encoded(Image.fromarray(np.zeros((2, 2), "f")), "TIFF"), "mode F"),
        (encoded(Image.fromarray(np.zeros((2, 2), "i")), "TIFF"), "mode I"),
    ],
)
def test_bad_image_is_one_line_that_names_it(data, reason):
    with pytest.raises(BadImage, match=f"^a/b.png: .*({reason})") as caught:
        decode_rgb("a/b.png", data)
    assert "\n" not in str(caught.value)
    assert "0x" not in str(caught.value)  # no address: the report is the same each time


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bombs_are_not_unpacked(monkeypatch):
    bomb = encoded(Image.new("1", (20_000, 20_000)))
    assert len(bomb) < 100_000
    with pytest.raises(BadImage, match=r"x: .*(pixels|bomb)"):
        decode_rgb("x", bomb)
    small = encoded(Image.new("L", (6, 4)))
    monkeypatch.setattr(image_file, "MAX_PIXELS", 23)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)  # never comes to that
    with pytest.raises(BadImage, match="x: more than 23 pixels"):
        decode_rgb("x", small)


def test_names_of_images():
    for name in ("a.png", "a/B.JPEG", "ä.webp", "a.b/c.tif"):
        assert is_image_name(name)
    for name in ("a.txt", "png", ".a.png", ".cache/a.png", "__MACOSX/a.png", "a.png/b"):
        assert not is_image_name(name)


def test_bad_image_can_be_sent_between_processes():
    assert str(pickle.loads(pickle.dumps(BadImage("x: y")))) == "x: y"
