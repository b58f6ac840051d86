"""Blocks of the ADM U-Net (Dhariwal & Nichol 2021, Sec. 3 and App. A), NHWC.

Layers are built with weights of zero; `draw_weights` draws those of a whole network.
Parameters are float32. ``dtype`` is what convolutions and attention compute in; group
normalisation, the time embedding and its projections compute in float32 always.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.typing import Dtype
from jaxtyping import Array, Float

from rad_jax.models.architecture import Resampling
from rad_jax.models.convolution import Activation, Conv, Parts, conv
from rad_jax.models.group_norm import GroupNorm
from rad_jax.models.noise_embedding import Conditioning, project, sinusoid
from rad_jax.typing import PRNGKey, PRNGKeys, Timesteps


class Linear(nnx.Module):
    """A dense layer over the last axis; a 1x1 convolution is one too."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        dtype: Dtype = jnp.float32,
        bias: bool = True,
        zero: bool = False,
        precision: str | None = None,
    ):
        """Builds zero weights; they stay zero with `zero`, see `draw_weights`."""
        self.dtype, self.zero, self.precision = dtype, zero, precision
        self.kernel = nnx.Param(jnp.zeros((inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs)) if bias else None

    def __call__(
        self, x: Float[Array, "*shape _"], *more: Float[Array, "*shape _"]
    ) -> Float[Array, "*shape out"]:
        """Applies the layer to x, or to maps that together have the channels of x."""
        y = self.product(self.weights(), x, *more)
        if self.bias is None:
            return y
        # Rounded here alone: the optimiser and the average need float32 parameters.
        bias = self.bias[...].astype(self.dtype)
        return y + bias.reshape((1,) * (y.ndim - 1) + (-1,))

    def weights(self) -> Float[Array, "inputs out"]:
        """The kernel that it applies."""
        return jnp.asarray(self.kernel[...])  # it may be NumPy's

    def product(
        self,
        kernel: Float[Array, "inputs out"],
        x: Float[Array, "*shape _"],
        *more: Float[Array, "*shape _"],
    ) -> Float[Array, "*shape out"]:
        """What it does with its kernel, with this one."""
        kernel = kernel.astype(self.dtype)
        parts = [part.astype(self.dtype) for part in (x, *more)]
        if not more:
            return jnp.matmul(parts[0], kernel, precision=self.precision)
        ends = np.cumsum([part.shape[-1] for part in parts])[:-1]
        # As convolutions: cuDNN adds what has been added up while it convolves.
        return functools.reduce(
            jnp.add,
            (
                conv(part, rows[None, None], ((0, 0), (0, 0)), precision=self.precision)
                for part, rows in zip(parts, jnp.split(kernel, ends), strict=True)
            ),
        )


def draw_weights(model: nnx.Module, key: PRNGKey) -> None:
    """Draws the weights and biases of all `Linear` and `Conv` layers that are not zero.

    They are uniform within 1 / sqrt(fan_in), PyTorch's default, with which ADM was
    trained. All numbers come from one draw: to compile a draw for every array takes
    most of a minute for a network of any size.
    """
    # Layers of zeros, as in ADM: every residual branch begins as the identity.
    layers = [
        layer
        for _, layer in nnx.iter_modules(model)
        if isinstance(layer, (Linear, Conv)) and not layer.zero
    ]
    params, bounds = [], []
    for layer in layers:
        own = [p for p in (layer.kernel, layer.bias) if p is not None]
        params += own
        bounds += len(own) * [math.prod(layer.kernel.shape[:-1]) ** -0.5]
    ends = np.cumsum([p.size for p in params])

    @jax.jit
    def draw(key):
        numbers = jax.random.uniform(key, (int(ends[-1]),), minval=-1, maxval=1)
        parts = jnp.split(numbers, ends[:-1])
        return [
            bound * part.reshape(p.shape)
            for part, p, bound in zip(parts, params, bounds, strict=True)
        ]

    for param, value in zip(params, draw(key), strict=True):
        param[...] = value


def upsample(x: Activation) -> Float[Array, "b 2*h 2*w c"]:
    """Nearest neighbour, twice the size."""
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


def downsample(x: Activation) -> Float[Array, "b h//2 w//2 c"]:
    """Mean of 2 x 2 pixels, half the size; summed in float32."""
    window = (1, 2, 2, 1)
    # No axis of two pixels, which a TPU would pad to a whole tile.
    sums = jax.lax.reduce_window(
        x.astype(jnp.float32), 0.0, jax.lax.add, window, window, "VALID"
    )
    return (sums / 4).astype(x.dtype)


_RESAMPLE = {None: lambda x: x, "up": upsample, "down": downsample}


def dropout(x: Activation, rate: float, keys: PRNGKeys | None) -> Activation:
    """Zeroes a share of x and scales the rest up; the identity without keys.

    One key for each image, so that it does not matter which device has which.
    """
    if keys is None or rate == 0:
        return x
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, x.shape[1:]))(keys)
    return jnp.where(keep, x / (1 - rate), 0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def gradient_in(x: Activation, dtype: Dtype) -> Activation:
    """The identity, whose gradient is rounded to a type and kept in memory as such."""
    return x


def _gradient_forward(x, dtype):
    return x, None


def _gradient_backward(dtype, _, cotangent):
    # XLA takes a number that is rounded and widened again for the number itself.
    rounded = jax.lax.optimization_barrier(cotangent.astype(dtype))
    return (rounded.astype(cotangent.dtype),)


gradient_in.defvjp(_gradient_forward, _gradient_backward)


class TimeEmbedding(nnx.Module):
    """Linear(SiLU(Linear(sinusoid(t)))) of timesteps of any shape.

    In full float32 precision on accelerators too: it is small, and a rounded embedding
    would be felt everywhere.
    """

    def __init__(self, channels: int, features: int):
        """Builds the layers."""
        self.channels = channels
        self.linear1 = Linear(channels, features, precision="highest")
        self.linear2 = Linear(features, features, precision="highest")

    def __call__(self, timesteps: Timesteps) -> Float[Array, "*shape d"]:
        """Embeds every timestep."""
        hidden = self.linear1(sinusoid(timesteps, self.channels))
        return self.linear2(jax.nn.silu(hidden))


class ResBlock(nnx.Module):
    """Residual block, conditioned on the noise level by scale and shift or by addition.

    norm, SiLU, (resampling), conv, norm, scale and shift, SiLU, dropout, conv; the
    shortcut is resampled and, where the width changes, projected. Its own projection of
    the embedding bears the name of the network's `time_embed`, so that one filter finds
    all time-embedding layers.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        features: int,
        scale_shift: bool,
        resampling: Resampling | None = None,
        dropout_rate: float,
        dtype: Dtype,
    ):
        """Builds the layers."""
        self.scale_shift = scale_shift
        self.resampling = resampling
        self.dropout_rate = dropout_rate
        self.dtype = dtype
        self.norm1 = GroupNorm(inputs)
        self.conv1 = Conv(inputs, outputs, dtype=dtype, upsampled=resampling == "up")
        self.time_embed = Linear(
            features, 2 * outputs if scale_shift else outputs, precision="highest"
        )
        self.norm2 = GroupNorm(outputs)
        # Zero, as in ADM: a new block begins as its shortcut.
        self.conv2 = Conv(outputs, outputs, dtype=dtype, zero=True)
        self.shortcut = (
            None if inputs == outputs else Linear(inputs, outputs, dtype=dtype)
        )

    def __call__(
        self,
        parts: Parts,
        conditioning: Conditioning,
        keys: PRNGKeys | None,
    ) -> Float[Array, "b _ _ _"]:
        """Applies the block.

        Args:
          parts: maps that together have the channels of the input: a decoder's block
            takes what comes from below and a skip connection.
          conditioning: that of the output's resolution.
          keys: for dropout.
        """
        # Cast before resampling, which then moves less; the convolution casts anyway.
        h = jax.nn.silu(gradient_in(self.norm1(*parts), self.dtype)).astype(self.dtype)
        h = self.conv1(downsample(h) if self.resampling == "down" else h)
        # The norms and the projection are float32; the next convolution casts.
        if self.scale_shift:
            scale, shift = project(self.time_embed, conditioning, 2)
            h = self.norm2(h) * (1 + scale) + shift
        else:
            (added,) = project(self.time_embed, conditioning, 1)
            h = self.norm2(h + added)
        h = jax.nn.silu(gradient_in(h, self.dtype))
        h = self.conv2(dropout(h, self.dropout_rate, keys))
        if self.shortcut is not None:
            return h + self.shortcut(*parts)
        return h + _RESAMPLE[self.resampling](jnp.concatenate(parts, axis=-1))


class Downsample(nnx.Module):
    """Strided 3x3 convolution to half the size."""

    def __init__(self, channels: int, *, dtype: Dtype):
        """Builds the layers."""
        self.conv = Conv(channels, channels, stride=2, dtype=dtype)

    def __call__(self, x: Activation) -> Float[Array, "b h//2 w//2 c"]:
        """Applies the convolution."""
        return self.conv(x)


class Upsample(nnx.Module):
    """Nearest neighbour to twice the size, then a 3x3 convolution."""

    def __init__(self, channels: int, *, dtype: Dtype):
        """Builds the layers."""
        self.conv = Conv(channels, channels, dtype=dtype, upsampled=True)

    def __call__(self, x: Activation) -> Float[Array, "b 2*h 2*w c"]:
        """Applies both at once."""
        return self.conv(x)
