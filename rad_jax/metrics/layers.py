"""Layers of pretrained networks, NHWC, built with zeros: weights come from files.

In full float32 precision on accelerators too: features are compared with those that
other programs computed.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

Activation = Float[Array, "b _ _ _"]
Padding = Literal["SAME", "VALID"] | int


class Conv(nnx.Module):
    """A convolution, with a bias or without."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: tuple[int, int],
        *,
        stride: int = 1,
        padding: Padding,
        bias: bool = True,
    ):
        """Builds zeros; `padding` is in pixels on all sides, or as XLA names it."""
        self.stride = stride
        self.padding = (
            ((padding, padding),) * 2 if isinstance(padding, int) else padding
        )
        self.kernel = nnx.Param(jnp.zeros((*size, inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs)) if bias else None

    def __call__(self, x: Activation) -> Activation:
        """Applies the layer."""
        y = jax.lax.conv_general_dilated(
            x,
            self.kernel[...],
            window_strides=(self.stride, self.stride),
            padding=self.padding,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision="highest",
        )
        return y if self.bias is None else y + self.bias[...].reshape(1, 1, 1, -1)


class FrozenBatchNorm(nnx.Module):
    """Normalisation by the mean and variance of a training long ago."""

    def __init__(self, channels: int):
        """Builds zeros."""
        self.scale = nnx.Param(jnp.zeros(channels))
        self.bias = nnx.Param(jnp.zeros(channels))
        self.mean = nnx.Param(jnp.zeros(channels))
        self.variance = nnx.Param(jnp.zeros(channels))

    def __call__(self, x: Activation) -> Activation:
        """Applies the layer, with TensorFlow's epsilon of Inception."""
        scale = self.scale[...] * jax.lax.rsqrt(self.variance[...] + 1e-3)
        shift = self.bias[...] - self.mean[...] * scale
        return x * scale.reshape(1, 1, 1, -1) + shift.reshape(1, 1, 1, -1)
