"""Stable Diffusion's files by name: published lists, both layouts, there and back."""

import gzip
import json

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from rad_jax.convert.sd import (
    PREFIX,
    compvis_entries,
    config_from_diffusers,
    diffusers_entries,
)
from rad_jax.errors import UserError
from rad_jax.models.network import abstract_params
from rad_jax.weight_files import name_table
from tests.models.adm_files import FOLDER
from tests.models.sd_files import COMPVIS, golden_unet

BASES = FOLDER / "bases"
_FILE = BASES / "sd_ldm_state_dicts.json.gz"
PUBLISHED = json.loads(gzip.decompress(_FILE.read_bytes()))
UNETS = {
    "sd15/unet": False,
    "sd15_inpainting/unet": False,
    "sd21/unet": True,
    "sd2_inpainting/unet": True,
}
"""Whether their projections are linear."""

CKPT = "sd15 CompVis .ckpt (v1-5-pruned layout)"


def keys_of(name):
    """Shapes by key."""
    about = PUBLISHED[name]
    keys = PUBLISHED[about.get("same_keys_as", name)]["keys"]
    keys = keys | about.get("different", {})
    return {key: tuple(shape) for key, shape in keys.items()}


def configuration(name, **changes):
    return config_from_diffusers({**PUBLISHED[name]["config"], **changes})


@pytest.mark.parametrize("name", UNETS)
def test_published_lists_are_read_whole(name):
    """Each key and each array of ours once, with its shape; parameters counted."""
    config = configuration(name)
    abstract = abstract_params(config)
    table = diffusers_entries(config, linear=UNETS[name])
    assert {entry.path for entry in table} == set(flatten_dict(abstract))
    assert len(table) == len(flatten_dict(abstract))
    assert name_table.file_shapes(table, abstract) == keys_of(name)
    sizes = sum(leaf.size for leaf in jax.tree.leaves(abstract))
    assert sizes == PUBLISHED[name]["params"]


def test_published_architectures():
    """As the papers and model cards have them."""
    one, two = configuration("sd15/unet"), configuration("sd21/unet")
    assert (one.image_size, one.model_channels, one.channel_mult) == (
        *(64, 320),
        (1, 2, 4, 4),
    )
    assert one.attention_resolutions == (64, 32, 16)
    assert (one.num_heads, one.num_head_channels, one.context_channels) == (8, -1, 768)
    assert [two.heads(width, up=True) for width in two.widths] == [5, 10, 20, 20]
    assert (two.num_head_channels, two.context_channels) == (64, 1024)
    assert configuration("sd15_inpainting/unet").in_channels == 9


def test_compvis_file():
    """All keys of its U-Net, each of the array that diffusers' converter makes."""
    config = configuration("sd15/unet")
    table, abstract = compvis_entries(config, linear=False), abstract_params(config)
    published = {k: v for k, v in keys_of(CKPT).items() if k.startswith(PREFIX)}
    assert name_table.file_shapes(table, abstract) == published
    converter = json.loads((BASES / "sd15_ckpt_to_diffusers_keys.json").read_text())
    theirs = {entry.path: entry.keys for entry in table}
    pairs = {
        key: other
        for entry in diffusers_entries(config, linear=False)
        for key, other in zip(entry.keys, theirs[entry.path], strict=True)
    }
    assert pairs == converter["unet"]


@pytest.mark.parametrize("name", ["sd_unet_tiny_v1", "sd_unet_tiny_v2", COMPVIS])
def test_there_and_back(name):
    """Bit for bit; queries, keys and values are one layer of ours."""
    config, table, state = golden_unet(name)
    abstract = abstract_params(config)
    params = name_table.read(table, abstract, state)
    written = name_table.write(table, abstract, params)
    assert set(written) == set(state)
    for key in state:
        np.testing.assert_array_equal(written[key], state[key])
    again = name_table.read(table, abstract, written)
    jax.tree.map(np.testing.assert_array_equal, again, params)


def test_settings_of_newer_files():
    """They name what has its usual value, too."""
    usual = {
        "num_attention_heads": None,
        "transformer_layers_per_block": 1,
        "class_embed_type": None,
        "upcast_attention": True,  # of how it is computed
        "dropout": 0.0,
    }
    assert configuration("sd21/unet", **usual) == configuration("sd21/unet")
    same = configuration("sd15/unet", attention_head_dim=[8] * 4)
    assert same == configuration("sd15/unet")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"transformer_layers_per_block": 2}, "transformer_layers_per_block is 2"),
        ({"addition_embed_type": "text_time"}, "addition_embed_type is 'text_time'"),
        ({"only_cross_attention": True}, "only_cross_attention is True; only False"),
        ({"down_block_types": ["DownBlock2D"] * 3}, "must be lists of one length"),
        ({"attention_head_dim": [8, 8]}, "must be lists of one length"),
        ({"attention_head_dim": [8, 8, 8, 5]}, "only one number of heads, or heads of"),
        ({"attention_head_dim": 0}, "attention_head_dim must be positive"),
        ({"attention_head_dim": "8"}, "attention_head_dim"),
        ({"up_block_types": ["UpBlock2D"] * 4}, "must have attention where"),
        ({"down_block_types": ["AttnDownBlock2D"] * 4}, "'?AttnDownBlock2D'? is not"),
        ({"block_out_channels": 320}, "block_out_channels"),
    ],
)
def test_settings_that_are_not_supported(changes, message):
    with pytest.raises(UserError, match=message):
        configuration("sd15/unet", **changes)


def test_settings_that_are_missing():
    config = dict(PUBLISHED["sd15/unet"]["config"])
    del config["cross_attention_dim"]
    with pytest.raises(UserError, match="cross_attention_dim"):
        config_from_diffusers(config)
