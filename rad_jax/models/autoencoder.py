"""The autoencoder of latent diffusion (Rombach et al., CVPR 2022), NHWC.

Images become latents of a fraction of their size, in which a network diffuses, and
latents become images again. Parameters are float32; `AutoencoderConfig.dtype` is what
most layers compute in. Pure functions of the parameters: `make_encode`, `make_decode`.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import Dtype
from jaxtyping import Array, Float, Int

from rad_jax.errors import UserError
from rad_jax.models.architecture import StageSpec
from rad_jax.models.attention import Attention
from rad_jax.models.autoencoder_config import (
    AutoencoderConfig,
    decoder_stages,
    encoder_stages,
)
from rad_jax.models.convolution import Activation, Conv
from rad_jax.models.group_norm import GroupNorm
from rad_jax.models.layers import Linear, Upsample
from rad_jax.typing import Images, PRNGKey

EPSILON = 1e-6
"""Of every normalisation."""

LOG_VARIANCES = (-30.0, 20.0)
"""Least and largest that an encoder may say."""

Latents = Float[Array, "b y x z"]
"""A batch of latents."""

Params = Any
"""Nested dictionaries of float32 arrays."""


class Moments(NamedTuple):
    """What an encoder says of an image's latents, before any scaling.

    Attributes:
      mean: of a Gaussian for each number of the latents; of kind "vq" the latents
        themselves, not replaced by codes.
      log_variance: its log-variance, within `LOG_VARIANCES`; None of kind "vq".
    """

    mean: Latents
    log_variance: Latents | None


class Block(nnx.Module):
    """norm, SiLU, conv, norm, SiLU, conv, and the input on top; no time is told."""

    def __init__(self, inputs: int, outputs: int, *, dtype: Dtype):
        """Builds the layers, with weights of zero."""
        self.norm1 = GroupNorm(inputs, epsilon=EPSILON)
        self.conv1 = Conv(inputs, outputs, dtype=dtype)
        self.norm2 = GroupNorm(outputs, epsilon=EPSILON)
        self.conv2 = Conv(outputs, outputs, dtype=dtype)
        self.shortcut = (
            None if inputs == outputs else Linear(inputs, outputs, dtype=dtype)
        )

    def __call__(self, x: Activation) -> Float[Array, "b h w out"]:
        """Applies the block."""
        h = self.conv1(jax.nn.silu(self.norm1(x)))
        h = self.conv2(jax.nn.silu(self.norm2(h)))
        return h + (x if self.shortcut is None else self.shortcut(x))


class Stage(nnx.Module):
    """A residual block, and what changes the resolution after it."""

    def __init__(self, spec: StageSpec, *, dtype: Dtype):
        """Builds the layers."""
        width = spec.outputs
        self.res = Block(spec.inputs, width, dtype=dtype)
        # Halved with zeros below and to the right alone.
        below = ((0, 1), (0, 1))
        self.resample = {
            None: lambda: None,
            "down": lambda: Conv(width, width, stride=2, around=below, dtype=dtype),
            "up": lambda: Upsample(width, dtype=dtype),
        }[spec.resampling]()

    def __call__(self, x: Activation) -> Float[Array, "b _ _ out"]:
        """Applies the stage."""
        x = self.res(x)
        return x if self.resample is None else self.resample(x)


class Middle(nnx.Module):
    """Block, attention of one head over all cells, block."""

    def __init__(self, width: int, *, dtype: Dtype):
        """Builds the layers."""
        self.res1 = Block(width, width, dtype=dtype)
        norm = GroupNorm(width, epsilon=EPSILON)
        self.attn = Attention(width, 1, new_order=True, dtype=dtype, norm=norm)
        self.res2 = Block(width, width, dtype=dtype)

    def __call__(self, x: Activation) -> Activation:
        """Applies all three."""
        return self.res2(self.attn(self.res1(x)))


class Half(nnx.Module):
    """The encoder, or the decoder: what both have, each in its order."""

    def __init__(self, config: AutoencoderConfig, *, encodes: bool):
        """Builds the layers."""
        self.encodes = encodes
        dtype, widths = jnp.dtype(config.dtype), config.widths
        first, last = (widths[0], widths[-1]) if encodes else (widths[-1], widths[0])
        inputs, outputs = (
            (config.image_channels, config.encoded_channels)
            if encodes
            else (config.latent_channels, config.image_channels)
        )
        self.conv_in = Conv(inputs, first, dtype=dtype)
        specs = encoder_stages(config) if encodes else decoder_stages(config)
        self.stages = nnx.List([Stage(spec, dtype=dtype) for spec in specs])
        self.middle = Middle(widths[-1], dtype=dtype)
        self.norm_out = GroupNorm(last, epsilon=EPSILON)
        # float32: no later layer evens out the rounding of latents or pixels.
        self.conv_out = Conv(last, outputs, dtype=jnp.float32, precision="highest")

    def __call__(self, x: Activation) -> Float[Array, "b _ _ out"]:
        """Applies the layers; the middle is where the image is smallest."""
        x = self.conv_in(x)
        if not self.encodes:
            x = self.middle(x)
        for stage in self.stages:
            x = stage(x)
        if self.encodes:
            x = self.middle(x)
        return self.conv_out(jax.nn.silu(self.norm_out(x)))


class Autoencoder(nnx.Module):
    """Encoder and decoder, each with a layer towards the latents."""

    def __init__(self, config: AutoencoderConfig):
        """Builds the layers, with weights of zero."""
        self.config = config
        latents, encoded = config.latent_channels, config.encoded_channels
        self.encoder = Half(config, encodes=True)
        self.quant_conv = Linear(encoded, encoded, precision="highest")
        self.post_quant_conv = Linear(latents, latents, precision="highest")
        self.decoder = Half(config, encodes=False)
        self.codebook = (
            nnx.Param(jnp.zeros((config.num_codes, latents)))
            if config.kind == "vq"
            else None
        )

    def encode(self, images: Images) -> Moments:
        """What it says of the latents of images.

        Args:
          images: (b, h, w, c) in [-1, 1]; the stride divides h and w.

        Raises:
          UserError: the stride does not divide the size.
        """
        _, h, w, _ = images.shape
        stride = self.config.stride
        if h % stride or w % stride:
            raise UserError(
                f"the autoencoder needs a height and width divisible by its stride "
                f"{stride}, not {h} x {w}; pad the image"
            )
        encoded = self.quant_conv(self.encoder(images))
        if self.codebook is not None:
            return Moments(encoded, None)
        mean, log_variance = jnp.split(encoded, 2, axis=-1)
        return Moments(mean, jnp.clip(log_variance, *LOG_VARIANCES))

    def decode(self, latents: Latents) -> Images:
        """The images of latents, about in [-1, 1], not clipped.

        Of kind "vq" latents are replaced by codes first.

        Args:
          latents: (b, y, x, z), not scaled.
        """
        if self.codebook is not None:
            codes = jnp.asarray(self.codebook[...])
            latents = codes[nearest_codes(codes, latents)]
        return self.decoder(self.post_quant_conv(latents))


def nearest_codes(codes: Float[Array, "n z"], latents: Latents) -> Int[Array, "b y x"]:
    """Number of the code that is nearest to each cell, the first of equal ones."""
    # |z - e|^2 without |z|^2, which all codes share.
    sizes = jnp.square(codes).sum(axis=1).reshape(1, 1, -1)

    def row(cells: Float[Array, "b x z"]) -> Int[Array, "b x"]:
        products = jnp.matmul(cells, codes.T, precision="highest")
        return jnp.argmin(sizes - 2 * products, axis=-1)

    # A row at a time: of all cells the distances to thousands of codes are gigabytes.
    return jnp.moveaxis(jax.lax.map(row, jnp.moveaxis(latents, 1, 0)), 0, 1)


def draw_latents(moments: Moments, key: PRNGKey) -> Latents:
    """Latents drawn from their Gaussian; the mean where there is none."""
    if moments.log_variance is None:
        return moments.mean
    noise = jax.random.normal(key, moments.mean.shape)
    return moments.mean + jnp.exp(moments.log_variance / 2) * noise


@functools.cache
def _graphdef(config: AutoencoderConfig) -> Any:
    graphdef, _ = nnx.split(nnx.eval_shape(lambda: Autoencoder(config)))
    return graphdef


@functools.cache
def make_encode(config: AutoencoderConfig) -> Callable[[Params, Images], Moments]:
    """``encode(params, images)``: `Autoencoder.encode` as a pure function."""

    def encode(params: Params, images: Images) -> Moments:
        return nnx.merge(_graphdef(config), params, copy=True).encode(images)

    return encode


@functools.cache
def make_decode(config: AutoencoderConfig) -> Callable[[Params, Latents], Images]:
    """``decode(params, latents)``: `Autoencoder.decode` as a pure function."""

    def decode(params: Params, latents: Latents) -> Images:
        return nnx.merge(_graphdef(config), params, copy=True).decode(latents)

    return decode


@functools.cache
def _abstract_params(config: AutoencoderConfig) -> dict[str, Any]:
    return jax.eval_shape(lambda: nnx.to_pure_dict(nnx.state(Autoencoder(config))))


def abstract_params(config: AutoencoderConfig) -> dict[str, Any]:
    """Shapes and dtypes of the parameters, a pure dict; no weight is made."""
    # A dictionary of the caller's own: what is kept must not change.
    return jax.tree.map(lambda leaf: leaf, _abstract_params(config))
