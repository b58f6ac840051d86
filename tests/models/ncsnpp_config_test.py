"""Configurations of score-based SDE's networks that can and cannot be built."""

import dataclasses
import json

import pytest

from rad_jax.errors import UserError
from rad_jax.models.config import UNetConfig
from rad_jax.models.ncsnpp_config import NCSNppConfig, decoder_stages, encoder_stages
from rad_jax.models.network import differences

BLOCK = {
    "image_size": 64,
    "model_channels": 16,
    "channel_mult": (1, 2, 2),
    "num_res_blocks": 2,
    "attention_resolutions": (32,),
}


def test_config_survives_a_json_file():
    config = NCSNppConfig(**BLOCK)
    again = NCSNppConfig(**json.loads(json.dumps(dataclasses.asdict(config))))
    assert again == config and hash(again) == hash(config)
    assert config.widths == (16, 32, 32) and config.stride == 4
    assert (config.output_channels, config.embedding_channels) == (3, 64)
    assert config.learn_sigma is False and config.num_classes is None
    assert [config.num_groups(c) for c in (16, 48, 384)] == [4, 12, 32]
    assert [config.has_attention(level) for level in range(3)] == [False, True, False]
    assert list(dataclasses.asdict(config))[-1] == "architecture"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"channel_mult": ()}, "channel_mult is empty"),
        ({"image_size": 66}, "image_size is 66; .* multiple of 4"),
        ({"image_size": 0}, "image_size is 0; it must be positive"),
        ({"num_res_blocks": 0}, "num_res_blocks is 0"),
        ({"attention_resolutions": (8,)}, "attention_resolutions has 8; .* 64, 32, 16"),
        ({"dropout": float("nan")}, "dropout is nan; it must lie in"),
        ({"fourier_scale": 0.0}, "fourier_scale is 0.0; it must be positive"),
        ({"fourier_scale": float("nan")}, "fourier_scale is nan; it must be"),
        ({"groups": -1}, "groups is -1; give a number, or 0"),
        ({"groups": 32}, "a normalisation of 16 channels, which 32 groups do not"),
        ({"model_channels": 3}, "of 3 channels, which min.channels // 4, 32. groups"),
        ({"channel_mult": (1, 9)}, "of 160 channels|of 144 channels"),
        ({"model_channels": 5, "embedding": "positional"}, "an even number from 4"),
        ({"embedding": "learned"}, "embedding is 'learned'; use fourier or positional"),
        ({"block": "adm"}, "block is 'adm'; use biggan or ddpm"),
        ({"progressive": "skip"}, "use none or output_skip or residual"),
        ({"progressive_input": "skip"}, "use none or input_skip or residual"),
        ({"progressive_combine": "mean"}, "use sum or cat"),
        ({"noise_embedding": "t"}, "noise_embedding is 't'; use spatial or time"),
        ({"dtype": "float16"}, "dtype is 'float16'; use float32 or bfloat16"),
        ({"architecture": "unet"}, "architecture is 'unet'; use ncsnpp"),
    ],
)
def test_what_cannot_be_built_is_named(change, message):
    with pytest.raises(UserError, match=message) as error:
        NCSNppConfig(**{**BLOCK, **change})
    assert "\n" not in str(error.value)


def test_differences():
    """Of what the network computes; an ADM is another altogether."""
    config = NCSNppConfig(**BLOCK)
    same = dataclasses.replace(config, noise_embedding="time", fourier_scale=1.0)
    assert config != same and not config.differences(same)
    other = dataclasses.replace(config, fir=False, groups=4)
    assert config.differences(other) == {"fir": (True, False), "groups": (0, 4)}
    unet = UNetConfig(64, 32, (1, 2), 2, (32,), num_heads=1)
    assert differences(config, other) == config.differences(other)
    assert differences(config, unet) == {"architecture": ("ncsnpp", "adm")}
    assert not differences(unet, dataclasses.replace(unet, dropout=0.1))


def test_attention_of_the_way_up_stands_at_the_end_of_a_resolution():
    config = NCSNppConfig(**BLOCK)
    assert [s.heads for s in encoder_stages(config)] == [0, 0, 0, 1, 1, 0, 0, 0]
    assert [s.heads for s in decoder_stages(config)] == [0] * 5 + [1] + [0] * 3


def test_concatenated_images_double_the_channels():
    config = NCSNppConfig(
        **BLOCK, progressive_input="input_skip", progressive_combine="cat"
    )
    assert [s.outputs for s in encoder_stages(config)] == [
        16,
        16,
        32,
        32,
        32,
        64,
        32,
        32,
    ]
    assert [s.inputs for s in decoder_stages(config)][:3] == [64, 64, 96]
