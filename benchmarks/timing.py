"""Times of several ways to do one thing, in turns: a noisy machine is fair to all."""

import math
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

ADM = "ADM"
"""What others are measured by."""

LEAST_SECONDS = 0.2
"""Quicker calls are repeated for so long in each turn."""

LONG_SECONDS, LONG_ROUNDS = 20, 12
"""Where all calls together take longer, no more rounds than these."""


def in_turns(
    calls: Mapping[str, Callable[[], Any]], rounds: int
) -> dict[str, list[float]]:
    """Seconds of a call, of every round; what is compiled was compiled before.

    Args:
      calls: functions that return when their work is done.
      rounds: how many; the quick are called several times in each.
    """
    repeats, whole = {}, 0.0
    for name, call in calls.items():
        call()
        seconds = _seconds(call, 1)
        whole += seconds
        repeats[name] = max(1, math.ceil(LEAST_SECONDS / seconds))
    if whole > LONG_SECONDS:
        rounds = min(rounds, LONG_ROUNDS)
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            if repeats[name] > 1:
                call()  # threads of the one before may still be spinning
            taken[name].append(_seconds(call, repeats[name]))
    return taken


def medians(taken: Mapping[str, list[float]]) -> dict[str, float]:
    """Of each."""
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def ratio(taken: Mapping[str, list[float]], name: str, reference: str) -> float:
    """The first quartile of its times over that of another's.

    What else a machine does only makes calls slower; but the least time may be one
    lucky call.
    """
    return _first_quartile(taken[name]) / _first_quartile(taken[reference])


def _first_quartile(seconds: list[float]) -> float:
    return float(np.quantile(seconds, 0.25))


def matmul(dtype: str, size: int) -> tuple[Callable[[], Any], float]:
    """A product of square matrices, to know the peak by; and its operations."""
    a = jax.random.normal(jax.random.key(0), (size, size), dtype)
    product = jax.jit(jnp.matmul).lower(a, a).compile()
    return lambda: jax.block_until_ready(product(a, a)), 2.0 * size**3


def rates(
    taken: dict[str, list[float]],
    flops: Mapping[str, float],
    operations: float,
) -> dict[str, Any]:
    """What a row says of times: medians, ratios, and shares of the peak.

    Args:
      taken: of `in_turns`, with "matmul", whose rate is the peak.
      flops: operations of those calls of which they are known.
      operations: of "matmul".
    """
    peak = operations / statistics.median(taken["matmul"])
    seconds = medians({name: of for name, of in taken.items() if name != "matmul"})
    return {
        "peak_flops": peak,
        "flops": dict(flops),
        "seconds": seconds,
        "over_adm": {name: ratio(taken, name, ADM) for name in seconds},
        "share_of_peak": {
            name: count / seconds[name] / peak for name, count in flops.items()
        },
    }


def _seconds(call: Callable[[], Any], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats
