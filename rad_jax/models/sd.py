"""The U-Net of Stable Diffusion (Rombach et al. 2022), conditioned as RAD's.

It is ADM's, with transformers in the place of attention, which are told a text.
"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from rad_jax.models.noise_embedding import Noise
from rad_jax.models.sd_config import SDConfig
from rad_jax.models.sd_layers import Context, Transformer
from rad_jax.models.unet import UNet
from rad_jax.typing import Images, Labels, PRNGKeys


class SDUNet(UNet):
    """Stable Diffusion's U-Net. Its images are latents, of any range."""

    def __init__(self, config: SDConfig, *, rngs: nnx.Rngs):
        """Builds the layers and draws their weights."""
        self.context_channels = config.context_channels

        def transformer(channels: int, heads: int) -> Transformer:
            dtype = jnp.dtype(config.dtype)
            return Transformer(channels, config.context_channels, heads, dtype=dtype)

        super().__init__(config, rngs=rngs, attention=transformer)

    def __call__(
        self,
        x: Images,
        noise: Noise,
        labels: Labels | None = None,
        *,
        context: Context | None = None,
        dropout_keys: PRNGKeys | None = None,
    ) -> Float[Array, "b h w out"]:
        """Predicts from noisy latents.

        Args:
          x: noisy latents, of any size that the stride divides.
          noise: how noisy each pixel of them is.
          labels: none; it has no classes.
          context: states of each image's text, as a `CLIPText` gives them.
          dropout_keys: turn dropout on, each image's by its own; without them the
            network is deterministic.

        Returns:
          The prediction, `config.output_channels` channels, float32.

        Raises:
          UserError: if the size is no multiple of the stride.
          ValueError: if the context is missing or of another width, there are labels,
            or `noise` does not fit.
        """
        width = self.context_channels
        if context is None or context.shape[-1] != width:
            raise ValueError(f"the network needs a context of {width} channels")
        return self.run(x, noise, labels, dropout_keys, context)
