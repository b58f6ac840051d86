"""Chains that go back and forth (RePaint; DDNM's time travel takes its rule)."""

from collections.abc import Sequence

import numpy as np

from rad_jax.diffusion.schedule import Schedule, Step, steps


def jumping_steps(
    schedule: Schedule, times: np.ndarray, jump: tuple[int, int]
) -> tuple[Step, np.ndarray]:
    """The steps of a chain with jumps of one kind.

    Args:
      schedule: the tables.
      times: of the chain without jumps, falling to 0.
      jump: length and samples, as `jump_indices`.

    Returns:
      Each step between its higher and its lower time, and whether it goes up.
    """
    # Index -1 is the clean image.
    path = times[::-1][np.array(jump_indices(len(times) - 1, [jump])) + 1]
    before, after = path[:-1], path[1:]
    stack = steps(schedule, np.maximum(before, after), np.minimum(before, after))
    return stack, after > before


def evaluations(num_steps: int, jump: tuple[int, int]) -> int:
    """Steps down of a chain with jumps of one kind: those that evaluate the network.

    Counted without making the chain: a search for steps asks often.
    """
    length, times = jump
    return num_steps + (times - 1) * length * len(range(0, num_steps - length, length))


def jump_indices(
    num_steps: int,
    jumps: Sequence[tuple[int, int]],
    samples: int = 1,
    start: int | None = None,
) -> list[int]:
    """Where the chain goes, as indices of its steps; -1 is the clean image.

    Args:
      num_steps: the first index is one less.
      jumps: length and samples of each kind of jumps. At every multiple of its length
        a kind jumps back so often that what follows is done ``samples`` times; it
        gives the kinds after it their jumps again.
      samples: the same for single steps, at every index.
      start: jumps end at this index at most; None for anywhere.
    """
    start = num_steps if start is None else start

    def budget(length: int, times: int) -> dict[int, int]:
        return dict.fromkeys(range(0, num_steps - length, length), times - 1)

    budgets = [budget(*jump) for jump in jumps]
    t, path = num_steps, []
    while t >= 1:
        t -= 1
        path.append(t)
        if t + 1 < num_steps - 1 and t <= start:
            path += [t + 1, t] * (samples - 1)
        for i in reversed(range(len(jumps))):
            length = jumps[i][0]
            if budgets[i].get(t, 0) > 0 and t <= start - length:
                budgets[i][t] -= 1
                path += range(t + 1, t + length + 1)
                t += length
                budgets[i + 1 :] = [budget(*jump) for jump in jumps[i + 1 :]]
    return [*path, -1]
