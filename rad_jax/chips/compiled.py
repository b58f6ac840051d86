"""Programs compiled for chips that this machine does not have, and what they need."""

import re
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax.errors import JaxRuntimeError
from jax.experimental import topologies

from rad_jax.chips import hlo
from rad_jax.chips.host import description, require_compiler
from rad_jax.chips.slices import Slice
from rad_jax.chips.traffic import main_memory_traffic
from rad_jax.chips.work import Part, parts
from rad_jax.errors import UserError, first_line
from rad_jax.models.target import tracing_for
from rad_jax.runtime.memory import bytes_needed

_TOO_LARGE = (
    r"\(([\d.]+[KMGT]?)\) exceeds available HBM \(([\d.]+[KMGT]?)\)",
    r"Used ([\d.]+[KMGT]?) of ([\d.]+[KMGT]?) hbm",
)
"""How libtpu says what is needed, and what there is."""


class TooLarge(UserError):
    """The program does not fit into the chip's memory.

    Attributes:
      need: bytes of each device, None where the compiler does not tell.
      there: bytes that a device has; the same.
    """

    def __init__(
        self, text: str, need: float | None = None, there: float | None = None
    ):
        """Of what is said, and both numbers."""
        super().__init__(text)
        self.need, self.there = need, there


class Needs(NamedTuple):
    """What a program needs of each device: the compiler's counts.

    Attributes:
      arguments: bytes.
      temporaries: bytes.
      total: bytes, with results that are not written over arguments, and code.
      peak: bytes of arguments, results and temporaries at the fullest moment; 0 where
        the compiler does not say.
      flops: operations of a run, None where it does not count; a loop's body counts
        once, as in `accessed`.
      accessed: bytes that a run reads and writes, in on-chip memory too, or None.
      main: bytes that a run reads and writes in the chip's main memory, all rounds of
        loops, by the program's text.
      parts: the same and more of each loop, by the program's text.
      collectives: communication.
      loops: how often each goes round, None where that is not known.
      cycles: as the compiler estimates them, or None.
      seconds: that it took to compile.
    """

    arguments: int
    temporaries: int
    total: int
    peak: int
    flops: float | None
    accessed: float | None
    main: int
    parts: list[Part]
    collectives: list[hlo.Collective]
    loops: list[int | None]
    cycles: int | None
    seconds: float


def compile_for(
    where: Slice, build: Callable[[Sequence[Any]], tuple[Any, Sequence[Any]]]
) -> tuple[jax.stages.Compiled, Needs]:
    """Compiles a program for a slice; nothing runs.

    Args:
      where: the slice; `chips.host.set_up` has been called.
      build: of the slice's devices, which can compute nothing, a function from
        ``jax.jit`` and its arguments, shapes with shardings on these devices.

    Raises:
      TooLarge: it needs more memory than a chip has; the message has both numbers.
      UserError: there is no compiler for the slice, or it knows none like it.
    """
    start = time.monotonic()
    try:
        with tracing_for(where.chip.capability):
            function, arguments = build(devices_of(where))
            compiled = function.trace(*arguments).lower().compile()
    except JaxRuntimeError as error:
        if not str(error).startswith("RESOURCE_EXHAUSTED"):
            raise
        raise _numbers(where, str(error)) from error
    needs = _needs(compiled, where, time.monotonic() - start)
    memory = where.chip.memory / where.chip.devices
    if needs.total > memory:  # the compiler for GPUs does not refuse it
        need, there = f"{needs.total / 2**30:.1f}G", f"{memory / 2**30:.0f}G"
        raise _too_large(where, need, there)
    return compiled, needs


def devices_of(where: Slice) -> Sequence[Any]:
    """Of the slice, as the compiler describes it.

    Raises:
      UserError: there is no compiler for it, or it knows no such slice.
    """
    require_compiler(where)
    options = dict(where.options)
    if where.platform == "cuda":
        options["target_config"] = description(where)
    try:
        found = topologies.get_topology_desc(
            where.topology, platform=where.platform, **options
        )
    except (JaxRuntimeError, RuntimeError, NotImplementedError) as error:
        told = first_line(error)
        if "API version" in told:
            told += (
                "; its version may not be the one that jaxlib wants: pip install "
                f"'rad-jax[{where.platform}]'"
            )
        raise UserError(f"the compiler cannot describe {where.name}: {told}") from error
    return found.devices


def _needs(compiled: jax.stages.Compiled, where: Slice, seconds: float) -> Needs:
    memory: Any = compiled.memory_analysis()
    cost = compiled.cost_analysis() or {}
    program = hlo.parse(compiled.as_text() or "")
    return Needs(
        arguments=memory.argument_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        total=bytes_needed(compiled) or 0,
        peak=getattr(memory, "peak_memory_in_bytes", 0),
        flops=cost.get("flops"),
        accessed=cost.get("bytes accessed"),
        main=main_memory_traffic(program),
        parts=parts(program, where.chip),
        collectives=hlo.collectives(program),
        loops=hlo.loops(program),
        cycles=hlo.estimated_cycles(program),
        seconds=seconds,
    )


def _numbers(where: Slice, message: str) -> TooLarge:
    for pattern in _TOO_LARGE:
        if found := re.search(pattern, message):
            return _too_large(where, *found.groups())
    return TooLarge(f"too large for {where.name}: {message.splitlines()[0]}")


def _too_large(where: Slice, need: str, there: str) -> TooLarge:
    return TooLarge(
        f"too large for {where.name}: it needs {_unit(need)} on each device, which has "
        f"{_unit(there)}",
        _bytes(need),
        _bytes(there),
    )


def _unit(text: str) -> str:
    """Of "15.75G" what a person reads."""
    return f"{text[:-1]} {text[-1]}iB" if text[-1].isalpha() else f"{text} B"


def _bytes(text: str) -> float:
    """Of "15.75G" how many."""
    number, unit = (text[:-1], text[-1]) if text[-1].isalpha() else (text, "")
    return float(number) * 1024 ** " KMGT".index(unit or " ")
