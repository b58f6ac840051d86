"""Which timesteps of ADM a shorter chain visits: guided-diffusion's respacing.

Its text says how: "250" is 250 timesteps over the whole chain, "10,20,30" as many in
the first, the second and the last third of it, "ddim25" 25 at one whole stride (Song et
al. 2021, App. D.2).
"""

import numpy as np
from jaxtyping import Int

from rad_jax.diffusion.sampling import Grid
from rad_jax.errors import UserError

Indices = Int[np.ndarray, " n"]


def space_timesteps(num_steps: int, text: str) -> Indices:
    """ADM timesteps of a respaced chain, rising.

    Args:
      num_steps: timesteps of the whole chain, 0 .. num_steps - 1.
      text: "ddimN", one count, or a count for each of several sections divided by
        commas.

    Raises:
      UserError: the text is none of these, or asks for more than there is.
    """
    if text.startswith("ddim"):
        return _strided(num_steps, _count(text.removeprefix("ddim"), text))
    counts = [_count(part, text) for part in text.split(",")]
    size, longer = divmod(num_steps, len(counts))
    indices, start = [], 0
    for section, count in enumerate(counts):
        length = size + (section < longer)
        indices += _spread(start, length, count, text)
        start += length
    return np.array(indices)


def respaced_grid(num_steps: int, text: str) -> Grid:
    """The respaced chain as times of our reverse process, falling to the clean image.

    ADM's timestep k means k + 1 steps of noise (``rad_jax.typing``). As in
    guided-diffusion the noise that a chain starts from is taken for that of its
    largest timestep, though that is no more than 960 in "ddim25".
    """
    times = np.append(space_timesteps(num_steps, text)[::-1] + 1, 0)
    return Grid(int(times[0]), times)


def _strided(num_steps: int, count: int) -> Indices:
    """Every i-th timestep from 0, for the smallest i that makes so many."""
    for stride in range(1, num_steps + 1):
        indices = np.arange(0, num_steps, stride)
        if len(indices) == count:
            return indices
    raise UserError(
        f"respacing 'ddim{count}': no whole stride takes {count} of {num_steps} "
        "timesteps; use another number, or one without 'ddim'"
    )


def _spread(start: int, length: int, count: int, text: str) -> list[int]:
    """So many timesteps of a section, its first and its last among them."""
    if count > length:
        raise UserError(
            f"respacing {text!r}: {count} timesteps do not fit into a section of "
            f"{length}; ask for fewer"
        )
    if count == 1:
        return [start]
    # Python rounds halves to even, which moves some timesteps: 166.5 becomes 166.
    return [start + round(i * (length - 1) / (count - 1)) for i in range(count)]


def _count(part: str, text: str) -> int:
    # isdecimal alone would take the digits of other scripts.
    if not (part.strip().isascii() and part.strip().isdecimal()) or int(part) < 1:
        raise UserError(
            f"respacing {text!r}: {part!r} is not a count; use e.g. '250', "
            "'10,20,30' or 'ddim25'"
        )
    return int(part)
