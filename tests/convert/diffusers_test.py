"""The diffusers layout: names, attention orders, both ways."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rad_jax.convert import diffusers
from rad_jax.errors import UserError
from rad_jax.models.attention import Attention
from rad_jax.models.network import abstract_params
from rad_jax.weight_files import name_table
from tests.models.adm_files import description, golden_weights, relative_error

META = description("rad_unet")
CONFIG = diffusers.config_from_diffusers(META["config"])


def test_config():
    assert CONFIG.attention_resolutions == (16, 8)
    assert CONFIG.channel_mult == (1, 2, 2) and CONFIG.num_head_channels == 32
    assert CONFIG.learn_sigma and CONFIG.resblock_updown and CONFIG.use_scale_shift_norm


@pytest.mark.parametrize("new_order", [True, False])
def test_there_and_back(new_order):
    config = dataclasses.replace(CONFIG, use_new_attention_order=new_order)
    state = golden_weights(META["state_dict"])
    params = diffusers.diffusers_to_params(config, state)
    again = diffusers.params_to_diffusers(config, params, pointwise_time=True)
    assert set(again) == set(state)
    for key, array in state.items():
        np.testing.assert_array_equal(again[key], array)


def test_time_layers_may_be_linear():
    state = golden_weights(META["state_dict"])
    params = diffusers.diffusers_to_params(CONFIG, state)
    linear = diffusers.params_to_diffusers(CONFIG, params, pointwise_time=False)
    changed = {key for key in state if linear[key].shape != state[key].shape}
    assert len(changed) == 2 + 13 + 2  # the MLP; blocks of the levels; of the middle
    assert all("time_emb" in key and linear[key].ndim == 2 for key in changed)
    again = diffusers.diffusers_to_params(CONFIG, linear)
    jax.tree.map(np.testing.assert_array_equal, again, params)


def test_both_attention_orders_compute_the_same():
    """q, k and v apart are joined for the order that the network is told."""
    state = golden_weights(META["state_dict"])
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 4, 4, 64)), "float32")
    outputs = []
    for new_order in (True, False):
        # Two heads of 32 channels.
        config = dataclasses.replace(CONFIG, use_new_attention_order=new_order)
        params = diffusers.diffusers_to_params(config, state)
        attention = Attention(64, 2, new_order=new_order, dtype=jnp.float32)
        nnx.update(attention, params["middle"]["attn"])
        outputs.append(attention(x))
    assert relative_error(*outputs) < 1e-6
    assert relative_error(outputs[0], x) > 0.1


def test_labels_convolutions_and_addition_have_their_names():
    block = META["config"] | {
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
        "up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
        "downsample_type": "conv",
        "upsample_type": "conv",
        "resnet_time_scale_shift": "default",
        "num_class_embeds": 10,
    }
    config = diffusers.config_from_diffusers(block)
    assert not (config.resblock_updown or config.use_scale_shift_norm)
    shapes = name_table.file_shapes(diffusers.entries(config), abstract_params(config))
    assert shapes["class_embedding.weight"] == (10, 128)
    assert shapes["down_blocks.1.downsamplers.0.conv.weight"] == (64, 64, 3, 3)
    assert shapes["up_blocks.0.upsamplers.0.conv.bias"] == (64,)
    assert shapes["up_blocks.2.resnets.1.time_emb_proj.weight"] == (32, 128)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"norm_eps": 1e-6}, "norm_eps is 1e-06; only 1e-05"),
        ({"freq_shift": 1}, "freq_shift is 1"),
        ({"downsample_type": "conv"}, "both residual blocks and convolutions"),
        ({"up_block_types": ["AttnUpBlock2D"] * 3}, "up_block_types must have"),
        ({"down_block_types": ["SkipDownBlock2D"] * 3}, "up_block_types must"),
        (
            {"down_block_types": ["SkipDownBlock2D", *["AttnDownBlock2D"] * 2]},
            "type SkipDownBlock2D is not supported",
        ),
    ],
)
def test_settings_that_adm_cannot_have(change, message):
    with pytest.raises(UserError, match=message):
        diffusers.config_from_diffusers(META["config"] | change)
