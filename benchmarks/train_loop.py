"""What the training loop costs beside the network: milliseconds per step.

The loop is the real one, with the real input, logs and state on the device; the step is
replaced by one that only counts. In turns with the bare call of that step.
"""

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measured import measured, store
from rad_jax.config.file import load_config
from rad_jax.prepare.command import prepare
from rad_jax.runtime.sharding import make_mesh, place_batch
from rad_jax.train import loop, start
from rad_jax.train.state import NOTHING_FROZEN
from rad_jax.train.step import Batch, Signals
from rad_jax.train.stop import StopRequest

STEPS = 2000


def counting_step(*_):
    """A step that computes nothing."""

    def count(state, frozen, batch):
        stop = jnp.any(batch.stop > 0)
        return state._replace(step=state.step + 1), Signals(jnp.array(True), stop)

    return jax.jit(count, donate_argnums=0)


@contextlib.contextmanager
def counting() -> Iterator[None]:
    """The training loop with that step."""
    with mock.patch.object(loop, "make_train_step", counting_step):
        yield


def loop_seconds(experiment, workdir: Path) -> float:
    """Per step, of the steps after the first hundred."""
    stamps = []

    class Clock(StopRequest):
        def __bool__(self) -> bool:  # asked once in every step
            stamps.append(time.perf_counter())
            return False

    with counting():
        loop.train(experiment, workdir, Clock())
    return (stamps[-1] - stamps[100]) / (len(stamps) - 101)


def bare_seconds(experiment) -> float:
    """Per call of the step that computes nothing, on a batch that is in place."""
    mesh = make_mesh()
    state = jax.jit(lambda: start.init_state(experiment))()
    shape = (experiment.train.batch_size, 16, 16, 1)
    batch = Batch(
        place_batch(np.zeros(shape, np.uint8), mesh),
        place_batch(np.zeros(mesh.size, np.int32), mesh),
    )
    call = counting_step()
    state, signals = call(state, NOTHING_FROZEN, batch)
    begin = time.perf_counter()
    for _ in range(STEPS):
        state, signals = call(state, NOTHING_FROZEN, batch)
        jax.device_get(signals)
    return (time.perf_counter() - begin) / STEPS


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    args = parser.parse_args()
    record = {"measured": measured()}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        prepare("digits", folder)
        experiment = load_config(
            "configs/digits.py",
            [
                f"--config.data.data_dir={folder}",
                "--config.train.batch_size=2",
                f"--config.train.num_steps={STEPS}",
                "--config.train.sample_every=0",
                f"--config.train.checkpoint_every={STEPS}",
                "--config.train.log_every=100",
            ],
        )
        for number in range(args.rounds):
            with_loop = loop_seconds(experiment, Path(folder) / f"run{number}")
            rows.append((with_loop, bare_seconds(experiment)))
    loops, bare = (statistics.median(x) * 1e3 for x in zip(*rows, strict=True))
    record["milliseconds"] = {
        "loop": loops,
        "bare": bare,
        "overhead": loops - bare,
        "rounds": args.rounds,
        "steps": STEPS,
    }
    print(
        f"a step of the loop {loops:.2f} ms, its bare call {bare:.2f} ms: "
        f"overhead {loops - bare:.2f} ms"
    )
    store(args.output, record)


if __name__ == "__main__":
    main()
