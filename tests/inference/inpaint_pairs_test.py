"""``rad-jax inpaint``: trees, patterns, names of masks, and what belongs to nothing."""

import os
from pathlib import Path

import numpy as np
import pytest

from tests.inference.inpaint_command_test import HOLE, RGB, assert_filled, read, save

LOWER = np.flipud(HOLE)


def pictures(*names):
    for name in names:
        save(Path(name), RGB)


def masks(*names, hole=HOLE):
    for name in names:
        save(Path(name), hole)


def files(folder):
    """Results of a folder and those in it, with slashes."""
    paths = (path for path in Path(folder).rglob("*") if not path.is_dir())
    names = sorted(path.relative_to(folder).as_posix() for path in paths)
    return [name for name in names if not name.startswith("manifest/")]


def flags(image, mask, output="o"):
    return "--image", image, "--mask", mask, "--output", output


def test_a_tree_is_kept_and_its_masks_are_sought_in_a_tree(inpaint):
    pictures("i/a.png", "i/x/a.jpg.png", "i/x/y/a.png", "i/.hidden/b.png")
    masks("m/a.png", "m/x/a.jpg_mask.png", hole=LOWER)
    masks("m/x/y/a.png")
    code, out, err = inpaint(*flags("i", "m"), "--recursive")
    assert (code, err) == (0, [])
    assert files("o") == ["a.png", "x/a.jpg.png", "x/y/a.png"]
    assert_filled("o/a.png", LOWER)
    assert_filled("o/x/a.jpg.png", LOWER)
    assert_filled("o/x/y/a.png", HOLE)
    assert "o/: 3 images" in out[-1]
    # Without the flag only what is at the top; its noise stays what it was.
    code, out, err = inpaint(*flags("i", "m", "top"))
    assert code == 0 and files("top") == ["a.png"]
    assert "i, m: left out 1 folder in it" in out
    np.testing.assert_array_equal(read("top/a.png"), read("o/a.png"))


def test_seeds_in_a_tree_depend_on_the_path(inpaint):
    pictures("i/x/a.png", "i/y/a.png", "j/a.png")
    masks("m.png")
    assert inpaint(*flags("i", "m.png"), "--recursive")[0] == 0
    assert inpaint(*flags("i/x", "m.png", "alone"))[0] == 0
    assert inpaint(*flags("i/*/a.png", "m.png", "pattern"))[0] == 0
    x, y = read("o/x/a.png"), read("o/y/a.png")
    assert (x[HOLE] != y[HOLE]).mean() > 0.3
    assert (x[HOLE] != read("alone/a.png")[HOLE]).mean() > 0.3  # there it is `a`
    np.testing.assert_array_equal(x, read("pattern/x/a.png"))


def test_results_and_masks_within_the_tree_are_no_pictures(inpaint):
    pictures("i/a.png", "i/x/b.png")
    masks("i/masks/a.png", "i/masks/x/b.png")
    command = (*flags("i", "i/masks", "i/out"), "--recursive")
    for _ in range(2):
        code, _, err = inpaint(*command)
        assert (code, err) == (0, [])
        assert files("i/out") == ["a.png", "x/b.png"]
    assert_filled("i/out/x/b.png", HOLE)


def test_links_to_folders_are_not_followed(inpaint):
    pictures("i/a.png")
    masks("m.png")
    os.symlink("..", "i/loop")
    code, out, err = inpaint(*flags("i", "m.png"), "--recursive")
    assert (code, err) == (0, []) and files("o") == ["a.png"]
    assert "i: left out 1 link to a folder in it" in out


PATTERNS = {
    "some of a folder": ("i/a*.png", "m", ["a1.png", "a2.png"]),
    "a tree": ("i/**/a1.png", "m", ["a1.png", "x/a1.png"]),
    "masks": ("i/a*.png", "m/*_mask.png", ["a1.png"]),
    "letters": ("i/[bc]?.png", "m.png", ["b1.png"]),
    "a real name": ("i/c[1].png", "m.png", ["c[1].png"]),
}


@pytest.mark.parametrize("name", PATTERNS)
def test_patterns_are_ours_not_the_shell_s(name, inpaint):
    image, mask, expected = PATTERNS[name]
    pictures("i/a1.png", "i/a2.png", "i/b1.png", "i/x/a1.png", "i/c[1].png")
    masks("m.png", "m/a1_mask.png", "m/x/a1.png")
    if mask == "m":
        masks("m/a2.png")
    code, _, err = inpaint(*flags(image, mask))
    left = ["a2.png"] if name == "masks" else []
    assert [line.split(":")[0] for line in err] == [f"left out {x}" for x in left]
    assert code == len(left) and files("o") == expected
    for path in expected:
        assert_filled(f"o/{path}", HOLE)


def test_a_pattern_with_recursive_takes_the_folders_that_it_matches(inpaint):
    pictures("i/2024/a.png", "i/2025/a.png", "i/b.png")
    masks("m.png")
    code, _, err = inpaint(*flags("i/2024*", "m.png"), "--recursive")
    assert (code, err) == (0, []) and files("o") == ["2024/a.png"]
    code, _, [line] = inpaint(*flags("i/2024*", "m.png"))
    assert code == 2 and "i/2024*: holds no picture" in line


MASK_PATTERNS = {
    # The pattern, --mask, masks and what is left out of the images' folder.
    "beside": ("{stem}_hole.png", None, ["i/a_hole.png", "i/x/b_hole.png"]),
    "by name": ("{name}.mask.png", None, ["i/a.png.mask.png", "i/x/b.png.mask.png"]),
    "a folder beside": ("m/{stem}.tif", None, ["i/m/a.tif", "i/x/m/b.tif"]),
    "a folder above": ("../m/{stem}.tif", None, ["m/a.tif", "i/m/b.tif"]),
    "a folder": (
        "hole of {stem}{suffix}",
        "m",
        ["m/hole of a.png", "m/x/hole of b.png"],
    ),
    "numbers": ("{stem}_?.gif", "m", ["m/a_1.gif", "m/x/b_2.gif"]),
    "one folder": ("{stem}_hole.*", "i", ["i/a_hole.png", "i/x/b_hole.gif"]),
}


@pytest.mark.parametrize("name", MASK_PATTERNS)
def test_masks_by_a_pattern_of_names(name, inpaint):
    pattern, folder, paths = MASK_PATTERNS[name]
    pictures("i/a.png", "i/x/b.png")
    masks(*paths)
    where = [] if folder is None else ["--mask", folder]
    command = ["--image", "i", "--output", "o", "--recursive", *where]
    code, out, err = inpaint(*command, "--mask_pattern", pattern)
    assert (code, err) == (0, [])
    assert f"i: 2 masks paired by {pattern}" in out
    assert files("o") == ["a.png", "x/b.png"]
    for path in files("o"):
        assert_filled(f"o/{path}", HOLE)


def test_files_that_match_the_pattern_are_masks_even_without_a_picture(inpaint):
    pictures("i/a.jpg", "i/c.jpg")
    masks("i/a.png", "i/b.png")
    command = ["--image", "i", "--output", "o", "--mask_pattern", "{stem}.png"]
    code, out, err = inpaint(*command)
    assert code == 1 and files("o") == ["a.png"]
    assert err == [
        "left out c.jpg: i/c.jpg: no mask beside it by mask_pattern '{stem}.png'",
        "left out b.png: i: no picture for i/b.png; add it, or take the mask out",
    ]
    assert "i: not filled, for they are masks: a.png, b.png" in out
    # Of masks in another folder, the pattern says nothing of the pictures.
    pictures("j/a.png")
    masks("m/a.png", "m/d.png", "m/x/e.png", "m/notes.txt.gif")
    command = ["--image", "j", "--mask", "m", "--output", "p"]
    code, _, err = inpaint(*command, "--mask_pattern", "{stem}.png")
    assert code == 1 and files("p") == ["a.png"]
    assert err == [
        "left out d.png: j: no picture for m/d.png; add it, or take the mask out"
    ]


BAD_PATTERNS = {
    "mask.png": "one mask for all pictures; write {stem} or {name}",
    "": "one mask for all pictures",
    "{suffix}": "one mask for all pictures",
    "{stem}_{number}.png": "in braces it may have {stem}, {name}, {suffix} alone",
    "{stem.__class__}.png": "in braces it may have {stem}, {name}, {suffix} alone",
    "{stem:>9999999999}.png": "in braces it may have {stem}, {name}, {suffix} alone",
    "{stem!r}.png": "in braces it may have {stem}, {name}, {suffix} alone",
    "{stem}_{.png": "write {{ for a brace",
    "/{stem}.png": "an absolute path; give its folder by --mask",
}


@pytest.mark.parametrize("pattern", BAD_PATTERNS)
def test_patterns_of_masks_that_are_none(pattern, inpaint):
    command = ["--image", "i", "--output", "o", "--mask_pattern", pattern]
    code, _, [line] = inpaint(*command)
    assert code == 2 and line.startswith(f"rad-jax: mask_pattern is {pattern!r}")
    assert BAD_PATTERNS[pattern] in line


ERRORS = {
    "no mask": (["--image", "i"], "inpaint needs --mask, --mask_pattern or --extend"),
    "no file": (["--image", "no/*.png", "--mask", "m"], "no/*.png: matches no file"),
    "no folder": (["--image", "i/*.gif", "--mask", "m"], "i/*.gif: matches no file"),
    "stars": (["--image", "i/a**", "--mask", "m"], "i/a**: cannot be searched for"),
    "no masks": (["--image", "i", "--mask", "m/*.gif"], "m/*.gif: matches no file"),
    "a file": (
        ["--image", "i", "--mask", "m/a.png", "--mask_pattern", "{stem}_.png"],
        "m/a.png: is no folder; mask_pattern looks for masks in one",
    ),
    "all masks": (
        ["--image", "i", "--mask_pattern", "{name}"],
        "i: every picture in it is a mask by mask_pattern '{name}'",
    ),
    "none is left": (
        ["--image", "i", "--mask", "n"],
        "n: no mask for i/a.png; add it under the same name; nothing is left of "
        "i/a.png, i/b.png, n/c.png",
    ),
    "one picture": (
        ["--image", "i/a.png", "--mask_pattern", "{stem}_x.png"],
        "i/a.png: no mask beside it by mask_pattern '{stem}_x.png'",
    ),
    "the mask alone": (["--image", "n", "--mask", "n/c.png"], "is the only picture in"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_mistakes_are_one_line(name, inpaint):
    pictures("i/a.png", "i/b.png")
    masks("m/a.png", "m/b.png", "n/c.png")
    command, message = ERRORS[name]
    code, out, [line] = inpaint(*command, "--output", "o")
    assert (code, out) == (2, []) and message in line
    assert not os.path.exists("o")


def test_what_belongs_to_nothing_is_left_out(inpaint):
    pictures("i/a.png", "i/b.png", "i/c.png", "i/d.png")
    masks("m/a.png", "m/c.png", "m/c.gif", "m/d_mask.png", "m/d-mask.png", "m/e.png")
    code, _, err = inpaint(*flags("i", "m"))
    assert code == 1 and files("o") == ["a.png"]
    assert_filled("o/a.png", HOLE)
    assert err == [
        "left out b.png: m: no mask for i/b.png; add it under the same name",
        "left out c.png: i/c.png: has several masks, c.gif, c.png; keep one of them",
        "left out d.png: i/d.png: has several masks, d-mask.png, d_mask.png; keep one "
        "of them",
        "left out e.png: i: no picture for m/e.png; add it, or take the mask out",
    ]
    # A result never replaces what was left out.
    pictures("k/a.jpg", "k/a_0.jpg")
    masks("k/a_mask.png", "k/a_0.png", "k/a_0_mask.png")
    code, _, [line] = inpaint(*flags("k/*.jpg", "k/*.png", "k"), "--num_samples", 2)
    assert code == 2 and "k/a_0.png: would overwrite an input" in line
    # Beside each other, too; a part of a folder says nothing of the other masks.
    pictures("j/a.png", "j/b.png")
    masks("j/b_mask.png")
    code, _, err = inpaint(*flags("j", "j", "p"))
    assert code == 1 and files("p") == ["b.png"] and "its own mask" in err[0]
    assert inpaint(*flags("i/a*", "m", "q"))[::2] == (0, [])


def test_nothing_that_could_be_filled_is_an_error(inpaint):
    for name in "a", "b":
        Path("i").mkdir(exist_ok=True)
        Path(f"i/{name}.png").write_text("no picture")
    masks("m.png")
    code, _, err = inpaint(*flags("i", "m.png"))
    assert code == 2 and [line[:8] for line in err] == ["left out"] * 2 + ["rad-jax:"]
    assert err[-1] == "rad-jax: i: nothing could be filled, as the lines above say"
