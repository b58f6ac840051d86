"""The resampling filter against its definition: zeros, a 4x4 kernel, every second."""

import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.models.fir import (
    fir_downsample,
    fir_smooth,
    fir_upsample,
    fir_upsample_wide,
)

pytestmark = pytest.mark.usefixtures("quickly")

KERNEL = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64
IMAGES = jnp.asarray(np.random.default_rng(0).standard_normal((2, 6, 8, 3)), "float32")


def filtered(x, kernel, before, after):
    """The correlation with a kernel for each channel, zeros around."""
    x = np.pad(x, ((0, 0), (before, after), (before, after), (0, 0)))
    h, w = x.shape[1] - 3, x.shape[2] - 3
    y = np.zeros((x.shape[0], h, w, x.shape[3]))
    for i, j in np.ndindex(4, 4):
        y += kernel[i, j] * x[:, i : i + h, j : j + w]
    return y


def zeros_between(x):
    b, h, w, c = x.shape
    y = np.zeros((b, 2 * h, 2 * w, c))
    y[:, ::2, ::2] = x
    return y


def test_up():
    expected = filtered(zeros_between(IMAGES), 4 * KERNEL, 2, 1)
    np.testing.assert_allclose(fir_upsample(IMAGES), expected, atol=1e-6)


def test_down():
    expected = filtered(IMAGES, KERNEL, 1, 1)[:, ::2, ::2]
    np.testing.assert_allclose(fir_downsample(IMAGES), expected, atol=1e-6)


def test_what_a_convolution_down_convolves():
    expected = filtered(IMAGES, KERNEL, 2, 2)
    np.testing.assert_allclose(fir_smooth(IMAGES), expected, atol=1e-6)


def test_what_a_convolution_up_convolves():
    """The transposed convolution before the filter is one after it."""
    kernel = np.random.default_rng(1).standard_normal((3, 3))
    weights = np.zeros((4, 4))
    weights[:3, :3] = kernel
    between = zeros_between(IMAGES)[:, :-1, :-1]
    # Each output of a transposed convolution sees the kernel from its far end.
    convolved = filtered(between, weights, 2, 3)
    expected = filtered(convolved, 4 * KERNEL, 1, 1)
    wide = np.asarray(fir_upsample_wide(IMAGES))
    found = filtered(wide, weights, 0, 1)
    assert found.shape == expected.shape == (2, 12, 16, 3)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_sums_are_float32():
    """Of images in bfloat16, whose products are rounded once."""
    half = IMAGES.astype(jnp.bfloat16)
    for resample in (fir_upsample, fir_downsample):
        found, exact = resample(half), resample(half.astype(jnp.float32))
        assert found.dtype == jnp.bfloat16
        np.testing.assert_array_equal(found, exact.astype(jnp.bfloat16))
