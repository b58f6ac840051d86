"""What each choice in the network's code gives: a call with it, and without.

One thing is changed at a time, by replacing the function that has it; all of them run
in turns, and agree with the network as it is built.
"""

import argparse
import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from benchmarks import alternatives
from benchmarks.measured import measured, store
from benchmarks.timing import in_turns, medians, ratio
from benchmarks.unet import inputs, two_levels
from rad_jax.config.file import load_config
from rad_jax.models.apply import Params, make_apply
from rad_jax.models.config import NO_LORA, LoRAConfig
from rad_jax.models.lora import combine, draw_adapters
from rad_jax.models.network import NetworkConfig, abstract_params
from rad_jax.runtime.sharding import on_all_devices, use_cpu_cores
from tests.models.adm_files import random_params, relative_error

CASES = {"cpu": {"ffhq256": 1, "digits": 64}, "gpu": {"ffhq256": 16}}
DTYPE = {"cpu": "float32", "gpu": "bfloat16"}
BUILT = "as it is built"


@contextlib.contextmanager
def nothing() -> Iterator[None]:
    """As it is built."""
    yield


CHANGES: dict[str, alternatives.Patch] = {
    BUILT: nothing,
    "the same again, to know the noise by": nothing,
    "group norm over maps split into groups": alternatives.GROUPED_NORM,
    "group norm in three passes": alternatives.TWO_PASSES,
    "skip connections concatenated": alternatives.CONCATENATED,
    "1x1 layers as convolutions": alternatives.POINTWISE,
    "upsampling before its convolution": alternatives.UPSAMPLED_FIRST,
    "nearest upsampling of shortcuts by jax.image": alternatives.RESIZED,
    "pooling by a mean over axes": alternatives.pooling_by_means,
    "SiLU by tanh": alternatives.SILU_BY_TANH,
    "attention spelled out": alternatives.ATTENTION_SPELLED_OUT,
}
MAPS = "membership maps made in every call"
ADAPTERS = "adapters beside the kernels, not merged (rank 16)"


def calls_of(config: NetworkConfig, batch: int) -> dict[str, Callable[[], jax.Array]]:
    """A call with each change, compiled."""
    params = random_params(abstract_params(config))  # of new ones the output is zero
    x, hole = inputs(config, batch)
    levels = two_levels(config, hole)

    def compiled(apply, params: Params, *noise):
        def call(params, x, *noise):
            return apply(params, x, *(noise or (two_levels(config, hole),)))

        batched, placed = on_all_devices((x, *noise), params)
        args = (placed, *batched)
        run = jax.jit(call).lower(*args).compile()
        return lambda: jax.block_until_ready(run(*args))

    calls = {}
    for name, change in CHANGES.items():
        with change():
            calls[name] = compiled(make_apply(config, NO_LORA), params, levels)
    calls[MAPS] = compiled(make_apply(config), params)
    lora = LoRAConfig(16, alpha=16)
    adapted = combine(draw_adapters(config, lora, jax.random.key(1)), params)
    with alternatives.adapters_beside():
        calls[ADAPTERS] = compiled(make_apply(config, lora), adapted, levels)
    expected = calls[BUILT]()
    for name, call in calls.items():
        error = relative_error(call(), expected)
        if not error < (1e-4 if config.dtype == "float32" else 0.1):
            raise ValueError(f"{name}: differs from what is built by {error:.2g}")
    return calls


def main() -> None:
    """Measures, prints and writes."""
    use_cpu_cores()
    backend = jax.default_backend()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", default=list(CASES[backend]))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    args = parser.parse_args()
    record: dict[str, Any] = {"measured": measured(), "rows": []}
    for case in args.cases:
        dtype, batch = DTYPE[backend], CASES[backend].get(case, 16)
        config = load_config(f"configs/{case}.py", []).model
        config = dataclasses.replace(config, dtype=dtype)
        taken = in_turns(calls_of(config, batch), args.rounds)
        row = {
            "case": case,
            "dtype": dtype,
            "batch": batch,
            "seconds": medians(taken),
            "over_built": {name: ratio(taken, name, BUILT) for name in taken},
        }
        record["rows"].append(row)
        for name, seconds in row["seconds"].items():
            over = row["over_built"][name]
            print(f"{case}: {name}: {seconds * 1e3:.1f} ms, {over:.3f}")
        store(args.output, record)


if __name__ == "__main__":
    main()
