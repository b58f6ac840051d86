"""Layer normalisation against its definition in float64."""

import jax
import jax.numpy as jnp
import numpy as np

from rad_jax.models.layer_norm import LayerNorm


def test_agrees_with_its_definition():
    """Also where the variance is as small as epsilon, and where the mean is large."""
    norm = LayerNorm(16)
    scale, bias = jax.random.normal(jax.random.key(0), (2, 16))
    norm.scale[...], norm.bias[...] = scale, bias
    z = jax.random.normal(jax.random.key(1), (2, 3, 16))
    for x in (z, 1e-5**0.5 * z, 100 + z):
        wide = np.asarray(x, np.float64)
        centred = wide - wide.mean(-1, keepdims=True)
        expected = centred / np.sqrt(centred.var(-1, keepdims=True) + 1e-5)
        expected = expected * np.asarray(scale) + np.asarray(bias)
        np.testing.assert_allclose(norm(x), expected, atol=2e-5)
    assert norm(z.astype(jnp.bfloat16)).dtype == jnp.float32
