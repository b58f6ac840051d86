"""Convolutions that do in few operations what is easily said in more."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.models.convolution import upsampled_conv
from tests.models.adm_files import relative_error
from tests.oracles import upsampled_then_convolved

pytestmark = pytest.mark.usefixtures("quickly")


def test_upsampled_convolutions(key):
    """Output and gradients are those of an upsampling and a convolution after it."""
    keys = jax.random.split(key, 3)
    x = jax.random.normal(keys[0], (2, 3, 5, 4))
    kernel = jax.random.normal(keys[1], (3, 3, 4, 6))
    expected, plain_gradients = jax.vjp(upsampled_then_convolved, x, kernel)
    output, gradients = jax.vjp(upsampled_conv, x, kernel)
    np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-5)
    direction = jax.random.normal(keys[2], output.shape)
    for ours, theirs in zip(
        gradients(direction), plain_gradients(direction), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_weights_are_summed_in_float32(key):
    """So that bfloat16 rounds them once: twice it would be 1.3 times the error."""
    x = jax.random.normal(key, (1, 8, 8, 32))
    kernel = jax.random.normal(jax.random.fold_in(key, 1), (3, 3, 32, 16))
    exact = upsampled_then_convolved(x, kernel)
    x = x.astype(jnp.bfloat16)
    output, rounded = (f(x, kernel) for f in (upsampled_conv, upsampled_then_convolved))
    assert output.dtype == jnp.bfloat16
    assert relative_error(output, exact) < 1.2 * relative_error(rounded, exact)
