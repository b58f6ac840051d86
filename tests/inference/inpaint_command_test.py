"""``rad-jax inpaint`` with what people hand in; pixels are judged."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT
from tests.files import mask_file_test

SIZE = 32
HOLE = np.zeros((SIZE, SIZE), bool)
HOLE[4:20, 7:29] = True
FOLDERS = ("--image", "i", "--mask", "m", "--output", "o")
FILES = ("--image", "a.png", "--mask", "m.png", "--output", "o.png")
RGB = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)


def save(path, array, **options):
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(array).save(path, **options)
    return path


def read(path):
    with Image.open(path) as image:
        return np.asarray(image)


def assert_filled(path, hole, before=RGB):
    """Known pixels are the picture's, and those of the hole are mostly others."""
    after = read(path)[..., :3]
    np.testing.assert_array_equal(after[~hole], before[..., :3][~hole])
    if hole.any():
        assert (after[hole] != before[..., :3][hole]).any(axis=-1).mean() > 0.9


def results(folder):
    """Names of files in a folder, without the manifest's."""
    return sorted({*os.listdir(folder)} - {"manifest"})


def test_masks_of_every_kind_fill_the_hole_and_nothing_else(inpaint, tmp_path):
    """Each of them alone was once taken for one without a hole, or filled it all."""
    kinds = {
        name.replace(" ", "_").replace(",", ""): mask
        for name, mask in mask_file_test.MASKS.items()
    }
    h, w = mask_file_test.H, mask_file_test.W
    picture = np.random.default_rng(1).integers(0, 256, (h, w, 3), np.uint8)
    for name, mask in kinds.items():
        mask = mask if mask.dtype in (bool, np.uint16) else mask.astype(np.uint8)
        save(tmp_path / "m" / f"{name}.png", mask)
        save(tmp_path / "i" / f"{name}.png", picture)
    for flags, hole in (
        ([], mask_file_test.SOME),
        (["--invert_mask"], ~mask_file_test.SOME),
    ):
        output = f"o{len(flags)}"
        code, out, err = inpaint(*FOLDERS[:-1], output, *flags)
        assert (code, err) == (0, [])
        for name in kinds:
            assert_filled(tmp_path / output / f"{name}.png", hole, picture)
    assert "m/7_and_9.png: has the levels 7, 9; the brighter is the hole" in out
    two = "m/0_and_1.png, m/0_and_1_in_16_bits.png: has the levels 0, 1; the brighter"
    assert any(line.startswith(two) for line in out), out


def test_unclear_masks_are_named_and_the_others_filled(inpaint, tmp_path):
    unclear = mask_file_test.UNCLEAR
    h, w = mask_file_test.H, mask_file_test.W
    picture = np.random.default_rng(1).integers(0, 256, (h, w, 3), np.uint8)
    for number, (mask, _) in enumerate(unclear.values()):
        mask = mask.astype(np.uint8) if mask.dtype == int else mask
        save(tmp_path / "m" / f"{number}.tif", mask)
        save(tmp_path / "i" / f"{number}.png", picture)
    for name in "a", "b", "c":
        save(tmp_path / "i" / f"{name}.png", picture)
        save(tmp_path / "m" / f"{name}.png", np.zeros((h, w), bool))
    save(tmp_path / "m" / "c.png", mask_file_test.SOME)
    code, out, err = inpaint(*FOLDERS)
    assert code == 1 and results("o") == ["a.png", "b.png", "c.png"]
    assert len(err) == len(unclear)
    assert_filled(tmp_path / "o" / "c.png", mask_file_test.SOME, picture)
    count = f"2 of {len(unclear) + 3} masks have no hole; written as they are: i/a.png,"
    assert any(line.startswith(count) for line in out), out


def pictures(folder, *names):
    for name in names:
        save(folder / name, HOLE if "mask" in name.lower() else RGB)


PAIRED = {
    # What lies in the image folder, in the mask folder (None: the same), and the line.
    "_mask": (["a.png", "a_mask.png"], None, "1 mask paired by names like x_mask"),
    "_mask001": (["a.png", "a_mask001.png"], None, "paired by names like x_mask"),
    "-mask": (["a.png", "a-Mask.png"], None, "paired by names like x_mask"),
    "apart": (["a.png"], ["a_mask.png"], "paired by names like x_mask"),
    "among": (["a.png", "a_mask.png"], ["a_mask000.png"], "they are masks: a_mask.png"),
    "both": (["a.png", "mask.png"], "i/mask.png", "they are masks: mask.png"),
    "other": (["a.png", "a_mask.png", "m.jfif"], "i/a_mask.png", "a_mask.png"),
}


@pytest.mark.parametrize("name", PAIRED)
def test_masks_beside_pictures(name, inpaint, tmp_path):
    images, masks, line = PAIRED[name]
    pictures(tmp_path / "i", *images)
    mask = masks if isinstance(masks, str) else "i" if masks is None else "m"
    pictures(tmp_path / "m", *(masks if isinstance(masks, list) else []))
    code, out, err = inpaint("--image", "i", "--mask", mask, "--output", "o")
    assert (code, err) == (0, [])
    assert any(line in each for each in out), out
    assert "a.png" in os.listdir("o") and not any("mask" in x for x in os.listdir("o"))
    assert_filled(tmp_path / "o" / "a.png", HOLE)


def test_a_picture_named_like_a_mask_with_a_mask_of_its_own(inpaint, tmp_path):
    pictures(tmp_path / "i", "iron.png")
    save(tmp_path / "i" / "iron_mask.png", RGB)
    for name in "iron.png", "iron_mask.png":
        save(tmp_path / "m" / name, HOLE)
    code, _, err = inpaint(*FOLDERS)
    assert (code, err) == (0, [])
    assert_filled(tmp_path / "o" / "iron_mask.png", HOLE)


OWN = {
    "one folder": (
        ["a.png", "b.png"],
        "i",
        "i",
        "would be its own mask; name the mask",
    ),
    "one file": (["a.png"], "i/a.png", "i/a.png", "is the picture itself; give its"),
    "its folder": (["a.png"], "i/a.png", "i", "would be its own mask"),
    "a link": (["a.png"], "i/a.png", "l", "is the picture itself"),
    "two masks": (
        ["a.png", "a_mask1.png", "a_mask2.png"],
        *("i", "i", "has several masks, a_mask1.png, a_mask2.png; keep one"),
    ),
}


@pytest.mark.parametrize("name", OWN)
def test_no_picture_is_its_own_mask(name, inpaint, tmp_path):
    files, image, mask, match = OWN[name]
    pictures(tmp_path / "i", *files)
    (tmp_path / "l").symlink_to("i/a.png")
    code, _, err = inpaint("--image", image, "--mask", mask, "--output", "o")
    assert code == 2 and len(err) == 1 and match in err[0], err
    assert not os.path.exists("o")


def test_what_is_left_out_of_a_folder_is_counted(inpaint, tmp_path):
    pictures(tmp_path / "i", "a.jfif", "b.png")
    os.makedirs("i/sub/deep")
    os.makedirs("i/o")
    for name in "notes.txt", "c.heic", "README", ".hidden":
        (tmp_path / "i" / name).write_text("x")
    save(tmp_path / "m.png", HOLE)
    code, out, _ = inpaint(*["--image", "i", "--mask", "m.png", "--output", "i/o"])
    assert code == 0 and results("i/o") == ["a.png", "b.png"]
    assert "i: left out 1 folder in it" in out
    text = "i: left out 3 files, no pictures by their suffix (.heic, .txt, no suffix)"
    assert text in out


def test_names_are_compared_in_one_form(inpaint, tmp_path):
    """macOS writes é as two characters."""
    pictures(tmp_path / "i", "caf\u00e9.png")
    shutil.copytree("i", "i2")
    os.rename("i2/caf\u00e9.png", "i2/cafe\u0301.png")
    save(tmp_path / "m" / "cafe\u0301.png", HOLE)
    for folder in "i", "i2":
        output = f"o{folder}"
        code, _, err = inpaint("--image", folder, "--mask", "m", "--output", output)
        assert (code, err) == (0, [])
    first, second = (read(f"{x}/{name}") for x in ("oi", "oi2") for name in results(x))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("output", ["res.v2", "x.PNG", "new/x.png", "2024.01.31"])
def test_outputs_with_dots(output, inpaint, tmp_path):
    save(tmp_path / "a.png", RGB)
    save(tmp_path / "m.png", HOLE)
    code, _, err = inpaint(*["--image", "a.png", "--mask", "m.png", "--output"], output)
    assert (code, err) == (0, [])
    path = tmp_path / output
    assert_filled(path if "x." in output else path / "a.png", HOLE)


def test_what_may_surprise_is_said(inpaint, tmp_path):
    """Frames, transparency, colour for a grey model, orientation; each in a line."""
    alpha = np.where(HOLE, 0, 255).astype(np.uint8)
    save(tmp_path / "i" / "clear.png", np.dstack([RGB, alpha]))
    exif = Image.Exif()
    exif[0x0112] = 3
    save(tmp_path / "i" / "turned.png", RGB[::-1, ::-1].copy(), exif=exif)
    frames = [Image.fromarray(array) for array in (RGB, 255 - RGB)]
    frames[0].save(tmp_path / "i" / "frames.png", save_all=True, append_images=frames)
    grey = np.repeat(RGB[..., :1], 3, axis=2)
    save(tmp_path / "i" / "grey.png", grey)
    save(tmp_path / "m.png", HOLE)
    flags = ["--image", "i", "--mask", "m.png", "--output", "o"]
    code, out, err = inpaint(*flags)
    assert (code, err) == (0, [])
    said = {line.split(": ", 1)[0]: line.split(": ", 1)[1] for line in out[:-1]}
    assert said["i/frames.png"] == "has several frames; the first one is used"
    assert "turned upright, as its EXIF says; its mask is" in said["i/turned.png"]
    assert said["i/clear.png"].startswith("is transparent within the hole")
    colour = "i/clear.png, i/frames.png, i/turned.png"
    assert said[colour].startswith("is in colour; this model makes grey")
    for name in ("clear", "turned", "frames"):
        assert_filled(tmp_path / "o" / f"{name}.png", HOLE)
    np.testing.assert_array_equal(read("o/clear.png")[..., 3], alpha)
    assert_filled(tmp_path / "o" / "grey.png", HOLE, grey)

    code, out, _ = inpaint(*flags[:-1], "o2", "--opaque_hole")
    assert code == 0 and not any("transparent" in line for line in out)
    assert (read("o2/clear.png")[..., 3] == 255).all()
    code, out, _ = inpaint(*flags[:-1], "o3", "--keep_alpha")
    assert code == 0 and not any("transparent" in line for line in out)
    np.testing.assert_array_equal(read("o3/clear.png")[..., 3], alpha)
    code, _, err = inpaint(*flags, "--keep_alpha", "--opaque_hole")
    assert code == 2 and "not allowed with" in err[0]


def test_a_mask_of_the_file_that_was_turned(inpaint, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "a.png", RGB[:20].copy(), exif=exif)
    save(tmp_path / "m.png", HOLE[:20])
    code, _, err = inpaint(*FILES)
    assert code == 2 and "turn it like the picture, whose EXIF" in err[0]
    save(tmp_path / "m.png", np.rot90(HOLE[:20], -1))
    code, out, err = inpaint(*FILES)
    assert (code, err) == (0, []) and not any("EXIF" in line for line in out)
    turned = np.rot90(RGB[:20], -1)
    assert_filled(tmp_path / "o.png", np.rot90(HOLE[:20], -1), turned)


def test_an_output_that_cannot_show_a_name(tmp_path, tiny_run):
    """Printing never fails: the pictures are written by then."""
    name = "caf\u00e9 \u6a21.png"
    save(tmp_path / "i" / name, RGB)
    save(tmp_path / "i" / os.fsdecode(b"\xff.png"), RGB)
    save(tmp_path / "m.png", ~HOLE & HOLE)
    command = [sys.executable, "-m", "rad_jax", "inpaint", "--image", "i"]
    command += ["--mask", "m.png", "--output", "o", "--model", tiny_run[0]]
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True)
    assert run.returncode == 0 and b"Traceback" not in run.stderr, run.stderr
    assert b"caf\\xe9" in run.stdout and len(results(tmp_path / "o")) == 2


LARGE = np.random.default_rng(2).integers(0, 256, (70, 90, 3), np.uint8)
LARGE_HOLE = np.zeros((70, 90), bool)
LARGE_HOLE[5:8, 5:9] = LARGE_HOLE[60:66, 80:90] = LARGE_HOLE[20:50, 30:60] = True
STRATEGIES = {
    "auto": "filled by 2 x crop at scale 0.8 to 1, 1 x tile at scale 0.8",
    "crop": "filled by 3 x crop at scale 0.27 to 1",
    "tile": "filled by 3 x tile at scale 0.8 to 1",
    "resize": "filled by 1 x resize at scale 0.18",
    "whole": "",
}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_strategies_keep_known_pixels_and_say_what_they_did(
    strategy, inpaint, tmp_path
):
    for name in "ab":
        save(tmp_path / "i" / f"{name}.png", LARGE)
    save(tmp_path / "m.png", LARGE_HOLE)
    flags = ("--image", "i", "--mask", "m.png", "--output", "o", "--num_samples", 2)
    code, out, err = inpaint(*flags, "--strategy", strategy)
    assert (code, err) == (0, [])
    said = STRATEGIES[strategy]
    assert (f"i/a.png, i/b.png: {said}" in out) == bool(said), out
    results = [read(f"o/{name}_{i}.png") for name in "ab" for i in (0, 1)]
    for name in "ab":
        for i in (0, 1):
            assert_filled(tmp_path / "o" / f"{name}_{i}.png", LARGE_HOLE, LARGE)
    assert not any((x != results[0]).sum() == 0 for x in results[1:])
    # The same alone and in batches of one.
    code, _, _ = inpaint(
        *("--image", "i/b.png", "--mask", "m.png", "--output", "alone"),
        *("--num_samples", 2, "--strategy", strategy, "--batch_size", 1),
    )
    assert code == 0
    for i in (0, 1):
        np.testing.assert_array_equal(read(f"alone/b_{i}.png"), read(f"o/b_{i}.png"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--strategy", "crops"), "invalid choice: 'crops'"),
        (("--context", "0"), "context is 0.0; it must lie in (0, 100]"),
        (("--context", "-1"), "context is -1.0; it must lie in (0, 100]"),
    ],
)
def test_strategies_that_there_are_not(flags, message, inpaint, tmp_path):
    save(tmp_path / "a.png", LARGE)
    save(tmp_path / "m.png", LARGE_HOLE)
    code, _, err = inpaint(*FILES, *flags)
    assert code == 2 and message in err[0]


def test_a_picture_of_more_pixels_than_can_be_held_is_named(inpaint, tmp_path):
    wide = Image.new("1", (30_000, 30_000))
    wide.save(tmp_path / "a.png")
    save(tmp_path / "m.png", HOLE)
    code, _, err = inpaint(*FILES)
    assert code == 2 and "a.png: more than 89478485 pixels; scale it down" in err[0]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("strategy", ["whole", "auto"])
def test_outpainting(strategy, masked, inpaint, tmp_path):
    """The border is filled, and what was there is where it was, bit for bit."""
    left, top, right, bottom = margins = (3, 0, 5, 7)
    alpha = np.random.default_rng(3).integers(0, 256, (SIZE, SIZE), np.uint8)
    save(tmp_path / "a.png", np.dstack([RGB, alpha]))
    save(tmp_path / "m.png", HOLE)
    flags = ("--mask", "m.png") if masked else ()
    code, _, err = inpaint(
        *("--image", "a.png", "--output", "o.png", *flags, "--strategy", strategy),
        *("--extend", ",".join(map(str, margins))),
    )
    assert (code, err) == (0, [])
    filled = read("o.png")
    assert filled.shape == (SIZE + top + bottom, SIZE + left + right, 4)
    inner = filled[top : SIZE + top, left : SIZE + left]
    known = ~HOLE if masked else np.ones_like(HOLE)
    np.testing.assert_array_equal(inner[..., :3][known], RGB[known])
    np.testing.assert_array_equal(inner[..., 3], alpha)
    border = np.ones(filled.shape[:2], bool)
    border[top : SIZE + top, left : SIZE + left] = False
    assert (filled[border][:, 3] == 255).all()
    repeated = np.pad(RGB, [(top, bottom), (left, right), (0, 0)], mode="edge")
    assert (filled[..., :3] != repeated)[border].any(axis=-1).mean() > 0.9


@pytest.mark.parametrize(
    ("extend", "message"),
    [
        ("1,2,3", "'1,2,3' is not left,top,right,bottom in pixels, such as 0,0,64,0"),
        ("1,2,3,-4", "is not left,top,right,bottom in pixels"),
        (
            "0,0,0,10001",
            "extend is 0,0,0,10001; give left,top,right,bottom, each",
        ),
        ("0,0,0,0", "inpaint needs --mask, --mask_pattern or --extend"),
        ("9999,9999,9999,9999", "it has more than 89478485 pixels; extend it less"),
    ],
)
def test_borders_without_sense(extend, message, inpaint, tmp_path):
    save(tmp_path / "a.png", RGB)
    flags = ("--image", "a.png", "--output", "o.png", "--extend", extend)
    code, _, err = inpaint(*flags)
    assert code == 2 and message in err[0], err
