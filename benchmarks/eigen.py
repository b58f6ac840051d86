"""Convolutions by Eigen on a CPU, not by XLA's YNN library: the same calls in turns.

The network's forward pass and its gradient, by the size of images: which of them
`rad_jax.runtime.cpu_convolutions` gives to Eigen.
"""

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from benchmarks.measured import measured, store
from benchmarks.timing import in_turns, medians, ratio
from benchmarks.unet import inputs, two_levels
from rad_jax.config.file import load_config
from rad_jax.models.apply import make_apply
from rad_jax.models.config import NO_LORA
from rad_jax.models.network import NetworkConfig, abstract_params
from rad_jax.runtime.cpu_convolutions import EIGEN
from rad_jax.runtime.sharding import on_all_devices, use_cpu_cores
from tests.models.adm_files import random_params

FORWARD = (
    *(("digits", 16, 1), ("digits", 16, 64), ("ffhq256", 128, 1)),
    *(("ffhq256", 256, 1), ("ffhq256", 256, 2), ("imagenet256", 128, 1)),
)
GRADIENT = (("digits", 16, 32), ("ffhq256", 64, 2))
"""Networks, image sizes and batches."""


def call_of(
    config: NetworkConfig, batch: int, gradient: bool, options: Any
) -> Callable[[], Any]:
    """A call with XLA's options, compiled."""
    params = random_params(abstract_params(config))
    x, hole = inputs(config, batch)
    apply = make_apply(config, NO_LORA)
    noise = (x, two_levels(config, hole))
    batched, placed = on_all_devices(noise, params)

    def loss(params, x, noise):
        return (apply(params, x, noise) ** 2).mean()

    function = jax.grad(loss) if gradient else apply
    lowered = jax.jit(function).lower(placed, *batched)
    run = lowered.compile(compiler_options=options)
    return lambda: jax.block_until_ready(run(placed, *batched))


def main() -> None:
    """Measures, prints and writes."""
    use_cpu_cores()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    args = parser.parse_args()
    record: dict[str, Any] = {"measured": measured(), "rows": []}
    cases = [(False, *case) for case in FORWARD] + [(True, *case) for case in GRADIENT]
    for gradient, name, size, batch in cases:
        config = load_config(f"configs/{name}.py", []).model
        config = dataclasses.replace(
            config, image_size=size, num_classes=None, dropout=0, dtype="float32"
        )
        calls = {
            way: call_of(config, batch, gradient, options)
            for way, options in (("default", None), ("Eigen", EIGEN))
        }
        taken = in_turns(calls, args.rounds)
        row = {
            "config": name,
            "size": size,
            "batch": batch,
            "gradient": gradient,
            "seconds": medians(taken),
            "over_default": ratio(taken, "Eigen", "default"),
        }
        record["rows"].append(row)
        print(row, flush=True)
        store(args.output, record)


if __name__ == "__main__":
    main()
