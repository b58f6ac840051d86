"""Holes on latents, and images through an autoencoder and back."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.diffusion.latents import (
    decode,
    decode_tiles,
    encode,
    filled_holes,
    latent_masks,
)
from rad_jax.errors import UserError
from rad_jax.models.autoencoder import abstract_params
from rad_jax.models.autoencoder_config import AutoencoderConfig
from tests.models.adm_files import quick_jit, random_params

pytestmark = pytest.mark.usefixtures("quickly")

CONFIG = AutoencoderConfig("kl", (32, 32), 1, 4, scaling_factor=0.5)
VQ = AutoencoderConfig("vq", (32, 32), 1, 3, num_codes=16)


@functools.cache
def params(config):
    return random_params(abstract_params(config))


@functools.cache
def encoded(config, fill):
    """encode(images, masks), compiled."""
    run = quick_jit(functools.partial(encode, config, fill=fill))
    return functools.partial(run, params(config))


@functools.cache
def decoded(config, tile=None):
    """decode(latents), compiled; or by tiles."""
    run = functools.partial(decode, config)
    if tile is not None:
        run = functools.partial(decode_tiles, config, tile=tile)
    return functools.partial(quick_jit(run), params(config))


def images(size=(16, 24)):
    return jax.random.uniform(jax.random.key(1), (2, *size, 3), minval=-1, maxval=1)


def mask(size, *pixels, value=1.0):
    found = np.zeros((1, *size), np.float32)
    for pixel in pixels:
        found[0][pixel] = value
    return jnp.asarray(found)


def test_a_cell_is_hole_if_any_of_its_pixels_is():
    """Nearest sampling would miss the pixel, a mean would make it soft."""
    masks = mask((16, 24), (5, 9), (slice(12, 16), slice(16, 24)))
    expected = np.zeros((1, 4, 6))
    expected[0, 1, 2] = expected[0, 3, 4:] = 1
    np.testing.assert_array_equal(latent_masks(masks, 4), expected)
    np.testing.assert_array_equal(latent_masks(masks, 1), masks)


def test_a_soft_cell_has_the_largest_value():
    masks = mask((8, 8), (0, 0), value=0.3) + mask((8, 8), (1, 2), value=0.6)
    np.testing.assert_allclose(latent_masks(masks, 4)[0], [[0.6, 0], [0, 0]])


def test_cells_that_reach_beyond_the_image_are_hole():
    found = latent_masks(mask((9, 8)), 4)
    np.testing.assert_array_equal(found[0], [[0, 0], [0, 0], [1, 1]])


def test_dilation_widens_holes():
    masks = mask((20, 20), (8, 8))
    for cells in (0, 1, 2):
        found = np.asarray(latent_masks(masks, 4, cells))[0]
        expected = np.zeros((5, 5))
        expected[2 - cells : 3 + cells, 2 - cells : 3 + cells] = 1
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(UserError, match="dilation of a latent mask is 3; use 0 to 2"):
        latent_masks(masks, 4, 3)


@pytest.mark.parametrize("fill", ["smooth", "grey"])
def test_fillings_say_nothing_of_the_hole(fill):
    """Soft pixels are kept: they are not all noise."""
    masks = mask((16, 24), (slice(4, 9), slice(6, 13))).at[0, 0, 0].set(0.5)
    masks = jnp.broadcast_to(masks, (2, 16, 24))
    hole = masks[..., None] == 1
    found = filled_holes(jnp.where(hole, jnp.nan, images()), masks, fill)
    np.testing.assert_array_equal(found, filled_holes(images(), masks, fill))
    np.testing.assert_array_equal(jnp.where(hole, 0, found - images()), 0 * images())
    inside = np.asarray(found)[np.broadcast_to(hole, found.shape)]
    assert np.isfinite(inside).all() and (fill == "grey") == (not inside.any())


@pytest.mark.parametrize("config", [CONFIG, VQ])
def test_latents_say_nothing_of_the_hole(config):
    masks = jnp.broadcast_to(mask((16, 24), (slice(4, 9), slice(6, 13))), (2, 16, 24))
    other = jnp.where(masks[..., None] == 1, jnp.inf, images())
    run = encoded(config, "smooth")
    latents = run(images(), masks)
    assert latents.shape == (2, 8, 12, config.latent_channels)
    np.testing.assert_array_equal(run(other, masks), latents)
    # The known rest is in them.
    assert np.abs(run(-images(), masks) - latents).max() > 1e-2


def test_latents_are_scaled_there_and_back():
    none = jnp.zeros((2, 16, 24))
    plain = AutoencoderConfig("kl", (32, 32), 1, 4)
    latents = encoded(CONFIG, "smooth")(images(), none)
    unscaled = encoded(plain, "smooth")(images(), none)
    np.testing.assert_allclose(latents, 0.5 * unscaled, rtol=1e-6)
    found = decoded(CONFIG)(latents)
    assert found.shape == (2, 16, 24, 3)
    np.testing.assert_allclose(found, decoded(plain)(unscaled), atol=1e-5)


def test_ragged_images_are_continued():
    """What is beyond them is hole."""
    size, whole = (15, 23), images()
    beyond = jnp.ones((2, 16, 24)).at[:, :15, :23].set(0)
    latents = encoded(CONFIG, "smooth")(whole[:, :15, :23], jnp.zeros((2, *size)))
    np.testing.assert_allclose(
        latents, encoded(CONFIG, "smooth")(whole, beyond), atol=1e-6
    )


def test_one_tile_is_the_whole():
    latents = jax.random.normal(jax.random.key(2), (2, 8, 12, 4))
    whole = decoded(CONFIG)(latents)
    np.testing.assert_array_equal(decoded(CONFIG, 12)(latents), whole)
    np.testing.assert_array_equal(decoded(CONFIG, 99)(latents), whole)


def test_tiles_are_near_the_whole():
    """Not equal: attention and normalisations are of a tile."""
    latents = jax.random.normal(jax.random.key(2), (1, 13, 20, 4))
    whole = np.asarray(decoded(CONFIG)(latents))
    errors = []
    for tile in (12, 6):
        found = np.asarray(decoded(CONFIG, tile)(latents))
        assert found.shape == whole.shape
        errors.append(np.sqrt(np.square(found - whole).mean()) / whole.std())
    # Of so small a network, on noise: 4% and 9%.
    assert 1e-3 < errors[0] < errors[1] < 0.2
    with pytest.raises(UserError, match="tile of latents is 0; give 1 cell"):
        decode_tiles(CONFIG, params(CONFIG), latents, 0)
