"""CLIP's text transformer (Radford et al. 2021), which says a text to a network.

Stable Diffusion takes the states of all positions, of CLIP's own or of OpenCLIP's.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from rad_jax.models.attention import Attention
from rad_jax.models.clip_config import CLIPConfig
from rad_jax.models.layer_norm import LayerNorm
from rad_jax.models.layers import Linear

Params = Any
"""Nested dictionaries of float32 arrays."""

Tokens = Int[Array, "b n"]
"""Numbers of the tokens of each text, from 0 to below the size of the vocabulary."""

States = Float[Array, "b n d"]


def _quick_gelu(x: Array) -> Array:
    return x * jax.nn.sigmoid(1.702 * x)


_ACTIVATION = {
    "quick_gelu": _quick_gelu,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
}


class MLP(nnx.Module):
    """A hidden layer at each position, with its residual."""

    def __init__(self, config: CLIPConfig):
        """Builds weights of zero."""
        dtype = jnp.dtype(config.dtype)
        self.activation = config.activation
        self.norm = LayerNorm(config.width)
        self.expand = Linear(config.width, config.mlp_width, dtype=dtype)
        self.contract = Linear(config.mlp_width, config.width, dtype=dtype)

    def __call__(self, x: States) -> States:
        """Applies the layers; the activation is in float32."""
        hidden = self.expand(self.norm(x)).astype(jnp.float32)
        return x + self.contract(_ACTIVATION[self.activation](hidden))


class Block(nnx.Module):
    """Attention to the positions up to each, and a hidden layer."""

    def __init__(self, config: CLIPConfig):
        """Builds weights of zero."""
        self.attn = Attention(
            config.width,
            config.num_heads,
            new_order=True,
            dtype=jnp.dtype(config.dtype),
            norm=LayerNorm(config.width),
            causal=True,
        )
        self.mlp = MLP(config)

    def __call__(self, x: States) -> States:
        """Applies both."""
        return self.mlp(self.attn(x))


class CLIPText(nnx.Module):
    """CLIP's text transformer. No weights are drawn: they are those of a file."""

    def __init__(self, config: CLIPConfig):
        """Builds weights of zero."""
        self.config = config
        self.tokens = nnx.Param(jnp.zeros((config.vocab_size, config.width)))
        self.positions = nnx.Param(jnp.zeros((config.max_length, config.width)))
        self.blocks = nnx.List([Block(config) for _ in range(config.num_layers)])
        self.norm = LayerNorm(config.width)

    def __call__(self, tokens: Tokens) -> States:
        """The states of all positions, after the last layer and its normalisation.

        A position's depends on the tokens up to it alone, and padding is tokens like
        others.

        Raises:
          ValueError: if a text has more positions than the network.
        """
        length = tokens.shape[1]
        if length > self.config.max_length:
            raise ValueError(
                f"the texts have {length} tokens, the network takes "
                f"{self.config.max_length}"
            )
        x = jnp.take(jnp.asarray(self.tokens[...]), tokens, axis=0)
        x = x + jnp.asarray(self.positions[...])[None, :length]
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


@functools.cache
def make_encode(config: CLIPConfig) -> Callable[[Params, Tokens], States]:
    """``encode(params, tokens)``: `CLIPText.__call__` as a pure function."""
    graphdef, _ = nnx.split(nnx.eval_shape(lambda: CLIPText(config)))

    def encode(params: Params, tokens: Tokens) -> States:
        return nnx.merge(graphdef, params, copy=True)(tokens)

    return encode


def abstract_params(config: CLIPConfig) -> dict[str, Any]:
    """Shapes and dtypes of the parameters, a pure dict; no weight is made."""
    return jax.eval_shape(lambda: nnx.to_pure_dict(nnx.state(CLIPText(config))))
