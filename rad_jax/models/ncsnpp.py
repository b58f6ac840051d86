"""The networks of score-based SDE (Song et al. 2021), conditioned as RAD's.

NCSN++, DDPM++ and their DDPM are one U-Net with more or fewer parts.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from rad_jax.models.architecture import Resampling
from rad_jax.models.blocks import Conditionings, Middle, run_block, split_keys
from rad_jax.models.convolution import Activation, Conv, Parts
from rad_jax.models.layers import draw_weights
from rad_jax.models.ncsnpp_config import (
    NCSNppConfig,
    NCSNppStage,
    decoder_stages,
    encoder_stages,
)
from rad_jax.models.ncsnpp_layers import (
    ConvResample,
    InputPyramid,
    NCSNppBlock,
    NoiseEmbedding,
    OutputPyramid,
    Pyramid,
    attention,
    group_norm,
)
from rad_jax.models.noise_embedding import Conditioning, Noise, check_size, condition
from rad_jax.typing import Images, Labels, PRNGKeys


class NCSNpp(nnx.Module):
    """Encoder, middle and decoder over skip connections, with pyramids of images.

    Called as `UNet` is. Its images are in [-1, 1] before noise is added, whatever range
    the reference's data have, and its output is not divided by sigma.
    """

    def __init__(self, config: NCSNppConfig, *, rngs: nnx.Rngs):
        """Builds the layers and draws their weights."""
        self.config = config
        width = config.widths[0]
        self.time_embed = NoiseEmbedding(config, rngs.params())
        dtype = jnp.dtype(config.dtype)
        self.conv_in = Conv(config.in_channels, width, dtype=dtype)
        self.encoder = nnx.List(
            [EncoderStage(spec, config) for spec in encoder_stages(config)]
        )
        self.middle = _middle(config)
        self.decoder = nnx.List(
            [DecoderStage(spec, config) for spec in decoder_stages(config)]
        )
        # With an output skip the pyramid is the output.
        last = config.progressive != "output_skip"
        self.norm_out = group_norm(width, config) if last else None
        self.conv_out = (
            # float32: no later layer evens out the rounding of the prediction.
            Conv(
                width,
                config.output_channels,
                dtype=jnp.float32,
                zero=True,
                precision="highest",
            )
            if last
            else None
        )
        draw_weights(self, rngs.params())

    def __call__(
        self,
        x: Images,
        noise: Noise,
        labels: Labels | None = None,
        *,
        dropout_keys: PRNGKeys | None = None,
    ) -> Float[Array, "b h w out"]:
        """Predicts from noisy images.

        Args:
          x: images of [-1, 1] and noise of any scale, of any size that the stride
            divides.
          noise: what the network is told of each pixel's noise: log sigma or a
            timestep, by `NCSNppConfig.embedding`.
          labels: none; it has no classes.
          dropout_keys: turn dropout on, each image's by its own; without them the
            network is deterministic.

        Returns:
          The prediction, `config.out_channels` channels, float32.

        Raises:
          UserError: if the size is no multiple of the stride.
          ValueError: if there are labels, or if `noise` does not fit.
        """
        config = self.config
        if labels is not None:
            raise ValueError("labels do not fit num_classes None")
        check_size(x.shape[1], x.shape[2], config.num_resolutions)
        conditionings = condition(noise, self.time_embed, None, config.num_resolutions)
        keys = split_keys(dropout_keys, 1 + len(self.encoder) + len(self.decoder))

        h, pyramid = self.conv_in(x), x
        skips = [h]
        for stage in self.encoder:
            h, pyramid = stage(h, pyramid, conditionings, keys.pop())
            skips.append(h)
        h = self.middle(h, conditionings[-1], keys.pop())
        said = None
        for stage in self.decoder:
            # In this order checkpoints have the input channels of their kernels.
            h, said = stage((h, skips.pop()), said, conditionings, keys.pop())
        if self.norm_out is None or self.conv_out is None:
            assert said is not None
            return said
        return self.conv_out(jax.nn.silu(self.norm_out(h)))


class EncoderStage(nnx.Module):
    """Residual block and attention; or a change of resolution that meets a pyramid."""

    def __init__(self, spec: NCSNppStage, config: NCSNppConfig):
        """Builds the layers."""
        self.spec = spec
        self.use_remat = config.use_remat
        self.res = (
            NCSNppBlock(spec.inputs, spec.outputs, config) if spec.residual else None
        )
        self.attn = attention(spec.outputs, config) if spec.heads else None
        self.resample = (
            _resample(spec.inputs, spec.resampling, config) if spec.resampling else None
        )
        self.pyramid = InputPyramid(spec, config) if spec.pyramid else None

    def __call__(
        self,
        h: Activation,
        pyramid: Pyramid,
        conditionings: Conditionings,
        keys: PRNGKeys | None,
    ) -> tuple[Pyramid, Pyramid]:
        """The output, and the pyramid of its resolution."""
        conditioning = conditionings[self.spec.resampled_level]
        if self.res is not None:
            h = run_block(self.res, self.use_remat, (h,), conditioning, keys)
        if self.attn is not None:
            h = run_block(self.attn, self.use_remat, h)
        if self.resample is not None:
            h = _apply(self.resample, self.use_remat, h, conditioning, keys)
        return (h, pyramid) if self.pyramid is None else self.pyramid(h, pyramid)


class DecoderStage(nnx.Module):
    """Residual block; attention, pyramid, change of resolution as the spec has them."""

    def __init__(self, spec: NCSNppStage, config: NCSNppConfig):
        """Builds the layers."""
        self.spec = spec
        self.use_remat = config.use_remat
        self.res = NCSNppBlock(spec.inputs, spec.outputs, config)
        self.attn = attention(spec.outputs, config) if spec.heads else None
        self.pyramid = OutputPyramid(spec, config) if spec.pyramid else None
        self.resample = (
            _resample(spec.outputs, spec.resampling, config)
            if spec.resampling
            else None
        )

    def __call__(
        self,
        parts: Parts,
        said: Pyramid | None,
        conditionings: Conditionings,
        keys: PRNGKeys | None,
    ) -> tuple[Pyramid, Pyramid | None]:
        """The output, and what has been said of the network's output until here."""
        keys, resample_keys = split_keys(keys, 2)
        conditioning = conditionings[self.spec.level]
        h = run_block(self.res, self.use_remat, parts, conditioning, keys)
        if self.attn is not None:
            h = run_block(self.attn, self.use_remat, h)
        if self.pyramid is not None:
            h, said = self.pyramid(h, said)
        if self.resample is not None:
            finer = conditionings[self.spec.resampled_level]
            h = _apply(self.resample, self.use_remat, h, finer, resample_keys)
        return h, said


def _middle(config: NCSNppConfig) -> Middle:
    width = config.widths[-1]
    return Middle(
        NCSNppBlock(width, width, config),
        attention(width, config),
        NCSNppBlock(width, width, config),
        config.use_remat,
    )


def _resample(
    width: int, resampling: Resampling, config: NCSNppConfig
) -> NCSNppBlock | ConvResample:
    if config.block == "biggan":
        return NCSNppBlock(width, width, config, resampling)
    return ConvResample(width, resampling, config)


def _apply(
    resample: NCSNppBlock | ConvResample,
    use_remat: bool,
    h: Activation,
    conditioning: Conditioning,
    keys: PRNGKeys | None,
) -> Float[Array, "b _ _ c"]:
    """Changes the resolution; only a residual block is conditioned."""
    if isinstance(resample, ConvResample):
        return resample(h)
    return run_block(resample, use_remat, (h,), conditioning, keys)
