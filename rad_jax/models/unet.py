"""ADM's U-Net (Dhariwal & Nichol 2021), conditioned on each pixel's noise (RAD)."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from rad_jax.models.architecture import Resampling, StageSpec
from rad_jax.models.attention import Attention
from rad_jax.models.blocks import Conditionings, Middle, run_block, split_keys
from rad_jax.models.config import UNetConfig, decoder_stages, encoder_stages
from rad_jax.models.convolution import Conv, Parts
from rad_jax.models.group_norm import GroupNorm
from rad_jax.models.layers import (
    Downsample,
    ResBlock,
    TimeEmbedding,
    Upsample,
    draw_weights,
)
from rad_jax.models.noise_embedding import Noise, check_size, condition
from rad_jax.models.sd_config import SDConfig
from rad_jax.typing import Images, Labels, PRNGKeys

AttentionOf = Callable[[int, int], nnx.Module]
"""Makes the attention of a width, with so many heads."""


class UNet(nnx.Module):
    """ADM's U-Net: encoder, middle and decoder over skip connections.

    Input and output are float32; see `UNetConfig.dtype` for what lies between. It holds
    no random state: split it once, and merge inside a plain `jax.jit`.
    """

    def __init__(
        self,
        config: UNetConfig | SDConfig,
        *,
        rngs: nnx.Rngs,
        attention: AttentionOf | None = None,
    ):
        """Builds the layers and draws their weights; the attention is ADM's."""
        self.config = config
        if attention is None:
            assert isinstance(config, UNetConfig)
            attention = _attention_of(config)
        dtype, widths = jnp.dtype(config.dtype), config.widths
        self.time_embed = TimeEmbedding(
            config.model_channels, config.embedding_channels
        )
        self.label_embed = (
            None
            if config.num_classes is None
            else nnx.Embed(
                config.num_classes,
                config.embedding_channels,
                embedding_init=nnx.initializers.normal(1.0),  # PyTorch's, as in ADM
                rngs=rngs,
            )
        )
        self.conv_in = Conv(config.in_channels, widths[0], dtype=dtype)
        # nnx takes a plain list for static data, not for modules.
        self.encoder = nnx.List(
            [Stage(spec, config, attention) for spec in encoder_stages(config)]
        )
        self.middle = _middle(config, attention)
        self.decoder = nnx.List(
            [Stage(spec, config, attention) for spec in decoder_stages(config)]
        )
        self.norm_out = GroupNorm(widths[0])
        # float32: no later layer evens out the rounding of the prediction.
        self.conv_out = Conv(
            widths[0],
            config.output_channels,
            dtype=jnp.float32,
            zero=True,
            precision="highest",
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
          x: noisy images in about [-1, 1], of any size that the stride divides.
          noise: how noisy each pixel of them is.
          labels: class labels, exactly if the network has classes.
          dropout_keys: turn dropout on, each image's by its own; without them the
            network is deterministic.

        Returns:
          The prediction, `config.output_channels` channels, float32.

        Raises:
          UserError: if the size is no multiple of the stride.
          ValueError: if labels are missing or unexpected, or if `noise` does not fit.
        """
        return self.run(x, noise, labels, dropout_keys)

    def run(
        self,
        x: Images,
        noise: Noise,
        labels: Labels | None,
        dropout_keys: PRNGKeys | None,
        *context: Array,
    ) -> Float[Array, "b h w out"]:
        """Its call, with a context if there is one for the attention to take."""
        config = self.config
        # Here, since deep inside a skip of another size fails with no clear message.
        check_size(x.shape[1], x.shape[2], config.num_resolutions)
        conditionings = condition(
            noise, self.time_embed, self._embed(labels), config.num_resolutions
        )
        keys = split_keys(dropout_keys, 1 + len(self.encoder) + len(self.decoder))

        h = self.conv_in(x)
        skips = [h]
        for stage in self.encoder:
            h = stage((h,), conditionings, keys.pop(), *context)
            skips.append(h)
        h = self.middle(h, conditionings[-1], keys.pop(), *context)
        for stage in self.decoder:
            # In this order checkpoints have the input channels of their kernels.
            h = stage((h, skips.pop()), conditionings, keys.pop(), *context)
        return self.conv_out(jax.nn.silu(self.norm_out(h)))

    def _embed(self, labels: Labels | None) -> Float[Array, "b d"] | None:
        if self.label_embed is None and labels is None:
            return None
        if self.label_embed is None or labels is None:
            raise ValueError(f"labels do not fit num_classes {self.config.num_classes}")
        return self.label_embed(labels)


class Stage(nnx.Module):
    """Residual block, attention, change of resolution: as far as the spec has them."""

    def __init__(
        self, spec: StageSpec, config: UNetConfig | SDConfig, attention: AttentionOf
    ):
        """Builds the layers."""
        self.spec = spec
        self.use_remat = config.use_remat
        width = spec.outputs
        self.res = _res_block(spec.inputs, width, config) if spec.residual else None
        self.attn = attention(width, spec.heads) if spec.heads else None
        self.resample = (
            _resample(width, spec.resampling, config) if spec.resampling else None
        )

    def __call__(
        self,
        parts: Parts,
        conditionings: Conditionings,
        keys: PRNGKeys | None,
        *context: Array,
    ) -> Float[Array, "b _ _ _"]:
        """Applies the stage, each block with the conditioning of its output's size.

        The parts together have the input's channels.
        """
        keys, resample_keys = split_keys(keys, 2)
        if self.res is not None:
            conditioning = conditionings[self.spec.level]
            h = run_block(self.res, self.use_remat, parts, conditioning, keys)
        else:
            (h,) = parts  # only the decoder's have several, and they have a block
        if self.attn is not None:
            h = run_block(self.attn, self.use_remat, h, *context)
        # Of what changes the resolution, only a residual block is conditioned.
        if isinstance(self.resample, ResBlock):
            conditioning = conditionings[self.spec.resampled_level]
            h = run_block(
                self.resample, self.use_remat, (h,), conditioning, resample_keys
            )
        elif self.resample is not None:
            h = self.resample(h)
        return h


def _middle(config: UNetConfig | SDConfig, attention: AttentionOf) -> Middle:
    width = config.widths[-1]
    return Middle(
        _res_block(width, width, config),
        attention(width, config.heads(width, up=False)),
        _res_block(width, width, config),
        config.use_remat,
    )


def _res_block(
    inputs: int,
    outputs: int,
    config: UNetConfig | SDConfig,
    resampling: Resampling | None = None,
) -> ResBlock:
    return ResBlock(
        inputs,
        outputs,
        features=config.embedding_channels,
        scale_shift=config.use_scale_shift_norm,
        resampling=resampling,
        dropout_rate=config.dropout,
        dtype=jnp.dtype(config.dtype),
    )


def _resample(
    width: int, resampling: Resampling, config: UNetConfig | SDConfig
) -> ResBlock | Downsample | Upsample:
    if config.resblock_updown:
        return _res_block(width, width, config, resampling)
    layer = Upsample if resampling == "up" else Downsample
    return layer(width, dtype=jnp.dtype(config.dtype))


def _attention_of(config: UNetConfig) -> AttentionOf:
    return functools.partial(
        Attention,
        new_order=config.use_new_attention_order,
        dtype=jnp.dtype(config.dtype),
    )
