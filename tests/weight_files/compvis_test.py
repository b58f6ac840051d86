"""Checkpoints of latent diffusion: the averages, whose names have lost their dots."""

import numpy as np
import pytest

from rad_jax.convert import autoencoder
from rad_jax.convert.infer import MARKERS
from rad_jax.errors import UserError
from rad_jax.weight_files.bad_file import BadFile
from rad_jax.weight_files.compvis import average_keys
from rad_jax.weight_files.network import read_network
from tests.models.adm_files import description, golden_weights
from tests.models.autoencoder_files import PUBLISHED, VQ, tiny
from tests.weight_files.pickles import Raw, saved

PREFIX = "model.diffusion_model."
NAME = "state_dict.model.diffusion_model"
AVERAGED = "state_dict.model_ema.diffusion_model"
LIGHTNING = Raw(b"clightning.callbacks\nModelCheckpoint\n)\x81}b")
"""An object of a class that is not there."""


def unet(prefix=""):
    """A tiny network of latent diffusion; with a prefix to the rule other weights."""
    keys = description("bases/ldm_unet_tiny")["keys"]
    made = golden_weights({prefix + key: shape for key, shape in keys.items()})
    return {key.removeprefix(prefix): array for key, array in made.items()}


def dotless(state):
    """As CompVis's program names its averages."""
    return {
        f"model_ema.diffusion_model{k.replace('.', '')}": x for k, x in state.items()
    }


def first_stage():
    config, params = tiny(VQ)
    written = autoencoder.from_params(config, params, autoencoder.COMPVIS)
    return {f"first_stage_model.{key}": np.array(x) for key, x in written.items()}


def checkpoint(tmp_path, changes=None, **others):
    """A .ckpt with all that there may be; None of the changes leaves an array out."""
    state = {
        "betas": np.linspace(0.1, 0.2, 5, dtype=np.float32),
        **{PREFIX + key: array for key, array in unet().items()},
        "model_ema.decay": np.array(0.9999, np.float32),
        "model_ema.num_updates": np.array(7),
        **dotless(unet("ema.")),
        **first_stage(),
        **(changes or {}),
    }
    state = {key: array for key, array in state.items() if array is not None}
    tree = {"epoch": 3, "callbacks": LIGHTNING, "state_dict": state, **others}
    return saved(tmp_path / "model.ckpt", tree)


def pruned(tmp_path):
    gone = dict.fromkeys(dotless(unet()))
    return checkpoint(
        tmp_path, {**gone, "model_ema.decay": None, "model_ema.num_updates": None}
    )


def assert_same(arrays, expected):
    assert list(arrays) == list(expected)
    for key, array in expected.items():
        np.testing.assert_array_equal(arrays[key], array, err_msg=key)


@pytest.mark.parametrize("name", [None, "state_dict.model_ema", AVERAGED])
def test_the_averages_are_taken(tmp_path, name):
    network = read_network(checkpoint(tmp_path), MARKERS, name)
    assert_same(network.arrays, unet("ema."))
    taken, left, skipped = network.notes
    assert taken == (
        f"weights: {AVERAGED}, averaged ones, without the prefix "
        f"model_ema.diffusion_model.; --key takes others: {NAME}"
    )
    assert left.startswith("left out: ") and "first_stage_model" in left
    assert skipped.endswith("lightning.callbacks.ModelCheckpoint")


@pytest.mark.parametrize("name", ["state_dict.model", NAME])
def test_the_weights_that_are_not_averaged(tmp_path, name):
    network = read_network(checkpoint(tmp_path), MARKERS, name)
    assert_same(network.arrays, unet())
    assert AVERAGED in network.notes[0]


def test_a_pruned_file_has_no_others(tmp_path):
    network = read_network(pruned(tmp_path), MARKERS)
    assert_same(network.arrays, unet())
    assert "takes others" not in network.notes[0]


def test_the_autoencoder_is_found_in_it(tmp_path):
    config, params = tiny(VQ)
    network = read_network(checkpoint(tmp_path), autoencoder.MARKERS)
    written = autoencoder.from_params(config, params, autoencoder.COMPVIS)
    assert_same(network.arrays, dict(written))
    assert network.notes[0].startswith("weights: state_dict.first_stage_model,")


def test_a_wrapper_in_the_names_is_in_those_of_the_averages(tmp_path):
    """The program takes the dots out of the name that it has."""
    wrapper = "diffusion_model._orig_mod."
    state = {f"model.{wrapper}{key}": x for key, x in unet().items()}
    averages = {
        f"model_ema.{(wrapper + key).replace('.', '')}": array
        for key, array in unet("ema.").items()
    }
    path = saved(tmp_path / "a.ckpt", {"state_dict": {**state, **averages}})
    assert_same(read_network(path, MARKERS).arrays, unet("ema."))


def test_averages_that_do_not_fit(tmp_path):
    """Only where they are asked for."""
    key, average = "out.2.bias", "model_ema.diffusion_modelout2bias"
    for change, message in (
        (None, rf"no average of {PREFIX}{key} at model_ema\.; --key {NAME} takes"),
        (np.zeros(5, np.float32), rf"of the shape \(5,\) of {PREFIX}{key}, whose"),
    ):
        path = checkpoint(tmp_path, {average: change})
        for name in (None, "state_dict.model_ema", "state_dict"):
            with pytest.raises(UserError, match=message):
                read_network(path, MARKERS, name)
        assert_same(read_network(path, MARKERS, NAME).arrays, unet())


def test_a_wrapper_before_the_names(tmp_path):
    """Of a file that no program writes: refused, and not with a traceback."""
    state = {f"_orig_mod.{PREFIX}{key}": array for key, array in unet().items()}
    path = saved(tmp_path / "a.ckpt", {**state, **dotless(unet("ema."))})
    with pytest.raises(UserError, match=r"has no average of _orig_mod\.model"):
        read_network(path, MARKERS)


def test_published_names_do_not_collide():
    keys = [key for key in PUBLISHED["ldm_compvis"] if key.startswith("model.")]
    names = average_keys(PUBLISHED["ldm_compvis"])
    assert list(names) == keys and len(set(names.values())) == len(keys)
    first = f"{PREFIX}input_blocks.0.0.weight"
    assert names[first] == "model_ema.diffusion_modelinput_blocks00weight"


def test_names_that_collide():
    with pytest.raises(BadFile, match=r"averages at model_ema\.\* that are of two"):
        average_keys(["model.a.1.1.weight", "model.a.11.weight"])
