"""Autoencoders in tests/golden/bases, with weights by their rule."""

import functools
import gzip
import json

from rad_jax.convert import autoencoder as names
from tests.models.adm_files import FOLDER, arrays, description, golden_weights

KL, VQ = "sd_vae_tiny", "ldm_vq_tiny"

_FILE = FOLDER / "bases" / "ldm_published_state_dicts.json.gz"
PUBLISHED = json.loads(gzip.decompress(_FILE.read_bytes()))
"""Keys, shapes and sizes of published autoencoders, and of a U-Net in latents."""


@functools.cache
def tiny_state(name):
    """The state dict, in diffusers' layout."""
    return golden_weights(description(f"bases/{name}")["keys"])


@functools.cache
def tiny(name):
    """Configuration and parameters."""
    state = tiny_state(name)
    said = names.settings_of(description(f"bases/{name}")["kwargs"])
    config = names.infer({key: array.shape for key, array in state.items()}, **said)
    return config, names.to_params(config, state)


@functools.cache
def numbers(name):
    """Arrays of the file; images and latents become NHWC."""
    return arrays(f"bases/{name}")
