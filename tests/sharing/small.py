"""Models that are small, and evaluations of them."""

import dataclasses

import jax
import numpy as np

from rad_jax.checkpoints.model import LamaModel, Model
from rad_jax.checkpoints.model_folder import write_model
from rad_jax.diffusion.schedule_config import ScheduleConfig
from rad_jax.models.config import UNetConfig
from rad_jax.models.lama_config import LamaConfig
from tests.models.adm_files import random_params

CONFIG = UNetConfig(
    image_size=16,
    model_channels=32,
    channel_mult=(1,),
    num_res_blocks=1,
    attention_resolutions=(),
    in_channels=1,
    out_channels=1,
)


def network(seed=0, known_steps=1000, **changes):
    """A RAD with random weights; a plain ADM with no known steps."""
    config = dataclasses.replace(CONFIG, **changes)
    model = Model(config, ScheduleConfig(known_steps=known_steps), "eps", {})
    params = random_params(model.abstract_params())
    moved = jax.tree.map(lambda x: np.asarray(x) + np.float32(seed), params)
    return model._replace(params=moved)


def lama():
    """A LaMa with random weights."""
    model = LamaModel(LamaConfig(num_blocks=1, base_channels=8, image_size=16), {})
    params = random_params(model.abstract_params())
    return model._replace(params=jax.tree.map(np.asarray, params))


def write(folder, model=None, **provenance):
    """Writes one."""
    write_model(folder, model or network(), provenance)
    return folder
