"""CLIP's text encoders by name: published lists, three layouts, there and back."""

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from rad_jax.convert.clip import (
    clip_to_params,
    config_from_transformers,
    openclip_entries,
    transformers_entries,
)
from rad_jax.errors import UserError
from rad_jax.models.clip import abstract_params
from rad_jax.weight_files import name_table
from tests.convert.sd_names_test import CKPT, PUBLISHED, keys_of
from tests.models.clip_files import clip, clip_state

PREFIX = "text_model."
IN_CKPT = "cond_stage_model.transformer.text_model."
IN_OPENCLIP = "cond_stage_model.model."
OPENCLIP = next(name for name in PUBLISHED if "OpenCLIP" in name)
TINY = "clip_tiny_gelu"


def configuration(name, **changes):
    return config_from_transformers({**PUBLISHED[name]["config"], **changes})


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def openclip_state(state, num_layers):
    """Transformers' arrays as OpenCLIP has them, with a layer more."""
    names = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "self_attn": "attn"}
    names |= {"fc1": "c_fc", "fc2": "c_proj"}
    found = {
        "text_projection": np.ones((4, 4), np.float32),
        "logit_scale": np.float32(4.6),
    }
    for key, array in state.items():
        key = key.removeprefix(PREFIX)
        if key.startswith("embeddings.token"):
            found["token_embedding.weight"] = array
        elif key.startswith("embeddings.position"):
            found["positional_embedding"] = array
        elif key.startswith("final_layer_norm"):
            found[f"ln_final.{key.split('.')[-1]}"] = array
        else:
            for theirs, ours in names.items():
                key = key.replace(theirs, ours)
            key = key.removeprefix("encoder.layers.")
            found[f"transformer.resblocks.{key}"] = array
    for i in range(num_layers):
        for kind in ("weight", "bias"):
            attn = f"transformer.resblocks.{i}.attn"
            stacked = [found.pop(f"{attn}.{part}_proj.{kind}") for part in "qkv"]
            found[f"{attn}.in_proj_{kind}"] = np.concatenate(stacked)
    last = f"transformer.resblocks.{num_layers - 1}."
    for key in [key for key in found if key.startswith(last)]:
        more = key.replace(last, f"transformer.resblocks.{num_layers}.")
        found[more] = 2 * found[key]
    return {IN_OPENCLIP + key: array for key, array in found.items()}


@pytest.mark.parametrize("name", ["sd15/text_encoder", "sd21/text_encoder"])
def test_published_lists_are_read_whole(name):
    """Each key and each array of ours once, with its shape; parameters counted."""
    config = configuration(name)
    abstract, table = abstract_params(config), transformers_entries(config, PREFIX)
    assert {entry.path for entry in table} == set(flatten_dict(abstract))
    assert name_table.file_shapes(table, abstract) == keys_of(name)
    sizes = sum(leaf.size for leaf in jax.tree.leaves(abstract))
    assert sizes == PUBLISHED[name]["params"]


def test_published_architectures():
    config = configuration("sd21/text_encoder")
    assert (config.num_layers, config.num_heads, config.activation) == (23, 16, "gelu")
    assert configuration("sd15/text_encoder").activation == "quick_gelu"


def test_single_files():
    """The encoders within them; OpenCLIP's with a layer that is not used."""
    config = configuration("sd15/text_encoder")
    table = transformers_entries(config, IN_CKPT)
    published = {k: v for k, v in keys_of(CKPT).items() if k.startswith(IN_CKPT)}
    del published[f"{IN_CKPT}embeddings.position_ids"]
    assert name_table.file_shapes(table, abstract_params(config)) == published
    config = configuration("sd21/text_encoder")
    shapes = name_table.file_shapes(
        openclip_entries(config, IN_OPENCLIP), abstract_params(config)
    )
    others = {k: v for k, v in keys_of(OPENCLIP).items() if k not in shapes}
    assert {**shapes, **others} == keys_of(OPENCLIP)
    last = f"{IN_OPENCLIP}transformer.resblocks.23."
    assert {key for key in others if not key.startswith(last)} == {
        f"{IN_OPENCLIP}text_projection",
        f"{IN_OPENCLIP}logit_scale",
    }


def test_all_layouts_are_the_same_encoder():
    config, params = clip(TINY)
    state = clip_state(TINY)
    bare = {key.removeprefix(PREFIX): array for key, array in state.items()}
    same(clip_to_params(config, bare), params)
    older = state | {f"{PREFIX}embeddings.position_ids": np.arange(16)[None]}
    same(clip_to_params(config, older), params)
    within = {IN_CKPT + key: array for key, array in bare.items()}
    # A file of all networks.
    within["model.diffusion_model.out.0.weight"] = np.ones(3, np.float32)
    same(clip_to_params(config, within), params)
    same(clip_to_params(config, openclip_state(state, config.num_layers)), params)


def test_there_and_back():
    """Bit for bit, but for what is not used."""
    config, params = clip(TINY)
    abstract, state = abstract_params(config), clip_state(TINY)
    stacked = openclip_state(state, config.num_layers)
    for given, table in (
        (state, transformers_entries(config, PREFIX)),
        (stacked, openclip_entries(config, IN_OPENCLIP)),
    ):
        written = name_table.write(table, abstract, params)
        for key in written:
            np.testing.assert_array_equal(written[key], given[key])
        unused = {key.split(".")[-1] for key in given.keys() - written.keys()}
        assert given is stacked or not unused
        same(name_table.read(table, abstract, written), params)


def test_files_of_other_networks():
    config, _ = clip(TINY)
    with pytest.raises(UserError, match="holds no text encoder of CLIP"):
        clip_to_params(config, {"conv_in.weight": np.ones((1, 1))})
    fewer = dict(list(clip_state(TINY).items())[:-1])
    with pytest.raises(UserError, match="missing: text_model"):
        clip_to_params(config, fewer)
    more = openclip_state(clip_state(TINY), config.num_layers)
    more[f"{IN_OPENCLIP}transformer.resblocks.3.ln_1.weight"] = np.ones(32)
    with pytest.raises(UserError, match="left over: cond_stage_model"):
        clip_to_params(config, more)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_act": "relu"}, "activation is 'relu'; use quick_gelu or gelu"),
        ({"layer_norm_eps": 1e-6}, "layer_norm_eps is 1e-06; only 1e-05 is supported"),
        ({"hidden_size": "wide"}, "width"),
    ],
)
def test_settings_that_are_not_supported(changes, message):
    with pytest.raises(UserError, match=message):
        configuration("sd15/text_encoder", **changes)
