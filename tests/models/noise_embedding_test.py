"""Noise conditioning without a network around it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.errors import UserError
from rad_jax.models.noise_embedding import (
    NoiseLevels,
    NoiseMap,
    condition,
    interpolation_matrix,
    membership,
    project,
    resize,
    sinusoid,
)
from tests.models.adm_files import quick_jit

pytestmark = pytest.mark.usefixtures("quickly")


def test_sinusoid_is_adms():
    """Cosines first, 10000^(-i / half), any real timestep."""
    timesteps = jnp.array([[-1.0, 0.0], [12.25, 999.0]])
    embedding = sinusoid(timesteps, 6)
    for index in np.ndindex(2, 2):
        t = float(timesteps[index])
        angles = [t, t * 10000 ** (-1 / 3), t * 10000 ** (-2 / 3)]
        expected = [*np.cos(angles), *np.sin(angles)]
        np.testing.assert_allclose(embedding[index], expected, atol=1e-4)


@pytest.mark.parametrize(
    "size, new_size", [(9, 5), (8, 4), (64, 8), (256, 16), (5, 9), (7, 1), (1, 4)]
)
def test_interpolation_is_linear_with_aligned_corners(size, new_size):
    matrix = interpolation_matrix(size, new_size)
    values = np.random.default_rng(0).standard_normal(size)
    positions = np.linspace(0, size - 1, new_size) if new_size > 1 else [0]
    expected = np.interp(positions, np.arange(size), values)
    np.testing.assert_allclose(matrix @ values, expected, atol=1e-5)
    # Exactly: a map of ones stays a map of ones, for the single-level identity.
    assert np.all(matrix.sum(axis=1, dtype=np.float32) == 1)


def test_resize_takes_rows_and_columns_apart():
    rows, columns = jnp.linspace(0, 3, 12), jnp.linspace(-1, 1, 8)
    plane = (2 * rows[:, None] + columns[None])[None, :, :, None]
    expected = 2 * np.linspace(0, 3, 6)[:, None] + np.linspace(-1, 1, 2)[None]
    np.testing.assert_allclose(resize(plane, 6, 2)[0, ..., 0], expected, atol=1e-6)


def test_membership_of_binary_masks(key):
    """The first level is that of the known pixels, the second that of the hole."""
    masks = jnp.float32(jax.random.bernoulli(key, shape=(2, 8, 12)))
    maps_of = quick_jit(lambda m: membership(m, 3))
    maps = maps_of(masks)
    assert [m.shape for m in maps] == [(2, 8, 12, 2), (2, 4, 6, 2), (2, 2, 3, 2)]
    np.testing.assert_array_equal(maps[0][..., 1], masks)
    onehot = jnp.stack([1 - masks, masks], axis=-1)
    for one, other in zip(maps, maps_of(onehot), strict=True):
        np.testing.assert_allclose(one.sum(-1), 1, rtol=1e-6)
        np.testing.assert_array_equal(one, other)
    # Corners are aligned, so they keep their own level at every resolution.
    for m in maps:
        np.testing.assert_array_equal(m[:, :: m.shape[1] - 1, 0, 1], masks[:, ::7, 0])


def test_membership_names_the_stride():
    with pytest.raises(UserError, match="stride 4, not 8 x 10"):
        membership(jnp.zeros((1, 8, 10)), 3)


@pytest.mark.parametrize("size", [(16, 4), (4, 20)])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_levels_equal_the_map(key, k, size):
    """(M2) at every resolution, with labels, for one block's projection."""
    keys = jax.random.split(key, 5)
    index = jax.random.randint(keys[0], (2, *size), 0, k)
    timesteps = jax.random.uniform(keys[1], (2, k), minval=-1, maxval=999)
    onehot = jax.nn.one_hot(index, k)
    hidden = jax.random.normal(keys[2], (32, 16)) / 4
    kernel = jax.random.normal(keys[3], (16, 6)) / 4
    labels = jax.random.normal(keys[4], (2, 16))

    def embed(t):
        return sinusoid(t, 32) @ hidden

    @quick_jit
    def parts(noise):
        return [
            project(lambda e: e @ kernel + 0.5, conditioning, 2)
            for conditioning in condition(noise, embed, labels, 3)
        ]

    by_level = parts(NoiseLevels(timesteps, membership(onehot, 3)))
    spread = jnp.take_along_axis(timesteps, index.reshape(2, -1), axis=1)
    by_pixel = parts(NoiseMap(spread.reshape(index.shape)))
    for level, (some, others) in enumerate(zip(by_level, by_pixel, strict=True)):
        for one, other in zip(some, others, strict=True):
            assert one.shape == (2, size[0] >> level, size[1] >> level, 3)
            np.testing.assert_allclose(one, other, atol=1e-5)


def test_levels_need_their_maps():
    maps = membership(jnp.zeros((1, 4, 4)), 2)
    for weights in (None, maps):
        with pytest.raises(ValueError, match="2 noise levels need weights"):
            condition(
                NoiseLevels(jnp.zeros((1, 2)), weights),
                lambda t: sinusoid(t, 4),
                None,
                3,
            )
