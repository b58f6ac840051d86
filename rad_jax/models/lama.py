"""LaMa's generator, which fills holes in one pass (Suvorov et al., WACV 2022).

"Resolution-robust Large Mask Inpainting with Fourier Convolutions". Its residual blocks
are fast Fourier convolutions (FFC; Chi, Jiang and Mu, NeurIPS 2020): some channels see
their neighbours, the others, by way of a Fourier transform, the whole image.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from rad_jax.models.convolution import Activation, conv
from rad_jax.models.lama_config import LamaConfig
from rad_jax.typing import Images, Masks

EPSILON = 1e-5
SMALLEST_SIDE = 16
"""Of an image: an eighth of it must have a row beside the edge to reflect."""

Params = Any
"""Nested dictionaries of arrays: the weights, and the means and variances that batch
normalisation has kept."""

NOWHERE = ((0, 0), (0, 0))


class BatchNorm(nnx.Module):
    """Batch normalisation by the mean and variance that training has kept."""

    def __init__(self, channels: int):
        """Builds the identity, but for epsilon."""
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))
        self.mean = nnx.BatchStat(jnp.zeros(channels))
        self.var = nnx.BatchStat(jnp.ones(channels))

    def __call__(self, x: Activation) -> Float[Array, "b h w c"]:
        """Normalises, and drops what is negative (ReLU), as LaMa does each time."""
        scale = self.scale[...] * jax.lax.rsqrt(self.var[...] + EPSILON)
        shift = self.bias[...] - self.mean[...] * scale
        y = x * scale.reshape(1, 1, 1, -1) + shift.reshape(1, 1, 1, -1)
        return jax.nn.relu(y).astype(x.dtype)


class Conv(nnx.Module):
    """A convolution without bias, of an image that is reflected at its edges."""

    def __init__(self, inputs: int, outputs: int, *, side: int = 3, stride: int = 1):
        """Builds weights of zero."""
        self.around, self.stride = side // 2, stride
        self.kernel = nnx.Param(jnp.zeros((side, side, inputs, outputs)))

    def __call__(self, x: Activation) -> Float[Array, "b _ _ out"]:
        """Applies the layer."""
        x = reflected(x, self.around)
        return conv(x, self.kernel[...], NOWHERE, self.stride)


class ConvNorm(nnx.Module):
    """A convolution and its normalisation: an FFC with local channels only."""

    def __init__(self, inputs: int, outputs: int, *, side: int = 3, stride: int = 1):
        """Builds the layers."""
        self.conv = Conv(inputs, outputs, side=side, stride=stride)
        self.norm = BatchNorm(outputs)

    def __call__(self, x: Activation) -> Float[Array, "b _ _ out"]:
        """Applies both."""
        return self.norm(self.conv(x))


class Upsample(nnx.Module):
    """A transposed 3x3 convolution that doubles the size, and its normalisation."""

    def __init__(self, inputs: int, outputs: int):
        """Builds the layers."""
        self.kernel = nnx.Param(jnp.zeros((3, 3, inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs))
        self.norm = BatchNorm(outputs)

    def __call__(self, x: Activation) -> Float[Array, "b 2*h 2*w out"]:
        """Applies both."""
        # PyTorch's stride 2, padding 1, output_padding 1; the kernel is turned round.
        y = jax.lax.conv_general_dilated(
            x,
            self.kernel[...].astype(x.dtype),
            window_strides=(1, 1),
            padding=((1, 2), (1, 2)),
            lhs_dilation=(2, 2),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return self.norm(y + self.bias[...].astype(x.dtype).reshape(1, 1, 1, -1))


class FourierUnit(nnx.Module):
    """A 1x1 convolution of the spectrum (FFC): every pixel sees every other."""

    def __init__(self, channels: int):
        """Builds the layers; a channel of the spectrum has two numbers."""
        self.conv = Conv(2 * channels, 2 * channels, side=1)
        self.norm = BatchNorm(2 * channels)

    def __call__(self, x: Activation) -> Float[Array, "b h w c"]:
        """Applies the unit; the transforms are float32."""
        _, h, w, c = x.shape
        spectrum = jnp.fft.rfft2(x.astype(jnp.float32), axes=(1, 2), norm="ortho")
        # Real and imaginary part of a channel stand beside each other.
        parts = jnp.stack([spectrum.real, spectrum.imag], axis=-1)
        parts = parts.reshape(*spectrum.shape[:3], 2 * c).astype(x.dtype)
        parts = self.norm(self.conv(parts)).astype(jnp.float32)
        real, imaginary = jnp.moveaxis(parts.reshape(*spectrum.shape, 2), -1, 0)
        spectrum = jax.lax.complex(real, imaginary)
        # An odd width has as many columns of a spectrum as the even one below.
        y = jnp.fft.irfft2(spectrum, s=(h, w), axes=(1, 2), norm="ortho")
        return y.astype(x.dtype)


class SpectralTransform(nnx.Module):
    """What leads from global channels to global channels (FFC)."""

    def __init__(self, channels: int):
        """Builds the layers; half of the channels are transformed."""
        half = channels // 2
        self.reduce = Conv(channels, half, side=1)
        self.norm = BatchNorm(half)
        self.fourier = FourierUnit(half)
        self.expand = Conv(half, channels, side=1)

    def __call__(self, x: Activation) -> Float[Array, "b h w c"]:
        """Applies the layers."""
        x = self.norm(self.reduce(x))
        return self.expand(x + self.fourier(x))


class FFC(nnx.Module):
    """A fast Fourier convolution and its normalisations (LaMa, Sec. 2.1)."""

    def __init__(self, config: LamaConfig):
        """Builds the layers."""
        near, far = config.local_channels, config.global_channels
        self.local_to_local = Conv(near, near)
        self.local_to_global = Conv(near, far)
        self.global_to_local = Conv(far, near)
        self.global_to_global = SpectralTransform(far)
        self.local_norm = BatchNorm(near)
        self.global_norm = BatchNorm(far)

    def __call__(
        self, near: Activation, far: Float[Array, "b h w g"]
    ) -> tuple[Float[Array, "b h w c"], Float[Array, "b h w g"]]:
        """Of local and global channels, both."""
        local = self.local_to_local(near) + self.global_to_local(far)
        across = self.local_to_global(near) + self.global_to_global(far)
        return self.local_norm(local), self.global_norm(across)


class Block(nnx.Module):
    """Two fast Fourier convolutions, and what came in on top."""

    def __init__(self, config: LamaConfig):
        """Builds the layers."""
        self.conv1 = FFC(config)
        self.conv2 = FFC(config)

    def __call__(
        self, near: Activation, far: Float[Array, "b h w g"]
    ) -> tuple[Float[Array, "b h w c"], Float[Array, "b h w g"]]:
        """Of local and global channels, both; what is added has been through ReLU."""
        local, across = self.conv2(*self.conv1(near, far))
        return near + local, far + across


class Lama(nnx.Module):
    """The generator: three times half the size, the blocks, and up again."""

    def __init__(self, config: LamaConfig):
        """Builds the layers, with weights of zero."""
        self.config = config
        widths = config.widths
        pairs = list(itertools.pairwise(widths))
        self.conv_in = ConvNorm(4, widths[0], side=7)
        self.down = nnx.List([ConvNorm(a, b, stride=2) for a, b in pairs[:-1]])
        self.to_local = ConvNorm(widths[-2], config.local_channels, stride=2)
        self.to_global = ConvNorm(widths[-2], config.global_channels, stride=2)
        self.blocks = nnx.List([Block(config) for _ in range(config.num_blocks)])
        self.up = nnx.List([Upsample(b, a) for a, b in reversed(pairs)])
        self.conv_out = Conv(widths[0], config.out_channels, side=7)
        self.bias_out = nnx.Param(jnp.zeros(config.out_channels))

    def __call__(self, images: Images, masks: Masks) -> Float[Array, "b h w 3"]:
        """Fills holes.

        Args:
          images: (b, h, w, 3) in [0, 1]; sides are multiples of the stride and at least
            `SMALLEST_SIDE`. What is in the hole is not used.
          masks: 1 in the hole, 0 where the image is known, nothing between.

        Returns:
          (b, h, w, 3) in [0, 1], also where the image is known.
        """
        hole = masks[..., None]
        # Chosen, not multiplied: the hole may hold numbers that are not finite.
        x = jnp.concatenate([jnp.where(hole > 0, 0, images), hole], axis=-1)
        x = self.conv_in(x.astype(jnp.dtype(self.config.dtype)))
        for layer in self.down:
            x = layer(x)
        near, far = self.to_local(x), self.to_global(x)
        for block in self.blocks:
            near, far = block(near, far)
        x = jnp.concatenate([near, far], axis=-1)
        for layer in self.up:
            x = layer(x)
        y = self.conv_out(x.astype(jnp.float32)) + self.bias_out[...].reshape(
            1, 1, 1, -1
        )
        return jax.nn.sigmoid(y)


def reflected(x: Activation, around: int) -> Float[Array, "b _ _ c"]:
    """The image with so many pixels around it, reflected at the middle of its edge."""
    pad = (around, around)
    return jnp.pad(x, ((0, 0), pad, pad, (0, 0)), mode="reflect")


@functools.cache
def make_apply(config: LamaConfig) -> Callable[..., Float[Array, "b h w 3"]]:
    """``apply(params, images, masks)``: `Lama.__call__` as a pure function."""
    graphdef, _ = nnx.split(nnx.eval_shape(lambda: Lama(config)))

    def apply(params: Params, images: Images, masks: Masks) -> Float[Array, "b h w 3"]:
        return nnx.merge(graphdef, params, copy=True)(images, masks)

    return apply


@functools.cache
def _abstract_params(config: LamaConfig) -> dict[str, Any]:
    return jax.eval_shape(lambda: nnx.to_pure_dict(nnx.state(Lama(config))))


def abstract_params(config: LamaConfig) -> dict[str, Any]:
    """Shapes and dtypes of the parameters, a pure dict; no weight is made."""
    # A dictionary of the caller's own: what is kept must not change.
    return jax.tree.map(lambda leaf: leaf, _abstract_params(config))
