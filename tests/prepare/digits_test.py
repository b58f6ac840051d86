import hashlib
from typing import Any

import numpy as np
import pytest
from sklearn import datasets

from rad_jax.data.records import source
from rad_jax.data.splits import load_split
from rad_jax.prepare import digits
from rad_jax.prepare.command import prepare

CHECKSUMS = {
    "train": "77a95625f85ff15aacfdf38f3be5c83c872f93b4edcc46ebbf3522e3e88a07b0",
    "test": "05436a348bae770a500911a3b0ae54bf3186c057ea0f6ac884881761971d4c2e",
}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    prepare("digits", folder)
    return folder


def ids(data_dir, split):
    records = source("digits", data_dir, split)
    return [int(records[i]["id"]) for i in range(len(records))]


def test_splits_are_disjoint_and_cover_the_set(data_dir):
    train, test = ids(data_dir, "train"), ids(data_dir, "test")
    assert (len(train), len(test)) == (1500, 297)
    assert sorted(train + test) == list(range(1797))


@pytest.mark.parametrize("split", ["train", "test"])
def test_prepared_images_are_the_pinned_ones(data_dir, split):
    images, labels = load_split("digits", data_dir, split, 1)
    assert images.shape == (len(labels), 16, 16, 1)
    checksum = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    assert checksum == CHECKSUMS[split], (
        "The pixels, labels or order of the data set changed: results on it no longer "
        "compare with earlier ones. If that is meant, raise its version and pin this."
    )


def test_images_belong_to_their_labels_and_ids(data_dir):
    images, labels = load_split("digits", data_dir, "test", 1)
    bunch: Any = datasets.load_digits()
    order = ids(data_dir, "test")
    np.testing.assert_array_equal(labels, bunch.target[order])
    # Each 2x2 block lies over one pixel of the original.
    means = images.reshape(-1, 8, 2, 8, 2).mean((2, 4)).ravel()
    assert np.corrcoef(means, bunch.images[order].ravel())[0, 1] > 0.98


def test_every_class_is_held_out(data_dir):
    _, labels = load_split("digits", data_dir, "test", 1)
    assert np.bincount(labels, minlength=10).min() >= 20


@pytest.mark.parametrize(("level", "byte"), [(0, 0), (8, 128), (16, 255)])
def test_enlarge_maps_levels_to_the_whole_byte_range(level, byte):
    np.testing.assert_array_equal(
        digits.enlarge(np.full((8, 8), float(level))), np.full((16, 16), byte)
    )
