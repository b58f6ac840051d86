"""Scores of batches, and what becomes of those of all images."""

import jax
import numpy as np
import pytest

from rad_jax.evaluate import scores
from rad_jax.evaluate.scores import summarise
from rad_jax.metrics import inception, lpips
from rad_jax.metrics.frechet import moments, statistics


@pytest.fixture
def random():
    return np.random.default_rng(0)


def seam(count):
    names = "seam_filled", "seam_original", "seam_pairs"
    return {name: np.ones((count, 2)) for name in names}


def test_a_mean_is_over_images_first(random):
    """Samples of an image are averaged; an image without a hole is left out."""
    values = random.uniform(size=(6, 2))
    values[3] = np.nan
    found = summarise({"psnr_hole": values, **seam(6)}, seed=0, reference=None)
    score = found["psnr_hole"]
    assert score["images"] == 5
    assert score["mean"] == pytest.approx(np.nanmean(values))
    per_image = np.delete(values, 3, axis=0).mean(1)
    assert per_image.min() < score["low"] < score["mean"] < score["high"]
    assert found["warnings"] == []


def test_seams_are_summed_before_they_are_divided():
    sums = seam(2)
    sums["seam_filled"] = np.array([[4.0], [0.5]])
    sums["seam_original"] = np.array([[1.0], [2.0]])
    sums["seam_pairs"] = np.array([[10], [10]])
    found = summarise(sums, seed=0, reference=None)
    assert found["seam_ratio"] == pytest.approx(1.5)


def test_fid_against_the_originals_and_against_a_reference(random):
    features = random.normal(size=(8, 1, 5))
    both = {"inception": features, "inception_originals": features[:, 0], **seam(8)}
    found = summarise(both, seed=0, reference=None)
    assert found["fid"] == pytest.approx(0, abs=1e-6)
    assert set(found["kid"]) == {"mean", "deviation", "subset"}
    assert found["kid"]["subset"] == 8
    (warning,) = found["warnings"]
    assert warning.startswith("FID of 8 images")
    moved = statistics(moments(features[:, 0] + np.array([3.0, 0, 0, 0, 0])))
    found = summarise(both, seed=0, reference=moved)
    assert found["fid"] == pytest.approx(9)


def test_networks_score_every_filling():
    """Shapes alone; the networks' numbers are tested where they are."""

    def shape(*sizes):
        return jax.ShapeDtypeStruct(sizes, "float32")

    batch = shape(3, 2, 32, 32, 1), shape(3, 32, 32, 1), shape(3, 32, 32)
    params = {net: lpips.abstract(net)[1] for net in ("alex", "vgg")}
    found = jax.eval_shape(scores._lpips_scores, params, *batch)
    assert found.pop("diversity_lpips").shape == (3,)
    assert {name: x.shape for name, x in found.items()} == dict.fromkeys(
        ("lpips_alex", "lpips_alex_unscaled", "lpips_vgg"), (3, 2)
    )
    params = inception.abstract()[1]
    found = jax.eval_shape(scores._inception_scores, params, *batch)
    assert found["inception"].shape == (3, 2, 2048)
    assert found["inception_originals"].shape == (3, 2048)


def test_the_energy_score_is_smallest_for_samples_of_the_truth(random):
    """Of three fillings by its formula; blur and a lack of diversity do not pay."""
    (score,) = scores.scorers((), weights=None, classifier=None)
    holes = np.zeros((200, 8, 8), np.float32)
    holes[:, 2:5, 3:7] = 1

    def draw(count, spread=0.3):
        return random.normal(0, spread, (200, count, 8, 8, 1)).astype(np.float32)

    truth = draw(1)[:, 0]

    def energy(fillings):
        return score(fillings, truth, holes, np.zeros(200, np.int32))["energy_hole"]

    fillings = draw(3)
    inside = holes[0] > 0

    def apart(a, b):
        return np.sqrt(np.mean((a[inside] - b[inside]) ** 2))

    expected = [
        np.mean([apart(one, true) for one in three])
        - np.mean([apart(three[i], three[j]) for i, j in ((0, 1), (0, 2), (1, 2))]) / 2
        for three, true in zip(fillings, truth, strict=True)
    ]
    np.testing.assert_allclose(energy(fillings), expected, rtol=1e-5)
    of_truth = energy(fillings).mean()
    assert of_truth < energy(0 * fillings).mean()  # the mean image, always
    assert of_truth < energy(np.repeat(draw(1), 3, 1)).mean()  # one filling thrice
    assert of_truth < energy(draw(3, 0.5)).mean()
    holes[7] = 0
    assert np.isnan(energy(fillings)[7])
