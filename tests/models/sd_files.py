"""Stable Diffusion's networks in tests/golden/bases, with weights by their rule."""

import functools

import jax.numpy as jnp

from rad_jax.convert.sd import (
    PREFIX,
    compvis_entries,
    config_from_diffusers,
    diffusers_entries,
    is_linear,
)
from rad_jax.models.network import abstract_params
from rad_jax.models.sd_config import SDConfig
from rad_jax.weight_files import name_table
from tests.models.adm_files import arrays, description, golden_weights

COMPVIS = "sd_compvis_unet_tiny"


@functools.cache
def golden_unet(name):
    """Configuration, the table of its file's keys, and the file's arrays."""
    meta = description(f"bases/{name}")
    state = golden_weights(meta["keys"])
    if name == COMPVIS:
        config, table = compvis_config(meta["kwargs"]), compvis_entries
        state = {PREFIX + key: array for key, array in state.items()}
    else:
        config, table = config_from_diffusers(meta["kwargs"]), diffusers_entries
    return config, table(config, linear=is_linear(state)), state


@functools.cache
def sd(name):
    """Configuration and parameters."""
    config, table, state = golden_unet(name)
    return config, name_table.read(table, abstract_params(config), state)


def compvis_config(kwargs):
    """Of what CompVis' network is made by; its resolutions are factors."""
    return SDConfig(
        kwargs["image_size"],
        kwargs["model_channels"],
        kwargs["channel_mult"],
        kwargs["num_res_blocks"],
        [kwargs["image_size"] // factor for factor in kwargs["attention_resolutions"]],
        num_heads=kwargs["num_heads"],
        context_channels=kwargs["context_dim"],
    )


@functools.cache
def numbers(name):
    """Arrays of the file; images become NHWC, timesteps float32."""
    data = arrays(f"bases/{name}")
    return {key: jnp.asarray(x, jnp.float32) for key, x in data.items()}
