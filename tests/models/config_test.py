"""Configurations of the network that can and cannot be built."""

import dataclasses
import json

import pytest

from rad_jax.errors import UserError
from rad_jax.models.config import UNetConfig, decoder_stages, encoder_stages

BLOCK = {
    "image_size": 64,
    "model_channels": 64,
    "channel_mult": (0.5, 1, 2),
    "num_res_blocks": 2,
    "attention_resolutions": (32, 16),
    "num_head_channels": -1,
    "num_heads": 2,
}


def test_config_survives_a_json_file():
    config = UNetConfig(**BLOCK)
    again = UNetConfig(**json.loads(json.dumps(dataclasses.asdict(config))))
    assert again == config and hash(again) == hash(config)
    assert config.widths == (32, 64, 128) and config.stride == 4
    assert config.output_channels == 6


@pytest.mark.parametrize(
    "change, message",
    [
        ({"channel_mult": (1, 1.25, 2)}, "width of 80; it must be a multiple of 32"),
        ({"channel_mult": (0.25, 1, 2)}, "width of 16"),
        ({"channel_mult": ()}, "channel_mult is empty"),
        ({"image_size": 66}, "image_size is 66; .* multiple of 4"),
        ({"image_size": 0}, "image_size is 0"),
        ({"num_res_blocks": 0}, "num_res_blocks is 0"),
        ({"attention_resolutions": (8,)}, "attention_resolutions has 8; .* 64, 32, 16"),
        ({"num_head_channels": 48}, "num_head_channels is 48; it must divide .* 64"),
        ({"num_heads": 3}, "num_heads is 3"),
        ({"num_heads_upsample": 7}, "num_heads_upsample is 7"),
        ({"num_classes": 0}, "num_classes is 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"noise_embedding": "t"}, "noise_embedding is 't'; use spatial or time"),
        ({"dtype": "float16"}, "dtype is 'float16'; use float32 or bfloat16"),
    ],
)
def test_what_cannot_be_built_is_named(change, message):
    with pytest.raises(UserError, match=message):
        UNetConfig(**{**BLOCK, **change})


def test_a_network_may_be_told_the_noise_in_another_way():
    """A pretrained ADM is the start of both (RAD Table 3)."""
    config = UNetConfig(**BLOCK)
    time = dataclasses.replace(config, noise_embedding="time")
    assert config != time and not config.differences(time)


def test_misspelt_keys_are_refused():
    with pytest.raises(TypeError, match="channel_mul"):
        UNetConfig(**{**BLOCK, "channel_mul": (1,)})


def test_heads_of_the_way_up():
    config = UNetConfig(**{**BLOCK, "num_heads_upsample": 4})
    assert [s.heads for s in encoder_stages(config)] == [0, 0, 0, 2, 2, 0, 2, 2]
    assert [s.heads for s in decoder_stages(config)] == [4] * 6 + [0] * 3
    by_channels = UNetConfig(**{**BLOCK, "num_head_channels": 32})
    assert [s.heads for s in decoder_stages(by_channels)] == [4] * 3 + [2] * 3 + [0] * 3
