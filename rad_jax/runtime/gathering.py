"""Arrays that devices share, gathered whole for a step: many in one message."""

from collections.abc import Iterator
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from rad_jax.runtime.sharding import AXES

FSDP = AXES[1]

MESSAGE = 2**26
"""Bytes of arrays that are gathered at once, unless one has more.

Hundreds of small messages wait for one another; one of everything would keep a second
copy of it.
"""

T = TypeVar("T")


def gather(tree: T, specs: Any) -> T:
    """What devices divide over "fsdp", whole; inside ``shard_map`` over `AXES`.

    Args:
      tree: this device's parts.
      specs: PartitionSpec of each leaf, which has "fsdp" once or not at all.

    Returns:
      The tree of whole leaves, the same to the bit.
    """
    leaves, structure = jax.tree.flatten(tree)
    specs = structure.flatten_up_to(specs)
    divided = {i: s.index(FSDP) for i, s in enumerate(specs) if FSDP in s}
    count = jax.lax.axis_size(FSDP)
    for group in _groups({i: leaves[i] for i in divided}, MESSAGE // count):
        first = [jnp.moveaxis(leaves[i], divided[i], 0) for i in group]
        message = jnp.concatenate([x.ravel() for x in first])
        parts, start = jax.lax.all_gather(message, FSDP), 0
        for i, x in zip(group, first, strict=True):
            whole = parts[:, start : start + x.size].reshape(-1, *x.shape[1:])
            leaves[i] = jnp.moveaxis(whole, 0, divided[i])
            start += x.size
    return structure.unflatten(leaves)


def specs_of(shardings: Any) -> Any:
    """The PartitionSpecs of a tree of NamedShardings."""
    return jax.tree.map(lambda sharding: sharding.spec, shardings)


def _groups(leaves: dict[int, Any], most: int) -> Iterator[list[int]]:
    """Leaves of one type, in their order, of so many bytes together or alone."""
    group: list[int] = []
    size, dtype = 0, None
    for i, leaf in sorted(leaves.items(), key=lambda item: item[1].dtype.name):
        if group and (leaf.dtype != dtype or size + leaf.nbytes > most):
            yield group
            group, size = [], 0
        group.append(i)
        size, dtype = size + leaf.nbytes, leaf.dtype
    if group:
        yield group
