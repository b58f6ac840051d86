"""A step of training: RAD beside a plain ADM, in full and by LoRA, in turns.

The step is the trainer's own, on images of noise. Operations are counted from the
architecture (`train.plan.step_flops`): blocks that are recomputed count once.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import jax
import numpy as np

from benchmarks import rows
from benchmarks.timing import ADM, in_turns, matmul, rates
from benchmarks.unet import MATRIX, Call
from rad_jax.config.experiment import Experiment
from rad_jax.config.file import load_config
from rad_jax.models.apply import Apply, init_params, make_apply
from rad_jax.models.lora import combine, draw_adapters, partition
from rad_jax.models.noise_embedding import NoiseLevels
from rad_jax.runtime.memory import bytes_needed
from rad_jax.runtime.sharding import make_mesh, place_batch, use_cpu_cores
from rad_jax.train import objective
from rad_jax.train.plan import step_flops, step_shapes
from rad_jax.train.state import Frozen, init_state
from rad_jax.train.step import Batch, make_train_step

RAD, LORA, REMAT = "RAD", "RAD, LoRA", "RAD, blocks recomputed"
CASES = {"cpu": {"digits": (32,)}, "gpu": {"ffhq256": (16,), "imagenet256": (16,)}}

LORA_RANK = 16


def experiments(case: str, batch: int, dtype: str) -> dict[str, Experiment]:
    """The ways to train a config's network."""
    config = load_config(
        f"configs/{case}.py",
        [
            f"--config.model.dtype={dtype}",
            f"--config.train.batch_size={batch}",
            "--config.lora.rank=0",
            "--config.pretrained=''",
        ],
    )
    lora = dataclasses.replace(config.lora, rank=LORA_RANK)
    mask = dataclasses.replace(config.mask, kind="full")
    model = dataclasses.replace(config.model, use_remat=True)
    return {
        RAD: config,
        REMAT: dataclasses.replace(config, model=model),
        LORA: dataclasses.replace(config, lora=lora),
        ADM: dataclasses.replace(config, mask=mask),
    }


def one_level(config, lora) -> Apply:
    """A network that is conditioned on the noise of the hole alone: plain ADM."""
    apply = make_apply(config, lora)

    def plain(params, x, noise, labels=None, dropout_keys=None):
        noise = NoiseLevels(noise.timesteps[:, 1:])
        return apply(params, x, noise, labels, dropout_keys)

    return plain


def step(experiment: Experiment) -> tuple[Call, float, int | None]:
    """A call that trains one step, its operations and the bytes that it needs."""
    mesh, key = make_mesh(), jax.random.key(0)
    state, base = jax.jit(lambda: init_state(experiment))(), {}
    if experiment.lora.rank:
        model, lora = experiment.model, experiment.lora
        params = combine(draw_adapters(model, lora, key), init_params(model, key))
        _, base = partition(model, lora, params)
    frozen = Frozen(base, {}, {})
    images = step_shapes(experiment, mesh)[2].images
    numbers = np.random.default_rng(0).integers(0, 256, images.shape, np.uint8)
    stop = np.zeros(mesh.size, np.int32)
    batch = Batch(place_batch(numbers, mesh), place_batch(stop, mesh))
    compiled = make_train_step(experiment, mesh).lower(state, frozen, batch).compile()

    def call():
        nonlocal state
        state, signals = compiled(state, frozen, batch)
        jax.block_until_ready((state, signals))

    return call, step_flops(experiment, mesh), bytes_needed(compiled)


def measure(case: str, batch: int, dtype: str, rounds: int) -> dict[str, Any]:
    """One row: seconds, rates, operations and memory, by way."""
    calls, flops, needed = {}, {}, {}
    for name, experiment in experiments(case, batch, dtype).items():
        wrapped = one_level if name == ADM else make_apply
        with mock.patch.object(objective, "make_apply", wrapped):
            calls[name], flops[name], needed[name] = step(experiment)
    product, operations = matmul(dtype, MATRIX[jax.default_backend()])
    taken = in_turns({"matmul": product, **calls}, rounds)
    row = rates(taken, flops, operations)
    speed = {name: batch / seconds for name, seconds in row["seconds"].items()}
    return row | {"bytes": needed, "images_per_second": speed}


def main() -> None:
    """Measures, prints and writes."""
    use_cpu_cores()
    args = rows.flags(__doc__, CASES[jax.default_backend()], rounds=20).parse_args()

    def measures(row: rows.Row) -> Iterator[tuple[rows.Row, Callable[[], rows.Row]]]:
        yield row, lambda: measure(rounds=args.rounds, **row)

    rows.run(args, measures, _print)


def _print(row: dict[str, Any]) -> None:
    print(f"{row['case']}, {row['dtype']}, batch {row['batch']}")
    if row.get("out_of_memory"):
        print("  out of memory")
        return
    for name, rate in row["images_per_second"].items():
        print(
            f"  {name}: {rate:.3g} images/s, {row['over_adm'][name]:.2f} of ADM's "
            f"time, {row['share_of_peak'][name]:.0%} of the peak"
        )


if __name__ == "__main__":
    main()
