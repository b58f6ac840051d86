"""Networks of tests/golden: outputs of the authors' programs for known weights.

The weights follow a rule, so that nothing large is stored: standard normal numbers
seeded by the crc32 of each key, scaled by the array's kind.
"""

import functools
import json
import math
import pathlib
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from rad_jax.models.apply import make_apply
from rad_jax.models.noise_embedding import NoiseLevels

FOLDER = pathlib.Path(__file__).parents[1] / "golden"


def description(name):
    """Flags or config, and the shapes of the state dict."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def arrays(name):
    """Inputs and outputs; images become NHWC."""
    with np.load(FOLDER / f"{name}.npz") as file:
        return {
            key: np.moveaxis(x, 1, -1) if x.ndim == 4 else x for key, x in file.items()
        }


def golden_weights(shapes):
    """A state dict made by the rule."""
    return {key: _weight(key, shape) for key, shape in shapes.items()}


def _weight(key, shape):
    generator = np.random.default_rng(zlib.crc32(key.encode()))
    z = generator.standard_normal(shape, dtype=np.float32)
    if len(shape) >= 2:
        return z / np.float32(math.sqrt(math.prod(shape[1:])))
    return (
        np.float32(1) + np.float32(0.1) * z
        if key.endswith("weight")
        else (np.float32(0.1) * z)
    )


@functools.cache
def network(config):
    """apply(params, x, noise, labels=None, dropout_keys=None), compiled."""
    return quick_jit(make_apply(config))


def quick_jit(function):
    """Compiles in half the time; the networks of the tests run in milliseconds."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": "0"})


def one_level(timesteps):
    """Plain ADM: a timestep per image."""
    return NoiseLevels(jnp.asarray(timesteps)[:, None])


def random_params(params, seed=0):
    """As many random numbers as a network has parameters, none of them zero."""
    leaves, tree = jax.tree.flatten(params)
    generator = np.random.default_rng(seed)

    def draw(leaf):
        z = generator.standard_normal(leaf.shape, dtype=np.float32)
        return jnp.asarray(
            z / math.sqrt(math.prod(leaf.shape[:-1])) if leaf.ndim > 1 else 0.1 * z
        )

    return jax.tree.unflatten(tree, [draw(leaf) for leaf in leaves])


def relative_error(output, expected):
    """Largest difference, relative to the expected output's scale."""
    return float(np.abs(output - expected).max() / np.abs(expected).max())


def flat(tree) -> dict[str, Any]:
    """The leaves of nested dictionaries by dotted names."""
    return {".".join(map(str, path)): leaf for path, leaf in flatten_dict(tree).items()}
