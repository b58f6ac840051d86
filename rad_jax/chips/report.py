"""What a program needs of a slice's devices, in lines."""

from collections.abc import Callable
from typing import NamedTuple

from rad_jax.chips.compiled import Needs
from rad_jax.chips.hlo import Collective
from rad_jax.chips.slices import Slice
from rad_jax.chips.table import Chip, peak_flops
from rad_jax.chips.work import Part
from rad_jax.runtime.memory import size


class Filling(NamedTuple):
    """What a program fills that is run again and again.

    Attributes:
      images: of all devices together.
      steps: that the network is asked in, by the longest loop, which may go round more
        often and do nothing; None where that is not one evaluation a round.
    """

    images: int
    steps: int | None


def lines(
    where: Slice,
    needs: Needs,
    model_flops: float,
    dtype: str,
    filling: Filling | None = None,
) -> list[str]:
    """The report.

    Args:
      where: what it was compiled for.
      needs: what came of it.
      model_flops: operations of a device that the network itself takes, each once.
      dtype: of the network.
      filling: what it fills; None of a program that fills nothing.
    """
    chip = where.chip
    memory = chip.memory // chip.devices
    peak = f", {size(needs.peak)} at the fullest moment" if needs.peak else ""
    found = [
        f"memory: {size(needs.total)} of {size(memory)} (arguments "
        f"{size(needs.arguments)}, temporaries {size(needs.temporaries)}{peak})",
        f"communication: {_communication(needs.collectives)}",
        f"work: {_work(needs, model_flops, filling)}",
    ]
    rate = peak_flops(chip, dtype)
    if rate is None:
        return found
    ideal = model_flops / rate
    return [
        *found,
        _roofline(where, needs, ideal, rate, dtype, filling),
        *_estimate(chip, needs, ideal, filling),
    ]


def call_seconds(where: Slice, needs: Needs, filling: Filling) -> tuple[float, str]:
    """How long a filling takes, and by which estimate; nothing measured it.

    By the compiler's cycles, where it counts them and the clock is known; else by the
    roofline.
    """
    if needs.cycles is not None and where.chip.clock is not None:
        _, cycles = _times(needs.parts, lambda part: part.cycles, filling)
        return cycles / where.chip.clock, "the compiler's estimate"
    return _least(where, needs, filling)[1], "the roofline"


def _work(needs: Needs, model_flops: float, filling: Filling | None) -> str:
    step, call = _times(needs.parts, lambda part: part.main, filling)
    told = "all rounds" if None not in needs.loops else "of unknown rounds one"
    main = f"{_number(call)}B of main memory ({told})"
    if step is not None:
        main = f"{_number(step)}B of main memory a step, {_number(call)}B the call"
    if needs.flops is None or needs.accessed is None:
        return (
            f"{_number(model_flops)}FLOP of the network, by rad_jax's count since the "
            f"compiler makes none; {main}"
        )
    rounds = ", ".join("?" if n is None else str(n) for n in needs.loops)
    once = f" (one round of each loop, of {rounds})" if rounds else ""
    return (
        f"{_number(needs.flops)}FLOP, {_number(needs.accessed)}B accessed{once}, {main}"
    )


def _roofline(
    where: Slice,
    needs: Needs,
    ideal: float,
    rate: float,
    dtype: str,
    filling: Filling | None,
) -> str:
    """The least time; `ideal` is that of the network at the chip's peak, `rate`."""
    chip, on_gpu = where.chip, where.platform == "cuda"
    step, call = _least(where, needs, filling)
    _, compute = _times(needs.parts, lambda part: part.compute, filling)
    _, traffic = _times(needs.parts, lambda part: part.traffic, filling)
    compute = max(compute, ideal)
    bound = f"by {'compute' if compute > traffic else 'memory'}"
    if on_gpu:
        bound = f"mostly {bound}, kernel after kernel"
    roof = max(call, ideal)
    bandwidth = chip.bandwidth / chip.devices
    return (
        f"roofline: {_lasts(step, roof)} {bound} ({_number(rate)}FLOP/s in {dtype}, "
        f"{_number(bandwidth)}B/s of main memory, as published): "
        f"{_images(filling, roof, 'at most ')}MFU at most {ideal / roof:.1%}"
    )


def _least(
    where: Slice, needs: Needs, filling: Filling | None
) -> tuple[float | None, float]:
    """The least time, of a step and of all of the program."""

    def least(part: Part) -> float:
        # A GPU does one kernel after the other; a TPU reads ahead.
        on_gpu = where.platform == "cuda"
        return part.one_by_one if on_gpu else max(part.compute, part.traffic)

    return _times(needs.parts, least, filling)


def _estimate(
    chip: Chip, needs: Needs, ideal: float, filling: Filling | None
) -> list[str]:
    """The compiler's time; `ideal` is that of the network at the chip's peak."""
    if needs.cycles is None:
        return []
    step, call = _times(needs.parts, lambda part: part.cycles, filling)
    text = f"the compiler's own estimate, unmeasured: {call / 1e6:.2f} Mcycles"
    if chip.clock is None:
        return [f"{text}, without communication; the clock of {chip.name} is not known"]
    seconds = call / chip.clock
    each = None if step is None else step / chip.clock
    return [
        f"{text} = {_lasts(each, seconds)} at {chip.clock / 1e9:g} GHz, without "
        f"communication: {_images(filling, seconds)}MFU {ideal / seconds:.1%}"
    ]


def _times(
    parts: list[Part], cost: Callable[[Part], float], filling: Filling | None
) -> tuple[float | None, float]:
    """What a step costs, None where there are no steps, and all of the program."""
    outside, *loops = parts
    rounds = [part.rounds or 1 for part in loops]
    step = None
    if filling is not None and filling.steps is not None and loops:
        longest = max(range(len(loops)), key=lambda i: rounds[i] * loops[i].main)
        rounds[longest] = filling.steps
        step = float(cost(loops[longest]))
    total = sum(n * cost(part) for n, part in zip(rounds, loops, strict=True))
    return step, float(cost(outside) + total)


def _lasts(step: float | None, call: float) -> str:
    if step is None:
        return _seconds(call)
    return f"{_seconds(step)} a step, {_seconds(call)} the call,"


def _images(filling: Filling | None, seconds: float, least: str = "") -> str:
    """How many a second; nothing of what fills none."""
    if filling is None:
        return ""
    return f"{least}{filling.images / seconds:.3g} images/s, "


def _communication(found: list[Collective]) -> str:
    return "; ".join(map(_collective, found)) or "none"


def _collective(found: Collective) -> str:
    text = f"{found.count} {found.kind}, {size(found.size)}"
    if found.unknown:
        return f"{text}, in a loop"
    return f"{text}, {found.rounds} times each" if found.rounds > 1 else text


def _number(value: float | int) -> str:
    """With a prefix of the SI: 1.97e14 is "197 T"."""
    for power, prefix in ((15, "P"), (12, "T"), (9, "G"), (6, "M")):
        if value >= 10**power:
            return f"{value / 10**power:.3g} {prefix}"
    return f"{value:.0f} "


def _seconds(value: float) -> str:
    return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s"
