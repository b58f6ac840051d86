"""What a program needs of a slice's devices, in lines."""

from rad_jax.chips.compiled import Needs
from rad_jax.chips.hlo import Collective
from rad_jax.chips.slices import Slice
from rad_jax.chips.table import peak_flops
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
    memory = chip.memory / chip.devices
    peak = f", {size(needs.peak)} at the fullest moment" if needs.peak else ""
    found = [
        f"memory: {size(needs.total)} of {size(int(memory))} (arguments "
        f"{size(needs.arguments)}, temporaries {size(needs.temporaries)}{peak})"
    ]
    found += [f"communication: {_communication(needs.collectives)}"]
    if needs.flops is None or needs.accessed is None:
        return [*found, f"the compiler for {where.platform} counts no operations"]
    return (
        found
        + _counts(where, needs, needs.flops, needs.accessed)
        + _times(where, needs, model_flops, dtype)
    )


def _counts(where: Slice, needs: Needs, flops: float, accessed: float) -> list[str]:
    once = ""
    if needs.loops:
        rounds = ", ".join("?" if n is None else str(n) for n in needs.loops)
        once = f" (loops count once; they go round {rounds} times)"
    return [f"work: {_number(flops)}FLOP, {_number(accessed)}B accessed{once}"]


def _times(where: Slice, needs: Needs, model_flops: float, dtype: str) -> list[str]:
    peak = peak_flops(where.chip, dtype)
    if peak is None or not needs.flops or not needs.accessed:
        return []
    bandwidth = where.chip.bandwidth / where.chip.devices
    # Loops count once in the compiler's number, and as often as they are in the other.
    compute = max(needs.flops, model_flops) / peak
    moving = needs.accessed / bandwidth
    seconds, bound = max((compute, "compute"), (moving, "memory"))
    found = [
        f"roofline: {_seconds(seconds)} by {bound} (at {_number(peak)}FLOP/s in "
        f"{dtype} and {_number(bandwidth)}B/s as published), so an MFU of at most "
        f"{model_flops / peak / seconds:.1%}"
    ]
    return found + _estimate(where, needs, model_flops, peak)


def _estimate(where: Slice, needs: Needs, model_flops: float, peak: float) -> list[str]:
    if needs.cycles is None:
        return []
    text = f"the compiler's own estimate, unmeasured: {needs.cycles / 1e6:.2f} Mcycles"
    if where.chip.clock is None:
        return [
            f"{text}, without communication; the clock of {where.chip.name} is not "
            "known"
        ]
    seconds = needs.cycles / where.chip.clock
    return [
        f"{text} = {_seconds(seconds)} at {where.chip.clock / 1e9:g} GHz, without "
        f"communication; an MFU of {model_flops / peak / seconds:.1%}"
    ]


def _communication(found: list[Collective]) -> str:
    return "; ".join(map(_collective, found)) or "none"


def _collective(found: Collective) -> str:
    text = f"{found.count} {found.kind}, {size(found.size)}"
    if found.unknown:
        return f"{text}, in a loop"
    return f"{text}, {found.rounds} times each" if found.rounds > 1 else text


def _number(value: float) -> str:
    """With a prefix of the SI: 1.97e14 is "197 T"."""
    for power, prefix in ((12, "T"), (9, "G"), (6, "M")):
        if value >= 10**power:
            return f"{value / 10**power:.3g} {prefix}"
    return f"{value:.0f} "


def _seconds(value: float) -> str:
    return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s"
