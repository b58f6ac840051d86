"""Autoencoders of latent diffusion against outputs of diffusers, on known weights.

Both compute in float32 and add in different orders: observed differences are 3e-6 of
the largest output.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.errors import UserError
from rad_jax.models.autoencoder import (
    Moments,
    abstract_params,
    draw_latents,
    make_decode,
    make_encode,
    nearest_codes,
)
from rad_jax.models.autoencoder_config import AutoencoderConfig
from tests.models.adm_files import quick_jit, random_params, relative_error
from tests.models.autoencoder_files import KL, VQ, numbers, tiny

pytestmark = pytest.mark.usefixtures("quickly")

TOLERANCE = 2e-5
"""In shares of the largest output."""

SMALL = AutoencoderConfig("kl", (32, 32), 1, 4)


@functools.cache
def encoder(config):
    return quick_jit(make_encode(config))


@functools.cache
def decoder(config):
    return quick_jit(make_decode(config))


@pytest.fixture(scope="module")
def kl_moments():
    config, params = tiny(KL)
    return encoder(config)(params, jnp.asarray(numbers(KL)["x"]))


def test_kl_moments(kl_moments):
    data = numbers(KL)
    assert relative_error(kl_moments.mean, data["mean"]) < TOLERANCE
    assert relative_error(kl_moments.log_variance, data["logvar"]) < TOLERANCE


def test_a_latent_is_the_mean_or_a_draw(kl_moments):
    """Of their noise, theirs; of a key the same numbers each time."""
    config, _ = tiny(KL)
    data, (mean, log_variance) = numbers(KL), kl_moments
    latent = config.scaling_factor * (mean + np.exp(log_variance / 2) * data["noise"])
    assert config.scaling_factor == 0.18215
    assert relative_error(latent, data["latent"]) < TOLERANCE
    key = jax.random.key(3)
    drawn = draw_latents(kl_moments, key)
    noise = (drawn - mean) / np.exp(log_variance / 2)
    np.testing.assert_allclose(noise, jax.random.normal(key, mean.shape), atol=1e-4)
    assert draw_latents(Moments(mean, None), key) is mean


def test_log_variances_are_clamped():
    params = random_params(abstract_params(SMALL))
    bias = params["quant_conv"]["bias"]
    params["quant_conv"]["bias"] = bias.at[4].set(-1e3).at[5].set(1e3)
    mean, log_variance = encoder(SMALL)(params, jnp.zeros((1, 8, 8, 3)))
    assert mean.shape == (1, 4, 4, 4)
    np.testing.assert_array_equal(log_variance[..., 0], np.full((1, 4, 4), -30))
    np.testing.assert_array_equal(log_variance[..., 1], np.full((1, 4, 4), 20))


def test_kl_decodes():
    config, params = tiny(KL)
    data = numbers(KL)
    decoded = decoder(config)(params, jnp.asarray(data["z"]))
    assert decoded.dtype == jnp.float32
    assert relative_error(decoded, data["decoded"]) < TOLERANCE


def test_vq_encodes_to_what_is_not_quantised_yet():
    config, params = tiny(VQ)
    data = numbers(VQ)
    mean, log_variance = encoder(config)(params, jnp.asarray(data["x"]))
    assert log_variance is None and config.scaling_factor == 1
    assert relative_error(mean, data["h"]) < TOLERANCE


def test_vq_decodes_the_nearest_codes():
    config, params = tiny(VQ)
    data, codes = numbers(VQ), params["codebook"]
    latents = jnp.asarray(data["h"])
    found = nearest_codes(jnp.asarray(codes), latents)
    np.testing.assert_array_equal(found, data["indices"])
    # Theirs go through a sum and a difference, for their gradient.
    np.testing.assert_allclose(codes[found], data["quantized"], atol=1e-6)
    decoded = decoder(config)(params, latents)
    assert relative_error(decoded, data["decoded"]) < TOLERANCE
    # They are another image than the latents themselves.
    assert relative_error(decoded, data["decoded_not_quantized"]) > 1e-2
    # A code is nearest to itself.
    again = decoder(config)(params, codes[found])
    np.testing.assert_array_equal(again, decoded)


def test_bfloat16_stays_close():
    config, params = tiny(KL)
    half = dataclasses.replace(config, dtype="bfloat16")
    data = numbers(KL)
    mean, _ = encoder(half)(params, jnp.asarray(data["x"]))
    decoded = decoder(half)(params, jnp.asarray(data["z"]))
    for found, expected in ((mean, data["mean"]), (decoded, data["decoded"])):
        assert found.dtype == jnp.float32
        assert 1e-4 < relative_error(found, expected) < 5e-2


@pytest.mark.parametrize(
    "config, count",
    [
        (AutoencoderConfig("kl", (128, 256, 512, 512), 2, 4), 83_653_863),
        (AutoencoderConfig("vq", (128, 256, 512), 2, 3, 8192), 55_322_782),
    ],
)
def test_published_sizes(config, count):
    abstract = abstract_params(config)
    assert sum(leaf.size for leaf in jax.tree.leaves(abstract)) == count
    assert config.stride == {4: 8, 3: 4}[config.latent_channels]
    side = 64 // config.stride
    images = jax.ShapeDtypeStruct((1, 64, 32, 3), jnp.float32)
    mean, _ = jax.eval_shape(make_encode(config), abstract, images)
    assert mean.shape == (1, side, side // 2, config.latent_channels)
    assert jax.eval_shape(make_decode(config), abstract, mean).shape == images.shape


def test_sizes_that_do_not_fit():
    with pytest.raises(UserError, match="divisible by its stride 2, not 8 x 9; pad"):
        make_encode(SMALL)(
            random_params(abstract_params(SMALL)), jnp.zeros((1, 8, 9, 3))
        )


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"kind": "vae"}, "kind is 'vae'; use one of kl, vq"),
        ({"widths": []}, "widths is empty"),
        ({"widths": [32, 48]}, "widths has 48; it must be a multiple of 32"),
        ({"widths": [0]}, "widths has 0"),
        ({"num_res_blocks": 0}, "num_res_blocks is 0; it must be positive"),
        ({"scaling_factor": float("nan")}, "scaling_factor is nan"),
        ({"scaling_factor": float("inf")}, "scaling_factor is inf"),
        ({"latent_channels": -4}, "latent_channels is -4"),
        ({"kind": "vq"}, "num_codes is 0; kind vq needs 1 or more"),
        ({"num_codes": 5}, "num_codes is 5; kind kl has none"),
        ({"dtype": "float16"}, "dtype is 'float16'; use one of float32, bfloat16"),
    ],
)
def test_what_cannot_be_built(changes, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(SMALL, **changes)


def test_lists_are_kept_as_tuples():
    config = AutoencoderConfig("kl", [32, 64], 1, 4)
    assert config.widths == (32, 64) and hash(config)
