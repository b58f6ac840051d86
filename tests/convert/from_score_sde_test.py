"""`rad-jax convert` of score_sde's checkpoints, from either program to a filling."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from rad_jax.checkpoints.load import load_diffusion
from rad_jax.checkpoints.model_folder import RECORD
from rad_jax.convert.from_score_sde import (
    FLAX,
    TABLES,
    TORCH,
    flax_entries,
    layout_of,
    model_of,
)
from rad_jax.convert.score_sde import config_of, flax_names
from rad_jax.convert.sde_presets import SDE_PRESETS, SDEPreset
from rad_jax.diffusion.denoise import check_base, make_denoise
from rad_jax.diffusion.losses import LossConfig
from rad_jax.diffusion.schedule import make_schedule
from rad_jax.diffusion.schedule_config import ScheduleConfig
from rad_jax.errors import UserError
from rad_jax.models.noise_embedding import NoiseLevels
from rad_jax.weight_files.read import read_state_dict
from tests.weight_files.sde_samples import (
    SAMPLES,
    described,
    file_bytes,
    torch_weights,
)

FILES = {"sde.pth": "torch_pth", "checkpoint_7": "flax_msgpack"}


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """The preset "tiny" of the sample files, which lie in the folder."""
    config = config_of(described()["model"], described()["data"])
    schedule = ScheduleConfig("ve", sigmas=(0.01, 348.0))
    preset = SDEPreset("tiny", config, schedule, "score")
    monkeypatch.setitem(SDE_PRESETS, "tiny", preset)
    for name, stored in FILES.items():
        (tmp_path / name).write_bytes(file_bytes(stored))
    return config


def output(model, name):
    """Of the golden input, as the repository gives it, by the call that samples."""
    data = np.load(SAMPLES.with_suffix(".npz"))
    sigma = 2 * data["t"].astype(np.float64)
    level = -np.log1p(sigma**2)
    x = 2 * np.moveaxis(data["x"], 1, -1) - 1
    scaled = np.exp(level / 2)[:, None, None, None] * x
    denoise = make_denoise(model.config, make_schedule(model.schedule))
    told = NoiseLevels(jnp.log(jnp.float32(data["t"]))[:, None])
    levels = jnp.full((*x.shape[:3], 1), jnp.float32(level[0]))
    found = jax.jit(denoise)(model.params, jnp.float32(scaled), levels, told)
    theirs = np.moveaxis(data[name], 1, -1) * data["t"][:, None, None, None]
    np.testing.assert_allclose(found, theirs, atol=2e-5 * np.abs(theirs).max())


@pytest.mark.parametrize("file", FILES)
def test_from_the_file_to_a_filling(file, tiny, converts, rad, tmp_path):
    said = converts(file, "m", "--preset", "tiny")
    assert "shadow_params" in said or "params_ema" in said
    model = load_diffusion(tmp_path / "m")
    assert model.config == tiny and model.parametrisation == "score"
    assert model.schedule.kind == "ve" and model.schedule.known_steps == 0
    output(model, "out")
    record = json.loads((tmp_path / "m" / RECORD).read_text())
    assert record["format"] == 2 and record["architecture"] == "ncsnpp"
    assert record["codec"] is record["text"] is None
    code, out, _ = rad("info", tmp_path / "m")
    assert code == 0 and '"kind": "ve"' in out and "parameters" in out

    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    hole = np.zeros((8, 8), np.uint8)
    hole[2:6, 2:6] = 255
    Image.fromarray(picture).save(tmp_path / "a.png")
    Image.fromarray(hole).save(tmp_path / "h.png")
    files = ("--image", tmp_path / "a.png", "--mask", tmp_path / "h.png")
    for sampler in ("ddpm", "pc", "heun"):
        where = ("--model", tmp_path / "m", "--output", tmp_path / f"{sampler}.png")
        flags = ("--sampler", sampler, "--steps", 3)
        assert rad("inpaint", *where, *files, *flags)[0] == 0
        with Image.open(tmp_path / f"{sampler}.png") as image:
            filled = np.asarray(image)
        np.testing.assert_array_equal(filled[hole == 0], picture[hole == 0])
        assert (filled[hole > 0] != picture[hole > 0]).mean() > 0.9
    flags = ("--respacing", 3, "--sampler", "reverse_diffusion", "--num_samples", 1)
    files = ("--model", tmp_path / "m", "--output", tmp_path / "s")
    assert rad("sample", *files, *flags)[0] == 0


def test_both_programs_files_are_one_model(tiny, converts, tmp_path):
    for i, file in enumerate(FILES):
        converts(file, f"m{i}", "--preset", "tiny")
    one, other = (load_diffusion(tmp_path / f"m{i}").params for i in range(2))
    frequencies = one["time_embed"].pop("frequencies")
    assert frequencies.shape == other["time_embed"].pop("frequencies").shape
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_there_and_back_bit_for_bit(tiny, converts, tmp_path):
    converts("sde.pth", "m", "--preset", "tiny")
    for to in ("torch", "safetensors"):
        said = converts("m", f"back.{to}", "--to", to)
        assert "layout of score_sde" in said and "sigmas" in said
        state = read_state_dict(tmp_path / f"back.{to}")
        expected = torch_weights("ema.")
        assert sorted(state) == sorted(expected)
        for key, array in expected.items():
            np.testing.assert_array_equal(state[key], array)
    # Of a file without a training run's names around them.
    converts("back.torch", "again", "--preset", "tiny")
    ours, theirs = (load_diffusion(tmp_path / x).params for x in ("m", "again"))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_weights_that_are_not_averaged(tiny, converts, tmp_path):
    converts("sde.pth", "m", "--preset", "tiny", "--key", "model")
    output(load_diffusion(tmp_path / "m"), "out_not_averaged")


def test_errors(tiny, refuses, converts, tmp_path):
    refuses("sde.pth", "m", match="give a preset; presets that fit: tiny")
    refuses("checkpoint_7", "m", match="give a preset; presets that fit: tiny")
    flags = ("--preset", "ncsnpp_cifar10")
    match = "does not match preset ncsnpp_cifar10: it has 159 arrays"
    refuses("sde.pth", "m", *flags, match=match)
    refuses(
        "sde.pth", "m", "--preset", "imagenet64_cond", match="no preset of score_sde"
    )
    flags = ("--preset", "tiny", "--num_heads", 4)
    refuses("sde.pth", "m", *flags, match="--num_heads has no use with a network of")
    converts("sde.pth", "m", "--preset", "tiny")
    refuses("m", "d", "--to", "diffusers", match="of which there is no such layout")


def test_a_shape_that_is_not_the_presets(tiny):
    shapes = {key: x.shape for key, x in torch_weights().items()}
    key = "all_modules.3.weight"
    wrong = {**shapes, key: (8, 3, 3, 3)}
    with pytest.raises(
        UserError, match=r"tiny: all_modules\.3\.weight is \(8, 3, 3, 3\)"
    ):
        model_of(TORCH, wrong, "tiny")


def test_flax_tables_are_bijections():
    """Of every published network; kernels as Flax has them."""
    assert {layout_of(TABLES_OF[0]), layout_of(TABLES_OF[1])} == {TORCH, FLAX}
    assert layout_of(["conv_in.weight"]) is None
    for preset in SDE_PRESETS.values():
        keys = [key for entry in flax_entries(preset.config) for key in entry.keys]
        assert len(set(keys)) == len(keys)
        assert sorted(keys) == sorted(flax_names(preset.config).values())


_CIFAR = SDE_PRESETS["ncsnpp_cifar10"].config
TABLES_OF = [
    [key for entry in TABLES[name](_CIFAR) for key in entry.keys]
    for name in (TORCH, FLAX)
]


@pytest.mark.parametrize("name", SDE_PRESETS)
def test_presets_are_bases(name):
    preset = SDE_PRESETS[name]
    if preset.schedule.kind != "ve_index":
        check_base(preset.config, preset.schedule, LossConfig(vlb_weight=0.0))
    clock = make_schedule(preset.schedule).clock
    if preset.config.embedding == "fourier":
        assert np.isclose(clock.clean, np.log(0.01))
    elif preset.schedule.kind == "ve_index":
        assert clock.clean == 999
    else:
        assert clock.clean == (-1 if preset.schedule.kind == "linear" else 0)
