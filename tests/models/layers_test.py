"""Single layers of the network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.models.layers import Linear, downsample, gradient_in

pytestmark = pytest.mark.usefixtures("quickly")


def draw(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def test_a_layer_of_parts_is_that_of_the_whole():
    layer = Linear(24, 5)
    assert layer.bias is not None
    layer.kernel[...], layer.bias[...] = draw(0, 24, 5), draw(1, 5)
    x = draw(2, 2, 4, 3, 24)
    parts = jnp.split(x, [16], axis=-1)
    np.testing.assert_allclose(layer(*parts), layer(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_downsampling_is_a_mean_in_float32(dtype):
    x = draw(0, 2, 6, 4, 3).astype(dtype)
    mean = x.reshape(2, 3, 2, 2, 2, 3).mean(axis=(2, 4))
    assert downsample(x).dtype == x.dtype
    np.testing.assert_array_equal(downsample(x), mean)


def test_gradients_are_rounded_to_the_type_of_the_network():
    x = draw(0, 4, 4, 4, 4)

    def gradient(dtype):
        loss = lambda x: jnp.sum(jnp.sin(gradient_in(x, jnp.dtype(dtype))) ** 2)  # noqa: E731
        return jax.jit(jax.grad(loss))(x)

    exact, rounded = gradient("float32"), gradient("bfloat16")
    np.testing.assert_allclose(exact, jnp.sin(2 * x), rtol=1e-5)
    np.testing.assert_array_equal(rounded, exact.astype("bfloat16").astype("float32"))
    np.testing.assert_array_equal(gradient_in(x, jnp.bfloat16), x)
