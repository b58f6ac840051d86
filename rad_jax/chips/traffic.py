"""Bytes that a compiled program reads and writes in the chip's main memory."""

import math
import re
from collections import Counter

from rad_jax.chips.hlo import (
    Instruction,
    Program,
    arrays_of,
    names_in,
    size_of,
    sizes_by_name,
    visits,
)

FREE = (
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"),
    *("while", "conditional", "call", "opt-barrier", "partition-id", "replica-id"),
)
"""Instructions that move nothing themselves."""

SLICES = ("slice", "dynamic-slice", "gather")

PARTLY = (*SLICES, "concatenate", "broadcast")
"""Instructions that need no more elements of an operand than are needed of them.

So do all that make as many elements as the operand has.
"""

CALLS = re.compile(r"\bcalls=%?([\w.\-]+)")
"""The function that a fusion does."""


def main_memory_traffic(program: Program) -> int:
    """Bytes of all instructions, all rounds of loops."""
    sizes, read = sizes_by_name(program, main_memory=True), read_by_fusions(program)
    return sum(
        seen.rounds * main_bytes(seen.instruction, sizes, read)
        for seen in visits(program)
        if not seen.fused
    )


def main_bytes(
    made: Instruction, sizes: dict[str, int], read: dict[str, list[int]]
) -> int:
    """Bytes of one instruction.

    What the compiler keeps in the memory on the chip does not count, nor what the
    instruction keeps to itself.

    Args:
      made: the instruction, which is not part of another.
      sizes: `hlo.sizes_by_name`, in main memory.
      read: `read_by_fusions`.
    """
    if made.operation in FREE or made.operation.endswith("-done"):
        return 0
    # What is started has its operands in what it makes; a sum has not.
    starts = made.operation.endswith("-start") or made.operation in ("send", "recv")
    if starts and made.operation != "all-reduce-start":
        return sizes[made.name]
    operands = [sizes.get(x, 0) for x in names_in(made.operands)]
    most = operands
    if made.operation in SLICES:
        most = [size_of(made.shape)] * len(operands)
    elif made.operation == "fusion" and (called := CALLS.search(made.line)):
        most = read[called[1]]
    return sizes[made.name] + sum(map(min, operands, most))


def read_by_fusions(program: Program) -> dict[str, list[int]]:
    """Bytes that each function reads of its parameters, where it is a fusion.

    Of one that is only sliced, the slices.
    """
    return {name: _read(made) for name, made in program.functions.items()}


def _read(function: list[Instruction]) -> list[int]:
    """From the end back: what is needed of each instruction, in elements."""
    elements = {
        made.name: sum(math.prod(shape) for _, shape in arrays_of(made.shape))
        for made in function
    }
    needed: Counter[str] = Counter()
    read: dict[int, int] = {}
    for made in reversed(function):
        here = elements[made.name]
        if "ROOT " in made.line:
            needed[made.name] = here
        for operand in names_in(made.operands):
            whole = elements.get(operand, 0)
            partly = made.operation in PARTLY or whole == here
            use = min(whole, needed[made.name]) if partly else whole
            needed[operand] = min(whole, needed[operand] + use)
        if made.operation == "parameter":
            share = needed[made.name] / max(here, 1)
            read[int(made.operands)] = round(size_of(made.shape) * share)
    return [read[number] for number in sorted(read)]
