"""Seconds of every method on one network, in turns, beside the paper's Table 2.

First a few evaluations of each, as ratios to as many of RAD's; then whole fillings by
the published settings, on digits only: on the network of FFHQ-256 they follow from the
seconds of an evaluation and their number. Weights are random: time does not depend on
them.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.inpainting import random_model
from benchmarks.measured import measured, store
from benchmarks.timing import in_turns, medians, ratio
from benchmarks.unet import inputs
from rad_jax.baselines.choice import METHODS, Baseline
from rad_jax.checkpoints.model import Model
from rad_jax.config.file import load_config
from rad_jax.diffusion.options import SamplingOptions
from rad_jax.diffusion.schedule_config import ScheduleConfig
from rad_jax.inference.comparison import prepare_baseline
from rad_jax.inference.inpaint import prepare_fill
from rad_jax.runtime.sharding import use_cpu_cores

CASES = {"digits": "configs/digits.py", "ffhq256": "configs/ffhq256.py"}
SHARE = {"digits": 20, "ffhq256": 2}
"""Evaluations that are timed of each."""

BATCH = {"digits": 16, "ffhq256": 1}
RAD_STEPS = (100, 20)

Run = Callable[[], Any]


def rad(model: Model, steps: int, batch: int) -> Run:
    """RAD's sampler, of a batch."""
    images, holes, keys = _inputs(model, batch)
    prepare = prepare_fill(model, SamplingOptions(steps=steps))
    return lambda: jax.block_until_ready(prepare(images, holes, keys)())


def other(model: Model, baseline: Baseline, batch: int) -> Callable[[], np.ndarray]:
    """A comparison method, of a batch; it gives evaluations, forward and backward."""
    images, holes, keys = _inputs(model, batch)
    plain = model._replace(schedule=ScheduleConfig(known_steps=0))
    prepare = prepare_baseline(plain, baseline)

    def run() -> np.ndarray:
        filled = jax.block_until_ready(prepare(images, holes, keys)())
        return np.array([np.mean(filled.forward), np.mean(filled.backward)])

    return run


def _inputs(model: Model, batch: int) -> tuple[jax.Array, ...]:
    x, hole = inputs(model.config, batch)
    return jnp.clip(x, -1, 1), hole, jax.random.split(jax.random.key(2), batch)


def of_an_evaluation(case: str, model: Model, rounds: int) -> dict[str, Any]:
    """Seconds of an evaluation of each method, an image, and ratios to RAD's."""
    nfe, batch = SHARE[case], BATCH[case]
    calls: dict[str, Run] = {"rad": rad(model, nfe, batch)}
    counts = {"rad": float(nfe)}
    for method in METHODS:
        call = other(model, Baseline(method, nfe=nfe), batch)
        calls[method], counts[method] = call, float(call()[0])
    taken = in_turns(calls, rounds)
    seconds = medians(taken)
    return {
        name: {
            "evaluations": count,
            "seconds": seconds[name] / count / batch,
            "over_rad": ratio(taken, name, "rad") * counts["rad"] / count,
        }
        for name, count in counts.items()
    }


def whole(model: Model, rounds: int) -> dict[str, Any]:
    """Seconds of one image by the published settings, and by RAD's."""
    calls: dict[str, Run] = {
        f"rad, {steps}": rad(model, steps, 1) for steps in RAD_STEPS
    }
    counts = {name: [int(name.split()[-1]), 0] for name in calls}
    for method in METHODS:
        call = other(model, Baseline(method, "published"), 1)
        calls[method], counts[method] = call, [round(float(x)) for x in call()]
    taken = in_turns(calls, rounds)
    return {
        name: {
            "forward": forward,
            "backward": backward,
            "seconds": seconds,
            **{
                f"over_rad_{steps}": ratio(taken, name, f"rad, {steps}")
                for steps in RAD_STEPS
            },
        }
        for (name, seconds), (forward, backward) in zip(
            medians(taken).items(), counts.values(), strict=True
        )
    }


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=[*CASES])
    args = parser.parse_args()
    use_cpu_cores()
    record: dict[str, Any] = {"measured": measured(), "batch": BATCH}
    for case in args.cases:
        model = random_model(load_config(CASES[case], []).model)
        record[case] = {"evaluation": of_an_evaluation(case, model, args.rounds)}
        if case == "digits":
            record[case]["whole"] = whole(model, min(args.rounds, 2))
        print(case, record[case], flush=True)
        store(args.output, record)


if __name__ == "__main__":
    main()
