"""Group normalisation beside the same in float64."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rad_jax.models.config import GROUPS
from rad_jax.models.group_norm import GroupNorm

C, SIZE = 64, 64


def exact(x):
    """In float64, the variance about the mean."""
    x = np.float64(x)
    groups = x.reshape(*x.shape[:3], GROUPS, -1)
    mean = groups.mean((1, 2, 4), keepdims=True)
    variance = groups.var((1, 2, 4), keepdims=True)
    return ((groups - mean) / np.sqrt(variance + 1e-5)).reshape(x.shape)


def maps(mean: Any = 0.0, seed=0, channels=C):
    """Of deviation 1."""
    random = np.random.default_rng(seed)
    return np.float32(mean + random.standard_normal((2, SIZE, SIZE, channels)))


FIRST_ROW = 1e4 * (np.arange(SIZE) > 0)[None, :, None, None]


@pytest.mark.parametrize(
    ("x", "error"),
    [
        (maps(), 2e-6),
        (maps(mean=100), 3e-5),  # E[x^2] - E[x]^2 is wrong by 4e-3 here
        (maps(mean=1000), 3e-4),
        (maps(mean=np.linspace(-100, 100, C)), 3e-5),
        # The squares are taken about a row that is like no other.
        (np.float32(maps() + FIRST_ROW), 3e-4),
    ],
    ids=["centred", "mean 100", "mean 1000", "channels apart", "first row apart"],
)
def test_digits_are_kept(x, error):
    found = jax.jit(GroupNorm(C).__call__)(jnp.asarray(x))
    np.testing.assert_allclose(found, exact(x), atol=error)


def test_parts_are_one_map():
    """Also where a group has channels of both."""
    norm = GroupNorm(C + GROUPS)
    norm.scale[...] = jnp.linspace(0.5, 2, C + GROUPS)
    norm.bias[...] = jnp.linspace(-1, 1, C + GROUPS)
    a, b = jnp.asarray(maps(3.0)), jnp.asarray(maps(-1.0, 1, GROUPS))
    whole = norm(jnp.concatenate([a, b], axis=-1))
    np.testing.assert_allclose(norm(a, b), whole, rtol=1e-6, atol=1e-6)


def test_gradients_are_those_of_the_formula():
    """In which no row is different from others."""
    x, direction = jnp.asarray(maps(1.0)), jnp.asarray(maps(seed=3))

    def formula(x):
        groups = x.reshape(*x.shape[:3], GROUPS, -1)
        mean = groups.mean((1, 2, 4), keepdims=True)
        variance = groups.var((1, 2, 4), keepdims=True)
        return ((groups - mean) * jax.lax.rsqrt(variance + 1e-5)).reshape(x.shape)

    def gradient(function):
        return jax.jit(jax.grad(lambda x: jnp.sum(function(x) * direction)))(x)

    graph, state = nnx.split(GroupNorm(C))
    found = gradient(lambda x: nnx.merge(graph, state)(x))
    np.testing.assert_allclose(found, gradient(formula), atol=1e-5)
