"""A batch divided over several devices has the gradient and the totals of one's.

In a process of its own: the tests' has one CPU device, to whose bits and compiled
programs many of them hold.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import ROOT

# `sum_over_devices` leaves the sum to XLA for 3 CPUs, and does it in rounds for 4.
PROGRAM = """
import json
from unittest import mock
import jax, numpy as np
jax.config.update("jax_disable_most_optimizations", True)  # compiles in less time
from rad_jax.config.file import load_config
from rad_jax.runtime.sharding import make_mesh, place_batch
from rad_jax.train.state import NOTHING_FROZEN
from rad_jax.train.step import Batch, make_gradient
from tests.conftest import DIGITS, TINY
from tests.train import matrix

matrix.install()
changes = [*TINY, "train.batch_size=12", "optimizer.clip_norm=1e9"]
experiment = load_config(DIGITS, [f"--config.{change}" for change in changes])
params = matrix.init_params(None, jax.random.key(0))
images = np.random.RandomState(0).randint(0, 256, (12, 16, 16, 1)).astype(np.uint8)
keys = jax.random.split(jax.random.key(1), 12)
found, devices = {}, jax.devices()
for count, fsdp in ((1, 1), (3, 1), (4, 2)):
    with mock.patch("jax.devices", lambda: devices[:count]):
        mesh = make_mesh(fsdp)
    stop = place_batch(np.arange(count, dtype=np.int32) == count - 1, mesh)
    batch = Batch(place_batch(images, mesh), stop)
    gradient_of = jax.jit(make_gradient(experiment, mesh))
    gradient, norm, totals, stop = gradient_of(params, NOTHING_FROZEN, batch, keys)
    shards = gradient["matrix"].addressable_shards
    found[str(count)] = {
        "gradients": [np.asarray(shard.data)[:4].tolist() for shard in shards],
        "norm": float(norm),
        "loss": float(totals.sums["loss"]),
        "images": float(totals.counts["loss"]),
        "stop": bool(stop),
    }

from rad_jax.runtime import gathering
from rad_jax.runtime.sharding import everywhere, tree_shardings
normal = np.random.RandomState(1).normal
tree = {"a": normal(size=(64, 96)), "kernel": normal(size=(3, 3, 32, 64))}
tree |= {"half": normal(size=(8192,)).astype(jax.numpy.bfloat16), "z": normal(size=9)}
tree = jax.tree.map(jax.numpy.asarray, tree)
shardings = tree_shardings(tree, mesh)
specs = gathering.specs_of(shardings)
found["parts"], found["whole"], found["messages"] = str(specs), [], []
for most in (2**26, 40_000):  # bytes of a message
    gathering.MESSAGE = most
    gather = jax.shard_map(
        lambda tree: gathering.gather(tree, specs), mesh=mesh, in_specs=(specs,),
        out_specs=everywhere(mesh).spec, check_vma=False,
    )
    parts = jax.device_put(tree, shardings)
    for device in range(4):
        whole = jax.tree.map(
            lambda x: np.asarray(x.addressable_data(device)), jax.jit(gather)(parts)
        )
        same = jax.tree.map(lambda a, b: np.array_equal(a, np.asarray(b)), whole, tree)
        found["whole"].append(all(jax.tree.leaves(same)))
    text = jax.jit(gather).lower(parts).as_text()
    found["messages"].append(text.count("stablehlo.all_gather"))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found():
    """By the number of devices what `make_gradient` makes of the same 12 images.

    Of the gradient the first rows, as each device has them.
    """
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "4", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("devices", [3, 4])
def test_devices_give_what_one_gives(found, devices):
    one, several = found["1"], found[str(devices)]
    assert len(several["gradients"]) == devices
    # Nothing is clipped; only the order of sums changes.
    for gradient in several["gradients"]:
        np.testing.assert_allclose(gradient, one["gradients"][0], rtol=1e-4, atol=1e-8)
    assert several["norm"] == pytest.approx(one["norm"], rel=1e-5)
    assert several["loss"] == pytest.approx(one["loss"], rel=1e-5)
    assert several["images"] == one["images"] == 12
    assert several["stop"] and one["stop"]


def test_what_devices_share_is_gathered_to_the_bit(found):
    """On four devices, two of which share a copy; by type, and in parts if large."""
    assert "fsdp" in found["parts"]
    assert found["whole"] == [True] * 8
    assert found["messages"] == [2, 3]
