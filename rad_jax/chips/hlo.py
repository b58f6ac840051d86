"""What the text of a compiled program says: collectives, loops, traffic, cycles.

Pure functions of what `jax.stages.Compiled.as_text` returns. What a loop's body does
counts as often as the loop goes round, where its condition tells that.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

KINDS = (
    *("all-reduce", "all-gather", "reduce-scatter", "all-to-all"),
    *("collective-permute", "collective-broadcast", "ragged-all-to-all"),
)

BITS = {"pred": 8, "bf16": 16, "c64": 64, "c128": 128}
"""Of types whose names do not end, or begin, with their number of bits."""

_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(
    r"\s*(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*?)\)(?:,|$)"
)
_ARRAY = re.compile(r"([a-z]\w*)\[([\d,]*)\](?:\{([^}]*)\})?")
_BETWEEN = re.compile(r'_xla_megascale_transfer_type="(\w+)"')
_CALLED = re.compile(
    r"(?:calls|to_apply|true_computation|false_computation)=%?([\w.\-]+)"
    r"|branch_computations=\{([^}]*)\}"
)


class Instruction(NamedTuple):
    """One line: what it is called and makes, of what, and the line itself."""

    name: str
    shape: str
    operation: str
    operands: str
    line: str


class Program(NamedTuple):
    """Functions by name, and the name of the one it begins with."""

    functions: dict[str, list[Instruction]]
    entry: str


class Visited(NamedTuple):
    """An instruction where the program comes to it.

    Attributes:
      instruction: itself.
      rounds: how often, all loops around it taken together.
      unknown: whether one of these loops does not tell how often it goes round; it
        counts as one.
      fused: whether it is part of another instruction.
      loop: name of the outermost loop around it, "" outside of loops.
      around: how often that one goes round, None where it does not tell; 1 outside.
    """

    instruction: Instruction
    rounds: int
    unknown: bool
    fused: bool
    loop: str
    around: int | None


class Collective(NamedTuple):
    """Communication of one kind.

    Attributes:
      kind: one of `KINDS`, or such as "all-reduce between slices".
      count: how many the program has.
      size: bytes of what they give a device, all together, in one round.
      rounds: how often the loops around them go round; 1 outside loops.
      unknown: whether one of these loops does not tell.
    """

    kind: str
    count: int
    size: int
    rounds: int
    unknown: bool


def parse(text: str) -> Program:
    """Reads what a compiled program prints."""
    functions: dict[str, list[Instruction]] = {}
    entry, inside = "", None
    for line in text.splitlines():
        if header := _COMPUTATION.match(line):
            inside = functions.setdefault(header[2], [])
            entry = header[2] if header[1] else entry
        elif inside is not None and (made := _INSTRUCTION.match(line)):
            name, shape, operation, operands = made.groups()
            inside.append(Instruction(name, shape, operation, operands, line))
    return Program(functions, entry)


def visits(program: Program) -> Iterator[Visited]:
    """The instructions of a program, those of loops and fusions too, as it is run.

    Of a condition, all branches.
    """
    waiting: list[tuple[str, int, bool, bool, str, int | None]] = [
        (program.entry, 1, False, False, "", 1)
    ]
    while waiting:
        name, rounds, unknown, fused, loop, around = waiting.pop()
        for made in program.functions.get(name, []):
            yield Visited(made, rounds, unknown, fused, loop, around)
            if made.operation == "while":
                trips = _trips(made, program)
                inner = (rounds * (trips or 1), unknown or trips is None, fused)
                here = (loop, around) if loop else (made.name, trips)
                waiting.append((_named("body", made.line), *inner, *here))
            for called, several in _CALLED.findall(made.line):
                for each in [called, *re.findall(r"[\w.\-]+", several)]:
                    within = fused or made.operation not in ("call", "conditional")
                    waiting.append((each, rounds, unknown, within, loop, around))


def collectives(program: Program) -> list[Collective]:
    """The communication of a program, kind by kind, outside loops first.

    One that goes on beside other work is written several times, once for each fusion
    that it is part of, always with its channel: it counts once. Between slices of TPUs
    hosts send what is to be summed, or gathered.
    """
    sizes = sizes_by_name(program)
    seen: set[str] = set()
    counts: Counter[tuple[int, bool, str]] = Counter()
    total: Counter[tuple[int, bool, str]] = Counter()
    for made, rounds, unknown, fused, *_ in visits(program):
        kind = made.operation.removesuffix("-start")
        channel = re.search(r"channel_id=(\d+)", made.line)
        key = f"{kind} {channel[1]}" if channel and fused else made.name
        between = _BETWEEN.search(made.line) if kind == "send" else None
        if (kind not in KINDS and between is None) or key in seen:
            continue
        seen.add(key)
        size = size_of(made.shape)
        if between is not None:
            kind = f"{between[1].lower().replace('_', '-')} between slices"
            size = sum(sizes.get(x, 0) for x in names_in(made.operands))
        elif made.operation.endswith("-start") and kind != "all-reduce":
            # What it starts from is part of what it makes.
            size -= sum(sizes.get(x, 0) for x in names_in(made.operands))
        counts[rounds, unknown, kind] += 1
        total[rounds, unknown, kind] += size
    return [
        Collective(kind, counts[key], total[key], rounds, unknown)
        for key in sorted(counts)
        for rounds, unknown, kind in [key]
    ]


def loops(program: Program) -> list[int | None]:
    """How often each loop goes round; None where the text does not tell."""
    return [
        _trips(made, program)
        for made, *_ in visits(program)
        if made.operation == "while"
    ]


def estimated_cycles(program: Program) -> int | None:
    """The compiler's own estimate of all instructions, one after the other.

    Copies and collectives, for which it makes none, are not in it. None if the text has
    no estimates: those of GPUs have none.
    """
    found = [
        seen.rounds * cycles
        for seen in visits(program)
        if not seen.fused and (cycles := cycles_of(seen.instruction)) is not None
    ]
    return sum(found) if found else None


def cycles_of(made: Instruction) -> int | None:
    """The compiler's estimate of one instruction, None where it makes none."""
    cycles = re.search(r'"estimated_cycles":"(\d+)"', made.line)
    return int(cycles[1]) if cycles else None


def types(program: Program) -> set[str]:
    """Types of all arrays, scalars too, that a program makes."""
    return {
        name
        for function in program.functions.values()
        for made in function
        for name, *_ in _ARRAY.findall(made.shape)
    }


def size_of(shape: str, *, main_memory: bool = False) -> int:
    """Bytes of an array, or of all arrays of a tuple, without padding.

    Args:
      shape: as the text has it.
      main_memory: leave out what lies in another one, which the layout says.
    """
    return sum(
        math.prod(int(n) for n in dims.split(",") if n) * _bits(name) // 8
        for name, dims, layout in _ARRAY.findall(shape)
        if not (main_memory and re.search(r"S\([1-9]", layout))
    )


def arrays_of(shape: str) -> list[tuple[str, tuple[int, ...]]]:
    """Type and shape of an array, or of each of a tuple, as the text has them."""
    return [
        (name, tuple(int(n) for n in dims.split(",") if n))
        for name, dims, _ in _ARRAY.findall(shape)
    ]


def sizes_by_name(program: Program, *, main_memory: bool = False) -> dict[str, int]:
    """Bytes by the name of the instruction that makes them."""
    return {
        made.name: size_of(made.shape, main_memory=main_memory)
        for function in program.functions.values()
        for made in function
    }


def names_in(operands: str) -> list[str]:
    """Names of the instructions that make an instruction's operands."""
    return re.findall(r"%([\w.\-]+)", operands)


def _bits(name: str) -> int:
    if name in BITS:
        return BITS[name]
    number = re.match(r"[a-z](\d+)", name)
    return int(number[1]) if number else 0  # such as token[]


def _trips(loop: Instruction, program: Program) -> int | None:
    """How often a loop goes round, if it says so or counts up to a constant.

    JAX's loops of a known length count from 0, one at a time.
    """
    if known := re.search(r'known_trip_count":\{"n":"(\d+)"', loop.line):
        return int(known[1])
    condition = program.functions.get(_named("condition", loop.line), [])
    constants = {x.name: x.operands for x in condition if x.operation == "constant"}
    if not condition or condition[-1].operation != "compare":
        return None
    last = condition[-1]
    limit = constants.get(last.operands.rpartition("%")[2], "")
    less = "direction=LT" in last.line
    return int(limit) if less and limit.isdecimal() else None


def _named(role: str, line: str) -> str:
    found = re.search(rf"\b{role}=%?([\w.\-]+)", line)
    return found[1] if found else ""
