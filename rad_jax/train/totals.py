"""What is measured between two lines of the logs: sums and counts, kept on device.

They belong to the state: a run that resumes between two lines writes the same next one.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Int

from rad_jax.diffusion.schedule import Schedule, Step

LEVELS = 4
"""Into as many equal parts of the network's timesteps a phase is divided."""

PHASES = ("hole", "known")
"""The pixels that get noisy in phase 1, and in phase 2."""

BUCKETS = tuple(f"loss_{phase}_{n + 1}" for phase in PHASES for n in range(LEVELS))
"""Mean loss where these pixels' noise level is in part n: 1 is the cleanest."""

MEANS = ("loss", "mse", "vlb", "grad_norm", "skipped")

Values = dict[str, Any]
"""Float32 scalars."""


class Totals(NamedTuple):
    """Sums by name, and how many values they are of."""

    sums: Values
    counts: Values


def no_totals() -> Totals:
    """Of nothing."""
    names = (*MEANS, *BUCKETS)
    # Buffers of their own: a step donates each.
    return Totals(
        {name: jnp.zeros(()) for name in names}, {name: jnp.zeros(()) for name in names}
    )


def bucket(step: Step, schedule: Schedule) -> Int[Array, " b"]:
    """Index in `BUCKETS` of each image's noise.

    Args:
      step: of each image, stacked.
      schedule: what it is a step of.
    """
    config, clock = schedule.config, schedule.clock
    phase = (step.time > config.hole_steps).astype(jnp.int32)  # 0 or 1
    known, hole = step.timesteps[:, 0], step.timesteps[:, 1]
    told = jnp.where(phase == 0, hole, known)
    # Steps of ADM's process count from 0, its first.
    least = clock.clean if config.is_continuous else 0.0
    level = (told - least) / (clock.span / LEVELS)
    return phase * LEVELS + jnp.clip(level, 0, LEVELS - 1).astype(jnp.int32)


def means(totals: Totals) -> dict[str, float]:
    """Means by name, without those of nothing; and those of whole phases.

    Args:
      totals: on the host.
    """
    sums, counts = (
        {name: float(value) for name, value in values.items()} for values in totals
    )
    for phase in PHASES:
        names = [name for name in BUCKETS if f"_{phase}_" in name]
        sums[f"loss_{phase}"] = sum(sums[name] for name in names)
        counts[f"loss_{phase}"] = sum(counts[name] for name in names)
    names = (*MEANS, *(f"loss_{phase}" for phase in PHASES), *BUCKETS)
    found = {name: sums[name] / counts[name] for name in names if counts[name]}
    return found | {"skipped": sums["skipped"]}  # a number of steps
