"""Adapters alone: PEFT's files, loaded onto a base."""

import json
import shutil

import jax
import numpy as np
import pytest

from rad_jax.checkpoints.load import load
from rad_jax.cli.main import main
from rad_jax.convert.diffusers import params_to_diffusers
from rad_jax.convert.peft import with_adapters, write_adapters
from rad_jax.errors import UserError
from rad_jax.weight_files.read import read_state_dict

PREFIX = "base_model.model."


@pytest.fixture(scope="module")
def adapters(lora_run, tmp_path_factory):
    """A folder of adapters; do not write there."""
    folder = tmp_path_factory.mktemp("adapters") / "lora"
    write_adapters(lora_run[0], folder)
    return folder


@pytest.fixture(scope="module")
def base(tiny_run):
    return load(tiny_run[0])


def diffusers(model):
    return dict(params_to_diffusers(model.config, model.params, pointwise_time=False))


def test_loaded_onto_the_base_is_the_run(adapters, base, lora_run):
    expected, model = load(lora_run[0]), with_adapters(base, adapters)
    assert model[:3] == expected[:3]
    jax.tree.map(np.testing.assert_array_equal, model.params, expected.params)


def test_files_say_what_peft_reads(adapters, base, lora_run):
    """By its rules: W + alpha / r * B A where a name ends in a target; modules to save
    in full; every key used.
    """
    settings = json.loads((adapters / "adapter_config.json").read_text())
    assert settings["peft_type"] == "LORA" and settings["r"] == 2
    state = dict(read_state_dict(adapters / "adapter_model.safetensors"))
    merged = diffusers(base)
    for key in list(merged):
        name, _, kind = key.rpartition(".")
        if any(name.endswith(saved) for saved in settings["modules_to_save"]):
            merged[key] = state.pop(PREFIX + key)
        elif kind == "weight" and any(
            name == target or name.endswith(f".{target}")
            for target in settings["target_modules"]
        ):
            a = state.pop(f"{PREFIX}{name}.lora_A.weight")
            b = state.pop(f"{PREFIX}{name}.lora_B.weight")
            assert a.shape == (2, *merged[key].shape[1:])
            assert b.shape == (len(merged[key]), 2) + (1,) * (a.ndim - 2)
            update = np.einsum("or,r...->o...", b.reshape(len(b), 2), a)
            merged[key] = merged[key] + settings["lora_alpha"] / 2 * update
    assert not state
    for key, array in diffusers(load(lora_run[0])).items():
        np.testing.assert_allclose(merged[key], array, atol=1e-6)


def test_the_base_may_have_another_order_of_channels(adapters, base, lora_run):
    """A base converted from diffusers has the new order."""
    from rad_jax.convert.diffusers import diffusers_to_params

    def reordered(model):
        config = model.config.__class__(
            **{**vars(model.config), "use_new_attention_order": True}
        )
        params = diffusers_to_params(config, diffusers(model))
        return model._replace(config=config, params=params)

    model = with_adapters(reordered(base), adapters)
    expected = reordered(load(lora_run[0]))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
        model.params,
        expected.params,
    )


def test_the_adapters_know_what_the_network_is_told(adapters, base, tmp_path):
    folder = changed(
        adapters, tmp_path, lambda r: r["model"].update(noise_embedding="time")
    )
    assert base.config.noise_embedding == "spatial"
    assert with_adapters(base, folder).config.noise_embedding == "time"


def test_only_runs_with_adapters_have_adapters(tiny_run, tmp_path):
    with pytest.raises(UserError, match="has no adapters, all of its parameters train"):
        write_adapters(tiny_run[0], tmp_path / "adapters")
    assert not list(tmp_path.iterdir())


def test_what_exists_is_replaced_when_asked(adapters, lora_run, tmp_path):
    folder = tmp_path / "adapters"
    shutil.copytree(adapters, folder)
    with pytest.raises(UserError, match="exists; choose another output or --overwrite"):
        write_adapters(lora_run[0], folder)
    assert write_adapters(lora_run[0], folder, overwrite=True) > 10_000
    (folder / "more").touch()
    with pytest.raises(UserError, match="holds more than a folder of adapters"):
        write_adapters(lora_run[0], folder, overwrite=True)


def changed(adapters, tmp_path, change):
    folder = tmp_path / "adapters"
    shutil.copytree(adapters, folder)
    record = json.loads((folder / "rad_jax.json").read_text())
    change(record)
    (folder / "rad_jax.json").write_text(json.dumps(record))
    return folder


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda r: r["model"].update(model_channels=64), r"base \(model_channels\)"),
        (lambda r: r["lora"].update(rank=3), "wrong shape: base_model.model.conv_in"),
        (lambda r: r["lora"].update(rank=0), "is damaged .lora.rank is 0"),
        (
            lambda r: r["lora"].update(targets=["qkv"]),
            "left over: base_model.model.con",
        ),
        (lambda r: r.pop("lora"), "rad_jax.json: is damaged"),
        (lambda r: r.update(format=7), "is of another version of rad_jax"),
    ],
)
def test_adapters_that_do_not_fit(adapters, base, tmp_path, change, message):
    folder = changed(adapters, tmp_path, change)
    with pytest.raises(UserError, match=message):
        with_adapters(base, folder)


def test_cut_weights_are_told(adapters, base, tmp_path):
    folder = changed(adapters, tmp_path, lambda record: None)
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"adapter_model\.safetensors: "):
        with_adapters(base, folder)


def test_a_folder_of_something_else(base, tmp_path):
    with pytest.raises(UserError, match="is no folder of adapters, it has no rad_jax"):
        with_adapters(base, tmp_path)


def run(capsys, *args):
    """Exit code, stdout and stderr of the command."""
    code = main([str(arg) for arg in args])
    return code, *capsys.readouterr()


def test_adapters_through_the_command(lora_run, tiny_run, tmp_path, capsys):
    adapters, merged = tmp_path / "adapters", tmp_path / "merged"
    convert = ("convert", "--input", lora_run[0], "--to", "adapters", "--output")
    code, out, _ = run(capsys, *convert, adapters)
    assert code == 0 and "MB, are" in out
    files = {path.name for path in adapters.iterdir()}
    assert files == {
        "rad_jax.json",
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    code, _, _ = run(
        capsys,
        *("convert", "--input", adapters, "--base", tiny_run[0], "--output", merged),
    )
    assert code == 0
    jax.tree.map(
        np.testing.assert_array_equal, load(merged).params, load(lora_run[0]).params
    )


@pytest.mark.parametrize(
    "flags, message",
    [
        (("--input", "RUN", "--to", "adapters"), "RUN: has no adapters"),
        (("--input", "ADAPTERS"), "holds adapters; give their model as --base"),
        (
            ("--input", "ADAPTERS", "--to", "torch"),
            "holds adapters; give their model as --base",
        ),
        (
            ("--input", "ADAPTERS", "--base", "RUN", "--to", "torch"),
            "--base and --to do not go together",
        ),
        (("--input", "RUN", "--base", "RUN"), "RUN: is no folder of adapters"),
        (("--input", "ADAPTERS", "--base", "missing"), "missing: no such folder"),
        (
            ("--input", "ADAPTERS/rad_jax.json", "--base", "RUN"),
            "is a file; --base is for a folder of adapters",
        ),
        (
            ("--input", "ADAPTERS", "--base", "RUN", "--output", "ADAPTERS"),
            "exists, and is no model folder",
        ),
    ],
)
def test_mistakes_through_the_command(
    adapters, tiny_run, tmp_path, capsys, flags, message
):
    def named(text):
        return text.replace("RUN", str(tiny_run[0])).replace("ADAPTERS", str(adapters))

    if "--output" not in flags:
        flags = (*flags, "--output", str(tmp_path / "output"))
    code, out, err = run(capsys, "convert", *map(named, flags))
    assert code == 2 and out == ""
    assert named(message) in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())
