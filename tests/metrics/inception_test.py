"""FID's Inception against numbers of pytorch-fid, for weights that follow a rule."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.errors import UserError
from rad_jax.metrics import inception
from rad_jax.metrics.inception import inception_features, read_params
from rad_jax.weight_files import name_table
from tests.conftest import ROOT
from tests.metrics import metric_files
from tests.metrics.metric_files import GOLDEN, inception_shapes, publish
from tests.models.adm_files import quick_jit


def test_keys_and_shapes_are_the_published_ones():
    shapes = name_table.file_shapes(list(inception.entries()), inception.abstract()[1])
    expected = {
        key: tuple(shape)
        for key, shape in inception_shapes().items()
        if not key.startswith("fc.") and "num_batches" not in key
    }
    assert shapes == expected


def resize_as_tensorflow(image):
    """By pixels, in float64: pixel i of the result lies at i times the ratio."""
    for axis in (0, 1):
        size = image.shape[axis]
        image = interpolate(image, axis, np.arange(299) * size / 299)
    return image


def resize_as_pytorch(image):
    """The same with centres at halves, and edges continued."""
    for axis in (0, 1):
        size = image.shape[axis]
        at = (np.arange(299) + 0.5) * size / 299 - 0.5
        image = interpolate(image, axis, np.clip(at, 0, size - 1))
    return image


def interpolate(image, axis, at):
    low = np.int64(at)
    high = np.minimum(low + 1, image.shape[axis] - 1)
    part = (at - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
    return image.take(low, axis) * (1 - part) + image.take(high, axis) * part


def test_features_are_the_reference_programs(tmp_path):
    """That one is torch-fidelity: images as TensorFlow resized and scaled them."""
    file = publish(tmp_path, metric_files.inception())
    params = read_params(tmp_path, {"inception": file})
    # One image: half the time.
    levels = np.moveaxis(GOLDEN["inception_in"][1:].astype(np.float64), 1, -1)
    resized = np.stack([resize_as_tensorflow(x) for x in levels])
    images = jnp.asarray((resized - 128) / 128, jnp.float32)
    found = quick_jit(inception_features)(params, images)
    expected = GOLDEN["inception_2048"][1:]
    # Observed: 4e-7; the features of another image are alike to 2%.
    assert np.abs(found - expected).max() < 1e-5 * expected.max()


@pytest.mark.parametrize("shape", [(16, 16), (640, 311), (299, 299), (1, 30)])
def test_resizing_is_bilinear_without_smoothing(shape):
    picture = np.random.default_rng(0).uniform(-1, 1, (*shape, 1))
    found = inception.resize(jnp.asarray(picture[None], jnp.float32))[0]
    # Weights are of places in float32, up to 640 pixels from the corner.
    np.testing.assert_allclose(found, resize_as_pytorch(picture), atol=2e-4)


def test_files_of_another_network():
    state = {
        key: np.broadcast_to(np.float32(0), shape)
        for key, shape in inception_shapes().items()
    }
    path = Path("inception.pth")
    for changed, error in (
        ({"fc.bias": None}, None),
        ({"Mixed_7c.branch_pool.bn.running_var": None}, "lacks Mixed_7c"),
        ({"AuxLogits.fc.bias": np.zeros(1)}, "has the unknown AuxLogits.fc.bias$"),
        ({"Mixed_6b.branch7x7_2.conv.weight": np.zeros((128, 128, 7, 1))}, "shape of"),
    ):
        given = {k: x for k, x in (state | changed).items() if x is not None}
        if error is None:
            inception.params_from_state(path, given)
            continue
        with pytest.raises(UserError, match=f"^inception.pth: is of another.*{error}"):
            inception.params_from_state(path, given)


PROGRAM = """
import functools, json, sys
from pathlib import Path
import jax, jax.numpy as jnp, numpy as np
from rad_jax.metrics import inception, lpips
from rad_jax.runtime.sharding import on_all_devices
from tests.metrics import metric_files
from tests.models.adm_files import quick_jit
assert jax.device_count() == 8
rng = np.random.default_rng(0)
a, b = rng.uniform(-1, 1, (2, 8, 33, 40, 3)).astype(np.float32)
folder = Path(sys.argv[1])
states = {"": metric_files.backbone("alex"), "_heads": metric_files.heads("alex")}
files = {f"alex{x}": metric_files.publish(folder, states[x]) for x in states}
alex = lpips.read_params("alex", folder, files)
pool = inception.params_from_state(folder, metric_files.inception())
measure = quick_jit(lambda params, x: {
    "lpips": lpips.lpips(params[0], *x, net="alex"),
    "features": inception.inception_features(params[1], x[0]),
})
one = measure((alex, pool), (a, b))
batch, params = on_all_devices((a, b), (alex, pool))
eight = measure(params, batch)
assert len(eight["features"].sharding.device_set) == 8
for name in one:
    x, y = np.asarray(one[name]), np.asarray(eight[name])
    print(json.dumps([name, float(np.abs(x - y).max() / np.abs(x).max())]))
"""


@pytest.mark.slow
def test_eight_devices_measure_as_one(tmp_path):
    found_here = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    devices = {"JAX_NUM_CPU_DEVICES": "8", "PYTHONPATH": found_here}
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        env=os.environ | devices,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert run.returncode == 0, run.stderr
    found = dict(map(json.loads, run.stdout.splitlines()))
    assert set(found) == {"lpips", "features"}
    # Each image is computed alone; only the order of sums within it may differ.
    assert max(found.values()) < 1e-5
