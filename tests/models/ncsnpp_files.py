"""Networks of score-based SDE in tests/golden/bases, with weights by their rule."""

import functools
import zlib

import numpy as np

from rad_jax.convert.score_sde import config_of, entries
from rad_jax.models.network import abstract_params
from rad_jax.weight_files import name_table
from tests.models.adm_files import arrays, description, golden_weights


def golden_state(shapes):
    """A state dict by the rule; frequencies are 16 times as large, `sigmas` no part."""
    state = golden_weights({key: s for key, s in shapes.items() if key != "sigmas"})
    if (key := "all_modules.0.W") in state:
        generator = np.random.default_rng(zlib.crc32(key.encode()))
        z = generator.standard_normal(shapes[key], dtype=np.float32)
        state[key] = np.float32(16) * z
    return state


@functools.cache
def ncsnpp(name):
    """Configuration and parameters."""
    meta = description(f"bases/{name}")
    config = config_of(meta["model"], meta["data"])
    state = golden_state(meta["keys"])
    return config, name_table.read(entries(config), abstract_params(config), state)


def told(config, levels):
    """What the network is told, of what the reference is given."""
    return np.log(levels) if config.embedding == "fourier" else levels


def given(config, x):
    """The images in our range: those of "fourier" come in [0, 1]."""
    return 2 * x - 1 if config.embedding == "fourier" else x


@functools.cache
def numbers(name):
    """Arrays of the file; images become NHWC."""
    return arrays(f"bases/{name}")
