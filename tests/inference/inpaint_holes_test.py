"""``rad-jax inpaint``: the picture's own alpha as its mask, grown holes, soft rims."""

from pathlib import Path

import numpy as np
import pytest

from rad_jax.files.hole_shape import dilated
from tests.inference.inpaint_command_test import (
    FILES,
    HOLE,
    RGB,
    assert_filled,
    read,
    save,
)

ALPHA = ("--mask", "alpha", "--output", "o")
SOME = np.random.default_rng(3).integers(128, 256, HOLE.shape)


def with_alpha(path, alpha, colour=RGB):
    save(Path(path), np.dstack([colour, np.uint8(alpha)]))


ALPHAS = {
    # Alpha, the hole, and what is said of it.
    "erased": (np.where(HOLE, 0, 255), HOLE, "its transparent part is the hole, and"),
    "soft": (np.where(HOLE, SOME - 128, SOME), HOLE, "its transparent part is the"),
    "two high": (np.where(HOLE, 250, 255), HOLE, "alphas 250, 255 the lower is"),
    "two low": (np.where(HOLE, 0, 9), HOLE, "of the alphas 0, 9 the lower is"),
    "none": (np.full(HOLE.shape, 255), HOLE & ~HOLE, "alpha has no hole; written"),
    "all": (np.zeros(HOLE.shape), HOLE | ~HOLE, "its transparent part is the hole"),
}


@pytest.mark.parametrize("name", ALPHAS)
def test_the_transparent_part_is_the_hole(name, inpaint):
    alpha, hole, line = ALPHAS[name]
    with_alpha("a.png", alpha)
    code, out, err = inpaint("--image", "a.png", *ALPHA)
    assert (code, err) == (0, []) and any(line in each for each in out), out
    assert not any("hides the filling" in each for each in out)
    assert_filled("o/a.png", hole)
    np.testing.assert_array_equal(read("o/a.png")[..., 3], np.where(hole, 255, alpha))


def test_the_opaque_part_instead(inpaint):
    with_alpha("a.png", np.where(HOLE, 0, 255))
    code, out, _ = inpaint("--image", "a.png", *ALPHA, "--invert_mask")
    assert code == 0 and "a.png: its opaque part is the hole" in out
    assert_filled("o/a.png", ~HOLE)
    np.testing.assert_array_equal(read("o/a.png")[..., 3], np.where(HOLE, 0, 255))


def test_pictures_without_alpha_are_left_out(inpaint):
    with_alpha("i/a.png", np.where(HOLE, 0, 255))
    save(Path("i/grey.png"), np.dstack([RGB[..., 0], np.uint8(HOLE) * 255]))
    save(Path("i/b.png"), RGB)
    code, _, [line] = inpaint("--image", "i", *ALPHA)
    assert code == 1 and line.startswith("left out b.png: i/b.png: has no alpha")
    assert_filled("o/a.png", HOLE)
    grey = read("o/grey.png")
    assert grey.shape == (32, 32, 2) and (grey[..., 1] == 255).all()
    np.testing.assert_array_equal(grey[HOLE, 0], RGB[HOLE, 0])
    code, _, [line] = inpaint("--image", "i/b.png", *ALPHA)
    assert code == 2 and "i/b.png: has no alpha, which is to be its mask" in line


def test_a_file_that_is_called_alpha(inpaint):
    save(Path("a.png"), RGB)
    save(Path("mask.png"), HOLE).rename("alpha")
    command = ["--image", "a.png", "--output", "o.png", "--mask"]
    code, _, [line] = inpaint(*command, "alpha")
    assert code == 2 and "a.png: has no alpha" in line
    assert inpaint(*command, "./alpha")[::2] == (0, [])
    assert_filled("o.png", HOLE)


def test_holes_grow(inpaint):
    save(Path("a.png"), RGB)
    save(Path("m.png"), HOLE)
    for flags, hole in (([], HOLE), (["--invert_mask"], ~HOLE)):
        code, _, err = inpaint(*FILES, "--dilate", 3, *flags)
        assert (code, err) == (0, [])
        assert_filled("o.png", dilated(hole, 3))
    assert_filled("o.png", dilated(~HOLE, 3))
    # Of alpha, too: what the hole grows by becomes opaque with it.
    with_alpha("a.png", np.where(HOLE, 0, 200))
    assert inpaint("--image", "a.png", *ALPHA, "--dilate", 2)[0] == 0
    grown = dilated(HOLE, 2)
    assert_filled("o/a.png", grown)
    np.testing.assert_array_equal(read("o/a.png")[..., 3], np.where(grown, 255, 200))


def test_a_soft_rim_lies_within_the_hole(inpaint):
    """Pixels of the rim are the model's, and keep some of what was there."""
    white = np.full_like(RGB, 255)
    save(Path("a.png"), RGB)
    save(Path("w/a.png"), np.where(HOLE[..., None], white, RGB))
    save(Path("m.png"), HOLE)

    def filled(*flags, image="a.png"):
        code, _, err = inpaint(*FILES, *flags, "--image", image)
        assert (code, err) == (0, [])
        assert_filled("o.png", HOLE)
        return read("o.png")

    hard, soft = filled(), filled("--feather", 4)
    assert (hard[HOLE] != soft[HOLE]).any()
    # The hole's content is not used without a rim, and it is with one.
    np.testing.assert_array_equal(hard, filled(image="w/a.png"))
    other = filled("--feather", 4, image="w/a.png")
    changed = (other != soft).any(-1)
    assert changed[HOLE].any() and not changed[~HOLE].any()
    grown = dilated(HOLE, 2)
    for strategy in "whole", "crop", "resize":
        flags = ["--feather", 10_000, "--dilate", 2, "--strategy", strategy]
        assert inpaint(*FILES, *flags)[0] == 0
        after = read("o.png")
        np.testing.assert_array_equal(after[~grown], RGB[~grown])


BAD = {
    "dilate": (["--dilate", "-1"], "dilate is -1; it must lie in 0 .. 10000 pixels"),
    "feather": (["--feather", "-3"], "feather is -3; it must lie in 0 .. 10000"),
    "far": (["--feather", "10001"], "feather is 10001; it must lie in 0 .. 10000"),
    "no number": (["--dilate", "few"], "argument --dilate: invalid int value: 'few'"),
    "keep": (["--mask", "alpha", "--keep_alpha"], "leave keep_alpha out"),
    "both": (
        ["--mask", "alpha", "--mask_pattern", "{stem}_m.png"],
        "mask alpha needs no masks; leave mask_pattern out",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_mistakes_are_one_line(name, inpaint):
    flags, message = BAD[name]
    code, out, [line] = inpaint(*FILES, *flags)
    assert (code, out) == (2, []) and message in line
