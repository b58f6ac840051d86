"""The network against outputs of the authors' programs.

Both compute in float32 and add in different orders. Observed differences are 2e-6 of
the output's largest value; 2e-5 leaves a factor of ten for other machines, and is still
below what a wrong epsilon of the normalisation makes (5e-5, the smallest of the errors
that were tried).
"""

import dataclasses
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.convert.adm import adm_to_params, config_from_adm_flags
from rad_jax.convert.diffusers import config_from_diffusers, diffusers_to_params
from rad_jax.models.noise_embedding import NoiseLevels, NoiseMap, membership
from tests.models.adm_files import (
    arrays,
    description,
    golden_weights,
    network,
    one_level,
    relative_error,
)

TOLERANCE = 2e-5


def adm(name):
    meta = description(name)
    config = config_from_adm_flags(meta["flags"])
    return config, adm_to_params(config, golden_weights(meta["state_dict"]))


@pytest.mark.parametrize("name", ["tiny_adm", "tiny_cond_heads", "tiny_neworder"])
def test_adm(name):
    config, params = adm(name)
    data = arrays(name)
    labels = jnp.asarray(data["y"], jnp.int32) if "y" in data else None
    output = network(config)(
        params, jnp.asarray(data["x"]), one_level(data["t"]), labels
    )
    assert relative_error(output, data["out"]) < TOLERANCE


def test_iddpm():
    """Convolutions change the resolution; one head, two on the way up; added labels."""
    meta, data = (
        description("bases/iddpm_tiny_cond_additive"),
        arrays("bases/iddpm_tiny_cond_additive"),
    )
    flags = {
        **{"image_size": 32, "num_channels": 32, "num_res_blocks": 1},
        **{"channel_mult": "1,1,2", "attention_resolutions": "16", "num_heads": 1},
        **{"num_heads_upsample": 2, "use_scale_shift_norm": False, "class_cond": True},
        "learn_sigma": True,
    }
    config = dataclasses.replace(config_from_adm_flags(flags), num_classes=10)
    params = adm_to_params(config, golden_weights(meta["keys"]))
    output = network(config)(
        params,
        jnp.asarray(data["x"]),
        one_level(data["t"]),
        jnp.asarray(data["y"], jnp.int32),
    )
    assert relative_error(output, data["out"]) < TOLERANCE


@pytest.mark.parametrize("name", ["ldm_unet_tiny", "ldm_unet_tiny_diffusers"])
def test_ldm(name):
    """The network of unconditional latent diffusion is an ADM, in either layout."""
    meta, data = description(f"bases/{name}"), arrays(f"bases/{name}")
    state, kwargs = golden_weights(meta["keys"]), meta["kwargs"]
    if name == "ldm_unet_tiny":
        flags = {
            **{"image_size": 16, "num_channels": 32, "num_res_blocks": 1},
            **{"channel_mult": "1,2,2", "num_head_channels": 16},
            # Theirs are factors of downsampling: 4 and 2.
            **{"attention_resolutions": "4,8", "use_scale_shift_norm": False},
        }
        assert (kwargs["model_channels"], kwargs["attention_resolutions"]) == (
            32,
            [4, 2],
        )
        config = config_from_adm_flags(flags)
        params = adm_to_params(config, state)
    else:
        config = config_from_diffusers(kwargs)
        params = diffusers_to_params(config, state)
    assert not (config.learn_sigma or config.resblock_updown)
    noise = one_level(data["t"].astype(np.float32))
    output = network(config)(params, jnp.asarray(data["x"]), noise)
    assert relative_error(output, data["out"]) < TOLERANCE


@pytest.mark.slow
def test_ffhq256():
    config, params = adm("ffhq256")
    data = arrays("ffhq256")
    generator = np.random.default_rng(zlib.crc32(b"ffhq256"))
    x = generator.standard_normal((1, 3, 256, 256), dtype=np.float32)
    output = network(config)(
        jax.tree.map(jnp.asarray, params),
        jnp.asarray(np.moveaxis(x, 1, -1)),
        one_level(data["t"]),
    )
    assert relative_error(output[:, ::8, ::8], data["out_sub"]) < TOLERANCE
    np.testing.assert_allclose(output.mean((1, 2)), data["out_mean"], atol=2e-5)
    np.testing.assert_allclose(output.std((1, 2)), data["out_std"], rtol=2e-5)


def rad(kind):
    """Network and data of the authors' U-Net on a map of timesteps."""
    meta, data = description("rad_unet"), arrays("rad_unet")
    config = config_from_diffusers(meta["config"])
    params = diffusers_to_params(config, golden_weights(meta["state_dict"]))
    timesteps = data[f"timestep_map_{kind}"][..., 0]
    return config, params, jnp.asarray(data["x"]), timesteps, data[f"out_{kind}"]


@pytest.mark.parametrize("kind", ["binary", "dense"])
def test_rad_by_pixels(kind):
    config, params, x, timesteps, expected = rad(kind)
    output = network(config)(params, x, NoiseMap(jnp.asarray(timesteps)))
    assert relative_error(output, expected) < TOLERANCE


def test_rad_by_levels():
    config, params, x, timesteps, expected = rad("binary")
    levels = np.stack([np.unique(t) for t in timesteps])
    assert levels.shape[1] == 2
    onehot = timesteps[..., None] == levels[:, None, None]
    weights = membership(jnp.float32(onehot), config.num_resolutions)
    output = network(config)(params, x, NoiseLevels(jnp.asarray(levels), weights))
    assert relative_error(output, expected) < TOLERANCE
