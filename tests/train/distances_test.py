"""Distances between fillings, and that the energy score of the truth is the least."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.diffusion.distil_config import DistilConfig
from rad_jax.errors import UserError
from rad_jax.metrics import lpips
from rad_jax.train.distances import (
    looks,
    make_distance,
    patches,
    pixels,
    random_features,
)
from rad_jax.train.distil_losses import energy_score

DISTANCES = {"pixels": pixels, "patches": patches, "random": random_features}
HOLE = jnp.zeros((1, 12, 12, 1)).at[:, 2:9, 3:11].set(1.0)


def draw(key, count=1, channels=1):
    return jax.random.normal(key, (count, 12, 12, channels))


@pytest.fixture(scope="module", params=[*DISTANCES, "lpips"])
def distance(request):
    if request.param == "lpips":
        _, shapes = lpips.abstract("alex")
        key = jax.random.key(3)
        params = jax.tree.map(lambda x: 0.1 * jax.random.normal(key, x.shape), shapes)
        params["heads"] = jax.tree.map(jnp.abs, params["heads"])
        return functools.partial(enlarged, looks(params))
    return make_distance(DistilConfig(features=request.param))


def enlarged(distance, *images):
    """LPIPS is of 31 pixels or more."""
    return distance(*(jnp.repeat(jnp.repeat(x, 3, 1), 3, 2) for x in images))


def test_distance_is_a_norm_of_the_difference_in_the_hole(distance, key):
    a, b = (draw(each) * HOLE for each in jax.random.split(key))
    there, back = distance(a, b, HOLE), distance(b, a, HOLE)
    np.testing.assert_allclose(there, back, rtol=1e-5)
    assert there.shape == (1,) and there[0] > 0.1
    assert distance(a, a, HOLE)[0] == 0
    c = draw(jax.random.key(9)) * HOLE
    assert there[0] <= (distance(a, c, HOLE) + distance(c, b, HOLE))[0]


def test_coinciding_samples_have_a_finite_gradient(distance, key):
    a = draw(key)
    gradient = jax.grad(lambda x: distance(x, a, HOLE).sum())(a)
    assert not np.any(gradient)
    score = functools.partial(energy_score, distance)
    gradient = jax.grad(lambda x: score(x, x, a, HOLE).sum())(a)
    assert np.all(np.isfinite(gradient))
    assert np.all(np.isfinite(distance(a, a + 1, 0 * HOLE)))  # no hole at all


def test_black_images_have_a_finite_gradient_in_lpips():
    """No channel is on there, and LPIPS divides by their length."""
    _, shapes = lpips.abstract("alex")
    params = jax.tree.map(lambda x: jnp.zeros(x.shape), shapes)
    black = -jnp.ones((1, 36, 36, 1))
    found = jax.grad(lambda x: looks(params)(x, black + 1, black + 2).sum())(black)
    assert np.all(np.isfinite(found))


@pytest.mark.parametrize("name", DISTANCES)
def test_pixels_are_the_root_mean_square(name, key):
    a, b = (draw(each, 2, 3) * HOLE for each in jax.random.split(key))
    inside = np.asarray(a - b)[:, 2:9, 3:11]
    rms = np.sqrt(np.mean(inside**2, axis=(1, 2, 3)))
    hole = jnp.repeat(HOLE, 2, axis=0)
    np.testing.assert_allclose(pixels(a, b, hole), rms, rtol=1e-6)
    np.testing.assert_allclose(pixels(a + 1 - hole, b, hole), rms, rtol=1e-6)
    # A constant difference is as far by patches, of any size.
    if name == "patches":
        whole = jnp.ones((2, 12, 12, 1))
        found = patches(whole * 0.3, 0 * whole, whole)
        np.testing.assert_allclose(found, 0.3, rtol=1e-6)


@pytest.mark.parametrize("name", DISTANCES)
@pytest.mark.parametrize("mean, deviation", [(0.3, 1.0), (0.0, 0.6), (0.0, 1.5)])
def test_the_truth_has_the_least_energy_score(name, mean, deviation, key):
    """Standard normal pixels; so many images that the score's error is far smaller."""
    keys, count = jax.random.split(key, 3), 300
    hole = jnp.repeat(HOLE, count, axis=0)
    a, b, truth = (draw(each, count) * hole for each in keys)
    score = jax.jit(functools.partial(energy_score, DISTANCES[name]))
    best = score(a, b, truth, hole)
    # The same draws, moved or scaled: what is left of the noise is common to both.
    other = score(mean + deviation * a, mean + deviation * b, truth + 0 * hole, hole)
    difference = np.asarray(other - best)
    error = difference.std() / np.sqrt(count)
    assert difference.mean() > 5 * error


def test_missing_weights_are_one_line(tmp_path):
    config = DistilConfig(features="lpips", weights=str(tmp_path))
    with pytest.raises(UserError, match=r"alexnet\S*: not found; get it from"):
        make_distance(config)
