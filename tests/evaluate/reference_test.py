"""``rad-jax reference``, run as by a user; a stand-in takes Inception's place."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from rad_jax.data.splits import load_split
from rad_jax.files.pixel_ranges import to_float
from rad_jax.metrics import inception
from rad_jax.metrics.frechet import frechet_distance
from rad_jax.metrics.inception_blocks import DIMENSION
from rad_jax.metrics.reference import read_reference
from tests.evaluate.evaluate_test import flags, results
from tests.metrics import metric_files


@pytest.fixture
def stand_in(monkeypatch):
    """Features are the pixels, and zeros; so they can be computed here, too."""

    def features(params, images):
        flat = jnp.repeat(images, 3 // images.shape[-1], -1).reshape(len(images), -1)
        return params * jnp.pad(flat, ((0, 0), (0, DIMENSION - flat.shape[1])))

    monkeypatch.setattr(inception, "read_params", lambda *_: jnp.float32(2))
    monkeypatch.setattr(inception, "inception_features", features)


def expected(levels):
    """Mean and covariance of the stand-in's features of grey images."""
    flat = 2 * to_float(np.repeat(levels, 3, -1)).reshape(len(levels), -1)
    return flat.mean(axis=0), np.cov(flat.astype(np.float64), rowvar=False)


def agrees(found, levels):
    mean, covariance = expected(levels)
    size = len(mean)
    assert found.count == len(levels)
    np.testing.assert_allclose(found.mean[:size], mean, atol=1e-6)
    np.testing.assert_allclose(found.covariance[:size, :size], covariance, atol=1e-6)
    assert not found.covariance[size:].any()


def test_of_a_split(stand_in, digits_dir, tmp_path, rad):
    """149 images are three batches, the last of which is filled up."""
    output = tmp_path / "new" / "digits.npz"
    where = "--data", "digits", "--data_dir", digits_dir, "--output", output
    code, out, err = rad("reference", *where, "--num_images", 149)
    assert code == 0 and not err
    assert out == f"{output}: statistics of 149 images\n"
    agrees(
        read_reference(output),
        load_split("digits", digits_dir, "train", 1, most=149)[0],
    )
    code, _, err = rad("reference", *where)
    assert code == 2 and len(err) == 1 and "is there already" in err[0]
    assert read_reference(output).count == 149


def test_of_a_folder_cropped(stand_in, tmp_path, rad):
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (11, 20, 16), np.uint8)
    folder = tmp_path / "images"
    folder.mkdir()
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{i:02}.png")
    output = tmp_path / "folder.npz"
    where = "--data", "folder", "--data_dir", folder, "--output", output
    assert rad("reference", *where, "--image_size", 16)[0] == 0
    agrees(read_reference(output), pictures[:, 2:-2, :, None])


def test_evaluate_measures_against_it(stand_in, tiny_run, digits_dir, tmp_path, rad):
    """The same images have a distance of 0, others have another."""
    where = "--data", "digits", "--data_dir", digits_dir, "--num_images", 5
    found = {}
    for split in ("test", "train"):
        stats = tmp_path / f"{split}.npz"
        made = rad("reference", *where, "--split", split, "--output", stats)
        assert made[0] == 0
        changes = {"method": "originals", "num_samples": 1, "masks": "box"}
        changes |= {"metrics": "fid", "reference": stats}
        output = tmp_path / split
        assert rad("evaluate", *flags(tiny_run, digits_dir, output, **changes))[0] == 0
        found[split] = results(output)["masks"]["box"]["fid"]
    assert found["test"] == pytest.approx(0, abs=1e-6)
    test, train = (read_reference(tmp_path / f"{x}.npz") for x in ("test", "train"))
    assert found["train"] == pytest.approx(frechet_distance(test, train), rel=1e-6)
    assert found["train"] > 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": "digit"}, "holds no data set 'digit'"),
        ({"split": "tost"}, "has no split 'tost'"),
        ({"num_images": 1}, "a covariance is of 2 images or more, not 1"),
        ({"num_images": 1501}, "digits train: has 1500 images, not 1501"),
        (
            {"image_size": 32},
            "the images of digits have 16x16 pixels, image_size is 32",
        ),
        ({"data": "folder", "data_dir": "mixed"}, "images of 8x8 and of 9x8 pixels"),
    ],
)
def test_wrong_requests(
    stand_in, digits_dir, tmp_path, rad, monkeypatch, changes, said
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mixed").mkdir()
    for width in (8, 9):
        picture = Image.new("L", (width, 8))
        picture.save(tmp_path / "mixed" / f"{width}.png")
    output = tmp_path / "out.npz"
    options = {"data": "digits", "data_dir": digits_dir, "output": output} | changes
    code, _, err = rad(
        "reference", *(x for k, v in options.items() for x in (f"--{k}", v))
    )
    assert code == 2 and len(err) == 1 and said in err[0]
    assert not output.exists()


def test_missing_weights(digits_dir, tmp_path, rad):
    where = "--data", "digits", "--data_dir", digits_dir, "--weights", tmp_path
    code, _, err = rad("reference", *where, "--output", tmp_path / "out.npz")
    assert code == 2 and "pt_inception-2015-12-05-6726825d.pth" in err[0]


@pytest.mark.slow
def test_the_network_itself(tiny_run, digits_dir, tmp_path, rad, monkeypatch):
    """Weights follow a rule: the FID floor is 0 to 1e-6."""
    file = metric_files.publish(tmp_path, metric_files.inception())
    monkeypatch.setitem(inception.FILES, "inception", file)
    where = "--data", "digits", "--data_dir", digits_dir, "--num_images", 5
    stats, output = tmp_path / "test.npz", tmp_path / "out"
    weights = "--weights", tmp_path
    assert (
        rad("reference", *where, *weights, "--split", "test", "--output", stats)[0] == 0
    )
    changes = {"method": "originals", "num_samples": 1, "masks": "box"}
    changes |= {"metrics": "fid", "reference": stats, "weights": tmp_path}
    assert rad("evaluate", *flags(tiny_run, digits_dir, output, **changes))[0] == 0
    scores = results(output)["masks"]["box"]
    # Of unit scale: the features' mean square tells what 1e-6 is of.
    scale = np.trace(read_reference(stats).covariance)
    assert scores["fid"] < 1e-6 * max(1, scale)
