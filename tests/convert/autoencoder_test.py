"""Autoencoders by name: published lists, layouts, there and back."""

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from rad_jax.convert import autoencoder as names
from rad_jax.convert.infer import DIFFUSERS
from rad_jax.errors import UserError
from rad_jax.models.autoencoder import abstract_params
from rad_jax.weight_files import name_table
from tests.models.adm_files import description
from tests.models.autoencoder_files import KL, PUBLISHED, VQ, tiny, tiny_state

FIRST_STAGE = "first_stage_model."


def first_stage(keys):
    """Shapes by key of the autoencoder in a .ckpt."""
    return {
        key.removeprefix(FIRST_STAGE): tuple(shape)
        for key, shape in keys.items()
        if key.startswith(FIRST_STAGE)
    }


def listed(name):
    """Shapes by key, of a published autoencoder in a layout."""
    if name == "sd_vae_compvis":
        return first_stage(PUBLISHED[name])
    if name == "vq_f4_compvis":
        return first_stage(PUBLISHED["ldm_compvis"])
    return {key: tuple(shape) for key, shape in PUBLISHED[name]["keys"].items()}


LISTS = {
    "sd_vae": (DIFFUSERS, 83_653_863, 248),
    "sd_vae_compvis": (names.COMPVIS, 83_653_863, 248),
    "vq_f4": (DIFFUSERS, 55_322_782, 205),
    "vq_f4_compvis": (names.COMPVIS, 55_322_782, 205),
}


@pytest.mark.parametrize("name", LISTS)
def test_published_lists_are_read_whole(name):
    """Each key and each array of ours once, with its shape; parameters counted."""
    layout, params, count = LISTS[name]
    keys = listed(name)
    assert len(keys) == count and names.layout_of(keys) == layout
    config = names.infer(keys)
    abstract, table = abstract_params(config), names.entries(config, layout)
    assert {entry.path for entry in table} == set(flatten_dict(abstract))
    assert len({entry.path for entry in table}) == len(table)
    assert name_table.file_shapes(table, abstract) == keys
    assert sum(leaf.size for leaf in jax.tree.leaves(abstract)) == params


def test_published_shapes_tell_the_networks():
    kl, vq = (names.infer(listed(name)) for name in ("sd_vae", "vq_f4"))
    assert kl.widths == (128, 256, 512, 512) and (kl.stride, vq.stride) == (8, 4)
    assert vq.widths == (128, 256, 512) and vq.num_codes == 8192
    assert (kl.kind, vq.kind) == ("kl", "vq") and kl.num_res_blocks == 2
    assert names.infer(listed("sd_vae_compvis")) == kl
    assert names.infer(listed("vq_f4_compvis")) == vq


def test_both_layouts_call_the_same_array_by_these_names():
    """diffusers' own conversion of Stable Diffusion's file."""
    config = names.infer(listed("sd_vae"))
    tables = [names.entries(config, x) for x in (DIFFUSERS, names.COMPVIS)]
    by_path = [{entry.path: entry.keys for entry in table} for table in tables]
    pairs = {
        theirs: FIRST_STAGE + compvis
        for path, keys in by_path[0].items()
        for theirs, compvis in zip(keys, by_path[1][path], strict=True)
    }
    assert pairs == PUBLISHED["sd_vae_pairs"]


def test_older_files_name_the_attention_otherwise():
    config = names.infer(listed("sd_vae"))
    abstract = abstract_params(config)
    new, old = (
        name_table.file_shapes(names.entries(config, layout), abstract)
        for layout in (DIFFUSERS, names.OLD_DIFFUSERS)
    )
    renamed = {}
    for key, shape in new.items():
        for now, then in (
            *(("to_q", "query"), ("to_k", "key"), ("to_v", "value")),
            ("to_out.0", "proj_attn"),
        ):
            key = key.replace(f".{now}.", f".{then}.")
        renamed[key] = shape
    assert old == renamed != new
    assert names.layout_of(old) == names.OLD_DIFFUSERS and names.infer(old) == config


@pytest.mark.parametrize("layout", names.LAYOUTS)
@pytest.mark.parametrize("name", [KL, VQ])
def test_there_and_back(name, layout):
    """Bit for bit, by way of any layout."""
    config, params = tiny(name)
    written = names.from_params(config, params, layout)
    assert names.layout_of(written) == layout
    told = {"image_size": 32, "scaling_factor": config.scaling_factor}
    shapes = {key: array.shape for key, array in written.items()}
    assert names.infer(shapes, **told) == config
    again = names.to_params(config, {**written, "loss.logvar": np.zeros(1)})
    jax.tree.map(np.testing.assert_array_equal, again, params)
    back = names.from_params(config, again, DIFFUSERS)
    assert set(back) == set(tiny_state(name))
    for key, array in tiny_state(name).items():
        np.testing.assert_array_equal(back[key], array, err_msg=key)


def test_settings_of_a_folder():
    kl, vq = (description(f"bases/{name}")["kwargs"] for name in (KL, VQ))
    assert names.settings_of(kl) == {"image_size": 32, "scaling_factor": 0.18215}
    assert names.settings_of(vq) == {"image_size": 32, "scaling_factor": 1.0}
    sdxl = {**kl, "scaling_factor": 0.13025, "force_upcast": True}
    assert names.settings_of(sdxl)["scaling_factor"] == 0.13025
    assert names.settings_of(PUBLISHED["sd_vae"]["config"])["scaling_factor"] == 0.18215


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"act_fn": "relu"}, "act_fn is relu; only silu is supported"),
        ({"use_quant_conv": False}, "use_quant_conv is False; only True"),
        ({"shift_factor": 0.1}, "shift_factor is 0.1; only None"),
        ({"norm_num_groups": 16}, "norm_num_groups is 16; only 32"),
        ({"scaling_factor": "1"}, "scaling_factor must be numbers"),
    ],
)
def test_settings_that_are_not_supported(changes, message):
    with pytest.raises(UserError, match=message):
        names.settings_of({**description(f"bases/{KL}")["kwargs"], **changes})


def test_files_of_other_networks():
    shapes = {"conv_in.weight": (32, 3, 3, 3)}
    assert names.layout_of(shapes) is None
    with pytest.raises(UserError, match="is of no autoencoder that can be converted"):
        names.infer(shapes)
    state = dict(tiny_state(KL))
    del state["encoder.conv_in.weight"]
    with pytest.raises(UserError, match="is of no autoencoder"):
        names.to_params(tiny(KL)[0], state)


def test_arrays_that_do_not_fit():
    state = dict(tiny_state(KL))
    del state["encoder.conv_out.bias"]
    state["decoder.conv_out.bias"] = np.zeros(4, np.float32)
    with pytest.raises(UserError, match=r"(?s)missing: encoder.*wrong shape: decoder"):
        names.to_params(tiny(KL)[0], state)
    shapes = {key: array.shape for key, array in state.items()}
    shapes["post_quant_conv.weight"] = (0, 4, 1, 1)
    with pytest.raises(UserError, match=r"post_quant_conv.weight has the shape \(0, 4"):
        names.infer(shapes)
