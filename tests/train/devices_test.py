"""One step on several devices is the step of one: gradient, norm, totals, parameters.

The other tests run on the one CPU device of their process, where a sum over devices and
a mean over them are the identity. More devices for all of them would compile every
program again, and a batch that is divided is summed in another order than the pinned
numbers were. So one child process has four, and computes everything here, with the
network of `matrix`.
"""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh

from rad_jax.config import load_config
from rad_jax.runtime.sharding import AXES, place, place_batch
from rad_jax.train.state import init_state
from rad_jax.train.step import Batch, make_gradient, make_train_step, state_shardings
from tests.conftest import DIGITS, ROOT, TINY
from tests.train import matrix

CHILD = "from tests.train.devices_test import main; main()"

BATCH = 12

LAYOUTS = {  # "data", "fsdp"
    "one": (1, 1),
    "two": (2, 1),
    "three": (3, 1),  # no power of two: another way to sum
    "four": (4, 1),
    "three, fsdp": (1, 3),
    "four, fsdp": (2, 2),
}

NO_CLIPPING = "optimizer.clip_norm=1e6"  # which would hide a factor


def main():
    """Writes what each layout computes to the file that the first argument names."""
    matrix.install()
    changes = (*TINY, f"train.batch_size={BATCH}", NO_CLIPPING)
    experiment = load_config(DIGITS, [f"--config.{change}" for change in changes])
    found = {}
    for name, shape in LAYOUTS.items():
        devices = np.reshape(jax.devices()[: np.prod(shape)], shape)
        mesh = Mesh(devices, AXES, (AxisType.Auto,) * 2)
        for what, value in computed(experiment, mesh).items():
            found[f"{name}/{what}"] = np.asarray(value)
    np.savez(sys.argv[1], **found)


def computed(experiment, mesh):
    """Gradient and one step of the same images, parameters and keys."""
    pixels = np.random.RandomState(0).randint(0, 256, (BATCH, 16, 16, 1))
    flags = np.zeros(mesh.size, np.int32)
    batch = Batch(place_batch(pixels.astype(np.uint8), mesh), place_batch(flags, mesh))
    keys = jax.random.split(jax.random.key(1), BATCH)
    state = place(init_state(experiment), state_shardings(experiment, mesh))
    gradient_of = jax.jit(make_gradient(experiment, mesh))
    gradient, norm, totals, _ = gradient_of(state.params, {}, batch, keys)
    state, _ = make_train_step(experiment, mesh)(state, {}, batch)
    return {
        "gradient": gradient["matrix"],
        "norm": norm,
        "loss_sum": totals.sums["loss"],
        "loss_count": totals.counts["loss"],
        "parts": totals.counts["mse"],  # `matrix` counts 1 on each device
        "step_params": state.params["matrix"],
        "step_loss_sum": state.totals.sums["loss"],
        "step_loss_count": state.totals.counts["loss"],
        "step_norm": state.totals.sums["grad_norm"],
    }


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What `computed` gives, by layout."""
    path: Path = tmp_path_factory.mktemp("devices") / "found.npz"
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path)],
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "4", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    values = {name: {} for name in LAYOUTS}
    with np.load(path) as arrays:
        for key, value in arrays.items():
            name, what = key.split("/")
            values[name][what] = value
    return values


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name != "one"])
def test_several_devices_do_what_one_does(found, name):
    one, several = dict(found["one"]), dict(found[name])
    assert one.pop("parts") == 1
    assert several.pop("parts") == np.prod(LAYOUTS[name])
    assert one["loss_count"] == one["step_loss_count"] == BATCH
    for what, value in one.items():
        # Sums near 0 of a gradient: compared with its largest.
        np.testing.assert_allclose(
            several[what],
            value,
            rtol=1e-5,
            atol=1e-5 * np.abs(value).max(),
            err_msg=what,
        )
