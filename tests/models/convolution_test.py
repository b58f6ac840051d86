"""Convolutions that do in few operations what is easily said in more."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.models.convolution import (
    _four_convs,
    _transposed_conv,
    conv,
    upsampled_conv,
)
from tests.models.adm_files import relative_error
from tests.oracles import upsampled_then_convolved

pytestmark = pytest.mark.usefixtures("quickly")


@pytest.mark.parametrize(
    "way",
    [
        upsampled_conv,
        functools.partial(_four_convs, precision=None),  # on a CPU
        functools.partial(_transposed_conv, precision=None),  # elsewhere
    ],
    ids=["here", "four", "transposed"],
)
def test_upsampled_convolutions(key, way):
    """Output and gradients are those of an upsampling and a convolution after it."""
    keys = jax.random.split(key, 3)
    x = jax.random.normal(keys[0], (2, 3, 5, 4))
    kernel = jax.random.normal(keys[1], (3, 3, 4, 6))
    expected, plain_gradients = jax.vjp(upsampled_then_convolved, x, kernel)
    output, gradients = jax.vjp(way, x, kernel)
    np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-5)
    direction = jax.random.normal(keys[2], output.shape)
    for ours, theirs in zip(
        gradients(direction), plain_gradients(direction), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "around", "stride"),
    [
        (3, ((1, 1), (1, 1)), 1),
        (2, ((1, 0), (0, 1)), 1),
        (3, ((1, 1), (1, 1)), 2),
        (3, ((0, 1), (2, 0)), 1),
    ],
)
def test_gradients_are_those_of_jax(key, size, around, stride):
    """Written out for the CPU's loops; of the same numbers."""
    keys = jax.random.split(key, 3)
    x = jax.random.normal(keys[0], (2, 6, 8, 3))
    kernel = jax.random.normal(keys[1], (size, size, 3, 5))

    def plain(x, kernel):
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            around,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    expected, jax_gradients = jax.vjp(plain, x, kernel)
    output, gradients = jax.vjp(lambda x, k: conv(x, k, around, stride), x, kernel)
    np.testing.assert_array_equal(output, expected)
    direction = jax.random.normal(keys[2], output.shape)
    for ours, theirs in zip(
        gradients(direction), jax_gradients(direction), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_loops_convolve_in_the_order_that_the_cpu_is_fast_at(key):
    """Any other order of axes is left to a loop that is up to 40 times slower."""
    x = jax.random.normal(key, (2, 6, 8, 3))
    kernel = jax.random.normal(key, (3, 3, 3, 3))

    def loss(x, kernel):
        return jnp.square(conv(x, kernel, ((1, 1), (1, 1)))).sum()

    def step(carry, _):
        return jax.tree.map(jnp.subtract, carry, jax.grad(loss, (0, 1))(*carry)), None

    loop = jax.jit(lambda x, k: jax.lax.scan(step, (x, k), None, length=3)[0])
    text = loop.lower(x, kernel).compile().as_text() or ""
    orders = re.findall(r"dim_labels=([^,\s]+)", text)
    assert len(orders) == 3 and set(orders) == {"b01f_01io->b01f"}


def test_weights_are_summed_in_float32(key):
    """So that bfloat16 rounds them once: twice it would be 1.3 times the error."""
    x = jax.random.normal(key, (1, 8, 8, 32))
    kernel = jax.random.normal(jax.random.fold_in(key, 1), (3, 3, 32, 16))
    exact = upsampled_then_convolved(x, kernel)
    x = x.astype(jnp.bfloat16)
    output, rounded = (f(x, kernel) for f in (upsampled_conv, upsampled_then_convolved))
    assert output.dtype == jnp.bfloat16
    assert relative_error(output, exact) < 1.2 * relative_error(rounded, exact)
