"""ADM checkpoints: flags, and the weights both ways."""

import jax
import numpy as np
import pytest

from rad_jax.convert import adm
from rad_jax.errors import UserError
from tests.models.adm_files import description, golden_weights

PUBLISHED = description("adm_published_state_dicts")


def tiny(name="tiny_cond_heads"):
    meta = description(name)
    return adm.config_from_adm_flags(meta["flags"]), golden_weights(meta["state_dict"])


@pytest.mark.parametrize("name", ["tiny_adm", "tiny_cond_heads"])
def test_there_and_back(name):
    config, state = tiny(name)
    again = adm.params_to_adm(config, adm.adm_to_params(config, state))
    assert list(again) == list(state)
    for key, array in state.items():
        np.testing.assert_array_equal(again[key], array)


def test_half_precision_files_become_float32():
    config, state = tiny()
    halves = {key: array.astype(np.float16) for key, array in state.items()}
    params = adm.adm_to_params(config, halves)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float32)}


def test_all_that_does_not_fit_is_listed():
    config, state = tiny()
    first, second = "out.2.bias", "input_blocks.4.0.skip_connection.weight"
    del state[first]
    state[second] = state[second][..., 0]
    state["extra.weight"] = np.zeros(3, np.float32)
    with pytest.raises(UserError) as error:
        adm.adm_to_params(config, state)
    lines = str(error.value).split("\n  ")[1:]
    assert lines == [
        f"missing: {first}",
        "left over: extra.weight",
        f"wrong shape: {second} is (64, 32, 1), the architecture has (64, 32, 1, 1)",
    ]


def test_parameters_that_do_not_fit_are_listed():
    config, state = tiny()
    params = adm.adm_to_params(config, state)
    params["extra"] = {"kernel": np.zeros(3)}
    del params["middle"]["attn"]["qkv"]["bias"]
    with pytest.raises(UserError, match=r"(?s)attn\.qkv\.bias.*over: extra\."):
        adm.params_to_adm(config, params)


def test_flags_as_text_are_the_same_flags():
    flags = PUBLISHED["imagenet64_cond"]["flags"]
    text = {name: str(value) for name, value in flags.items()}
    config = adm.config_from_adm_flags(text)
    assert config == adm.config_from_adm_flags(flags)
    assert config.num_classes == 1000 and config.dropout == 0.1
    assert config.use_new_attention_order and config.channel_mult == (1, 2, 3, 4)


def test_missing_flags_have_guided_diffusions_defaults():
    config = adm.config_from_adm_flags({"diffusion_steps": 1000})
    assert (config.image_size, config.model_channels) == (64, 128)
    assert config.attention_resolutions == (16, 8)
    assert not (config.learn_sigma or config.resblock_updown)


@pytest.mark.parametrize(
    "flags, message",
    [
        ({"large_size": 256}, "large_size is no flag"),
        ({"image_size": 96}, "channel_mult: give one for image_size 96"),
        ({"image_size": "big"}, "image_size is 'big', no int"),
        ({"class_cond": "maybe"}, "class_cond is 'maybe', no bool"),
        ({"channel_mult": "1;2"}, "channel_mult is '1;2'; write numbers like"),
    ],
)
def test_flags_that_cannot_be_read(flags, message):
    with pytest.raises(UserError, match=message):
        adm.config_from_adm_flags(flags)


def test_resolutions_that_the_network_lacks_are_passed_over():
    """As in ADM: here 8, by default, of 64, 32 and 16."""
    config = adm.config_from_adm_flags({"channel_mult": "0.5,1,2"})
    assert config.channel_mult == (0.5, 1, 2)
    assert config.attention_resolutions == (16,)
