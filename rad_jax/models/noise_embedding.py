"""How the network is conditioned on the noise level of every pixel (RAD Sec. 3.3).

ADM embeds one timestep c per image and gives each residual block Linear(SiLU(emb(c))).
RAD has a map of timesteps instead, embeds every pixel, and resizes SiLU(emb) to each
block's resolution. All of it but the resize is pointwise, and the resize is linear with
weights that sum to one. So a map of K distinct values c_1..c_K with membership maps w_k
gives, at any resolution,

    Linear(resize(SiLU(emb(map)))) = sum_k resize(w_k) * Linear(SiLU(emb(c_k)))     (M2)

which needs K vectors per block instead of a map of vectors, and membership maps that
depend on the mask alone. Plain ADM is K = 1, a binary mask K = 2; `NoiseMap` is the
left-hand side, for maps with too many values.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rad_jax.errors import UserError
from rad_jax.typing import Masks, Timesteps


class NoiseLevels(NamedTuple):
    """K noise levels per image, and where each of them holds.

    Attributes:
      timesteps: ADM timesteps (b, k).
      weights: `membership` maps, (b, h / 2^l, w / 2^l, k) for each resolution l of the
        network; None with k = 1, one level for the whole image (plain ADM).
    """

    timesteps: Float[Array, "b k"]
    weights: tuple[Float[Array, "b _ _ k"], ...] | None = None


class NoiseMap(NamedTuple):
    """A noise level for every pixel; costs an embedding per pixel.

    Attributes:
      timesteps: ADM timesteps (b, h, w).
    """

    timesteps: Float[Array, "b h w"]


Noise = NoiseLevels | NoiseMap


class Conditioning(NamedTuple):
    """The noise that the blocks of one resolution are conditioned on.

    Attributes:
      embedding: SiLU(emb): a vector per level (b, k, d), or per pixel (b, h, w, d).
      weights: membership maps (b, h, w, k) of the levels, if there are several.
    """

    embedding: Float[Array, "b k d"] | Float[Array, "b h w d"]
    weights: Float[Array, "b h w k"] | None


def sinusoid(timesteps: Timesteps, channels: int) -> Float[Array, "*shape c"]:
    """Sinusoidal embedding [cos(t f_i), sin(t f_i)], f_i = 10000^(-i / (channels/2)).

    ADM's order and frequencies; `channels` is even.
    """
    half = channels // 2
    # In float64 by NumPy, and rounded once: JAX would do all of it in float32.
    frequencies = np.exp(-np.log(10000.0) * np.arange(half) / half)
    angles = timesteps[..., None] * np.float32(frequencies).reshape(
        (1,) * timesteps.ndim + (half,)
    )
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


def interpolation_matrix(size: int, new_size: int) -> np.ndarray:
    """Linear interpolation with aligned corners, (new_size, size), rows sum to 1.

    The first and last samples coincide (PyTorch's align_corners); the one sample of
    ``new_size = 1`` is the first.
    """
    scale = (size - 1) / (new_size - 1) if new_size > 1 else 0.0
    source = np.arange(new_size) * scale
    left = np.minimum(np.floor(source).astype(int), max(size - 2, 0))
    fraction = np.float32(source - left)
    matrix = np.zeros((new_size, size), np.float32)
    rows = np.arange(new_size)
    # Added, since left and right are the same sample where there is only one.
    matrix[rows, left] += 1 - fraction
    matrix[rows, np.minimum(left + 1, size - 1)] += fraction
    return matrix


def resize(maps: Float[Array, "b h w c"], height: int, width: int) -> Array:
    """Bilinear resize with aligned corners and without antialiasing."""
    if maps.shape[1:3] == (height, width):
        return maps
    rows = interpolation_matrix(maps.shape[1], height)
    columns = interpolation_matrix(maps.shape[2], width)
    # Full precision: on an accelerator the default would round the weights.
    maps = jnp.einsum("ph,bhwc->bpwc", rows, maps, precision="highest")
    return jnp.einsum("qw,bpwc->bpqc", columns, maps, precision="highest")


def membership(
    masks: Masks | Float[Array, "b h w k"], num_resolutions: int
) -> tuple[Float[Array, "b _ _ k"], ...]:
    """Membership maps R_l[w_k] of (M2) for every resolution of the network.

    They depend on the mask only: compute them once per image, outside the sampling
    loop.

    Args:
      masks: one-hot maps summing to 1 over k, or binary masks (b, h, w), which stand
        for two levels: first that of the known pixels, then that of the hole.
      num_resolutions: of the network, `UNetConfig.num_resolutions`.

    Returns:
      The maps resized to (h, w) / 2^l for l = 0, 1, ...

    Raises:
      UserError: if h or w is no multiple of 2^(num_resolutions - 1).
    """
    # The order of `Step.timesteps`.
    if masks.ndim == 3:
        masks = jnp.stack([1 - masks, masks], axis=-1)
    height, width = masks.shape[1:3]
    check_size(height, width, num_resolutions)
    return tuple(
        resize(masks, height >> level, width >> level)
        for level in range(num_resolutions)
    )


def check_size(height: int, width: int, num_resolutions: int) -> None:
    """Raises UserError if the network's downsampling does not divide the size."""
    stride = 2 ** (num_resolutions - 1)
    if height % stride or width % stride:
        raise UserError(
            f"the network needs a height and width divisible by its stride {stride}, "
            f"not {height} x {width}; pad the image"
        )


def condition(
    noise: Noise,
    embed: Callable[[Timesteps], Array],
    label_embedding: Float[Array, "b d"] | None,
    num_resolutions: int,
) -> tuple[Conditioning, ...]:
    """Conditioning for every resolution, finest first.

    Args:
      noise: levels or a map of timesteps.
      embed: timesteps of any shape -> their embeddings, on a new last axis.
      label_embedding: added to every level's or pixel's embedding (ADM).
      num_resolutions: of the network.

    Raises:
      ValueError: if several levels come without a membership map per resolution.
    """
    embedding = embed(noise.timesteps)
    if label_embedding is not None:
        axes = tuple(range(1, embedding.ndim - 1))
        embedding = embedding + jnp.expand_dims(label_embedding, axes)
    # Before any resize: (M2) swaps only what is linear.
    embedding = jax.nn.silu(embedding)
    if isinstance(noise, NoiseMap):
        return tuple(
            Conditioning(maps, None) for maps in membership(embedding, num_resolutions)
        )
    if noise.weights is None and noise.timesteps.shape[1] == 1:
        return (Conditioning(embedding, None),) * num_resolutions
    if noise.weights is None or len(noise.weights) != num_resolutions:
        raise ValueError(
            f"{noise.timesteps.shape[1]} noise levels need weights: membership(masks, "
            f"{num_resolutions})"
        )
    return tuple(Conditioning(embedding, maps) for maps in noise.weights)


def project(
    projection: Callable[[Array], Array], conditioning: Conditioning, parts: int
) -> list[Float[Array, "b _ _ c"]]:
    """A block's projection of the embedding by (M2), split into equal parts.

    The parts are split as vectors, before they meet the maps, so that XLA fuses each
    small sum into its consumer and no map of vectors is ever stored.
    """
    embedding, weights = conditioning
    # Scale and shift are split as `chunk(2)` splits them in ADM.
    vectors = jnp.split(projection(embedding), parts, axis=-1)
    if embedding.ndim == 4:
        return vectors
    if weights is None:
        return [vector[:, :, None, :] for vector in vectors]
    return [_spread(vector, weights) for vector in vectors]


def _spread(
    vectors: Float[Array, "b k c"], weights: Float[Array, "b h w k"]
) -> Float[Array, "b h w c"]:
    """sum_k weights_k * vectors_k, unrolled: K is small."""
    terms = [
        weights[..., k, None] * vectors[:, None, None, k]
        for k in range(vectors.shape[1])
    ]
    return functools.reduce(jnp.add, terms)
