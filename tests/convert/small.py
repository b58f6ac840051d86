"""The smallest network that there is, which converts in a moment."""

import pickle

import numpy as np

from rad_jax.convert import adm
from rad_jax.convert.diffusers import params_to_diffusers
from rad_jax.models.config import UNetConfig
from rad_jax.models.network import abstract_params
from tests.models.adm_files import random_params

CONFIG = UNetConfig(
    image_size=8,
    model_channels=32,
    channel_mult=(1,),
    num_res_blocks=1,
    attention_resolutions=(),
    num_head_channels=32,
    use_new_attention_order=True,
)
FLAGS = (
    *("--image_size", "8", "--num_head_channels", "32"),
    *("--use_new_attention_order", "true", "--noise_schedule", "linear"),
)


def read_quick(folder):
    """The model of a folder of the fixture `quick_folders`."""
    return pickle.loads((folder / "model").read_bytes())


def openai(seed=0):
    """Weights in guided-diffusion's layout."""
    params = random_params(abstract_params(CONFIG), seed)
    state = adm.params_to_adm(CONFIG, params)
    return {key: np.array(x, order="C") for key, x in state.items()}


def diffusers(seed=0):
    """The same in diffusers'."""
    params = random_params(abstract_params(CONFIG), seed)
    state = params_to_diffusers(CONFIG, params, pointwise_time=False)
    return {key: np.array(x, order="C") for key, x in state.items()}


def prefixed(prefix, state):
    return {prefix + key: array for key, array in state.items()}
