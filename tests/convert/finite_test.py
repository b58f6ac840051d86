"""`rad-jax convert` of weights that are NaN or infinite, in all directions."""

import dataclasses

import jax
import numpy as np
import pytest

from rad_jax.checkpoints.checkpoints import Checkpoints
from rad_jax.checkpoints.model import Model
from rad_jax.checkpoints.model_folder import read_model, write_model
from rad_jax.convert.adm import adm_to_params
from rad_jax.convert.peft import write_adapters
from rad_jax.diffusion.schedule_config import ScheduleConfig
from rad_jax.errors import UserError
from rad_jax.models.lora import adapted_params, partition
from rad_jax.models.network import abstract_params
from rad_jax.weight_files.read import read_state_dict
from rad_jax.weight_files.write import write_safetensors, write_torch
from tests.conftest import LORA
from tests.convert.small import CONFIG, FLAGS, diffusers, openai
from tests.models.adm_files import random_params

BAD = "middle_block.1.qkv.weight"


def damaged(state, key, *values, dtype=np.float32):
    array = state[key].astype(dtype)
    array.reshape(-1)[: len(values)] = values
    return {**state, key: array}


@pytest.mark.parametrize(
    "values, dtype, count",
    [
        ([np.nan], np.float32, "1 of 3,072"),
        ([np.nan, np.inf, -np.inf], np.float16, "3 of 3,072"),
        ([1e300, -1e300], np.float64, "2 of 3,072"),
    ],
)
def test_from_a_file(tmp_path, refuses, converts, values, dtype, count):
    state = damaged(openai(), BAD, *values, dtype=dtype)
    write_torch(tmp_path / "a.pt", state)
    said = f"{BAD} is NaN or infinite (in float32) in {count} places"
    match = f"rad-jax: {tmp_path / 'a.pt'}: {said}"
    (line,) = refuses("a.pt", "m", *FLAGS, match=match)
    assert line.endswith("; --allow_nonfinite takes them as they are")
    out = converts("a.pt", "m", *FLAGS, "--allow_nonfinite")
    assert f"taken as they are: {count[0]} NaN or infinite in {BAD}\n" in out
    with np.errstate(over="ignore"):
        expected = adm_to_params(CONFIG, state)
    found = read_model(tmp_path / "m").params
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_from_diffusers_the_part_is_named(tmp_path, refuses):
    key = "mid_block.attentions.0.to_k.bias"
    write_safetensors(tmp_path / "a", damaged(diffusers(), key, np.nan))
    refuses("a", "m", *FLAGS, match=f"a: {key} is NaN or infinite")


@pytest.mark.parametrize("to", ["torch", "safetensors", "diffusers"])
def test_from_a_folder_to_a_file(tmp_path, refuses, converts, to):
    state = damaged(damaged(openai(), "out.2.bias", np.nan), "out.2.weight", np.inf)
    params = adm_to_params(CONFIG, state)
    write_model(tmp_path / "m", Model(CONFIG, ScheduleConfig(), "eps", params), {})
    name = "conv_out" if to == "diffusers" else "out.2"
    match = f"m: {name}.weight is NaN or infinite (in float32) in 1 of"
    refuses("m", "b", "--to", to, match=match)
    out = converts("m", "b", "--to", to, "--allow_nonfinite")
    assert f"as they are: 2 NaN or infinite in {name}.weight and 1 more\n" in out
    assert np.isnan(read_state_dict(tmp_path / "b")[f"{name}.bias"]).sum() == 1


@pytest.fixture(scope="module")
def diverged(tiny_experiment, tmp_path_factory):
    """A run, one with adapters and their base; two numbers of each run are NaN."""
    folder = tmp_path_factory.mktemp("diverged")
    experiment = tiny_experiment()
    base = random_params(abstract_params(experiment.model))
    config = experiment.model, experiment.schedule, experiment.loss.parametrisation
    write_model(folder / "m", Model(*config, base), {})
    adapters = tiny_experiment(f"pretrained={folder / 'm'}", *LORA)
    for name, each in (("run", experiment), ("lora", adapters)):
        shapes = adapted_params(each.model, each.lora)
        trained, _ = partition(each.model, each.lora, shapes)
        params = random_params(trained)
        bias = params["time_embed"]["linear1"]["bias"]
        params["time_embed"]["linear1"]["bias"] = bias.at[:2].set(np.nan)
        with Checkpoints(folder / name, keep=1) as checkpoints:
            record = {"config": dataclasses.asdict(each)}
            checkpoints.save(10, {"ema": params}, record)
    write_model(folder / "lora" / "base", Model(*config, base), {})
    return folder


OURS, THEIRS = "time_embed.linear1.bias", "time_embed.0.bias"
PEFT = "base_model.model.time_embedding.linear_1.bias"


@pytest.mark.parametrize(
    "source, arguments, key",
    [
        ("run", [], OURS),
        ("run", ["--to", "torch"], THEIRS),
        ("lora", [], OURS),
        ("lora", ["--to", "safetensors"], THEIRS),
        ("lora", ["--to", "adapters"], PEFT),
    ],
)
def test_from_a_run(diverged, refuses, converts, source, arguments, key):
    match = (
        f"rad-jax: {diverged / source}: {key} is NaN or infinite (in float32) in 2 of"
    )
    refuses(diverged / source, "out", *arguments, match=match)
    out = converts(diverged / source, "out", *arguments, "--allow_nonfinite")
    assert f"taken as they are: 2 NaN or infinite in {key}\n" in out


def test_of_adapters_that_are_merged(diverged, tmp_path, refuses, converts):
    converts(diverged / "lora", "a", "--to", "adapters", "--allow_nonfinite")
    base = ["--base", diverged / "m"]
    match = f"rad-jax: {tmp_path / 'a'}: {OURS} is NaN or infinite (in float32) in 2 of"
    refuses("a", "m", *base, match=match)
    out = converts("a", "m", *base, "--allow_nonfinite")
    assert f"2 NaN or infinite in {OURS}\n" in out


def test_in_python_adapters_must_be_finite(diverged, tmp_path):
    with pytest.raises(UserError, match=f"{PEFT} is NaN or infinite"):
        write_adapters(diverged / "lora", tmp_path / "a")
    assert not list(tmp_path.iterdir())
