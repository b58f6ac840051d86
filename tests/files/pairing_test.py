"""Pictures find their masks by name, and every mismatch is named."""

from pathlib import Path

import pytest

from rad_jax.errors import UserError
from rad_jax.files.collect import is_many
from rad_jax.files.destination import destination
from rad_jax.files.pairing import Pair, pair_files
from rad_jax.files.remarks import Remarks


def paired(image, mask, output, num_samples=1, form=None, **options):
    target = destination(output, form, alone=not is_many(image))
    return pair_files(image, mask, target, num_samples, Remarks(), **options)


def pair_by_stem(image, mask, output, num_samples=1):
    pairs, left = paired(image, mask, output, num_samples)
    assert not left
    return pairs


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def test_folders_pair_by_stem(tmp_path):
    images = touch(tmp_path / "i", "b.JPG", "a.x.png", ".hidden.png", "notes.txt")
    touch(images / "sub", "c.png")
    masks = touch(tmp_path / "m", "a.x.gif", "b.png")
    out = tmp_path / "new"
    assert pair_by_stem(images, masks, out) == [
        Pair("a.x", images / "a.x.png", masks / "a.x.gif", (out / "a.x.png",)),
        Pair("b", images / "b.JPG", masks / "b.png", (out / "b.png",)),
    ]
    several = pair_by_stem(images, masks, out, num_samples=2)
    assert several[1].outputs == (out / "b_0.png", out / "b_1.png")
    assert not out.exists()


def test_one_mask_for_a_folder(tmp_path):
    images = touch(tmp_path / "i", "a.png", "b.png")
    mask = touch(tmp_path, "m.png") / "m.png"
    pairs = pair_by_stem(images, mask, tmp_path / "out")
    assert [(pair.image.name, pair.mask) for pair in pairs] == [
        ("a.png", mask),
        ("b.png", mask),
    ]


@pytest.mark.parametrize(
    ("output", "num_samples", "expected"),
    [
        ("x.png", 1, ["x.png"]),
        ("new/x.png", 1, ["new/x.png"]),
        ("folder", 1, ["folder/a.png"]),
        ("new.v2", 1, ["new.v2/a.png"]),
        ("x.PNG", 1, ["x.PNG"]),
        ("old.folder", 1, ["old.folder/a.png"]),
        ("folder", 2, ["folder/a_0.png", "folder/a_1.png"]),
        ("x.png", 2, ["x_0.png", "x_1.png"]),
        ("x.tiff", 2, ["x_0.tiff", "x_1.tiff"]),
        ("x.Jpg", 1, ["x.Jpg"]),
        ("new.folder", 2, ["new.folder/a_0.png", "new.folder/a_1.png"]),
    ],
)
def test_one_picture_and_a_mask_of_a_folder(output, num_samples, expected, tmp_path):
    image = touch(tmp_path, "a.jpg") / "a.jpg"
    masks = touch(tmp_path / "m", "a.png", "b.png")
    touch(tmp_path / "old.folder")
    (pair,) = pair_by_stem(image, masks, tmp_path / output, num_samples)
    outputs = tuple(tmp_path / name for name in expected)
    assert pair == Pair("a", image, masks / "a.png", outputs)


ERRORS = {
    "no image": ("none", "m", "out", 1, "none: no such file or folder"),
    "no mask": ("i", "none", "out", 1, "none: no such file or folder"),
    "empty folder": ("empty", "m", "out", 1, "empty: holds no picture"),
    "no mask of a file": ("i/b.png", "m-a", "out", 1, r"m-a: no mask for \S*b.png"),
    "many": ("many", "m-b", "out", 1, r"10\.png, .*14\.png and 6 more"),
    "twin masks": ("i-a", "twins", "out", 1, "a.png: has several masks, a.jpg, a.png"),
    "twins": ("twins", "m", "out", 1, "a.jpg and a.png have the same name"),
    "bmp": (
        "i/a.png",
        "m",
        "x.bmp",
        1,
        r"are .png, .webp, .tif, .jpg .* name it x.png",
    ),
    "file for a folder": ("i", "m", "x.png", 1, "several results need a folder"),
    "folder in a file": ("i", "m", "i/a.png/out", 1, "a.png: cannot be written to"),
    "a file as the folder": ("i", "m", "file", 1, "file: cannot be written to"),
    "image overwritten": ("i", "m", "i", 1, "i/a.png: would overwrite an input"),
    "mask overwritten": ("i", "m", "i/../m", 1, "m/a.png: would overwrite an input"),
    "itself overwritten": ("i/a.png", "m", "i/a.png", 1, "would overwrite an input"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_mismatches_are_named(name, tmp_path):
    touch(tmp_path, "file")
    touch(tmp_path / "i", "a.png", "b.png", "c.png")
    touch(tmp_path / "m", "a.png", "b.png", "c.png")
    touch(tmp_path / "i-a", "a.png")
    touch(tmp_path / "m-a", "a.png")
    touch(tmp_path / "m-b", "b.png")
    touch(tmp_path / "twins", "a.png", "a.jpg")
    touch(tmp_path / "empty", "notes.txt")
    touch(tmp_path / "many", *(f"{i}.png" for i in range(10, 20)))
    image, mask, output, num_samples, message = ERRORS[name]
    with pytest.raises(UserError, match=message) as error:
        paired(tmp_path / image, tmp_path / mask, tmp_path / output, num_samples)
    assert "\n" not in str(error.value)
