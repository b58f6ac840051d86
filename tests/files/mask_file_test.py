"""What is the hole: of every kind of mask file, or why that is unclear."""

import re

import numpy as np
import pytest
from PIL import Image

from rad_jax.errors import UserError
from rad_jax.files.mask_file import read_mask

H, W = 33, 25
RANDOM = np.random.default_rng(0)
RGB = RANDOM.integers(0, 256, (H, W, 3), np.uint8)
ALPHA = RANDOM.integers(1, 256, (H, W, 1), np.uint8)
GREY = RGB[..., 0]
SOME = RANDOM.random((H, W)) < 0.5
MORE = RANDOM.random((H, W)) < 0.5


def saved(path, array):
    Image.fromarray(array).save(path)
    return path


MASKS = {
    "1": SOME,
    "L": np.where(SOME, 128, 127).astype(np.uint8),
    "I;16": np.where(SOME, 32768, 32767).astype(np.uint16),
    "RGB": np.where(SOME[..., None], [0, 255, 0], [255, 0, 255]).astype(np.uint8),
    "alpha of white": np.dstack([np.full((H, W, 3), 255), SOME * 255]).astype(np.uint8),
    "alpha of black": np.dstack([np.zeros((H, W)), SOME * 200]).astype(np.uint8),
    "strokes on transparent black": np.dstack([SOME * 255] * 4).astype(np.uint8),
    "colours of any alpha": np.dstack([*[SOME * 255] * 3, ALPHA]).astype(np.uint8),
    "0 and 1": SOME.astype(np.uint8),
    "0 and 1 in 16 bits": SOME.astype(np.uint16),
    "7 and 9": np.where(SOME, 9, 7).astype(np.uint8),
    "254 and 255": np.where(SOME, 255, 254).astype(np.uint8),
    "red": np.dstack([SOME * 255, SOME * 0, SOME * 0]).astype(np.uint8),
    "blue": np.dstack([SOME * 0, SOME * 0, SOME * 255]).astype(np.uint8),
    "magenta": np.dstack([SOME * 255, SOME * 0, SOME * 255]).astype(np.uint8),
    "VOC": np.dstack([SOME * 128, SOME * 0, SOME * 0]).astype(np.uint8),
    "white on blue": np.dstack([SOME * 255, SOME * 255, SOME * 0 + 255]),
    "a red layer": np.dstack([SOME * 200, SOME * 0, SOME * 0, SOME * 255]),
    "a black layer": np.dstack([*[SOME * 0] * 3, SOME * 255]),
    "a layer on hidden colours": np.dstack(
        [np.where(SOME[..., None], [0, 200, 0], RGB), SOME * 255]
    ),
    "a photo, erased": np.dstack([RGB, ~SOME * 255]),
    "a grey photo, erased": np.dstack([GREY, ~SOME * 255]),
    "white and black strokes": np.dstack([*[SOME * 255] * 3, (SOME | MORE) * 255]),
    "all but opaque": np.dstack([*[SOME * 255] * 3, SOME * 0 + 250]),
    "soft": np.where(SOME, 128 + GREY // 2, GREY // 2).astype(np.uint8),
    "soft and nearly grey": np.dstack(
        [np.where(SOME, 200, 20) + GREY % 8, np.where(SOME, 205, 15), GREY * 0 + 0]
    )[..., [0, 1, 1]],
    "opaque": np.dstack([*[SOME * 255] * 3, SOME * 0 + 255]).astype(np.uint8),
}


@pytest.mark.parametrize("name", MASKS)
def test_masks_of_every_kind(name, tmp_path):
    mask = MASKS[name]
    mask = mask if mask.dtype in (bool, np.uint16) else mask.astype(np.uint8)
    path = saved(tmp_path / "m.png", mask)
    np.testing.assert_array_equal(read_mask(path, (H, W)).hole, SOME)
    np.testing.assert_array_equal(read_mask(path, (H, W), invert=True).hole, ~SOME)


def test_palette_mask(tmp_path):
    mask = Image.fromarray(SOME.astype(np.uint8), "P")
    mask.putpalette([0, 0, 0, 255, 255, 255])
    mask.save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", (H, W)).hole, SOME)


@pytest.mark.parametrize(("level", "alpha", "hole"), [(0, 255, False), (255, 0, False)])
def test_blank_masks_with_alpha_have_no_hole(level, alpha, hole, tmp_path):
    mask = np.dstack([np.full((H, W, 3), level), np.full((H, W), alpha)])
    path = saved(tmp_path / "m.png", mask.astype(np.uint8))
    assert (read_mask(path, (H, W)).hole == hole).all()


def test_mask_of_another_size_is_refused(tmp_path):
    path = saved(tmp_path / "m.png", GREY)
    with pytest.raises(UserError, match=r"m\.png: .* 25x33 .* 33x25; scale"):
        read_mask(path, (W, H))


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_masks_of_32_bits(dtype, tmp_path):
    for level in (1, 200):
        path = saved(tmp_path / "m.tif", SOME.astype(dtype) * dtype(level))
        np.testing.assert_array_equal(read_mask(path, (H, W)).hole, SOME)
    highest = np.where(SOME, -1, 0).astype(np.int32)  # 2**32 - 1, as Pillow reads it
    path = saved(tmp_path / "m.tif", highest)
    np.testing.assert_array_equal(read_mask(path, (H, W)).hole, SOME)


def test_soft_floats(tmp_path):
    soft = np.where(SOME, 0.51, 0.49).astype(np.float32)
    soft[0, :3] = 0, 1, 1
    path = saved(tmp_path / "m.tif", soft)
    np.testing.assert_array_equal(read_mask(path, (H, W)).hole, soft > 0.5)


@pytest.mark.parametrize(
    ("name", "remark"),
    [
        ("1", ""),
        ("soft", ""),
        ("0 and 1", "has the levels 0, 1; the brighter is the hole"),
        (
            "VOC",
            r"has the colours \(0, 0, 0\), \(128, 0, 0\); the brighter is the hole",
        ),
        ("a red layer", "is a layer: what is opaque is the hole"),
        ("a photo, erased", "is a picture: its transparent part is the hole"),
    ],
)
def test_what_is_not_plain_is_said(name, remark, tmp_path):
    mask = MASKS[name]
    path = saved(tmp_path / "m.png", mask if mask.dtype == bool else mask.astype("u1"))
    assert re.fullmatch(remark, read_mask(path, (H, W)).remark)


def levels(*found):
    return np.resize(found, (H, W))


UNCLEAR = {
    "dark levels": (
        levels(0, 1, 2, 3, 4, 5),
        "the levels 0, 1, 2, 3 and 2 more, none ab",
    ),
    "16-bit labels": (levels(0, 1, 2).astype("u2"), "the levels 0, 1, 2, none above"),
    "32-bit labels": (
        levels(0, 7, 300).astype("i4"),
        "the levels 0, 7, 300, none above",
    ),
    "floats": (levels(0, 1, 9.5).astype("f4"), "the levels 0, 1, 9.5, none above"),
    "one level": (levels(1), "the level 1 only, neither black nor white"),
    "colours": (
        np.stack([levels(0, 255, 0), levels(0, 0, 255), levels(0)], -1),
        r"the colours \(0, 0, 0\), \(255, 0, 0\), \(0, 255, 0\): it is not clear",
    ),
    "a photo": (RGB, "the colours .* more: it is not clear which is the hole"),
    "equally bright": (
        np.stack([levels(15, 0), levels(0, 9), levels(7, 0)], -1),
        "it is not clear",
    ),
    "faint strokes": (
        np.dstack([*[levels(255)] * 3, levels(0, 10, 20)]),
        "the alphas 0, 10, 20, none above",
    ),
    "no numbers": (levels(0, np.nan).astype("f4"), "values that are no numbers"),
}


@pytest.mark.parametrize("name", UNCLEAR)
def test_what_is_unclear_is_refused_and_named(name, tmp_path):
    mask, match = UNCLEAR[name]
    if mask.dtype == int:
        mask = mask.astype(np.uint8)
    path = saved(tmp_path / "m.tif", mask)
    for invert in (False, True):
        with pytest.raises(UserError, match=match) as error:
            read_mask(path, (H, W), invert=invert)
        assert str(error.value).startswith(f"{path}: the mask has ")
        assert str(error.value).endswith("; paint the hole white on black")


def test_a_mask_that_was_not_turned_with_its_picture(tmp_path):
    path = saved(tmp_path / "m.png", SOME)
    with pytest.raises(UserError, match="turn it like the picture, whose EXIF says"):
        read_mask(path, (W, H), turned=True)
    assert not read_mask(path, (H, W), turned=True).turned
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(SOME).save(path, exif=exif)
    assert read_mask(path, (W, H)).turned
