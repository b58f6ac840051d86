"""Anderson acceleration of a fixed point, as DeqIR's official program does it."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

RIDGE, TOLERANCE = 1e-3, 1e-3  # that program's, whatever its flags say

Chains = Float[Array, "b t h w c"]
"""The T images of the chain of each image, the most noisy one first."""

Memory = Float[Array, "m b t h w c"]


class Search(NamedTuple):
    """What is remembered, and what it has come to; of every image apart.

    Attributes:
      k: number of the pass that comes.
      xs: chains that were tried.
      fs: what the map makes of them.
      latest: the last chain that was tried.
      solved: whether it is near enough.
      passes: that each image took.
    """

    k: Int[Array, ""]
    xs: Memory
    fs: Memory
    latest: Chains
    solved: Bool[Array, " b"]
    passes: Int[Array, " b"]


def accelerate(
    sweep: Callable[[Chains], Chains], start: Chains, *, memory: int, max_passes: int
) -> Search:
    """Searches for chains that a map leaves as they are.

    Each of the T images is a problem of its own (Walker & Ni 2011, Alg. AA); a chain is
    solved when the map moves it by less than `TOLERANCE` of its length. Like that
    program it returns what was tried last, not what the map made of it.

    Args:
      sweep: the map.
      start: tried first.
      memory: passes that it looks back on.
      max_passes: of the map, at least 2.
    """

    def one_pass(search: Search) -> Search:
        # 1. The next chain: what the map made of those remembered, mixed.
        used = jnp.arange(memory) < jnp.minimum(search.k, memory)
        weights = _weights(search.fs - search.xs, used)
        tried = jnp.einsum("mbt,mbthwc->bthwc", weights, search.fs)
        # 2. What the map makes of it; images that are solved stay as they are.
        made = sweep(tried)
        solved = search.solved.reshape(-1, 1, 1, 1, 1)
        slot = search.k % memory
        xs = search.xs.at[slot].set(jnp.where(solved, search.xs[slot], tried))
        fs = search.fs.at[slot].set(jnp.where(solved, search.fs[slot], made))
        latest = jnp.where(solved, search.latest, tried)
        # 3. Near enough? The first two passes are not asked.
        axes = (1, 2, 3, 4)
        apart = jnp.sqrt(jnp.square(made - tried).sum(axes))
        size = jnp.sqrt(jnp.square(made).sum(axes))
        near = (apart / (1e-5 + size) < TOLERANCE) & (search.k >= 2)
        passes = search.passes + ~search.solved
        return Search(search.k + 1, xs, fs, latest, search.solved | near, passes)

    count = len(start)
    empty = jnp.zeros((memory, *start.shape), start.dtype)
    search = Search(
        jnp.ones((), jnp.int32),
        empty.at[0].set(start),
        empty.at[0].set(sweep(start)),
        start,
        jnp.zeros(count, bool),
        jnp.ones(count, jnp.int32),
    )
    return jax.lax.while_loop(
        lambda search: (search.k < max_passes) & ~search.solved.all(), one_pass, search
    )


def _weights(residuals: Memory, used: Bool[Array, " m"]) -> Float[Array, "m b t"]:
    """Weights whose sum is 1, by least squares; 0 for memory that is not used yet."""
    m, b, t = residuals.shape[:3]
    g = jnp.moveaxis(residuals.reshape(m, b, t, -1), 0, 2)
    unit = jnp.eye(m, dtype=g.dtype)[None, None]
    gram = g @ jnp.swapaxes(g, -1, -2) + RIDGE * unit
    # Rows that are not used become those of the unit matrix, with 0 at the right.
    gram = jnp.where(used[:, None] & used[None], gram, unit)
    ones = jnp.broadcast_to(used.astype(g.dtype), (b, t, m))
    system = jnp.zeros((b, t, m + 1, m + 1), g.dtype)
    system = system.at[..., 1:, 1:].set(gram)
    system = system.at[..., 0, 1:].set(ones).at[..., 1:, 0].set(ones)
    right = jnp.zeros((b, t, m + 1, 1), g.dtype).at[..., 0, 0].set(1)
    return jnp.moveaxis(jnp.linalg.solve(system, right)[..., 1:, 0], -1, 0)
