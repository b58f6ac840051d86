"""What the text of a compiled program says of its work: operations, and their time.

The compiler for TPUs writes convolutions and dots into fusions; that for GPUs makes
calls of cuDNN and cuBLAS of most. Both are counted by their shapes.
"""

import math
import re
from typing import NamedTuple

from rad_jax.chips.hlo import (
    Instruction,
    Program,
    arrays_of,
    cycles_of,
    names_in,
    sizes_by_name,
    visits,
)
from rad_jax.chips.table import Chip, peak_flops
from rad_jax.chips.traffic import CALLS, main_bytes, read_by_fusions

Shape = tuple[int, ...]
Shapes = dict[str, list[tuple[str, Shape]]]
"""By the name of an instruction: type and shape of each array that it makes."""

PRODUCTS, PRODUCTS_BACK = 2, 5
"""Matrix products of attention; of its gradient, which computes the scores again."""


class Part(NamedTuple):
    """What stands outside the loops of a program, or one round of one of them.

    Loops within a loop count as often as they go round.

    Attributes:
      rounds: how often the loop goes round, None where it does not tell; 1 outside.
      flops: operations of convolutions and matrix products, by their shapes.
      main: bytes read and written in the chip's main memory.
      cycles: the compiler's estimate; 0 where it makes none.
      compute: seconds that the operations take at the chip's peak.
      traffic: seconds that the bytes take at its bandwidth.
      one_by_one: the same, of each instruction the longer of both.
    """

    rounds: int | None
    flops: float
    main: float
    cycles: float
    compute: float
    traffic: float
    one_by_one: float


def parts(program: Program, chip: Chip) -> list[Part]:
    """The parts of a program: what stands outside loops, and each outermost loop.

    Args:
      program: from `hlo.parse`.
      chip: what it is for.
    """
    sizes, read = sizes_by_name(program, main_memory=True), read_by_fusions(program)
    shapes = {
        made.name: arrays_of(made.shape)
        for function in program.functions.values()
        for made in function
    }
    work = {name: _inside(name, program, shapes) for name in program.functions}
    found: dict[str, Part] = {"": Part(1, *[0.0] * 6)}
    for made, rounds, _, fused, loop, around in visits(program):
        if fused:
            continue
        flops, kind = work_of(made, shapes)
        if calls := CALLS.search(made.line):
            flops, kind = work.get(calls[1], (0.0, ""))
        main = main_bytes(made, sizes, read)
        compute, traffic = flops / _peak(chip, kind), main / chip.bandwidth
        traffic *= chip.devices
        one = (flops, main, cycles_of(made) or 0, compute, traffic)
        old = found.get(loop, Part(around, *[0.0] * 6))
        once = rounds // (around or 1)
        sums = (
            x + once * y
            for x, y in zip(old[1:], (*one, max(compute, traffic)), strict=True)
        )
        found[loop] = Part(around, *sums)
    return list(found.values())


def _peak(chip: Chip, kind: str) -> float:
    """Operations per second of one device, in a type as programs write it."""
    name = {"f32": "float32", "f16": "float16"}.get(kind, "bfloat16")
    return peak_flops(chip, name) or chip.half / chip.devices


_SCORES = re.compile(r'"intermediate_tensor_shape".*?"dimensions": ?\[(.*?)\]')


def _inside(name: str, program: Program, shapes: Shapes) -> tuple[float, str]:
    """Operations of a function, those that it calls too, and the type of most."""
    found: dict[str, float] = {}
    waiting = [name]
    while waiting:
        for made in program.functions.get(waiting.pop(), []):
            flops, kind = work_of(made, shapes)
            found[kind] = found.get(kind, 0.0) + flops
            waiting += CALLS.findall(made.line)
    return sum(found.values()), max(found, key=lambda x: found[x], default="")


def work_of(made: Instruction, shapes: Shapes) -> tuple[float, str]:
    """Operations of an instruction, without what it calls, and the type they are of."""
    target = re.search(r'custom_call_target="([^"]+)"', made.line)
    called = target[1] if target else made.operation
    operands = [shapes.get(x) for x in names_in(made.operands)]
    given = [x[0] for x in operands if x]
    results = arrays_of(made.shape)
    if not results or not given:
        return 0.0, ""
    kind = given[0][0]
    result, given = results[0][1], [shape for _, shape in given]
    if called == "dot" or "cublas" in called:
        contracted = _axes(made.line, "lhs_contracting_dim")
        return 2.0 * math.prod(result) * math.prod(
            given[0][i] for i in contracted
        ), kind
    if called == "convolution" or "$conv" in called:
        if "BackwardFilter" in called:  # of image and gradient
            return _convolution(made.line, given[1], result), kind
        if "BackwardInput" in called:  # of gradient and kernel
            return _convolution(made.line, given[0], given[1]), kind
        return _convolution(made.line, result, given[1]), kind
    if "fmhaSoftmax" in called:
        scores = _SCORES.search(made.line)
        count = math.prod(map(int, re.findall(r"\d+", scores[1]))) if scores else 0
        products = PRODUCTS_BACK if "Backward" in called else PRODUCTS
        return 2.0 * products * count * given[0][-1], kind
    return 0.0, ""


def _axes(line: str, name: str) -> list[int]:
    """Of ``lhs_contracting_dims={1}``, or ``"lhs_contracting_dimensions":["1"]``."""
    found = re.search(rf'{name}\w*"?[=:][{{\[](.*?)[}}\]]', line)
    return [int(x) for x in re.findall(r"\d+", found[1])] if found else []


def _convolution(line: str, output: Shape, kernel: Shape) -> float:
    """Each tap meets each position of the output, but for zeros within the input."""
    labels = re.search(r"dim_labels=\w+_(\w+)->", line)
    if not labels:
        return 0.0
    features = kernel[labels[1].index("o")]
    dilated = re.search(r"lhs_dilate=([\dx]+)", line)
    zeros = math.prod(map(int, dilated[1].split("x"))) if dilated else 1
    return 2.0 * math.prod(output) * math.prod(kernel) / features / zeros
