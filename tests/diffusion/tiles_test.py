"""Tiles of an image, and what is made of them again."""

import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.diffusion.schedule import make_schedule, steps
from rad_jax.diffusion.schedule_config import ScheduleConfig
from rad_jax.diffusion.tiles import blend, cut, tile_corners, tiled

TILE, STEP = 8, 4
STEP_0 = steps(make_schedule(ScheduleConfig()), np.array([1]), np.array([0]))
RANDOM = np.random.default_rng(0)


def test_corners():
    assert tile_corners((8, 8), 8, 4) == [(0, 0)]
    assert tile_corners((12, 16), 8, 4) == [(y, x) for y in (0, 4) for x in (0, 4, 8)]


@pytest.mark.parametrize("size", [(8, 8), (12, 8), (20, 16)])
def test_tiles_of_an_image_blend_to_it(size):
    images = RANDOM.normal(size=(3, *size, 2)).astype(np.float32)
    tiles = cut(jnp.asarray(images), TILE, STEP)
    count = len(tile_corners(size, TILE, STEP))
    assert tiles.shape == (3 * count, TILE, TILE, 2)
    np.testing.assert_array_equal(tiles[count], images[1, :TILE, :TILE])
    again = blend(tiles, size, TILE, STEP)
    np.testing.assert_allclose(again, images, rtol=1e-5, atol=1e-6)


def test_a_pixel_is_the_weighted_mean_of_its_tiles():
    """Between two tiles of 0 and 1 it rises from one to the other."""
    tiles = jnp.stack([jnp.zeros((TILE, TILE, 1)), jnp.ones((TILE, TILE, 1))])
    row = np.asarray(blend(tiles, (TILE, 12), TILE, STEP))[0, 0, :, 0]
    assert (row[:4] == 0).all() and (row[8:] == 1).all()
    # Windows 7/8, 5/8, 3/8, 1/8 and the other way round.
    np.testing.assert_allclose(row[4:8], [1 / 8, 3 / 8, 5 / 8, 7 / 8], rtol=1e-6)


def test_a_pointwise_denoiser_is_the_same_in_tiles():
    x = jnp.asarray(RANDOM.normal(size=(2, 12, 16, 3)), jnp.float32)
    large = tiled(lambda x, step: jnp.tanh(x), TILE, STEP)
    np.testing.assert_allclose(large(x, STEP_0), jnp.tanh(x), rtol=1e-5, atol=1e-6)


def test_each_tile_is_seen_alone():
    """A denoiser that takes the mean of what it sees gives the blend of means."""
    x = jnp.concatenate([jnp.zeros((1, 8, 8, 1)), jnp.ones((1, 8, 8, 1))], axis=2)

    def mean(x, step):
        return jnp.broadcast_to(x.mean((1, 2, 3), keepdims=True), x.shape)

    row = np.asarray(tiled(mean, TILE, STEP)(x, STEP_0))[0, 0, :, 0]
    assert row[0] == 0 and row[-1] == 1 and (np.diff(row) >= -1e-6).all()
