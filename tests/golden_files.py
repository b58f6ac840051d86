"""Numbers of the authors' code for a binary and a soft mask (tests/golden)."""

import pathlib

import jax.numpy as jnp
import numpy as np

FOLDER = pathlib.Path(__file__).parent / "golden"
_FILE = np.load(FOLDER / "rad_schedule.npz")


def golden(name):
    """An array of rad_schedule.npz: (h, w) maps or (h, w, c) images."""
    array = _FILE[name]
    if array.ndim == 0:
        return jnp.asarray(array)
    image = jnp.moveaxis(array[0], 0, -1)
    return image[..., 0] if image.shape[-1] == 1 else image


def golden_mask(kind):
    return jnp.asarray(golden(kind))
