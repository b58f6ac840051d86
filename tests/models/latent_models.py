"""A base in latents that is small enough for tests, of random weights."""

import dataclasses
import functools
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np

from rad_jax.checkpoints.model import Codec, Model, Text, parts, with_params
from rad_jax.diffusion.betas import STABLE_DIFFUSION
from rad_jax.diffusion.schedule_config import ScheduleConfig
from rad_jax.models import clip
from rad_jax.models.clip_config import CLIPConfig
from rad_jax.models.config import UNetConfig
from rad_jax.models.network import abstract_params
from rad_jax.models.sd_config import SDConfig
from tests.models.adm_files import random_params
from tests.models.autoencoder_files import KL, tiny
from tests.text.tokenizers import tiny_tokenizer

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


SD = SDConfig(
    image_size=8,
    model_channels=32,
    channel_mult=(1, 1),
    num_res_blocks=1,
    attention_resolutions=(8,),
    in_channels=4,
    out_channels=4,
    context_channels=32,
    num_heads=2,
)
CLIP = CLIPConfig(32, 64, 2, 2, vocab_size=526, max_length=16)


@functools.cache
def text_model():
    """Such a model that is told texts, like Stable Diffusion."""
    weights = _lively(random_params(abstract_params(SD)))
    params = _lively(random_params(clip.abstract_params(CLIP)))
    text = Text(CLIP, params, tiny_tokenizer())
    schedule = ScheduleConfig("scaled_linear", hole_betas=STABLE_DIFFUSION)
    codec = latent_model().codec
    return Model(SD, schedule, "eps", weights, codec=codec, text=text)


def _lively(params):
    """With normalisations near 1: else a text would change next to nothing."""

    def one(path, leaf):
        return np.asarray(leaf + 1 if path[-1].key == "scale" else leaf)

    return jax.tree.map_with_path(one, params)


def on_devices(model):
    """With arrays of JAX, as ``load`` gives them."""
    trees = {name: part.params for name, part in parts(model).items()}
    return cast(Model, with_params(model, jax.tree.map(jnp.asarray, trees)))
