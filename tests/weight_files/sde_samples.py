"""The files of tests/golden/bases/sde_checkpoints, and the weights that they hold."""

import functools
import json

import numpy as np

from tests.golden_files import FOLDER
from tests.models.adm_files import golden_weights

SAMPLES = FOLDER / "bases" / "sde_checkpoints"
FREQUENCIES = "all_modules.0.W"


@functools.cache
def described():
    """Keys and shapes of the state dict, and Flax's names for them."""
    return json.loads(SAMPLES.with_suffix(".json").read_text())


@functools.cache
def file_bytes(name):
    """The file `torch_pth` or `flax_msgpack`."""
    with np.load(SAMPLES.with_suffix(".npz")) as arrays:
        return arrays[name].tobytes()


def torch_weights(prefix=""):
    """The weights, or the averages for the prefix "ema.", by key and in order."""
    shapes = {key: x for key, x in described()["keys"].items() if key != "sigmas"}
    made = golden_weights({prefix + key: shape for key, shape in shapes.items()})
    weights = {key.removeprefix(prefix): array for key, array in made.items()}
    # These are not averaged, and not made like the others: 16 z, where the rule's is
    # 0.1 z of the same z.
    seed = golden_weights({FREQUENCIES: (*shapes[FREQUENCIES], 1)})[FREQUENCIES]
    weights[FREQUENCIES] = np.float32(16) * seed.ravel()
    return weights


def flax_averages():
    """The averages by the names of Flax."""
    weights = torch_weights("ema.")
    return {
        path: _to_flax(weights[key], path)
        for path, key in described()["flax_to_torch"].items()
    }


def _to_flax(array, path):
    if not path.endswith("/kernel"):
        return array
    return np.moveaxis(array, (0, 1), (-1, -2))
