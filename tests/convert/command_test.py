"""`convert`: there and back is the identity; what does not fit is told."""

import dataclasses
import hashlib
import math
import os
import weakref

import ml_dtypes
import numpy as np
import pytest

from rad_jax.convert import adm, command, mapped
from rad_jax.convert.command import convert
from rad_jax.convert.presets import PRESETS, Choices, Preset
from rad_jax.convert.state_files import read_state_dict
from rad_jax.convert.write_files import write_safetensors, write_torch
from rad_jax.errors import UserError
from rad_jax.model_folder import read_model, read_record
from rad_jax.schedule import ScheduleConfig
from tests.models.adm_files import description, golden_weights

TINY = ("tiny_adm", "tiny_cond_heads", "tiny_neworder")


def network(name):
    """Architecture and weights of a small golden network."""
    meta = description(name)
    config = adm.config_from_adm_flags(meta["flags"])
    return config, golden_weights(meta["state_dict"])


def choices(config):
    """What shapes do not tell of it."""
    return Choices(
        image_size=config.image_size,
        num_heads=config.num_heads,
        num_head_channels=config.num_head_channels,
        use_new_attention_order=config.use_new_attention_order,
        noise_schedule="linear",
    )


def assert_equal(state, expected):
    assert list(state) == list(expected)
    for key, array in expected.items():
        assert state[key].dtype == array.dtype
        np.testing.assert_array_equal(state[key], array)


@pytest.mark.parametrize("name", TINY)
def test_there_and_back(tmp_path, name):
    config, state = network(name)
    write_torch(tmp_path / "a.pt", state)
    convert(tmp_path / "a.pt", tmp_path / "m", choices=choices(config))
    read, schedule, parametrisation, params = read_model(tmp_path / "m")
    assert (read, schedule.kind, parametrisation) == (config, "linear", "eps")
    np.testing.assert_array_equal(
        params["conv_in"]["kernel"][2, 1, 0],
        state["input_blocks.0.0.weight"][:, 0, 2, 1],
    )
    convert(tmp_path / "m", tmp_path / "b.pt", to="torch")
    assert_equal(read_state_dict(tmp_path / "b.pt"), state)
    assert (tmp_path / "b.pt").read_bytes() == (tmp_path / "a.pt").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["a.pt", "b.pt", "m"]


@pytest.mark.parametrize("name", ["tiny_adm", "tiny_neworder"])
def test_by_way_of_diffusers(tmp_path, name):
    """Of both attention orders."""
    config, state = network(name)
    write_torch(tmp_path / "a.pt", state)
    convert(tmp_path / "a.pt", tmp_path / "m", choices=choices(config))
    convert(tmp_path / "m", tmp_path / "b.safetensors", to="diffusers")
    assert "mid_block.attentions.0.to_q.weight" in read_state_dict(
        tmp_path / "b.safetensors"
    )
    convert(tmp_path / "b.safetensors", tmp_path / "n", choices=choices(config))
    assert read_record(tmp_path / "n")["provenance"]["layout"] == "diffusers"
    convert(tmp_path / "n", tmp_path / "b.pt", to="torch")
    assert_equal(read_state_dict(tmp_path / "b.pt"), state)


@pytest.mark.parametrize("kind", ["rad", "diffusers"])
def test_diffusers_files_there_and_back(tmp_path, kind):
    """The authors' layers that are told the time are 1x1 convolutions."""
    state = golden_weights(description("rad_unet")["state_dict"])
    if kind == "diffusers":
        state = {
            key: array[..., 0, 0] if "time_emb" in key and array.ndim == 4 else array
            for key, array in state.items()
        }
    write_safetensors(tmp_path / "a", state)
    stated = Choices(image_size=32, num_head_channels=32, noise_schedule="cosine")
    convert(tmp_path / "a", tmp_path / "m", choices=stated)
    assert read_record(tmp_path / "m")["provenance"]["layout"] == kind
    config, schedule, _, _ = read_model(tmp_path / "m")
    assert config.use_new_attention_order and schedule.kind == "cosine"
    convert(tmp_path / "m", tmp_path / "b", to="diffusers")
    again = read_state_dict(tmp_path / "b")
    assert_equal({key: again[key] for key in state}, state)
    assert len(again) == len(state)


def test_other_floats_become_float32(tmp_path):
    config, state = network("tiny_cond_heads")
    kinds = (np.float16, ml_dtypes.bfloat16, np.float64)
    state = {k: x.astype(kinds[i % 3]) for i, (k, x) in enumerate(state.items())}
    write_torch(tmp_path / "a.pt", state)
    convert(tmp_path / "a.pt", tmp_path / "m", choices=choices(config))
    convert(tmp_path / "m", tmp_path / "b.pt", to="torch")
    expected = {k: x.astype(np.float32) for k, x in state.items()}
    assert_equal(read_state_dict(tmp_path / "b.pt"), expected)


def test_presets_and_what_is_said(tmp_path, monkeypatch, capsys):
    config, state = network("tiny_cond_heads")
    preset = Preset("tiny.pt", dataclasses.replace(config, dropout=0.5), "cosine")
    monkeypatch.setitem(PRESETS, "tiny", preset)
    monkeypatch.setattr(command, "CHUNK", 100_000)
    path = tmp_path / "a.pt"
    write_torch(path, state)
    capsys.readouterr()
    convert(path, tmp_path / "m", preset="tiny", choices=Choices(dropout=0.25))
    out, err = capsys.readouterr()
    count = sum(array.size for array in state.values())
    assert out.splitlines() == [
        f"{path}: {len(state)} arrays, {count:,} parameters, float32, in the layout of "
        "openai",
        f"from shapes: model_channels {config.model_channels}, channel_mult "
        f"{config.channel_mult}, num_res_blocks {config.num_res_blocks}, "
        "attention_levels (1,), in_channels 3, out_channels 3, learn_sigma "
        f"{config.learn_sigma}, num_classes {config.num_classes}, "
        f"use_scale_shift_norm {config.use_scale_shift_norm}, resblock_updown "
        f"{config.resblock_updown}",
        "by hand: dropout 0.25",
        f"from preset tiny: image_size {config.image_size}, num_heads "
        f"{config.num_heads}, num_head_channels {config.num_head_channels}, "
        "num_heads_upsample -1, use_new_attention_order False, noise_schedule cosine",
        f"rad-jax: the model is {tmp_path / 'm'}",
    ]
    arrays = f"{len(state)}/{len(state)} array"
    chunks = math.ceil(path.stat().st_size / 100_000)
    assert f"convert: {arrays}" in err and f"checksum: {chunks}/{chunks} chunk" in err
    read, schedule, _, _ = read_model(tmp_path / "m")
    assert read == dataclasses.replace(config, dropout=0.25)
    assert schedule == ScheduleConfig(kind="cosine")
    assert read_record(tmp_path / "m")["provenance"] == {
        "file": "a.pt",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "layout": "openai",
        "preset": "tiny",
    }


def test_arrays_are_mapped_one_at_a_time(tmp_path, monkeypatch):
    """Else a file of gigabytes would be in memory twice. Small arrays may stay."""
    config, state = network("tiny_adm")
    path = tmp_path / "a.pt"
    write_torch(path, state)
    maps, most = [], 0
    real = mapped._map

    def watched(*args):
        nonlocal most
        array = real(*args)
        maps.append(weakref.ref(array.base))
        most = max(most, sum(x.nbytes for ref in maps if (x := ref()) is not None))
        return array

    monkeypatch.setattr(mapped, "_map", watched)
    convert(path, tmp_path / "m", choices=choices(config))
    assert len(maps) >= 2 * len(state)
    assert most < 0.1 * path.stat().st_size


# What is refused, before anything is written.


@pytest.fixture(scope="module")
def adm_file(tmp_path_factory):
    """A small ADM, not to be written to, and its choices."""
    config, state = network("tiny_cond_heads")
    path = tmp_path_factory.mktemp("adm") / "a.pt"
    write_torch(path, state)
    return path, choices(config)


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"image_size": None}, "a.pt: its shapes do not tell .* --image_size, or a pr"),
        ({"noise_schedule": "square"}, "a.pt: schedule.kind is 'square'"),
        ({"image_size": 33}, "a.pt: image_size is 33"),
        ({"num_head_channels": 5}, "a.pt: num_head_channels is 5"),
    ],
)
def test_choices_that_do_not_fit(tmp_path, adm_file, changes, match):
    path, stated = adm_file
    stated = dataclasses.replace(stated, **changes)
    with pytest.raises(UserError, match=match):
        convert(path, tmp_path / "m", choices=stated)
    assert not os.listdir(tmp_path)


def test_a_preset_that_does_not_fit(tmp_path, adm_file):
    match = "a.pt: is not what preset ffhq256 says: model_channels is"
    with pytest.raises(UserError, match=match):
        convert(adm_file[0], tmp_path / "m", preset="ffhq256")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    "key, array, match",
    [
        ("out.2.bias", None, r"a.pt: .*missing: out\.2\.bias"),
        ("new.bias", np.zeros(2, np.float32), r"a.pt: .*left over: new\.bias"),
        ("out.2.bias", np.zeros(2, np.float32), "a.pt: .*wrong shape: out.2.bias is"),
        ("out.2.bias", np.zeros(2, np.int64), "a.pt: out.2.bias is int64; weights are"),
        ("time_embed.0.weight", None, "a.pt: is of no U-Net"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, adm_file, key, array, match):
    path, stated = adm_file
    state = {**read_state_dict(path), key: array}
    write_torch(tmp_path / "a.pt", {k: x for k, x in state.items() if x is not None})
    with pytest.raises(UserError, match=f"(?s){match}"):
        convert(tmp_path / "a.pt", tmp_path / "m", choices=stated)
    assert os.listdir(tmp_path) == ["a.pt"]


def test_nothing_is_replaced_unless_it_is_asked_for(tmp_path, adm_file):
    path, stated = adm_file
    folder, file = tmp_path / "m", tmp_path / "b.pt"
    convert(path, folder, choices=stated)
    file.write_bytes(b"precious")
    with pytest.raises(UserError, match="m: exists; choose another output or --overw"):
        convert(tmp_path / "not read yet", folder, choices=stated)
    with pytest.raises(UserError, match=r"b\.pt: exists; choose another output or --"):
        convert(folder, file, to="torch")
    assert file.read_bytes() == b"precious"
    convert(path, folder, choices=stated, overwrite=True)
    convert(folder, file, to="safetensors", overwrite=True)
    assert_equal(read_state_dict(file), read_state_dict(path))


def test_options_that_have_no_use_with_to(tmp_path):
    with pytest.raises(UserError, match="--preset has no use with --to"):
        convert(tmp_path, tmp_path / "b.pt", to="torch", preset="ffhq256")
    with pytest.raises(UserError, match="--dropout has no use with --to"):
        convert(tmp_path, tmp_path / "b.pt", to="torch", choices=Choices(dropout=0.0))
    with pytest.raises(UserError, match="--to is 'onnx'; use one of torch, safetensor"):
        convert(tmp_path, tmp_path / "b.pt", to="onnx")


def test_what_is_no_model_folder(tmp_path):
    with pytest.raises(UserError, match="is no model folder, it has no model"):
        convert(tmp_path, tmp_path / "b.pt", to="torch")
    assert not os.listdir(tmp_path)
