"""Stable Diffusion's transformer in the place of ADM's attention (Rombach et al. 2022).

Pixels are its positions: each attends to all others, then to the states of a text.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import Dtype
from jaxtyping import Array, Float

from rad_jax.models.attention import Attention, attend
from rad_jax.models.convolution import Activation
from rad_jax.models.group_norm import GroupNorm
from rad_jax.models.layer_norm import LayerNorm
from rad_jax.models.layers import Linear

EPSILON = 1e-6
"""Of a transformer's group normalisation; that of residual blocks is ADM's."""

WIDER = 4
"""The hidden layer is so many times as wide as the transformer."""

Context = Float[Array, "b m d"]
"""States of the texts, m positions each."""


class CrossAttention(nnx.Module):
    """Attention of all positions to those of a context, with its residual."""

    def __init__(
        self, channels: int, context_channels: int, heads: int, *, dtype: Dtype
    ):
        """Builds the layers."""
        self.heads = heads
        self.norm = LayerNorm(channels)
        self.q = Linear(channels, channels, dtype=dtype, bias=False)
        self.k = Linear(context_channels, channels, dtype=dtype, bias=False)
        self.v = Linear(context_channels, channels, dtype=dtype, bias=False)
        self.proj = Linear(channels, channels, dtype=dtype, zero=True)

    def __call__(
        self, x: Float[Array, "b n c"], context: Context
    ) -> Float[Array, "b n c"]:
        """Attends; the softmax is in float32."""
        q, k, v = (
            y.reshape(*y.shape[:2], self.heads, -1)
            for y in (self.q(self.norm(x)), self.k(context), self.v(context))
        )
        return x + self.proj(attend(q, k, v).reshape(x.shape))


class GatedMLP(nnx.Module):
    """A hidden layer, half of which gates the other (GEGLU), with its residual."""

    def __init__(self, channels: int, *, dtype: Dtype):
        """Builds the layers."""
        self.dtype = dtype
        self.norm = LayerNorm(channels)
        self.expand = Linear(channels, 2 * WIDER * channels, dtype=dtype)
        self.contract = Linear(WIDER * channels, channels, dtype=dtype, zero=True)

    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        """Applies the layers."""
        hidden, gate = jnp.split(self.expand(self.norm(x)), 2, axis=-1)
        # The error function of bfloat16 numbers is that of float32 on accelerators.
        gate = jax.nn.gelu(gate.astype(jnp.float32), approximate=False)
        return x + self.contract(hidden * gate.astype(self.dtype))


class Transformer(nnx.Module):
    """One block of a transformer over the pixels of a resolution, with a residual.

    Its own projections, from and to the pixels, are not named as those of attention:
    adapters are for those.
    """

    def __init__(
        self, channels: int, context_channels: int, heads: int, *, dtype: Dtype
    ):
        """Builds the layers."""
        self.norm = GroupNorm(channels, epsilon=EPSILON)
        self.enter = Linear(channels, channels, dtype=dtype)
        self.attn = Attention(
            channels,
            heads,
            new_order=True,
            dtype=dtype,
            norm=LayerNorm(channels),
            bias=False,
        )
        self.cross = CrossAttention(channels, context_channels, heads, dtype=dtype)
        self.mlp = GatedMLP(channels, dtype=dtype)
        # Zero, as in the reference: a new block begins as the identity.
        self.leave = Linear(channels, channels, dtype=dtype, zero=True)

    def __call__(self, x: Activation, context: Context) -> Activation:
        """Applies the block."""
        b, _, _, c = x.shape
        h = self.enter(self.norm(x)).reshape(b, -1, c)
        h = self.mlp(self.cross(self.attn(h), context))
        return x + self.leave(h.reshape(x.shape))
