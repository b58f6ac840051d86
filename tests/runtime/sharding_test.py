"""Several devices do what one does, but for the order of sums."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from rad_jax.errors import UserError
from rad_jax.runtime.sharding import (
    AXES,
    abstract_mesh,
    make_mesh,
    sum_over_devices,
    tree_shardings,
    use_cpu_cores,
)

PROGRAM = """
import json, sys
from pathlib import Path
import jax, numpy as np
from rad_jax.runtime import sharding
sharding.use_cpu_cores()
jax.config.update("jax_num_cpu_devices", 2)  # also on a machine of one core
import rad_jax
from rad_jax.config.file import load_config
from rad_jax.train.loop import train
from rad_jax.train.stop import StopRequest
workdir, image = Path(sys.argv[1]), np.zeros((16, 16, 1), np.float32)
experiment = load_config("configs/digits.py", sys.argv[2:])
state = train(experiment, workdir, StopRequest())
devices = {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(state.params)}
model, key = rad_jax.load(workdir), jax.random.key(0)
mask = np.eye(16)
filled = rad_jax.inpaint(model, image, mask, key=key, steps=3, num_samples=3)
print(json.dumps([sorted(devices), float(np.abs(filled).sum())]))
"""


@pytest.mark.slow
def test_two_devices_train_and_fill_as_one(tiny, tiny_run, tmp_path):
    straight, _ = tiny_run
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "two"), *tiny()],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert run.returncode == 0, run.stderr
    devices, filled = json.loads(run.stdout.splitlines()[-1])
    assert devices == [2]
    assert filled > 0
    one, two = (
        [json.loads(x) for x in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (straight, tmp_path / "two")
    )
    assert [x["step"] for x in two] == [x["step"] for x in one]
    for a, b in zip(one, two, strict=True):
        # Sums of half a batch each, rounded otherwise; ten steps carry that on.
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-5)


def test_large_leaves_are_divided_along_their_longest_axis():
    shapes = {
        "kernel": (3, 3, 64, 128),  # the last of two that 4 divides
        "square": (64, 64),  # the first of two that are as long
        "odd": (4099, 6),  # 4 divides neither
        "next": (4099, 8),  # not the longest
        "small": (1, 4000),
    }
    tree = {name: jax.ShapeDtypeStruct(s, np.float32) for name, s in shapes.items()}
    specs = {
        name: sharding.spec
        for name, sharding in tree_shardings(tree, abstract_mesh(8, fsdp=4)).items()
    }
    assert specs == {
        "kernel": PartitionSpec(None, None, None, "fsdp"),
        "square": PartitionSpec("fsdp"),
        "odd": PartitionSpec(),
        "next": PartitionSpec(None, "fsdp"),
        "small": PartitionSpec(),
    }
    whole = tree_shardings(tree, abstract_mesh(8))
    assert {sharding.spec for sharding in whole.values()} == {PartitionSpec()}


@pytest.mark.parametrize("make", [make_mesh, lambda fsdp: abstract_mesh(8, fsdp)])
def test_fsdp_must_divide_the_devices(make):
    with pytest.raises(UserError, match=r"train\.fsdp is 3, which does not divide"):
        make(3)


def test_sum_over_devices_is_the_sum():
    """On several virtual devices: tests/train/processes_test.py."""
    mesh = make_mesh()
    one, tree = PartitionSpec(AXES), {"a": np.ones((jax.device_count(), 3))}
    total = jax.shard_map(
        lambda x: sum_over_devices(x, mesh), mesh=mesh, in_specs=one, out_specs=one
    )(tree)
    np.testing.assert_array_equal(total["a"], jax.device_count())


@pytest.mark.parametrize(
    "cores, batch_size, expected", [(8, 4, 4), (6, 8, 4), (64, 0, 8), (3, 7, 1)]
)
def test_as_many_cores_as_divide_the_batch(monkeypatch, cores, batch_size, expected):
    updates = {}
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(cores))
    monkeypatch.setattr(jax.config, "update", updates.__setitem__)
    monkeypatch.delenv("JAX_NUM_CPU_DEVICES", raising=False)
    use_cpu_cores(batch_size)
    assert updates == {"jax_num_cpu_devices": expected}


SHARED = """
import json, jax, numpy as np
jax.config.update("jax_num_cpu_devices", 4)
from rad_jax.runtime.sharding import on_all_devices
found = []
for count in (1, 3, 4, 6):
    batch, params = on_all_devices(np.arange(count), np.zeros(5))
    devices = [len(x.sharding.device_set) for x in (batch, params)]
    found.append([devices, np.asarray(batch).tolist()])
print(json.dumps(found))
"""


def test_a_batch_is_computed_on_no_more_devices_than_it_has_images():
    done = subprocess.run(
        [sys.executable, "-c", SHARED], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [
        [[1, 1], [0]],
        [[3, 3], [0, 1, 2]],
        [[4, 4], [0, 1, 2, 3]],
        [[4, 4], [0, 1, 2, 3, 4, 5, 5, 5]],
    ]


IN_PLACE = """
import json, jax, numpy as np
jax.config.update("jax_num_cpu_devices", 2)
from rad_jax.runtime.sharding import everywhere, local_mesh, on_all_devices
from unittest import mock
here = {"a": np.ones(3), "b": np.ones((2, 2))}
here, first = (jax.device_put(here, everywhere(local_mesh(n))) for n in (2, 1))
addresses = lambda x: [s.data.unsafe_buffer_pointer() for s in x.addressable_shards]
found = []
for params, count in (here, 2), (here, 1), (first, 1), (first, 2):
    with mock.patch("jax.device_put", wraps=jax.device_put) as put:
        batch, placed = on_all_devices(np.zeros(count), params)
    same = [addresses(x)[0] == addresses(params[k])[0] for k, x in placed.items()]
    devices = [len(x.sharding.device_set) for x in placed.values()]
    total = jax.jit(lambda x, p: x.sum() + p["a"].sum() + p["b"].sum())(batch, placed)
    found.append([same, devices, put.call_count, float(total)])
print(json.dumps(found))
"""


def test_what_is_in_place_is_left_alone():
    done = subprocess.run(
        [sys.executable, "-c", IN_PLACE], capture_output=True, text=True, check=True
    )
    yes = [True, True]
    assert json.loads(done.stdout) == [
        [yes, [2, 2], 1, 7],  # the batch is put there, nothing else
        [yes, [1, 1], 1, 7],
        [yes, [1, 1], 1, 7],
        [yes, [2, 2], 2, 7],
    ]
