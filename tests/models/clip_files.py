"""CLIP's text encoders in tests/golden/bases, with weights by their rule."""

import functools

import numpy as np

from rad_jax.convert.clip import clip_to_params, config_from_transformers
from tests.models.adm_files import FOLDER, description, golden_weights


def clip_state(name):
    """Arrays of the file, of transformers' keys with the prefix "text_model."."""
    return golden_weights(description(f"bases/{name}")["keys"])


@functools.cache
def clip(name):
    """Configuration and parameters."""
    config = config_from_transformers(description(f"bases/{name}")["config"])
    return config, clip_to_params(config, clip_state(name))


def clip_numbers(name):
    """Token ids and states."""
    with np.load(FOLDER / "bases" / f"{name}.npz") as file:
        data = dict(file)
    return data | {"input_ids": data["input_ids"].astype(np.int32)}
