"""How the networks run their blocks, and the middle that they have in common."""

import jax
from flax import nnx
from jaxtyping import Array

from rad_jax.models.convolution import Activation
from rad_jax.models.noise_embedding import Conditioning
from rad_jax.typing import PRNGKeys

Conditionings = tuple[Conditioning, ...]
"""By resolution, the finest first."""


class Middle(nnx.Module):
    """Residual block, attention, residual block at the coarsest resolution."""

    def __init__(
        self, res1: nnx.Module, attn: nnx.Module, res2: nnx.Module, use_remat: bool
    ):
        """Takes the blocks of the network."""
        self.use_remat = use_remat
        self.res1, self.attn, self.res2 = res1, attn, res2

    def __call__(
        self,
        h: Activation,
        conditioning: Conditioning,
        keys: PRNGKeys | None,
        *context: Array,
    ) -> Activation:
        """Applies all three; the attention may take a context."""
        keys1, keys2 = split_keys(keys, 2)
        h = run_block(self.res1, self.use_remat, (h,), conditioning, keys1)
        h = run_block(self.attn, self.use_remat, h, *context)
        return run_block(self.res2, self.use_remat, (h,), conditioning, keys2)


def split_keys(keys: PRNGKeys | None, num: int) -> list[PRNGKeys | None]:
    """For each image keys from its key; from none, as many times none."""
    if keys is None:
        return [None] * num
    # Layers first, images second: each layer takes one key per image.
    return list(jax.vmap(lambda key: jax.random.split(key, num), out_axes=1)(keys))


def run_block(block, use_remat: bool, *args):
    """Applies a block; with remat the backward pass recomputes what is in it."""
    return jax.checkpoint(block.__call__)(*args) if use_remat else block(*args)
