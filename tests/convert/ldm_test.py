"""Unconditional latent diffusion: the U-Net in its published files is an ADM."""

import jax
import pytest
from flax.traverse_util import flatten_dict

from rad_jax.convert import adm, diffusers
from rad_jax.convert.choices import Choices
from rad_jax.convert.infer import DIFFUSERS, OPENAI, infer
from rad_jax.convert.presets import complete, config_of
from rad_jax.models.network import abstract_params
from rad_jax.weight_files import name_table
from tests.models.autoencoder_files import PUBLISHED

NETWORK = "model.diffusion_model."

LISTS = {
    OPENAI: (
        {
            key.removeprefix(NETWORK): tuple(shape)
            for key, shape in PUBLISHED["ldm_compvis"].items()
            if key.startswith(NETWORK)
        },
        adm.entries,
    ),
    DIFFUSERS: (
        {key: tuple(x) for key, x in PUBLISHED["ldm_unet"]["keys"].items()},
        diffusers.entries,
    ),
}


@pytest.mark.parametrize("layout", LISTS)
def test_the_published_network(layout):
    """Each key and each array of ours once, with its shape; parameters counted."""
    keys, entries = LISTS[layout]
    found, facts = infer(keys)
    assert found == layout
    choices = Choices(
        image_size=64,
        num_head_channels=32,
        use_new_attention_order=False,
        noise_schedule="linear",
    )
    config = config_of(facts, complete(layout, facts, None, choices))
    assert config.widths == (224, 448, 672, 896) and config.num_res_blocks == 2
    assert config.attention_resolutions == (32, 16, 8) and config.in_channels == 3
    abstract = abstract_params(config)
    assert sum(leaf.size for leaf in jax.tree.leaves(abstract)) == 274_056_163
    table = entries(config)
    assert {entry.path for entry in table} == set(flatten_dict(abstract))
    assert name_table.file_shapes(table, abstract) == keys


def test_the_folder_says_the_same():
    config = diffusers.config_from_diffusers(PUBLISHED["ldm_unet"]["config"])
    assert config.widths == (224, 448, 672, 896) and config.num_head_channels == 32
    assert config.attention_resolutions == (32, 16, 8) and not config.learn_sigma
    assert not (config.use_scale_shift_norm or config.resblock_updown)
