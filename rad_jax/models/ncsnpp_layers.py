"""Blocks of the networks of score-based SDE (Song et al. 2021), NHWC.

What they have in common with ADM's is in `layers`; so is what is said there of types.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from rad_jax.models.architecture import Resampling
from rad_jax.models.attention import Attention
from rad_jax.models.convolution import Activation, Conv, Parts
from rad_jax.models.fir import (
    fir_downsample,
    fir_smooth,
    fir_upsample,
    fir_upsample_wide,
)
from rad_jax.models.group_norm import GroupNorm
from rad_jax.models.layers import (
    Linear,
    downsample,
    dropout,
    gradient_in,
    upsample,
)
from rad_jax.models.ncsnpp_config import NCSNppConfig, NCSNppStage
from rad_jax.models.noise_embedding import Conditioning, project
from rad_jax.typing import PRNGKey, PRNGKeys, Timesteps

EPSILON = 1e-6
"""Of every normalisation."""

RESAMPLE = {
    ("up", True): fir_upsample,
    ("up", False): upsample,
    ("down", True): fir_downsample,
    ("down", False): downsample,
}
"""By direction, and by whether there is a filter."""

Pyramid = Float[Array, "b _ _ _"]
"""Images, or features, of the resolution of the stage before."""


def sinusoid(timesteps: Timesteps, channels: int) -> Float[Array, "*shape c"]:
    """[sin(t f_i), cos(t f_i)], f_i = 10000^(-i / (channels/2 - 1)); channels even.

    Not ADM's (`noise_embedding.sinusoid`): neither the order nor the frequencies.
    """
    half = channels // 2
    # In float64 by NumPy, and rounded once.
    frequencies = np.exp(-np.log(10000.0) * np.arange(half) / (half - 1))
    angles = timesteps[..., None] * np.float32(frequencies).reshape(
        (1,) * timesteps.ndim + (half,)
    )
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


class NoiseEmbedding(nnx.Module):
    """Linear(SiLU(Linear(e(t)))) of what the network is told, of any shape.

    e is a sinusoid of timesteps, or [sin, cos](2 pi w log sigma) with frequencies w
    that are drawn once and never trained. In full float32 precision, as ADM's.
    """

    def __init__(self, config: NCSNppConfig, key: PRNGKey):
        """Builds the layers, and draws the frequencies if there are any."""
        self.channels = config.model_channels
        features, fourier = config.embedding_channels, config.embedding == "fourier"
        self.frequencies = (
            nnx.Param(config.fourier_scale * jax.random.normal(key, (self.channels,)))
            if fourier
            else None
        )
        inputs = 2 * self.channels if fourier else self.channels
        self.linear1 = Linear(inputs, features, precision="highest")
        self.linear2 = Linear(features, features, precision="highest")

    def __call__(self, told: Timesteps) -> Float[Array, "*shape d"]:
        """Embeds every number."""
        hidden = self.linear1(self._waves(told))
        return self.linear2(jax.nn.silu(hidden))

    def _waves(self, told: Timesteps) -> Float[Array, "*shape c"]:
        if self.frequencies is None:
            return sinusoid(told, self.channels)
        frequencies = jax.lax.stop_gradient(jnp.asarray(self.frequencies[...]))
        frequencies = frequencies.reshape((1,) * told.ndim + (-1,))
        # In the reference's order: the angles are hundreds, and rounded to float32.
        angles = told[..., None] * frequencies * 2 * np.pi
        return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def group_norm(channels: int, config: NCSNppConfig) -> GroupNorm:
    """The network's normalisation of so many channels."""
    return GroupNorm(channels, groups=config.num_groups(channels), epsilon=EPSILON)


def attention(channels: int, config: NCSNppConfig) -> Attention:
    """The network's attention, of one head."""
    return Attention(
        channels,
        1,
        new_order=True,
        dtype=jnp.dtype(config.dtype),
        norm=group_norm(channels, config),
        scale=branch_scale(config),
    )


def branch_scale(config: NCSNppConfig) -> float:
    """What sums of two branches are multiplied by."""
    return 0.5**0.5 if config.skip_rescale else 1.0


class NCSNppBlock(nnx.Module):
    """Residual block, to which the projected embedding is added between convolutions.

    norm, SiLU, (resampling), conv, embedding, norm, SiLU, dropout, conv; the shortcut
    is resampled and, where the width or the resolution changes, projected. The layers
    are named as those of `layers.ResBlock`.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        config: NCSNppConfig,
        resampling: Resampling | None = None,
    ):
        """Builds the layers."""
        self.resampling = resampling
        self.fir = config.fir
        self.scale = branch_scale(config)
        self.dropout_rate = config.dropout
        self.dtype = jnp.dtype(config.dtype)
        self.norm1 = group_norm(inputs, config)
        nearest = resampling == "up" and not config.fir
        self.conv1 = Conv(inputs, outputs, dtype=self.dtype, upsampled=nearest)
        features = config.embedding_channels
        self.time_embed = Linear(features, outputs, precision="highest")
        self.norm2 = group_norm(outputs, config)
        self.conv2 = Conv(outputs, outputs, dtype=self.dtype, zero=True)
        self.shortcut = (
            Linear(inputs, outputs, dtype=self.dtype)
            if inputs != outputs or resampling
            else None
        )

    def __call__(
        self, parts: Parts, conditioning: Conditioning, keys: PRNGKeys | None
    ) -> Float[Array, "b _ _ _"]:
        """Applies the block.

        Args:
          parts: maps that together have the channels of the input.
          conditioning: that of the output's resolution.
          keys: for dropout.
        """
        # Cast before resampling, which then moves less; the convolution casts anyway.
        h = jax.nn.silu(gradient_in(self.norm1(*parts), self.dtype)).astype(self.dtype)
        # A convolution of the image by nearest neighbour upsamples by itself.
        h = self.conv1(h if self.conv1.upsampled else self._resample(h))
        (added,) = project(self.time_embed, conditioning, 1)
        h = jax.nn.silu(gradient_in(self.norm2(h + added), self.dtype))
        h = self.conv2(dropout(h, self.dropout_rate, keys))
        if self.shortcut is None:
            h = h + jnp.concatenate(parts, axis=-1)
        else:
            h = h + self.shortcut(*map(self._resample, parts))
        return h if self.scale == 1 else self.scale * h

    def _resample(self, x: Activation) -> Float[Array, "b _ _ c"]:
        if self.resampling is None:
            return x
        return RESAMPLE[self.resampling, self.fir](x)


class ConvResample(nnx.Module):
    """Changes the resolution by a convolution."""

    def __init__(self, channels: int, resampling: Resampling, config: NCSNppConfig):
        """Builds the layers."""
        self.resampling: Resampling = resampling
        self.fir = config.fir
        self.conv = resampling_conv(channels, channels, resampling, config)

    def __call__(self, x: Activation) -> Float[Array, "b _ _ c"]:
        """Applies the convolution."""
        return resampled(self.conv, x, self.resampling, fir=self.fir)


def resampling_conv(
    inputs: int, outputs: int, resampling: Resampling, config: NCSNppConfig
) -> Conv:
    """The convolution that `resampled` applies."""
    up = resampling == "up"
    before = 1 if up and not config.fir else 0
    after = 0 if config.fir else 1
    return Conv(
        inputs,
        outputs,
        dtype=jnp.dtype(config.dtype),
        stride=1 if up else 2,
        upsampled=up and not config.fir,
        around=((before, after), (before, after)),
    )


def resampled(
    conv: Conv, x: Activation, resampling: Resampling, *, fir: bool
) -> Float[Array, "b _ _ out"]:
    """Convolves to twice or half the size, with the filter if there is one."""
    if not fir:
        return conv(x)
    return conv(fir_upsample_wide(x) if resampling == "up" else fir_smooth(x))


class InputPyramid(nnx.Module):
    """Brings the smaller input image, or features of it, to a stage's output."""

    def __init__(self, spec: NCSNppStage, config: NCSNppConfig):
        """Builds the layers."""
        self.fir, self.concatenated = config.fir, config.progressive_combine == "cat"
        self.scale = branch_scale(config)
        self.residual = config.progressive_input == "residual"
        dtype = jnp.dtype(config.dtype)
        # Not named `conv`: adapters are for the layers of the network proper.
        self.layer = (
            resampling_conv(spec.pyramid, spec.inputs, "down", config)
            if self.residual
            else Linear(spec.pyramid, spec.inputs, dtype=dtype)
        )

    def __call__(self, h: Activation, pyramid: Pyramid) -> tuple[Pyramid, Pyramid]:
        """The output with the pyramid, and the pyramid of its resolution."""
        if isinstance(self.layer, Conv):
            h = self.scale * (resampled(self.layer, pyramid, "down", fir=self.fir) + h)
            return h, h
        pyramid = RESAMPLE["down", self.fir](pyramid)
        image = self.layer(pyramid)
        if self.concatenated:
            return jnp.concatenate([image, h], axis=-1), pyramid
        return image + h, pyramid


class OutputPyramid(nnx.Module):
    """Adds what a resolution says of the output, or its features, to those below it."""

    def __init__(self, spec: NCSNppStage, config: NCSNppConfig):
        """Builds the layers."""
        width = spec.outputs
        self.fir = config.fir
        self.scale = branch_scale(config)
        self.residual = config.progressive == "residual"
        self.first = spec.level == config.num_resolutions - 1
        self.norm = (
            group_norm(width, config) if self.first or not self.residual else None
        )
        if not self.residual:
            # float32, as the network's last: no layer evens out its rounding.
            self.layer = Conv(
                width,
                spec.pyramid,
                dtype=jnp.float32,
                zero=True,
                precision="highest",
            )
        elif self.first:
            self.layer = Conv(width, width, dtype=jnp.dtype(config.dtype))
        else:
            self.layer = resampling_conv(spec.pyramid, width, "up", config)

    def __call__(
        self, h: Activation, pyramid: Pyramid | None
    ) -> tuple[Activation, Pyramid]:
        """The stage's output, and the pyramid with it."""
        if self.norm is not None:
            said = self.layer(jax.nn.silu(self.norm(h)))
            if pyramid is None:
                return h, said
            return h, RESAMPLE["up", self.fir](pyramid) + said
        assert pyramid is not None
        h = self.scale * (resampled(self.layer, pyramid, "up", fir=self.fir) + h)
        return h, h
