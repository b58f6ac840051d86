"""Masks per second of `perlin.perlin_masks`, beside a version that sorts."""

import argparse
import statistics
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from benchmarks.measured import measured, store
from benchmarks.timing import in_turns
from rad_jax.masks import perlin


def mark_lowest_by_sort(
    values: Float[Array, "h w"], count: Int[Array, ""]
) -> Float[Array, "h w"]:
    """`masks.mark_lowest`, with the threshold looked up among all values sorted."""
    threshold = jnp.sort(values.reshape(-1))[jnp.maximum(count, 1) - 1]
    return ((values <= threshold) & (count > 0)).astype(jnp.float32)


def measure(size: int, batch: int, rounds: int) -> dict[str, list[float]]:
    """Seconds for a batch by either version, taken in turns after one to compile."""
    keys = jax.random.split(jax.random.key(0), batch)

    def draw(keys):
        return jax.vmap(lambda key: perlin.perlin_mask(key, size))(keys)

    ours = jax.jit(draw).lower(keys).compile()
    with mock.patch.object(perlin, "mark_lowest", mark_lowest_by_sort):
        # Another function object: `jit` would find the first one traced already.
        by_sort = jax.jit(lambda keys: draw(keys)).lower(keys).compile()
    np.testing.assert_array_equal(ours(keys), by_sort(keys))
    calls = {
        "bisection": lambda: ours(keys).block_until_ready(),
        "sort": lambda: by_sort(keys).block_until_ready(),
    }
    return in_turns(calls, rounds)


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    parser.add_argument("--size", type=int, default=256, help="pixels a side")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    where = measured()
    seconds = measure(args.size, args.batch, args.rounds)
    rates = {
        name: {
            "median": args.batch / statistics.median(taken),
            "min": args.batch / max(taken),
            "max": args.batch / min(taken),
        }
        for name, taken in seconds.items()
    }
    ratio = rates["bisection"]["median"] / rates["sort"]["median"]
    for name, rate in rates.items():
        print(f"{name}: {rate['median']:.0f} masks/s", end=" ")
        print(f"({rate['min']:.0f} to {rate['max']:.0f})")
    print(f"ratio of medians: {ratio:.1f}")
    result = {
        "measured": where,
        "masks_per_second": rates,
        "ratio_of_medians": ratio,
        "size": args.size,
        "batch": args.batch,
        "rounds": args.rounds,
    }
    store(args.output, result)


if __name__ == "__main__":
    main()
