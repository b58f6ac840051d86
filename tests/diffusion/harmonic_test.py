"""Continuations into a hole against functions whose continuation is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.diffusion.harmonic import harmonic, spread

pytestmark = pytest.mark.usefixtures("quickly")

SIZE = (13, 18)  # odd at some of the halvings
WAYS = (spread, harmonic)


def seen_around(hole, batch=1):
    """Known outside of rows and columns."""
    seen = np.ones((batch, *SIZE, 1), bool)
    seen[:, hole[0], hole[1]] = False
    return jnp.asarray(seen)


MIDDLE = seen_around((slice(3, 9), slice(4, 14)))
CORNER = seen_around((slice(0, 7), slice(9, None)))


def plane():
    """x^2 - y^2, and y: harmonic, in the sum over four neighbours too."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32) / 10
    return jnp.asarray(np.stack([x**2 - y**2, y], axis=-1)[None])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seen", [MIDDLE, CORNER])
def test_a_constant_goes_on(way, seen):
    """Nothing that stands in the hole is used; known pixels are kept bit for bit."""
    image = jnp.full((1, *SIZE, 3), 0.7)
    found = jax.jit(way)(jnp.where(seen, image, jnp.nan), seen)
    np.testing.assert_allclose(found, image, rtol=1e-5)


@pytest.mark.parametrize("way", WAYS)
def test_known_pixels_are_kept(way):
    image = jax.random.normal(jax.random.key(0), (2, *SIZE, 3))
    seen = jnp.concatenate([MIDDLE, CORNER])
    found = np.asarray(jax.jit(way)(image, seen))
    known = np.broadcast_to(seen, image.shape)
    np.testing.assert_array_equal(found[known], np.asarray(image)[known])
    # A mean of what is known has no larger value; images do not see each other.
    for each, original, where in zip(found, np.asarray(image), known, strict=True):
        assert each.min() >= original[where].min() - 1e-5
        assert each.max() <= original[where].max() + 1e-5
    alone = jax.jit(way)(image[1:], seen[1:])
    np.testing.assert_allclose(alone, found[1:], atol=1e-5)


def test_a_harmonic_function_is_reproduced():
    image = plane()
    found = jax.jit(harmonic)(jnp.where(MIDDLE, image, jnp.nan), MIDDLE)
    np.testing.assert_allclose(found, image, atol=2e-5)
    # A mean over sizes alone is not it.
    assert np.abs(jax.jit(spread)(image, MIDDLE) - image).max() > 0.05


def test_nothing_flows_across_the_edge():
    """Columns known at both sides: linear between, in each row."""
    x = np.broadcast_to(np.arange(SIZE[1], dtype=np.float32)[None], SIZE) / 10
    image = jnp.asarray(x)[None, ..., None]
    seen = seen_around((slice(None), slice(3, 15)))
    np.testing.assert_allclose(jax.jit(harmonic)(image, seen), image, atol=2e-5)


@pytest.mark.parametrize("way", WAYS)
def test_nothing_known_and_no_hole(way):
    image = jnp.stack([plane()[0]] * 2)
    seen = jnp.asarray(np.arange(2).reshape(2, 1, 1, 1) == np.ones((2, *SIZE, 1)))
    found = jax.jit(way)(image, seen)
    np.testing.assert_array_equal(found[0], np.zeros_like(image[0]))
    np.testing.assert_array_equal(found[1], image[1])
