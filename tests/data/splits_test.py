"""Whole splits: every example once, in index order."""

import io

import numpy as np
from PIL import Image

from rad_jax.data.records import source
from rad_jax.data.splits import load_split


def test_load_split_keeps_index_order(digits_dir):
    records = source("digits", digits_dir, "test")
    images, classes = load_split("digits", digits_dir, "test", 3)
    assert images.shape == (297, 16, 16, 3)
    for i in (0, 1, 296):
        with Image.open(io.BytesIO(records[i]["image"])) as file:
            np.testing.assert_array_equal(images[i], np.asarray(file.convert("RGB")))
        assert classes[i] == records[i]["label"]


def test_part_of_a_split_is_its_beginning(digits_dir):
    whole, _ = load_split("digits", digits_dir, "test", 1)
    part, _ = load_split("digits", digits_dir, "test[:10]", 1)
    np.testing.assert_array_equal(part, whole[:10])
    part, _ = load_split("digits", digits_dir, "test", 1, most=10)
    np.testing.assert_array_equal(part, whole[:10])


def test_load_split_crops_the_centre(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)
    for name in "ab":
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    images, classes = load_split(
        "folder", tmp_path, "validation", 3, image_size=8, most=5
    )
    np.testing.assert_array_equal(images, pixels[None, :, 2:10])
    assert classes.tolist() == [0]
