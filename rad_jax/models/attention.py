"""Attention of the networks, by cuDNN's flash attention where it is there."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from flax.typing import Dtype
from jaxtyping import Array, Float

from rad_jax.models.group_norm import GroupNorm
from rad_jax.models.layer_norm import LayerNorm
from rad_jax.models.layers import Linear
from rad_jax.models.target import compute_capability


class Attention(nnx.Module):
    """Self-attention over all positions, such as pixels, with its residual.

    The 3C channels of `qkv` are ordered (heads, qkv, C / heads), as in almost all
    published ADMs, or (qkv, heads, C / heads) in ADM's "new attention order".
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        *,
        new_order: bool,
        dtype: Dtype,
        norm: GroupNorm | LayerNorm | None = None,
        scale: float = 1.0,
        bias: bool = True,
        causal: bool = False,
    ):
        """Builds the layers.

        Args:
          channels: of input and output.
          heads: among which they are divided.
          new_order: of the channels of `qkv`, see above.
          dtype: what is computed in.
          norm: the normalisation; ADM's by default.
          scale: the sum of input and attention is multiplied by it.
          bias: queries, keys and values have one.
          causal: no position sees those behind it.
        """
        self.heads = heads
        self.new_order = new_order
        self.scale = scale
        self.causal = causal
        self.norm = GroupNorm(channels) if norm is None else norm
        self.qkv = Linear(channels, 3 * channels, dtype=dtype, bias=bias)
        self.proj = Linear(channels, channels, dtype=dtype, zero=True)

    def __call__(self, x: Float[Array, "b *n c"]) -> Float[Array, "b *n c"]:
        """Attends; the softmax is in float32."""
        b, c = x.shape[0], x.shape[-1]
        # Positions in one axis, channels last: what JAX and cuDNN take.
        qkv = self.qkv(self.norm(x).reshape(b, -1, c))
        n = qkv.shape[1]
        if self.new_order:
            qkv = qkv.reshape(b, n, 3, self.heads, -1)
            q, k, v = (qkv[:, :, i] for i in range(3))
        else:
            qkv = qkv.reshape(b, n, self.heads, 3, -1)
            q, k, v = (qkv[:, :, :, i] for i in range(3))
        attended = attend(q, k, v, causal=self.causal)
        y = x + self.proj(attended.reshape(x.shape))
        return y if self.scale == 1 else self.scale * y


def attend(
    q: Float[Array, "b n heads d"],
    k: Float[Array, "b m heads d"],
    v: Float[Array, "b m heads d"],
    *,
    causal: bool = False,
) -> Float[Array, "b n heads d"]:
    """softmax(q k^T / sqrt(d)) v, the softmax in float32.

    If it is causal, no position of q sees those of k behind its own.

    In bfloat16 on NVIDIA's GPUs it is cuDNN's flash attention, which never holds the
    matrix of all pairs, where the chip, cuDNN and the shapes allow it.
    """
    # JAX promotes bfloat16 logits to float32 for the softmax; cuDNN does so too.
    plain = functools.partial(jax.nn.dot_product_attention, is_causal=causal)
    # JAX has no gradient of cuDNN's for odd lengths, and says so where nothing is
    # caught: after the trace of a block that is recomputed.
    odd = q.shape[1] % 2 or k.shape[1] % 2
    # cuDNN's kernel has no float32.
    if q.dtype == jnp.bfloat16 and not odd and compute_capability() >= AMPERE:
        flash = functools.partial(plain, implementation="cudnn")
        try:
            # Not for whatever else this program may be lowered for (`--dry_run`).
            return jax.lax.platform_dependent(q, k, v, cuda=flash, default=plain)
        except (NotImplementedError, RuntimeError, ValueError):
            pass  # what JAX raises when it is traced where cuDNN cannot do it
    return plain(q, k, v)


AMPERE = 8
"""NVIDIA's first chips with bfloat16; JAX does not check it."""
