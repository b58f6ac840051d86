"""Crops of photographs: where they lie, and that no photograph is in both splits."""

import hashlib
import importlib.util
import os
import sys

import numpy as np
import pytest
from PIL import Image

from rad_jax.data import records
from rad_jax.data.splits import load_split
from rad_jax.errors import UserError
from rad_jax.prepare import photos
from rad_jax.prepare.command import prepare

NAMES = (*photos.TRAIN, *photos.TEST)

# Of crops of photographs in PNG files: how a JPEG decodes is up to its library.
CHECKSUMS = {
    ("astronaut.png", (64, 30, 209)): "7c027d94ac98806e",
    ("chelsea.png", (256, 0, 195)): "c9475a38b5b2e1a0",
    ("coffee.png", (128, 25, 472)): "5a13ecfd19252634",
    ("camera.png", (256, 256, 37)): "9eaa363583add4b6",
}


def left_in(folder):
    return [name for _, _, names in os.walk(folder) for name in names]


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    """A folder of stand-ins of few crops: number i has the red value 20 i throughout,
    as long as it is not scaled, and green and blue that tell the place.
    """
    folder = tmp_path / "skimage" / "data"
    folder.mkdir(parents=True)
    rows, columns = np.mgrid[:280, :300]
    for i, name in enumerate(NAMES):
        pixels = np.stack([np.full_like(rows, 20 * i), rows // 2, columns // 2], -1)
        kind = "PNG"  # whatever its name: a JPEG would change the values
        Image.fromarray(pixels.astype(np.uint8)).save(folder / name, kind)
    monkeypatch.setattr(photos, "photograph_folder", lambda: folder)
    monkeypatch.setattr(photos, "PLACES", {64: 3, 128: 2, 256: 2})
    return folder


def test_no_photograph_is_in_both_splits(made_up, tmp_path):
    """As the pixels tell, whatever the names say."""
    prepare("photos", tmp_path)
    found = {}
    for split, count in (("train", 8), ("test", 2)):
        images, _ = load_split("photos", tmp_path, split, 3)
        assert images.shape == (count * (9 + 4 + 4), 64, 64, 3)
        red = images[..., 0].reshape(len(images), -1)
        assert (red == red[:, :1]).all()
        found[split] = red[:, 0] // 20
    assert set(found["train"]) == set(range(8)) and set(found["test"]) == {8, 9}
    # As many of each, and those that are seen first are of all.
    assert (np.bincount(found["train"]) == 17).all()
    assert len(set(found["train"][:24])) > 4 and len(set(found["test"][:8])) == 2


def test_ids_say_where_a_crop_is_from(made_up, tmp_path):
    prepare("photos", tmp_path)
    examples = records.source("photos", tmp_path, "train")
    assert isinstance(examples, records._Examples)
    images, _ = load_split("photos", tmp_path, "train", 3)
    for data, image in zip(examples.data, images, strict=True):
        example = records._Example.FromString(data)
        where = example.features.feature["id"].bytes_list.value[0].decode()
        name, side, top, left = where.split("/")
        files = [file for file in photos.TRAIN if file.startswith(f"{name}.")]
        assert image[0, 0, 0] == 20 * NAMES.index(files[0])
        half = int(side) // 2
        centre = image[31:33, 31:33].mean((0, 1))[1:]
        expected = (np.array([int(top), int(left)]) + half - 0.5) / 2
        np.testing.assert_allclose(centre, expected, atol=1)


@pytest.mark.parametrize("size", [(384, 303), (512, 512), (1000, 872)])
def test_crops_are_spread_from_edge_to_edge(size):
    photograph = Image.new("L", size)
    found = photos.boxes(photograph)
    assert len(found) == len(set(found)) == 16**2 + 12**2 + 8**2
    for side in (64, 128, 256):
        covered = np.zeros((size[1], size[0]), int)
        for _, top, left in (box for box in found if box[0] == side):
            assert covered[top : top + side, left : left + side].shape == (side, side)
            covered[top : top + side, left : left + side] += 1
        assert covered.min() >= 1


def test_there_are_thousands_to_train_on():
    each = sum(places**2 for places in photos.PLACES.values())
    assert each * len(photos.TRAIN) == 3712 and each * len(photos.TEST) == 928
    assert not set(photos.TRAIN) & set(photos.TEST)


def test_smallest_crops_are_not_resampled():
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (90, 100, 3), np.uint8)
    photograph = Image.fromarray(pixels)
    crop = np.asarray(photos.cut(photograph, (64, 7, 11)))
    np.testing.assert_array_equal(crop, pixels[7:71, 11:75])
    means = np.kron(pixels[:64, :64], np.ones((2, 2, 1), np.uint8))
    crop = np.asarray(photos.cut(Image.fromarray(means), (128, 0, 0)))
    np.testing.assert_array_equal(crop, pixels[:64, :64])


@pytest.mark.skipif(
    importlib.util.find_spec("skimage") is None, reason="needs scikit-image"
)
def test_pixels_are_the_pinned_ones():
    imported = "skimage" in sys.modules
    folder = photos.photograph_folder()
    opened = {name: photos.open_photograph(folder / name) for name in NAMES}
    assert all(min(image.size) >= 256 for image in opened.values())
    found = {}
    for name, box in CHECKSUMS:
        assert box in photos.boxes(opened[name])
        crop = photos.cut(opened[name], box)
        found[name, box] = hashlib.sha256(crop.tobytes()).hexdigest()[:16]
    assert found == CHECKSUMS, (
        "The pixels of the data set changed: results on it no longer compare with "
        "earlier ones. If that is meant, raise its version and pin these."
    )
    assert imported == ("skimage" in sys.modules)  # only its files are read


def test_without_scikit_image_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(UserError, match=r"pip install 'rad-jax\[photos\]'$"):
        prepare("photos", tmp_path)
    assert left_in(tmp_path) == []


def test_photographs_that_cannot_be_read_are_named(made_up, tmp_path):
    data_dir = tmp_path / "sets"
    (made_up / "coffee.png").write_bytes((made_up / "coffee.png").read_bytes()[:500])
    match = r"data/coffee\.png: .*; install scikit-image again$"
    with pytest.raises(UserError, match=match):
        prepare("photos", data_dir)
    (made_up / "coffee.png").unlink()
    match = r"coffee\.png: cannot be read \(No such file .*\); scikit-image 0\.25"
    with pytest.raises(UserError, match=match):
        prepare("photos", data_dir)
    assert left_in(data_dir) == []
