"""What a program needs of a slice's devices, in lines."""

from rad_jax.chips.compiled import Needs
from rad_jax.chips.hlo import Collective
from rad_jax.chips.slices import Slice
from rad_jax.chips.table import Chip, peak_flops
from rad_jax.runtime.memory import size


def lines(where: Slice, needs: Needs, model_flops: float, dtype: str) -> list[str]:
    """The report.

    Args:
      where: what it was compiled for.
      needs: what came of it.
      model_flops: operations of a device that the network itself takes, each once.
      dtype: of the network.
    """
    chip = where.chip
    memory = chip.memory // chip.devices
    peak = f", {size(needs.peak)} at the fullest moment" if needs.peak else ""
    found = [
        f"memory: {size(needs.total)} of {size(memory)} (arguments "
        f"{size(needs.arguments)}, temporaries {size(needs.temporaries)}{peak})"
    ]
    found += [f"communication: {_communication(needs.collectives)}"]
    if needs.flops is None or needs.accessed is None:
        return [
            *found,
            f"time: for {where.platform} the compiler counts neither work nor cycles; "
            "there is nothing to estimate it from",
        ]
    rounds = ", ".join("?" if n is None else str(n) for n in needs.loops)
    once = f" (one round of each loop, of {rounds})" if rounds else ""
    found += [
        f"work: {_number(needs.flops)}FLOP, {_number(needs.accessed)}B accessed{once}, "
        f"{_number(needs.main)}B of main memory (all rounds)"
    ]
    peak = peak_flops(chip, dtype)
    if peak is None:
        return found
    # Loops count once in the compiler's number, and as often as they are in the other.
    compute = max(needs.flops, model_flops) / peak
    bandwidth = chip.bandwidth / chip.devices
    roof, bound = max((compute, "compute"), (needs.main / bandwidth, "memory"))
    found += [
        f"roofline: {_seconds(roof)} by {bound} ({_number(peak)}FLOP/s in {dtype}, "
        f"{_number(bandwidth)}B/s of main memory, as published): MFU at most "
        f"{model_flops / peak / roof:.1%}"
    ]
    return found + _estimate(chip, needs.cycles, model_flops / peak)


def _estimate(chip: Chip, cycles: int | None, ideal: float) -> list[str]:
    """The compiler's time; `ideal` is that of the network at the chip's peak."""
    if cycles is None:
        return []
    text = f"the compiler's own estimate, unmeasured: {cycles / 1e6:.2f} Mcycles"
    if chip.clock is None:
        return [f"{text}, without communication; the clock of {chip.name} is not known"]
    seconds = cycles / chip.clock
    return [
        f"{text} = {_seconds(seconds)} at {chip.clock / 1e9:g} GHz, without "
        f"communication: MFU {ideal / seconds:.1%}"
    ]


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
