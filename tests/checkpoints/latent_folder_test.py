"""A folder of a base in latents holds its autoencoder, too."""

import json

import jax
import numpy as np
import pytest

from rad_jax.checkpoints.describe import describe
from rad_jax.checkpoints.fingerprint import fingerprint
from rad_jax.checkpoints.load import load, load_shapes
from rad_jax.checkpoints.model import parts, with_params
from rad_jax.checkpoints.model_folder import check_free, read_model, write_model
from rad_jax.errors import UserError
from tests.models.latent_models import latent_model


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A model folder; do not write there."""
    folder = tmp_path_factory.mktemp("models") / "latent"
    write_model(folder, latent_model(), {"file": "a.ckpt"})
    return folder


@pytest.fixture
def copied(written, tmp_path):
    """Another one, to be changed."""
    folder = tmp_path / "model"
    write_model(folder, latent_model(), {"file": "a.ckpt"})
    return folder


def test_what_is_written_is_read(written):
    ours, read = latent_model(), read_model(written)
    assert read._replace(params={}, codec=None) == ours._replace(params={}, codec=None)
    for name, part in parts(ours).items():
        other = parts(read)[name]
        assert other.config == part.config
        jax.tree.map(np.testing.assert_array_equal, other.params, part.params)
    assert fingerprint(read) == fingerprint(ours)
    on_device = jax.tree.leaves(parts(load(written))["codec"].params)
    assert on_device and all(isinstance(x, jax.Array) for x in on_device)


def test_sizes_are_those_of_pictures():
    model = latent_model()
    assert (model.channels, model.config.out_channels) == (3, 4)
    assert (model.cell, model.image_size, model.stride) == (4, 32, 8)


def test_shapes_need_no_arrays(written):
    found = jax.tree.leaves(parts(load_shapes(written))["codec"].params)
    assert found and all(isinstance(x, jax.ShapeDtypeStruct) for x in found)


def test_another_autoencoder_is_another_model():
    ours = latent_model()
    trees = {name: part.params for name, part in parts(ours).items()}
    changed = trees | {"codec": jax.tree.map(lambda x: x + 1, trees["codec"])}
    assert fingerprint(with_params(ours, changed)) != fingerprint(ours)
    assert fingerprint(ours._replace(codec=None)) != fingerprint(ours)


def test_info_tells_both(written):
    text = describe(written)
    assert "\ncodec: " in text and '"latent_channels": 4' in text


def test_damage_to_the_autoencoder_is_told(copied):
    files = [path for path in (copied / "codec").rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(bytes(data))
    with pytest.raises(UserError, match="codec: is damaged"):
        read_model(copied)


def test_an_autoencoder_of_another_model_is_told(copied):
    path = copied / "model.json"
    record = json.loads(path.read_text())
    record["codec"]["latent_channels"] = 8
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match="latents of 8 channels, and the network"):
        read_model(copied)


def test_it_may_be_overwritten(copied):
    check_free(copied, overwrite=True)
    write_model(copied, latent_model()._replace(codec=None), {}, overwrite=True)
    assert not (copied / "codec").exists()
    with pytest.raises(UserError, match="exists; choose another"):
        check_free(copied, overwrite=False)
