"""`rad-jax convert`: there and back is the identity; what does not fit is told."""

import dataclasses
import hashlib
import json
import os
import struct
import subprocess
import sys
import weakref

import jax
import ml_dtypes
import numpy as np
import pytest

from rad_jax.checkpoints.checkpoints import Checkpoints
from rad_jax.checkpoints.model import Model
from rad_jax.checkpoints.model_folder import read_model, read_record, write_model
from rad_jax.cli.main import main
from rad_jax.convert import adm
from rad_jax.convert.presets import PRESETS, Preset
from rad_jax.diffusion.schedule_config import ScheduleConfig
from rad_jax.models.config import UNetConfig
from rad_jax.weight_files import lazy_array, name_table
from rad_jax.weight_files.read import read_state_dict
from rad_jax.weight_files.write import write_safetensors, write_torch
from tests.conftest import PROGRESS
from tests.golden_files import FOLDER
from tests.models.adm_files import description, golden_weights
from tests.weight_files.pickles import number, tensor, text, zipped

TINY = ("tiny_adm", "tiny_cond_heads", "tiny_neworder")


def network(name):
    """Architecture and weights of a small golden network."""
    meta = description(name)
    config = adm.config_from_adm_flags(meta["flags"])
    return config, golden_weights(meta["state_dict"])


def choices(config, **changes):
    """Flags for what shapes do not tell of it; None leaves one out."""
    values = {
        "image_size": config.image_size,
        "num_heads": config.num_heads,
        "num_head_channels": config.num_head_channels,
        "use_new_attention_order": str(config.use_new_attention_order).lower(),
        "noise_schedule": "linear",
        **changes,
    }
    return flags(values)


def flags(values):
    pairs = [(f"--{key}", x) for key, x in values.items() if x is not None]
    return [part for pair in pairs for part in pair]


def assert_equal(state, expected):
    assert list(state) == list(expected)
    for key, array in expected.items():
        assert state[key].dtype == array.dtype
        np.testing.assert_array_equal(state[key], array)


# There and back.


@pytest.mark.parametrize("name", TINY)
def test_there_and_back(tmp_path, converts, name):
    config, state = network(name)
    write_torch(tmp_path / "a.pt", state)
    converts("a.pt", "m", *choices(config))
    read, schedule, parametrisation, params, *_ = read_model(tmp_path / "m")
    assert (read, schedule.kind, parametrisation) == (config, "linear", "eps")
    np.testing.assert_array_equal(
        params["conv_in"]["kernel"][2, 1, 0],
        state["input_blocks.0.0.weight"][:, 0, 2, 1],
    )
    out = converts("m", "b.pt", "--to", "torch")
    assert out.splitlines() == [
        f"not in the file: image_size {config.image_size}, num_heads 4, "
        f"num_head_channels {config.num_head_channels}, num_heads_upsample -1, "
        f"use_new_attention_order {config.use_new_attention_order}, noise_schedule "
        "linear, diffusion_steps 1000, rescale_timesteps False, dropout 0.0, "
        "prediction eps",
        f"rad-jax: {len(state)} arrays in the layout of openai: {tmp_path / 'b.pt'}",
    ]
    assert_equal(read_state_dict(tmp_path / "b.pt"), state)
    assert (tmp_path / "b.pt").read_bytes() == (tmp_path / "a.pt").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["a.pt", "b.pt", "m"]


@pytest.mark.parametrize(
    "name", ["tiny_neworder", pytest.param("tiny_adm", marks=pytest.mark.slow)]
)
def test_by_way_of_diffusers(tmp_path, converts, name):
    """Of both attention orders."""
    config, state = network(name)
    write_torch(tmp_path / "a.pt", state)
    converts("a.pt", "m", *choices(config))
    out = converts("m", "b.safetensors", "--to", "diffusers")
    file = tmp_path / "b.safetensors"
    assert out.endswith(f" arrays in the layout of diffusers: {file}\n")
    assert "mid_block.attentions.0.to_q.weight" in read_state_dict(file)
    converts("b.safetensors", "n", *choices(config))
    assert read_record(tmp_path / "n")["provenance"]["layout"] == "diffusers"
    converts("n", "b.pt", "--to", "torch")
    assert_equal(read_state_dict(tmp_path / "b.pt"), state)


@pytest.mark.parametrize("kind", ["rad", "diffusers"])
def test_diffusers_files_there_and_back(tmp_path, converts, kind):
    """The authors' time-embedding layers are 1x1 convolutions."""
    state = golden_weights(description("rad_unet")["state_dict"])
    if kind == "diffusers":
        state = {
            key: array[..., 0, 0] if "time_emb" in key and array.ndim == 4 else array
            for key, array in state.items()
        }
    write_safetensors(tmp_path / "a", state)
    stated = {"image_size": 32, "num_head_channels": 32, "noise_schedule": "cosine"}
    converts("a", "m", *flags(stated))
    assert read_record(tmp_path / "m")["provenance"]["layout"] == kind
    config, schedule, *_ = read_model(tmp_path / "m")
    assert isinstance(config, UNetConfig) and config.use_new_attention_order
    assert schedule.kind == "cosine"
    converts("m", "b", "--to", "diffusers")
    again = read_state_dict(tmp_path / "b")
    assert_equal({key: again[key] for key in state}, state)
    assert len(again) == len(state)


def test_other_floats_become_float32(tmp_path, converts):
    config, state = network("tiny_cond_heads")
    kinds = (np.float16, ml_dtypes.bfloat16, np.float64)
    state = {k: x.astype(kinds[i % 3]) for i, (k, x) in enumerate(state.items())}
    write_torch(tmp_path / "a.pt", state)
    converts("a.pt", "m", *choices(config))
    converts("m", "b.pt", "--to", "torch")
    expected = {k: x.astype(np.float32) for k, x in state.items()}
    assert_equal(read_state_dict(tmp_path / "b.pt"), expected)


@pytest.mark.parametrize("to", ["torch", "diffusers"])
def test_folders_of_bfloat16_become_float32(tmp_path, converts, to, monkeypatch):
    """One array at a time: there is never a second copy of the model in memory."""
    config, state = network("tiny_adm")
    rounded = {
        key: x.astype(ml_dtypes.bfloat16) if x.ndim > 1 else x
        for key, x in state.items()
    }
    params = adm.adm_to_params(config, rounded)
    half = jax.tree.map(
        lambda x: x.astype(ml_dtypes.bfloat16) if x.ndim > 1 else x, params
    )
    write_folder(tmp_path / "m", config, half)
    copies, most, total = [], 0, 0
    real = name_table.Written.__getitem__

    def watched(written, key):
        nonlocal most, total
        array = real(written, key)
        if array.flags.owndata and array.ndim > 1:  # a copy, and no small one
            copies.append(weakref.ref(array))
            total += array.nbytes
        alive = [x for ref in copies if (x := ref()) is not None]
        most = max(most, sum(x.nbytes for x in alive))
        return array

    monkeypatch.setattr(name_table.Written, "__getitem__", watched)
    converts("m", "b", "--to", to)
    assert total > 2**20 and most < 0.1 * total
    converts("b", "n", *choices(config))
    jax.tree.map(np.testing.assert_array_equal, read_model(tmp_path / "n")[3], params)


def write_folder(folder, config, params):
    write_model(folder, Model(config, ScheduleConfig(), "eps", params), {})


def test_what_the_network_is_told_is_not_in_a_file(tmp_path, converts):
    config, state = network(TINY[0])
    write_torch(tmp_path / "a.pt", state)
    converts("a.pt", "m", *choices(config))
    record = json.loads((tmp_path / "m" / "model.json").read_text())
    record["model"]["noise_embedding"] = "time"
    (tmp_path / "m" / "model.json").write_text(json.dumps(record))
    out = converts("m", "b.pt", "--to", "torch")
    assert ", dropout 0.0, noise embedding time, prediction eps\n" in out


# Training runs.


def test_a_run_becomes_a_model_folder(tmp_path, converts, tiny_run, rad):
    """Its averaged parameters, without the optimiser's state."""
    workdir, state = tiny_run
    out = converts(workdir, "m")
    assert out == (
        f"rad-jax: the averaged parameters of step 10 are the model {tmp_path / 'm'}\n"
    )
    config, schedule, parametrisation, params, *_ = read_model(tmp_path / "m")
    with Checkpoints(workdir) as checkpoints:
        stored = checkpoints.records(10, ["config"])["config"]
    assert json.loads(json.dumps(dataclasses.asdict(config))) == stored["model"]
    assert (
        dataclasses.asdict(schedule)["hole_steps"] == stored["schedule"]["hole_steps"]
    )
    assert parametrisation == stored["loss"]["parametrisation"] == "eps"
    jax.tree.map(np.testing.assert_array_equal, params, state.ema)
    provenance = read_record(tmp_path / "m")["provenance"]
    training = provenance.pop("training")
    assert provenance == {"run": workdir.name, "step": 10, "data": "digits"}
    # The config, but for what the record says itself and for places of this machine.
    del stored["data"]["data_dir"], stored["train"]["wandb_project"]
    for name in ("model", "schedule", "codec", "distil"):  # nothing of the last two
        del stored[name]
    assert training == stored
    size, whole = (
        sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        for folder in (tmp_path / "m", workdir / "checkpoints" / "10")
    )
    assert size < 0.35 * whole  # parameters, average and two moments there


def test_a_run_becomes_a_file(tmp_path, converts, tiny_run):
    workdir, state = tiny_run
    converts(workdir, "m")
    for name, source in (("a.pt", workdir), ("b.pt", "m")):
        converts(source, name, "--to", "torch")
    found = read_state_dict(tmp_path / "a.pt")
    np.testing.assert_array_equal(
        found["out.2.bias"], state.ema["conv_out"]["bias"], strict=True
    )
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


# What is said.


def test_presets_and_what_is_said(tmp_path, monkeypatch, capsys):
    config, state = network("tiny_cond_heads")
    preset = Preset(
        "tiny.pt",
        dataclasses.replace(config, dropout=0.5),
        ScheduleConfig(kind="cosine"),
    )
    monkeypatch.setitem(PRESETS, "tiny", preset)
    # guided-diffusion's name of averaged weights.
    path = tmp_path / "ema_0.9999_250000.pt"
    write_torch(path, state)
    capsys.readouterr()
    files = ["--input", str(path), "--output", str(tmp_path / "m")]
    assert main(["convert", *files, "--preset", "tiny", "--dropout", "0.25"]) == 0
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
        "num_heads_upsample -1, use_new_attention_order False, noise_schedule cosine, "
        "diffusion_steps 1000, rescale_timesteps False",
        f"rad-jax: the model is {tmp_path / 'm'}",
    ]
    assert f"convert: {len(state)}/{len(state)} array" in err
    read, schedule, *_ = read_model(tmp_path / "m")
    assert read == dataclasses.replace(config, dropout=0.25)
    assert schedule == ScheduleConfig(kind="cosine", known_steps=0)  # a plain ADM
    assert read_record(tmp_path / "m")["provenance"] == {
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "layout": "openai",
        "preset": "tiny",
    }


def test_help_lists_the_presets(rad):
    code, out, _ = rad("convert", "--help")
    assert code == 0
    for name, preset in PRESETS.items():
        assert f"\n  {name} " in out and f" {preset.file}\n" in out


def test_arrays_are_mapped_one_at_a_time(tmp_path, monkeypatch, converts):
    """Else a file of gigabytes would be in memory twice. Small arrays may stay."""
    config, state = network("tiny_adm")
    path = tmp_path / "a.pt"
    write_torch(path, state)
    maps, most = [], 0
    real = lazy_array._map

    def watched(*args):
        nonlocal most
        array = real(*args)
        maps.append(weakref.ref(array.base))
        most = max(most, sum(x.nbytes for ref in maps if (x := ref()) is not None))
        return array

    monkeypatch.setattr(lazy_array, "_map", watched)
    converts("a.pt", "m", *choices(config))
    assert len(maps) >= 2 * len(state)
    assert most < 0.1 * path.stat().st_size


# What is refused, before anything is written.


@pytest.fixture(scope="module")
def adm_file(tmp_path_factory):
    """A small ADM, not to be written to, and its architecture."""
    config, state = network("tiny_cond_heads")
    path = tmp_path_factory.mktemp("adm") / "a.pt"
    write_torch(path, state)
    return path, config


@pytest.fixture(scope="module")
def model_folder(adm_file, tmp_path_factory):
    """The model folder of it, not to be written to."""
    path, config = adm_file
    folder = tmp_path_factory.mktemp("models") / "m"
    arguments = ["--input", path, "--output", folder, *choices(config)]
    assert main(["convert", *map(str, arguments)]) == 0
    return folder


def real(number):
    return b"G" + struct.pack(">d", number)


def optimizer_state():
    """What guided-diffusion saves of AdamW, for one parameter."""
    moments = b"".join(
        text(name) + tensor() + b"s" for name in ("exp_avg", "exp_avg_sq")
    )
    one = b"}" + text("step") + number(250_000) + b"s" + moments
    group = (
        b"}" + text("lr") + real(1e-4) + b"s" + text("betas") + real(0.9) + real(0.999)
        + b"\x86s" + text("amsgrad") + b"\x89s" + text("params") + b"]K\x00as"
    )  # fmt: skip
    state = b"}K\x00" + one + b"s"
    pair = text("state") + state + b"s" + text("param_groups") + b"]" + group + b"as"
    return b"\x80\x02}" + pair + b"."


def resnet():
    shapes = {
        "conv1.weight": (64, 3, 7, 7),
        "bn1.running_mean": (64,),
        "layer1.0.conv1.weight": (64, 64, 3, 3),
        "fc.weight": (10, 64),
    }
    return {key: np.zeros(shape, np.float32) for key, shape in shapes.items()}


def classifier():
    """guided-diffusion's: half a U-Net, then attention."""
    _, state = network("tiny_adm")
    half = {
        k: x for k, x in state.items() if not k.startswith(("output_blocks", "out."))
    }
    return half | {"out.2.positional_embedding": np.zeros((64, 65), np.float32)}


@pytest.mark.parametrize(
    "name, content, match",
    [
        (
            "a.pt",
            b"\n<!DOCTYPE html><html>",
            "is a web page, not the weights; open its",
        ),
        ("a.pt", b"dear diary, " * 99, "is a text file, not weights"),
        ("a.pt", b"", "is empty; get the file again"),
        (
            "a.pt",
            resnet,
            "is of no network that can be converted: it has neither the keys",
        ),
        (
            "a.pt",
            classifier,
            "is of an encoder, such as guided-diffusion's classifiers;",
        ),
        (
            "opt250000.pt",
            optimizer_state,
            "holds the state of an optimiser, not a model; guided-diffusion calls "
            "those opt*.pt, and the model ema_*.pt or model*.pt",
        ),
    ],
)
def test_files_of_something_else(tmp_path, refuses, name, content, match):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is optimizer_state:
        zipped(path, content())
    else:
        write_torch(path, content())
    refuses(name, "m", "--preset", "ffhq256", match=f"rad-jax: {path}: {match}")


def test_nothing_in_a_file_is_run(tmp_path, refuses, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = FOLDER / "torch_files" / "malicious.pt"  # touches "pwned"
    match = f"rad-jax: {path}: wants to run posix.system: refused"
    refuses(path, "m", "--preset", "ffhq256", match=match)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_files_that_are_cut_short(tmp_path, refuses, adm_file, share):
    path, config = adm_file
    data = path.read_bytes()
    (tmp_path / "a.pt").write_bytes(data[: int(share * len(data))])
    match = "a.pt: is a damaged zip archive, perhaps cut short; get the file again"
    refuses("a.pt", "m", *choices(config), match=match)


@pytest.mark.parametrize(
    "changes, match",
    [
        (
            {"image_size": None, "num_heads": None, "num_head_channels": None},
            "a.pt: not inferable from tensor shapes: --image_size, "
            "--num_head_channels or --num_heads; give them, or a preset; no preset "
            "fits",
        ),
        ({"noise_schedule": "square"}, "a.pt: schedule.kind is 'square'"),
        ({"image_size": 33}, "a.pt: image_size is 33"),
        ({"num_head_channels": 5}, "a.pt: num_head_channels is 5"),
        ({"num_heads_upsample": 5}, "a.pt: num_heads_upsample is 5"),
        ({"dropout": "nan"}, "a.pt: dropout is nan"),
        ({"dropout": "some"}, "argument --dropout: invalid float value: 'some'"),
        ({"image_size": "big"}, "argument --image_size: big is not a count"),
        (
            {"use_new_attention_order": "yes"},
            "argument --use_new_attention_order: 'yes' is neither true nor false",
        ),
        ({"preset": "ffhq"}, "a.pt: 'ffhq' is no preset; there are imagenet64_cond, "),
        (
            {"preset": "ffhq256"},
            "a.pt: does not match preset ffhq256: model_channels is 32, the preset's "
            "128; channel_mult is ",
        ),
    ],
)
def test_choices_that_do_not_fit(refuses, adm_file, changes, match):
    path, config = adm_file
    err = refuses(path, "m", *choices(config, **changes), match=match)
    assert "no preset fits" in err[0] or changes.get("preset") != "ffhq256"


def test_presets_that_would_fit_are_named(refuses, adm_file, monkeypatch):
    path, config = adm_file
    monkeypatch.setitem(PRESETS, "tiny", Preset("tiny.pt", config, ScheduleConfig()))
    match = "shapes: --image_size, --use_new_attention_order, --noise_schedule, --num_h"
    for arguments in ([], ["--preset", "lsun_cat"]):
        match = "does not match preset lsun_cat" if arguments else match
        (line,) = refuses(path, "m", *arguments, match=match)
        assert line.endswith("; presets that fit: tiny")


@pytest.mark.parametrize(
    "key, array, match",
    [
        ("out.2.bias", None, "  missing: out.2.bias"),
        ("new.bias", np.zeros(2, np.float32), "  left over: new.bias"),
        (
            "out.2.bias",
            np.zeros(2, np.float32),
            "  wrong shape: out.2.bias is (2,), the architecture has (3,)",
        ),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, refuses, adm_file, key, array, match):
    path, config = adm_file
    state = {**read_state_dict(path), key: array}
    write_torch(tmp_path / "a.pt", {k: x for k, x in state.items() if x is not None})
    said = "a.pt: the weights do not fit the architecture; check its flags:"
    err = refuses("a.pt", "m", *choices(config), match=said, lines=2)
    assert err[1] == match


def test_arrays_that_are_no_floats(tmp_path, refuses, adm_file):
    path, config = adm_file
    state = {**read_state_dict(path), "out.2.bias": np.zeros(3, np.int64)}
    write_torch(tmp_path / "a.pt", state)
    match = "a.pt: out.2.bias is int64; weights are floats"
    refuses("a.pt", "m", *choices(config), match=match)


# Outputs that exist, inputs that do not.


def test_nothing_is_replaced_unless_it_is_asked_for(
    tmp_path, converts, refuses, adm_file
):
    path, config = adm_file
    converts(path, "m", *choices(config))
    (tmp_path / "b.pt").write_bytes(b"precious")
    match = "m: exists; choose another output or --overwrite"
    refuses(path, "m", *choices(config), match=match)
    refuses("m", "b.pt", "--to", "torch", match="b.pt: exists; choose another outp")
    converts(path, "m", *choices(config, dropout=0.25), "--overwrite")
    assert read_model(tmp_path / "m")[0].dropout == 0.25
    converts("m", "b.pt", "--to", "safetensors", "--overwrite")
    assert_equal(read_state_dict(tmp_path / "b.pt"), read_state_dict(path))


@pytest.mark.parametrize(
    "files, match",
    [
        (["photo.png"], "m: exists, and is no model folder; choose another"),
        (
            ["model.json", "group1-shard1of1.bin"],
            "m/model.json: is damaged, or of anot",
        ),
        (
            ["model.json", "params/d", "photo.png"],
            "m: exists, and holds more than a model folder (photo.png); choose ano",
        ),
    ],
)
def test_only_model_folders_are_replaced(tmp_path, refuses, adm_file, files, match):
    """The second is TensorFlow.js's, the third ours, and something precious in it."""
    path, config = adm_file
    for name in files:
        (tmp_path / "m" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "m" / name).write_text('{"format": 1}' if len(files) == 3 else "{}")
    refuses(path, "m", *choices(config), "--overwrite", match=match)


def test_a_folder_is_not_replaced_by_a_file_nor_a_file_by_a_folder(
    tmp_path, refuses, adm_file, model_folder
):
    (tmp_path / "m").mkdir()
    match = "m: is a folder; give the name of a file"
    refuses(model_folder, "m", "--to", "torch", "--overwrite", match=match)
    (tmp_path / "b.pt").write_bytes(b"precious")
    match = "b.pt: exists, and is no model folder; choose another"
    refuses(adm_file[0], "b.pt", *choices(adm_file[1]), "--overwrite", match=match)


@pytest.mark.parametrize(
    "source, arguments, match",
    [
        ("none.pt", [], "none.pt: no such file or folder; check the name"),
        ("none", ["--to", "torch"], "none: no such file or folder; check the name"),
        (
            "empty",
            [],
            "empty: is neither a model folder (it has no model.json) nor the",
        ),
        ("empty", ["--to", "torch"], "empty: is neither a model folder"),
        (
            "file",
            ["--to", "torch"],
            "a.pt: is a file; --to is for the folder of a mode",
        ),
        (
            "folder",
            [],
            "m: is a model folder already; --to torch|safetensors|diffusers",
        ),
        (
            "folder",
            ["--to", "onnx"],
            "--to is 'onnx'; use one of torch, safetensors, d",
        ),
        (
            "folder",
            ["--to", "torch", "--preset", "ffhq256"],
            "--preset has no use with a folder, which records it",
        ),
        (
            "folder",
            ["--to", "torch", "--dropout", "0"],
            "--dropout has no use with a f",
        ),
        ("run", ["--preset", "ffhq256"], "--preset has no use with a folder"),
    ],
)
def test_inputs_that_make_no_sense(
    tmp_path, refuses, adm_file, model_folder, tiny_run, source, arguments, match
):
    (tmp_path / "empty").mkdir()
    real = {"file": adm_file[0], "folder": model_folder, "run": tiny_run[0]}
    refuses(real.get(source, source), "out", *arguments, match=match)


def test_a_full_disk_leaves_nothing_behind(tmp_path, adm_file, model_folder):
    """A limit on file size fails like a full disk, with EFBIG instead of ENOSPC."""
    path, config = adm_file
    program = """
import json, resource, sys
from rad_jax.cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, -1))
sys.exit(str([main(arguments) for arguments in json.loads(sys.argv[1])]))
"""
    folder, file = tmp_path / "new" / "m", tmp_path / "b.pt"
    commands = [
        ["--input", path, "--output", folder, *choices(config)],
        ["--input", model_folder, "--output", file, "--to", "torch"],
        ["--input", model_folder, "--output", file, "--to", "safetensors"],
    ]
    commands = [["convert", *map(str, arguments)] for arguments in commands]
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(commands)],
        capture_output=True,
        text=True,
        check=False,
    )
    said = [x for x in done.stderr.splitlines() if not PROGRESS.match(x)]
    full = (
        "cannot be written (File too large); free some space or choose another output"
    )
    lines = [f"rad-jax: {output}: {full}" for output in (folder, file, file)]
    assert said == [*lines, "[2, 2, 2]"]
    assert os.listdir(tmp_path) == ["new"] and not os.listdir(tmp_path / "new")
