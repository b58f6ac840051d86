"""Group normalisation in one pass for the moments and one for the rest, NHWC."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from rad_jax.models.config import GROUPS
from rad_jax.models.convolution import Activation

PerChannel = Float[Array, "b 1 1 c"]


class GroupNorm(nnx.Module):
    """Group normalisation, float32 in and out; groups and epsilon are ADM's by default.

    Pixels are averaged first and channels after: no map is split into groups of a few
    channels, which is half the time of `nnx.GroupNorm` and suits the tiles of a TPU.
    """

    def __init__(self, channels: int, *, groups: int = GROUPS, epsilon: float = 1e-5):
        """Builds scale 1 and bias 0."""
        self.groups, self.epsilon = groups, epsilon
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))

    def __call__(self, *parts: Float[Array, "b h w _"]) -> Float[Array, "b h w _"]:
        """Normalises maps that together have the channels.

        Each has moments of its own, so that those of a skip connection, which the
        encoder's next norm needs too, are computed once.
        """
        moments = zip(*map(_moments, parts), strict=True)
        means, variances = (jnp.concatenate(each, axis=-1) for each in moments)
        mean = _over_groups(means, self.groups)
        variance = _over_groups(variances + jnp.square(means - mean), self.groups)
        shape = (1, 1, 1, -1)
        # Joined while they are vectors: one multiplication per pixel, not two.
        scale = jax.lax.rsqrt(variance + self.epsilon) * self.scale[...].reshape(shape)
        x = jnp.concatenate(parts, axis=-1).astype(jnp.float32)
        return (x - mean) * scale + self.bias[...].reshape(shape)


def _moments(x: Activation) -> tuple[PerChannel, PerChannel]:
    """Mean and variance of each channel over the pixels, float32.

    Squares are taken about the mean of the first row, which is known beforehand, so
    that XLA for GPUs reads the map once for both sums. E[x^2] - E[x]^2 would lose
    digits where the mean is large; about the mean of one row of h the square is at most
    h times the variance, so no more than its share of the digits is lost.
    """
    pixels = (1, 2)
    near = x[:, :1].astype(jnp.float32).mean(pixels, keepdims=True)
    near = jax.lax.stop_gradient(near)  # the variance does not depend on it
    # bfloat16 has 8 significant bits, too few for means over whole maps.
    x = x.astype(jnp.float32)
    mean = x.mean(pixels, keepdims=True)
    square = jnp.square(x - near).mean(pixels, keepdims=True)
    return mean, square - jnp.square(mean - near)


def _over_groups(values: PerChannel, count: int) -> PerChannel:
    """Mean over the channels of each group, at each of its channels."""
    groups = values.reshape(*values.shape[:-1], count, -1)
    means = jnp.broadcast_to(groups.mean(axis=-1, keepdims=True), groups.shape)
    return means.reshape(values.shape)
