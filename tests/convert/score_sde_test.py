"""score_sde's checkpoints by name: published lists, both programs, there and back."""

import collections
import gzip
import json

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from rad_jax.convert.score_sde import config_of, entries, flax_names
from rad_jax.errors import UserError
from rad_jax.models.network import abstract_params
from rad_jax.weight_files import name_table
from tests.models.adm_files import FOLDER, description
from tests.models.ncsnpp_files import golden_state, ncsnpp

BASES = FOLDER / "bases"
_FILE = BASES / "score_sde_published_state_dicts.json.gz"
PUBLISHED = json.loads(gzip.decompress(_FILE.read_bytes()))
NAMES = [name for name in PUBLISHED if name != "_note"]
FFHQ = PUBLISHED["ve/ffhq_256_ncsnpp_continuous"]["config"]


def keys_of(name):
    """Shapes by key, of what is a parameter."""
    keys = PUBLISHED[PUBLISHED[name].get("same_keys_as", name)]["keys"]
    return {key: tuple(shape) for key, shape in keys.items() if key != "sigmas"}


def configuration(name):
    config = PUBLISHED[name]["config"]
    return config_of(config["model"], config["data"])


def blocks(**changes):
    """FFHQ's configuration with some settings of the network changed."""
    return {**FFHQ["model"], **changes}, FFHQ["data"]


@pytest.mark.parametrize("name", NAMES)
def test_published_lists_are_read_whole(name):
    """Each key and each array of ours once, with its shape; parameters counted."""
    config, keys, published = configuration(name), keys_of(name), PUBLISHED[name]
    abstract, table = abstract_params(config), entries(config)
    assert {entry.path for entry in table} == set(flatten_dict(abstract))
    assert name_table.file_shapes(table, abstract) == keys
    sizes = sum(leaf.size for leaf in jax.tree.leaves(abstract))
    assert sizes == published["params"]
    # In the order of the file, which that of the averages without names is.
    assert list(flax_names(config)) == list(keys)
    averages = [key for key in keys if key not in published["not_in_shadow"]]
    assert len(averages) == published["n_shadow"]


def test_networks_that_are_the_same():
    """All published of 256 pixels; those of a process and its continuous form."""
    same = collections.defaultdict(set)
    for name in NAMES:
        same[configuration(name)].add(name)
    sizes = sorted(map(len, same.values()))
    assert sizes[-1] == 4 and sum(sizes) == len(NAMES)


def flax_paths(name):
    meta = json.loads((BASES / f"{name}.json").read_text())
    if "paths" in meta:
        return {path: key for path, (key, _) in meta["paths"].items()}
    return meta["flax_to_torch"]


def test_names_of_the_flax_program():
    paths = flax_paths("score_sde_ffhq256_flax_paths")
    names = flax_names(configuration("ve/ffhq_256_ncsnpp_continuous"))
    assert {path: key for key, path in names.items()} == paths
    tiny = description("bases/sde_checkpoints")
    names = flax_names(config_of(tiny["model"], tiny["data"]))
    assert {path: key for key, path in names.items()} == tiny["flax_to_torch"]


def test_names_of_the_flax_program_are_all_different():
    for name in NAMES:
        names = flax_names(configuration(name))
        assert len(set(names.values())) == len(names)


@pytest.mark.parametrize("name", ["ncsnpp_tiny_residual", "ddpm_tiny_vp"])
def test_there_and_back(name):
    """Bit for bit; q, k and v are one layer of ours."""
    config, params = ncsnpp(name)
    state = golden_state(description(f"bases/{name}")["keys"])
    table, abstract = entries(config), abstract_params(config)
    written = name_table.write(table, abstract, params)
    assert set(written) == set(state)
    for key in state:
        np.testing.assert_array_equal(written[key], state[key])
    again = name_table.read(table, abstract, written)
    jax.tree.map(np.testing.assert_array_equal, again, params)


def test_the_ddpm_has_settings_that_it_does_not_read():
    """Its configurations name an embedding that it does not have."""
    name = "vp/cifar10_ddpm_continuous"
    assert PUBLISHED[name]["config"]["model"]["embedding_type"] == "fourier"
    config = configuration(name)
    assert (config.embedding, config.block, config.groups) == ("positional", "ddpm", 32)
    assert config.dropout == 0.1 and not config.fir and not config.skip_rescale


def test_tuples_of_a_python_configuration():
    config = config_of(*blocks(ch_mult=(1,) * 5, fir_kernel=(1, 3, 3, 1)))
    assert config.channel_mult == (1,) * 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nonlinearity": "elu"}, "nonlinearity is elu; only swish is supported"),
        ({"conditional": False}, "conditional is False; only True"),
        ({"fir_kernel": [1, 2, 1]}, r"fir_kernel is \[1, 2, 1\]; only"),
        ({"name": "ncsnv2_64"}, "name is ncsnv2_64; use a network ncsnpp or ddpm"),
        ({"progressive": "all"}, "progressive is 'all'; use none or"),
    ],
)
def test_settings_that_are_not_supported(changes, message):
    with pytest.raises(UserError, match=message):
        config_of(*blocks(**changes))


def test_settings_that_are_missing():
    model, data = blocks()
    del model["nf"]
    with pytest.raises(UserError, match="the configuration of score_sde lacks nf"):
        config_of(model, data)
