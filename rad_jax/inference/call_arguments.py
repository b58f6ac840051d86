"""What a call of `Inpainter` is given for each of its pictures."""

from collections.abc import Sequence
from typing import Any

import jax

from rad_jax.errors import UserError
from rad_jax.inference.file_options import require_seed
from rad_jax.inference.pixels import is_batch


def masks_of(mask: Any, count: int) -> list[Any]:
    """A mask for every picture.

    Raises:
      UserError: there are more or fewer than pictures.
    """
    three = getattr(mask, "ndim", 0) == 3 and mask.shape[2] != 1
    several = is_batch(mask) or (three and len(mask) == count)
    masks = list(mask) if several else [mask] * count
    if len(masks) != count:
        raise UserError(f"there are {len(masks)} masks for {count} images")
    return masks


def of_each(value: Any, count: int, what: str) -> list[Any]:
    """What is said of every picture: one for all, or a sequence of as many.

    Raises:
      UserError: there are more or fewer than pictures; ``what`` names them.
    """
    several = isinstance(value, Sequence) and not isinstance(value, str)
    found = list(value) if several else [value] * count
    if len(found) != count:
        raise UserError(f"there are {len(found)} {what} for {count} images")
    return found


def keys_of(seed: int | None, key: Any, count: int | None) -> list[Any]:
    """A key for each of so many pictures; for one that is no batch, the key itself.

    Raises:
      UserError: both are given, or the seed is out of its range.
    """
    if seed is not None and key is not None:
        raise UserError("give seed or key, not both")
    if key is None:
        seed = 0 if seed is None else seed
        require_seed(seed)
        key = jax.random.key(seed)
    if count is None:
        return [key]
    return [jax.random.fold_in(key, i) for i in range(count)]
