"""``--dry_run`` of verbs that fill holes: what chips that are not here would need."""

import math

from rad_jax.baselines.choice import Baseline
from rad_jax.checkpoints.model import AnyModel, LamaModel
from rad_jax.chips.compiled import Needs, TooLarge
from rad_jax.chips.report import Filling, call_seconds, lines
from rad_jax.chips.slices import Slice
from rad_jax.diffusion.options import SamplingOptions
from rad_jax.inference.comparison import how, require_plain
from rad_jax.inference.for_chips import (
    Batch,
    compile_fill,
    fill_flops,
    host_devices,
    steps_of,
)
from rad_jax.inference.lama import ONE_PASS


def report(
    model: AnyModel,
    options: SamplingOptions | Baseline,
    batch: Batch,
    where: Slice,
) -> str:
    """What a call of the program needs of each device, in lines; it compiles.

    Args:
      model: shapes will do as parameters.
      options: how it fills.
      batch: what it fills.
      where: what to compile for.

    Raises:
      UserError: as `compile_fill`.
    """
    _method(model, options)  # what does not fit is refused at once
    return _report(
        model, options, batch, where, *compile_fill(model, options, batch, where)
    )


def report_of_best(
    model: AnyModel,
    options: SamplingOptions | Baseline,
    batch: Batch,
    where: Slice,
) -> str:
    """`report` of the batch that fills the most images a second, by the estimate.

    It compiles for 1, 2, 4 ... images on each device of a host, up to the batch or to
    what fits; the last line has what it found of each.

    Raises:
      UserError: as `compile_fill`, of the smallest.
    """
    _method(model, options)
    steps, here = steps_of(model, options), len(host_devices(where))
    found: dict[int, tuple[int, Needs]] = {}
    rates: dict[int, float] = {}
    estimate, count = "", min(here, batch.count)
    while count not in found:
        try:
            found[count] = compile_fill(
                model, options, batch._replace(count=count), where
            )
        except TooLarge:
            if not found:
                raise
            break
        seconds, estimate = call_seconds(where, found[count][1], Filling(count, steps))
        rates[count] = count / seconds
        count = min(2 * count, batch.count)
    best = max(rates, key=lambda count: rates[count])
    chosen = batch._replace(count=best)
    told = ", ".join(f"{count}: {rate:.3g}" for count, rate in rates.items())
    return (
        f"{_report(model, options, chosen, where, *found[best])}\n"
        f"images/s at --batch_size, by {estimate}: {told}"
    )


def _report(
    model: AnyModel,
    options: SamplingOptions | Baseline,
    batch: Batch,
    where: Slice,
    devices: int,
    needs: Needs,
) -> str:
    # Where devices share a batch unequally, all do as much as the first.
    filled_up = math.ceil(batch.count / devices) * devices / batch.count
    flops = fill_flops(model, options, batch) * filled_up
    h, w = batch.size
    tiled = " in tiles" if batch.tiled else ""
    head = (
        f"a filling of {batch.count} image{'s' * (batch.count > 1)} of {w}x{h}{tiled} "
        f"({_method(model, options)}; {model.config.dtype}) on {where.name}: {devices} "
        f"device{'s' * (devices > 1)} of a host, compiled in {needs.seconds:.0f} s"
    )
    below = "of each device, by the compiler's counts; nothing ran on such a chip:"
    filling = Filling(batch.count, steps_of(model, options))
    rest = lines(where, needs, flops / devices, model.config.dtype, filling)
    return "\n".join([head, below, *rest])


def _method(model: AnyModel, options: SamplingOptions | Baseline) -> str:
    """How it fills, in a few words."""
    if isinstance(options, Baseline):
        return how(require_plain(model, options.method), options)
    if isinstance(model, LamaModel):
        return ONE_PASS
    return str(options.for_model(model.few_steps))
