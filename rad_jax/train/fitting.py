"""Which setting makes a training step fit into a device's memory, by the estimate."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from rad_jax.config.experiment import Experiment
from rad_jax.errors import UserError
from rad_jax.runtime.sharding import abstract_mesh
from rad_jax.train.plan import Plan, make_plan

NOTHING = (
    "no setting of train or model makes it fit, by the estimate; take larger chips"
)


def what_fits(
    experiment: Experiment, devices: int, need: float | None, there: float
) -> str:
    """The first setting by which a step that is too large fits, in a few words.

    Those that change what is computed least come first: parts of the batch one after
    the other, blocks that are computed again, parameters that devices share; then
    bfloat16. A smaller batch needs no less than parts of one image each.

    Args:
      experiment: what is too large.
      devices: as many share it.
      need: bytes of a device, by the compiler; None for those of the estimate.
      there: bytes that a device has.
    """
    plan = _plan(experiment, devices)
    # What the compiler needs for an activation, where the estimate says one.
    scale = 1.0
    if need is not None and plan.activations:
        scale = max(need - (plan.device - plan.activations), 0) / plan.activations
    for changes in _candidates(experiment, devices):
        try:
            changed = _plan(_changed(experiment, changes), devices)
        except UserError:  # the devices cannot share it so
            continue
        least = changed.device - changed.activations
        if least + scale * changed.activations <= there:
            named = " ".join(f"{key}={value}" for key, value in changes.items())
            return f"by the estimate it fits with {named}"
    return NOTHING


def _candidates(experiment: Experiment, devices: int) -> Iterator[dict[str, Any]]:
    """Changes to try, in their order."""
    settings, model = experiment.train, experiment.model
    here = settings.batch_size // devices
    more = [n for n in _divisors(here) if n > settings.microbatches]
    shared = [n for n in _divisors(devices) if n > settings.fsdp]
    parts: list[dict[str, Any]] = [{"train.microbatches": n} for n in more]
    remat: dict[str, Any] = {} if model.use_remat else {"model.use_remat": True}
    most = (parts[-1] if parts else {}) | remat
    yield from parts
    if remat:
        yield remat
        yield from (part | remat for part in parts)
    yield from ({"train.fsdp": n} for n in shared)
    yield from (most | {"train.fsdp": n} for n in shared if most)
    if model.dtype != "bfloat16":
        half = {"model.dtype": "bfloat16"}
        yield half
        yield most | half
        yield from (most | {"train.fsdp": n} | half for n in shared)


def _divisors(number: int) -> list[int]:
    """Those that are powers of two, and the number: a few are enough to try."""
    powers = [2**i for i in range(1, number.bit_length()) if number % 2**i == 0]
    return sorted({*powers, number} - {1})


def _changed(experiment: Experiment, changes: dict[str, Any]) -> Experiment:
    for key, value in changes.items():
        block, _, name = key.partition(".")
        old = getattr(experiment, block)
        new = dataclasses.replace(old, **{name: value})
        experiment = dataclasses.replace(experiment, **{block: new})
    return experiment


def _plan(experiment: Experiment, devices: int) -> Plan:
    return make_plan(experiment, abstract_mesh(devices, experiment.train.fsdp))
