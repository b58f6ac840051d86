"""LaMa generators of tests/golden: weights by a rule, outputs of the authors' code.

The rule is that of `adm_files.golden_weights`, but for three kinds of arrays, so that
numbers neither grow nor vanish on their way through the blocks.
"""

import functools
import json
import zlib

import numpy as np

from tests.models.adm_files import FOLDER, golden_weights

PREFIX = "generator."
"""What stands before the generator's keys in its published checkpoint."""


@functools.cache
def description(name):
    """Keys and shapes of "tiny", "lama_fourier" or "big_lama", and its sizes."""
    return json.loads((FOLDER / "lama_state_dicts.json").read_text())["models"][name]


def shapes(name):
    """Shapes by the keys of the generator, counters included."""
    found = description(name)["state_dict"]
    return {key.removeprefix(PREFIX): tuple(shape) for key, shape in found.items()}


def published(name):
    """The arrays of a checkpoint by its keys; counters are int64."""
    return {
        key: _weight(key, shape)
        for key, shape in description(name)["state_dict"].items()
    }


def generator(name):
    """The same by the generator's keys, without counters."""
    return {
        key.removeprefix(PREFIX): array
        for key, array in published(name).items()
        if not key.endswith("num_batches_tracked")
    }


def _weight(key, shape):
    if key.endswith("num_batches_tracked"):
        return np.array(0, np.int64)
    if key.endswith("running_var"):
        draw = np.random.default_rng(zlib.crc32(key.encode()))
        z = draw.standard_normal(shape, dtype=np.float32)
        return np.float32(1) + np.float32(0.2) * np.abs(z)
    (array,) = golden_weights({key: shape}).values()
    quarter = ".conv2.ffc." in key and array.ndim > 1
    return array * np.float32(0.25) if quarter else array


def outputs(name):
    """By size and then by name: images (b, h, w, c), and numbers by channel."""
    found = {}
    with np.load(FOLDER / f"{'lama_tiny' if name == 'tiny' else name}.npz") as file:
        for key, array in file.items():
            _, size, what = key.split("/")
            array = np.moveaxis(array, 1, -1) if array.ndim == 4 else array
            found.setdefault(size, {})[what] = array
    return found
