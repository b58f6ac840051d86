"""Several devices do what one does, but for the order of sums."""

import json
import subprocess
import sys

import jax
import pytest

from rad_jax.sharding import data_shardings

PROGRAM = """
import json, sys
from pathlib import Path
import jax, numpy as np
from rad_jax import sharding
sharding.use_cpu_cores()
jax.config.update("jax_num_cpu_devices", 2)  # also on a machine of one core
import rad_jax
from rad_jax.config import load_config
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
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-4)


def test_as_many_devices_as_divide_the_batch():
    divided, everywhere = data_shardings(6)
    assert 6 % divided.mesh.size == 0
    assert divided.mesh == everywhere.mesh
    assert divided.mesh.size <= jax.device_count()
