"""Decoded images in the holes of pictures: known pixels to the bit, and the seam."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.inference.blending import feathered, nearness, pasted, seamless
from rad_jax.metrics.image import seam, seam_excess

pytestmark = pytest.mark.usefixtures("quickly")

SIZE = (32, 40)
WAYS = {
    "pasted": pasted,
    "feathered": functools.partial(feathered, width=6),
    "seamless": seamless,
}


def picture():
    """Smooth, of three channels."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32) / 20
    channels = (np.sin(3 * x + y), np.cos(2 * x * y), np.sin(x) * np.cos(3 * y))
    return jnp.asarray(np.stack([0.7 * z for z in channels], axis=-1)[None])


def masks(soft=False):
    found = np.zeros((1, *SIZE), np.float32)
    found[0, 8:24, 10:30] = 1
    found[0, 20:, 26:33] = 0.3 if soft else 1  # to the edge of the picture
    return jnp.asarray(found)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("soft", [False, True])
def test_known_pixels_are_kept_and_holes_not_looked_at(way, soft):
    hole = masks(soft)[..., None] > 0
    decoded = jax.random.normal(jax.random.key(0), picture().shape)
    blend = jax.jit(WAYS[way])
    found = blend(jnp.where(hole, jnp.nan, picture()), decoded, masks(soft))
    np.testing.assert_array_equal(blend(picture(), decoded, masks(soft)), found)
    where = np.broadcast_to(hole, found.shape)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(np.asarray(found)[~where], picture()[~where])
    assert way != "pasted" or (np.asarray(found)[where] == decoded[where]).all()


def test_a_constant_offset_is_taken_off():
    """By all of it with gradients; near the border by a feather."""
    decoded = picture() + jnp.asarray([0.3, -0.2, 0.1]).reshape(1, 1, 1, 3)
    found = jax.jit(seamless)(picture(), decoded, masks())
    np.testing.assert_allclose(found, picture(), atol=1e-5)
    found = jax.jit(WAYS["feathered"])(picture(), decoded, masks())
    left = np.asarray(found - picture())[0, 16, :, 0]
    assert left[9] == 0 and abs(left[20] - 0.3) < 1e-5
    steps = np.diff(left[9:18])
    np.testing.assert_allclose(steps[:7], 0.3 / 7, atol=1e-5)


def test_a_harmonic_difference_is_taken_off():
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32) / 40
    difference = jnp.asarray(x**2 - y**2 + x * y)[None, ..., None]
    square = masks().at[:, 24:].set(0)  # no edge of the picture
    found = jax.jit(seamless)(picture(), picture() + difference, square)
    np.testing.assert_allclose(found, picture(), atol=5e-5)


def test_weights_fall_inside_the_hole_alone():
    weights = np.asarray(nearness(masks(), 3))[0]
    np.testing.assert_array_equal(weights[np.asarray(masks()[0]) == 0], 1)
    np.testing.assert_allclose(weights[16, 9:15], [1, 3 / 4, 2 / 4, 1 / 4, 0, 0])
    assert set(np.unique(nearness(masks(), 0))) == {0, 1}


def test_the_seam_of_each():
    """Of a decoder that is off by a smooth error everywhere."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32) / 25
    error = jnp.asarray(0.2 + 0.1 * np.sin(2 * x - y))[None, ..., None]
    decoded = picture() + error
    hole = np.asarray(masks()[0]) > 0
    excess, off = {}, {}
    for name, way in WAYS.items():
        found = jax.jit(way)(picture(), decoded, masks())
        excess[name] = float(seam_excess(seam(found, picture(), masks()))[0])
        off[name] = np.abs(np.asarray(found - picture())[0][hole]).mean()
    assert excess["pasted"] > 0.1
    for name in ("feathered", "seamless"):
        assert abs(excess[name]) < 0.03 * excess["pasted"]
    # A feather is right at the border alone.
    assert off["seamless"] < off["feathered"] / 4 < off["pasted"] / 4
