"""Whole inpainting: images per second, and what the sampler adds to its network calls.

In turns with the bare network, compiled alone and called as often as the sampler does.
Weights are random, as a network's time does not depend on them.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import rows
from benchmarks.timing import in_turns, medians, ratio
from benchmarks.unet import Call, inputs, two_levels
from rad_jax.checkpoints.model import Model
from rad_jax.config.file import load_config
from rad_jax.diffusion.schedule_config import ScheduleConfig
from rad_jax.inference.inpaint import fill
from rad_jax.models.apply import init_params, make_apply
from rad_jax.models.network import NetworkConfig
from rad_jax.runtime.sharding import (
    everywhere,
    local_mesh,
    on_all_devices,
    use_cpu_cores,
)

CASES = {
    "cpu": {"digits": (1, 16), "ffhq256": (1,)},
    "gpu": {name: (1, 4, 16, 64) for name in ("digits", "ffhq256", "imagenet256")},
}
STEPS = {"cpu": {"digits": (100, 50, 20, 10), "ffhq256": (2,)}, "gpu": {}}
ALL_STEPS = (100, 50, 20, 10)


def random_model(config: NetworkConfig) -> Model:
    """With random weights, placed as `load` does."""
    params = init_params(config, jax.random.key(0))
    params = jax.device_put(params, everywhere(local_mesh()))
    return Model(config, ScheduleConfig(), "eps", params)


def network(model: Model, batch: int) -> Call:
    """One call of the network, as the sampler makes it."""
    x, hole = inputs(model.config, batch)
    batched, params = on_all_devices((x, two_levels(model.config, hole)), model.params)
    args = (params, *batched)
    compiled = jax.jit(make_apply(model.config)).lower(*args).compile()
    return lambda: jax.block_until_ready(compiled(*args))


def measure(model: Model, batch: int, steps: int, rounds: int) -> dict[str, Any]:
    """One row: seconds of a batch, images per second, and the sampler's share."""
    x, hole = inputs(model.config, batch)
    images, keys = jnp.clip(x, -1, 1), jax.random.split(jax.random.key(2), batch)
    call = network(model, batch)

    def calls():
        for _ in range(steps):
            call()

    filled = functools.partial(fill, model, images, hole, keys, steps=steps)
    taken = in_turns(
        {
            "inpainting": lambda: jax.block_until_ready(filled()),
            "network": calls,
        },
        rounds,
    )
    seconds = medians(taken)
    return {
        "seconds": seconds,
        "images_per_second": batch / seconds["inpainting"],
        "sampler_adds": ratio(taken, "inpainting", "network") - 1,
    }


def main() -> None:
    """Measures, prints and writes."""
    use_cpu_cores()
    backend = jax.default_backend()
    parser = rows.flags(__doc__, CASES[backend])
    parser.add_argument("--steps", nargs="+", type=int, help="of every case")
    args = parser.parse_args()

    def measures(row: rows.Row) -> Iterator[tuple[rows.Row, Callable[[], rows.Row]]]:
        config = load_config(f"configs/{row['case']}.py", []).model
        config = dataclasses.replace(config, dtype=row["dtype"])
        model = random_model(config)
        for steps in args.steps or STEPS[backend].get(row["case"], ALL_STEPS):
            call = functools.partial(measure, model, row["batch"], steps, args.rounds)
            yield row | {"steps": steps}, call

    rows.run(args, measures, _print)


def _print(row: dict[str, Any]) -> None:
    text = "out of memory"
    if not row.get("out_of_memory"):
        text = (
            f"{row['images_per_second']:.3g} images/s, the sampler adds "
            f"{row['sampler_adds']:+.1%} to its network calls"
        )
    print(
        f"{row['case']}, {row['dtype']}, batch {row['batch']}, {row['steps']} steps: "
        f"{text}"
    )


if __name__ == "__main__":
    main()
