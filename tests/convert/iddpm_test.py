"""iDDPM's published checkpoints by name, and a tiny one through the command."""

import json

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

import rad_jax
from rad_jax.checkpoints.model import Model
from rad_jax.checkpoints.model_record import described, record_of
from rad_jax.cli.main import main
from rad_jax.convert import adm
from rad_jax.convert.adm import config_from_adm_flags
from rad_jax.convert.choices import FILES, Choices
from rad_jax.convert.infer import OPENAI, infer
from rad_jax.convert.presets import PRESETS, complete, config_of, schedule_of
from rad_jax.diffusion.schedule_config import ScheduleConfig
from rad_jax.models.network import abstract_params
from rad_jax.weight_files import name_table
from rad_jax.weight_files.write import write_torch
from tests.models.adm_files import description, golden_weights

PUBLISHED = description("bases/iddpm_published_state_dicts")
MULTIPLIERS = {32: "1,2,2,2", 64: "1,2,3,4", 256: "1,1,2,2,4,4"}
"""improved-diffusion's, by the image size."""

NAMES = {name: file for name, file in FILES.items() if name.startswith("iddpm_")}
NETWORKS = {name: file for name, file in NAMES.items() if "upsampler" not in name}


def test_every_published_file_has_a_preset():
    assert set(NAMES.values()) == set(PUBLISHED)


def keys_of(file):
    return PUBLISHED[PUBLISHED[file].get("same_keys_as", file)]["keys"]


@pytest.mark.parametrize("name", NETWORKS)
def test_published_checkpoints_fit_their_presets(name):
    """Flags, number of parameters, keys in order, shapes, process."""
    published, keys = PUBLISHED[NAMES[name]], keys_of(NAMES[name])
    flags = published["flags"]
    layout, facts = infer({key: tuple(shape) for key, shape in keys.items()})
    choices = complete(layout, facts, name, Choices())
    config = config_of(facts, choices)
    multipliers = MULTIPLIERS[flags["image_size"]]
    assert config == config_from_adm_flags({**flags, "channel_mult": multipliers})
    abstract = abstract_params(config)
    assert sum(x.size for x in jax.tree.leaves(abstract)) == published["params"]
    entries = adm.entries(config)
    assert layout == OPENAI
    assert {entry.path for entry in entries} == set(flatten_dict(abstract))
    shapes = name_table.file_shapes(entries, abstract)
    assert list(shapes.items()) == [(key, tuple(s)) for key, s in keys.items()]
    schedule, steps = schedule_of(choices), flags["diffusion_steps"]
    assert (schedule.kind, schedule.base_steps) == (flags["noise_schedule"], steps)
    assert schedule.hole_steps == schedule.known_steps == steps
    scale = 1000 / steps if flags["rescale_timesteps"] else 1
    assert schedule.timestep_scale == scale


def test_the_upsampler_has_as_many_parameters():
    """Of which keys are not stored."""
    file = NAMES["iddpm_upsampler_64_256"]
    preset = PRESETS["iddpm_upsampler_64_256"]
    params = jax.tree.leaves(abstract_params(preset.config))
    assert sum(x.size for x in params) == PUBLISHED[file]["params"]
    assert len(adm.entries(preset.config)) == PUBLISHED[file]["n_keys"]
    first, last = preset.schedule.hole_betas
    assert (first, last) == (0.25e-4, 0.005)


def test_a_checkpoint_goes_there_and_back(tmp_path, capsys):
    """Its process is in the record, which versions before it refuse by its format."""
    meta = description("bases/iddpm_tiny_cond_additive")
    state = golden_weights(meta["keys"])
    write_torch(tmp_path / "ema.pt", state)
    command = ["convert", "--input", str(tmp_path / "ema.pt")]
    told = {
        **{"image_size": 32, "num_heads": 1, "num_heads_upsample": 2},
        **{"use_new_attention_order": "false", "noise_schedule": "cosine"},
        **{"diffusion_steps": 4000, "rescale_timesteps": "true"},
    }
    flags = [text for key, value in told.items() for text in (f"--{key}", str(value))]
    assert main([*command, "--output", str(tmp_path / "m"), *flags]) == 0
    out = capsys.readouterr().out
    assert "diffusion_steps 4000" in out and "rescale_timesteps True" in out
    record = json.loads((tmp_path / "m" / "model.json").read_text())
    assert record["format"] == 2
    model = rad_jax.load(tmp_path / "m")
    process = {"base_steps": 4000, "timestep_scale": 0.25}
    expected = ScheduleConfig("cosine", 4000, 0, **process)
    assert isinstance(model, Model) and model.schedule == expected
    assert main(["info", str(tmp_path / "m")]) == 0
    assert '"base_steps": 4000' in capsys.readouterr().out
    back = ["convert", "--input", str(tmp_path / "m"), "--to", "torch"]
    assert main([*back, "--output", str(tmp_path / "back.pt")]) == 0
    assert "diffusion_steps 4000" in capsys.readouterr().out
    again = [*back[:1], "--input", str(tmp_path / "back.pt"), *flags]
    assert main([*again, "--output", str(tmp_path / "again")]) == 0
    for a, b in zip(
        *(jax.tree.leaves(x.params) for x in (model, rad_jax.load(tmp_path / "again"))),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_adm_s_record_is_what_it_was(tmp_path, tiny_experiment):
    """Without the process that it takes for granted: older versions read it."""
    experiment = tiny_experiment()
    model = Model(experiment.model, experiment.schedule, "eps", {})
    record = record_of(model, {})
    assert record["format"] == 1 and "base_steps" not in record["schedule"]
    assert described(tmp_path, record) == model


@pytest.mark.parametrize(
    ("flag", "value", "text"),
    [
        ("diffusion_steps", "0", "--diffusion_steps"),
        ("rescale_timesteps", "1", "neither true nor false"),
        ("noise_schedule", "sigmoid", "schedule.kind is 'sigmoid'"),
    ],
)
def test_no_such_process(tmp_path, rad, flag, value, text):
    meta = description("bases/iddpm_tiny_cond_additive")
    write_torch(tmp_path / "a.pt", golden_weights(meta["keys"]))
    command = ["convert", "--input", str(tmp_path / "a.pt")]
    command += ["--output", str(tmp_path / "m"), "--image_size", "32"]
    command += ["--num_heads", "1", "--use_new_attention_order", "false"]
    if flag != "noise_schedule":
        command += ["--noise_schedule", "cosine"]
    code, _, [line] = rad(*command, f"--{flag}", value)
    assert code == 2 and text in line
    assert not (tmp_path / "m").exists()
