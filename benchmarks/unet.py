"""The U-Net's forward pass: ADM, RAD by levels, RAD by pixels; beside PyTorch.

Per image size and batch all of them run in turns in one process, with the product of
two matrices whose rate is the peak that shares are of. Operations are counted from the
architecture: of convolutions and matrix products. PyTorch (`torch_peer.py`) takes part
if it is installed, eagerly and by the fastest of its ways.
"""

import dataclasses
import functools
import importlib.metadata
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import rows
from benchmarks.timing import ADM, in_turns, matmul, rates
from rad_jax.config.file import load_config
from rad_jax.models.apply import init_params, make_apply
from rad_jax.models.config import UNetConfig
from rad_jax.models.network import NetworkConfig
from rad_jax.models.noise_embedding import NoiseLevels, NoiseMap, membership
from rad_jax.runtime.flops import count_flops
from rad_jax.runtime.sharding import on_all_devices, use_cpu_cores

RAD, DENSE = "RAD", "RAD, by pixels"
CASES = {
    "cpu": {"digits": (1, 64), "ffhq256": (1,)},
    "gpu": {name: (1, 4, 16, 64) for name in ("digits", "ffhq256", "imagenet256")},
}
MATRIX = {"cpu": 2048, "gpu": 8192}
TIMESTEP = 500.0

Call = Callable[[], Any]


def inputs(config: NetworkConfig, batch: int) -> tuple[jax.Array, jax.Array]:
    """Noise, and masks with a hole in the middle."""
    size = config.image_size
    x = jax.random.normal(jax.random.key(1), (batch, size, size, config.in_channels))
    middle = slice(size // 4, 3 * size // 4)
    return x, jnp.zeros((batch, size, size)).at[:, middle, middle].set(1)


def two_levels(config: NetworkConfig, hole: jax.Array) -> NoiseLevels:
    """RAD's noise: none where the image is known, some in the hole.

    The maps depend on the masks alone: they are made once per image.
    """
    timesteps = jnp.broadcast_to(jnp.float32([-1, TIMESTEP]), (len(hole), 2))
    return NoiseLevels(timesteps, membership(hole, config.num_resolutions))


def ours(config: NetworkConfig, batch: int) -> tuple[dict[str, Call], dict[str, float]]:
    """Our calls by name, and the operations of each."""
    params = init_params(config, jax.random.key(0))
    apply = make_apply(config)
    x, hole = inputs(config, batch)
    levels = two_levels(config, hole)
    labels = jnp.zeros(batch, jnp.int32) if config.num_classes else None
    noises = {
        ADM: NoiseLevels(levels.timesteps[:, 1:]),
        RAD: levels,
        DENSE: NoiseMap(jnp.where(hole > 0, TIMESTEP, -1.0)),
    }
    calls, flops = {}, {}
    for name, noise in noises.items():
        batched, placed = on_all_devices((x, noise, labels), params)
        args = (placed, *batched)
        compiled = jax.jit(apply).lower(*args).compile()
        run = functools.partial(compiled, *args)
        calls[name] = lambda run=run: jax.block_until_ready(run())
        flops[name] = count_flops(apply, *args)
    return calls, flops


def peers(config: NetworkConfig, batch: int) -> dict[str, Call]:
    """PyTorch's calls, those that run."""
    import torch  # pyright: ignore[reportMissingImports] (an extra)
    import torch_peer

    assert isinstance(config, UNetConfig)  # PyTorch's is of no other
    gpu = jax.default_backend() == "gpu"
    device, dtype = "cuda" if gpu else "cpu", getattr(torch, config.dtype)
    model = torch_peer.build(config, device=device, dtype=dtype)
    images, hole = (torch.tensor(jax.device_get(a)) for a in inputs(config, batch))
    x = images.permute(0, 3, 1, 2).to(device)
    told = {
        ADM: torch.full((batch,), TIMESTEP, device=device),
        DENSE: torch.where(hole > 0, TIMESTEP, -1.0).to(device),
    }
    labels = None
    if config.num_classes:
        labels = torch.zeros(batch, dtype=torch.int64, device=device)

    def done(network, timesteps):
        network(x, timesteps, labels)
        if gpu:
            torch.cuda.synchronize()

    ways = torch_peer.ways(model)
    return {
        f"PyTorch {name}: {way}": functools.partial(done, network, timesteps)
        for name, timesteps in told.items()
        for way, network in ways.items()
    }


def measure(
    config: NetworkConfig, batch: int, rounds: int, with_torch: bool
) -> dict[str, Any]:
    """One row: seconds, ratios and shares of the peak, by name."""
    calls, flops = ours(config, batch)
    if with_torch:
        calls |= peers(config, batch)
    product, operations = matmul(config.dtype, MATRIX[jax.default_backend()])
    taken = in_turns({"matmul": product, **calls}, rounds)
    return rates(taken, flops, operations)


def main() -> None:
    """Measures, prints and writes."""
    use_cpu_cores()
    args = rows.flags(__doc__, CASES[jax.default_backend()], rounds=12).parse_args()
    with_torch = importlib.util.find_spec("torch") is not None

    def measures(row: rows.Row) -> Iterator[tuple[rows.Row, Callable[[], rows.Row]]]:
        config = load_config(f"configs/{row['case']}.py", []).model
        config = dataclasses.replace(config, dtype=row["dtype"])
        batch, rounds = row["batch"], args.rounds
        yield row, lambda: measure(config, batch, rounds, with_torch)

    versions = {"torch": importlib.metadata.version("torch")} if with_torch else {}
    rows.run(args, measures, _print, versions=versions)


def _print(row: dict[str, Any]) -> None:
    print(f"{row['case']}, {row['dtype']}, batch {row['batch']}")
    if row.get("out_of_memory"):
        print("  out of memory")
        return
    for name, seconds in row["seconds"].items():
        share = row["share_of_peak"].get(name)
        text = "" if share is None else f", {share:.0%} of the peak"
        ratio_ = row["over_adm"][name]
        print(f"  {name}: {seconds * 1e3:.1f} ms, {ratio_:.2f} of ADM{text}")


if __name__ == "__main__":
    main()
