"""A base in latents that is small enough for tests, of random weights."""

import dataclasses
import functools

import jax
import numpy as np

from rad_jax.checkpoints.model import Codec, Model
from rad_jax.diffusion.schedule_config import ScheduleConfig
from rad_jax.models.config import UNetConfig
from rad_jax.models.network import abstract_params
from tests.models.adm_files import random_params
from tests.models.autoencoder_files import KL, tiny

CONFIG = UNetConfig(
    image_size=8,
    model_channels=32,
    channel_mult=(1, 1),
    num_res_blocks=1,
    attention_resolutions=(),
    in_channels=4,
    out_channels=4,
    learn_sigma=False,
    num_head_channels=32,
    resblock_updown=False,
)


@functools.cache
def latent_model(name=KL):
    """A U-Net over the latents of a tiny autoencoder, four pixels to a cell."""
    config, params = tiny(name)
    codec = Codec(config, jax.tree.map(np.asarray, params))
    z = config.latent_channels
    network = dataclasses.replace(CONFIG, in_channels=z, out_channels=z)
    weights = jax.tree.map(np.asarray, random_params(abstract_params(network)))
    return Model(network, ScheduleConfig(), "eps", weights, codec=codec)
