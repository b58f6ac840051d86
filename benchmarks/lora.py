"""Two ways to compute adapters in training, and training in full, side by side.

"layers": an adapter is two layers beside the frozen one.
"merged": frozen kernels get their updates in every step (`models.lora`).
"full": no adapters, every parameter trains.
"""

import argparse
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.alternatives import adapters_beside
from benchmarks.measured import measured, store
from benchmarks.timing import in_turns, medians
from rad_jax.config.file import load_config
from rad_jax.models.apply import init_params, make_apply
from rad_jax.models.config import LoRAConfig
from rad_jax.models.lora import combine, draw_adapters, partition
from rad_jax.models.network import NetworkConfig
from rad_jax.models.noise_embedding import NoiseLevels, membership

CASES = {
    "digits 16x16, batch 32, rank 4": ("digits", 16, 32, 4),
    "FFHQ-256 network, 64x64, batch 2, rank 16": ("ffhq256", 64, 2, 16),
}


def gradients(
    config: NetworkConfig, lora: LoRAConfig, size: int, batch: int
) -> dict[str, tuple[Callable[[], Any], float]]:
    """For each way a function that computes a gradient, and the MiB it needs."""
    key = jax.random.key(0)
    base = init_params(config, key)
    params = combine(draw_adapters(config, lora, key), base)
    trainable, frozen = partition(config, lora, params)
    x = jax.random.normal(key, (batch, size, size, config.in_channels))
    hole = jnp.zeros((batch, size, size)).at[:, : size // 2].set(1)
    weights = membership(hole, config.num_resolutions)
    noise = NoiseLevels(jnp.broadcast_to(jnp.float32([-1, 500]), (batch, 2)), weights)
    plain, adapted = make_apply(config), make_apply(config, lora)

    def layers(trainable, frozen, x, noise):
        with adapters_beside():
            return jnp.mean(adapted(combine(trainable, frozen), x, noise) ** 2)

    def merged(trainable, frozen, x, noise):
        return jnp.mean(adapted(combine(trainable, frozen), x, noise) ** 2)

    def full(params, _, x, noise):
        return jnp.mean(plain(params, x, noise) ** 2)

    calls = {}
    for loss, args in (
        (layers, (trainable, frozen)),
        (merged, (trainable, frozen)),
        (full, (base, {})),
    ):
        arguments = (*args, x, noise)
        compiled = jax.jit(jax.grad(loss)).lower(*arguments).compile()
        analysis = compiled.memory_analysis()
        assert analysis is not None  # the CPU and GPU compilers have it
        needed = analysis.temp_size_in_bytes + analysis.output_size_in_bytes
        call = functools.partial(_finished, compiled, *arguments)
        calls[loss.__name__] = (call, needed / 2**20)
    return calls


def _finished(function: Callable[..., Any], *args: Any) -> None:
    jax.block_until_ready(function(*args))


def measure(
    calls: dict[str, tuple[Callable[[], Any], float]], rounds: int
) -> dict[str, dict[str, float]]:
    """Seconds in turns."""
    taken = in_turns({name: call for name, (call, _) in calls.items()}, rounds)
    seconds = medians(taken)
    return {
        name: {
            "seconds": seconds[name],
            "over_full": seconds[name] / seconds["full"],
            "mib_beside_the_parameters": mib,
        }
        for name, (_, mib) in calls.items()
    }


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    args = parser.parse_args()
    record: dict[str, Any] = {"measured": measured()}
    for case, (name, size, batch, rank) in CASES.items():
        config = load_config(f"configs/{name}.py", []).model
        calls = gradients(config, LoRAConfig(rank, alpha=rank), size, batch)
        record[case] = measure(calls, args.rounds)
        print(case)
        for way, row in record[case].items():
            print(
                f"  {way}: {row['seconds']:.3f} s, {row['over_full']:.2f} of full, "
                f"{row['mib_beside_the_parameters']:.0f} MiB"
            )
    store(args.output, record)


if __name__ == "__main__":
    main()
