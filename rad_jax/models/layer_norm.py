"""Layer normalisation, of what a transformer has at each position."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

EPSILON = 1e-5


class LayerNorm(nnx.Module):
    """Normalisation over the last axis, float32 in it and out of it."""

    def __init__(self, channels: int):
        """Builds scale 1 and bias 0."""
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))

    def __call__(self, x: Float[Array, "*shape c"]) -> Float[Array, "*shape c"]:
        """Normalises each position by itself."""
        x = x.astype(jnp.float32)
        # About the mean: a sum of squares would lose digits where the mean is large.
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = jnp.square(centred).mean(axis=-1, keepdims=True)
        shape = (1,) * (x.ndim - 1) + (-1,)
        scale = self.scale[...].reshape(shape)
        return centred * jax.lax.rsqrt(variance + EPSILON) * scale + self.bias[
            ...
        ].reshape(shape)
