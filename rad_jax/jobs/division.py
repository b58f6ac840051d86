"""Which part of the work is this worker's; importable without JAX.

Workers do not talk to each other: each knows its number and how many there are, and a
name decides whose it is. So a lost worker costs its own part only.
"""

import os
import re
import zlib
from collections.abc import Mapping
from typing import NamedTuple

from rad_jax.errors import UserError

COUNT = "RAD_JAX_NUM_SHARDS"
"""How many workers there are, where a scheduler tells their number alone."""

_ARRAYS = (
    # Number, count, and the number of the first.
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN"),
    ("JOB_COMPLETION_INDEX", COUNT, ""),
    ("CLOUD_RUN_TASK_INDEX", "CLOUD_RUN_TASK_COUNT", ""),
)
_PROCESSES = (
    ("RAD_JAX_PROCESS_ID", "RAD_JAX_NUM_PROCESSES"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
)


class Division(NamedTuple):
    """One of so many workers, from 0.

    Attributes:
        index: which.
        count: how many there are.
    """

    index: int = 0
    count: int = 1

    def __str__(self) -> str:
        """As ``--shard`` takes it."""
        return f"{self.index}/{self.count}"

    def has(self, name: str) -> bool:
        """Whether what has this name is this worker's."""
        digits = zlib.crc32(os.fsencode(name))
        # The lowest digits of similar names are not spread well; the rest is mixed in.
        return (digits * 2654435761 >> 16) % self.count == self.index


def parse_division(text: str) -> Division:
    """The division that ``3/8`` names: the fourth of eight.

    Raises:
        UserError: it names none.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    index, count = map(int, found.groups()) if found else (0, 0)
    if index >= count:
        last = f"0/{count} to {count - 1}/{count}" if count else "0/8 to 7/8"
        raise UserError(f"--shard {text}: must be i/n, from 0; such as {last}")
    return Division(index, count)


def division_of(environment: Mapping[str, str]) -> Division:
    """The division that a scheduler's variables say; 0/1 where there are none.

    A job array (Slurm, a Kubernetes Indexed Job, Cloud Run) is divided by its number;
    several processes of a task, each with its own devices, divide that task's part.

    Raises:
        UserError: the variables contradict each other, or some are missing.
    """
    division = Division()
    for index, count, first in _ARRAYS:
        if index in environment:
            if count not in environment:
                raise UserError(
                    f"{index} is set and {count} is not; set it to the number of "
                    "workers, or give --shard i/n"
                )
            start = _number(environment, first) if first else 0
            division = _checked(environment, index, count, start)
            break
    for index, count in _PROCESSES:
        if index in environment and count in environment:
            inner = _checked(environment, index, count, 0)
            return Division(
                division.index * inner.count + inner.index,
                division.count * inner.count,
            )
    return division


def _checked(
    environment: Mapping[str, str], index: str, count: str, first: int
) -> Division:
    found = Division(_number(environment, index) - first, _number(environment, count))
    if not 0 <= found.index < found.count:
        raise UserError(
            f"{index} is {environment[index]}, and {count} {environment[count]}: "
            "number the workers without gaps, or give --shard i/n"
        )
    return found


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name, "0")
    if not text.isdecimal():
        raise UserError(f"{name} is {text!r}; it must be a number")
    return int(text)
