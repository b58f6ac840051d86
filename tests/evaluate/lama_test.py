"""``rad-jax evaluate`` of a LaMa."""

import json

import numpy as np
import pytest
from PIL import Image

from rad_jax.checkpoints.model import LamaModel
from rad_jax.checkpoints.model_folder import write_model
from rad_jax.convert.lama import entries
from rad_jax.models.lama import abstract_params
from rad_jax.models.lama_config import LamaConfig
from rad_jax.weight_files import name_table
from tests.models.lama_files import generator

CONFIG = LamaConfig(2, 8, image_size=32)


@pytest.fixture
def evaluate(tmp_path, rad):
    state = generator("tiny")
    params = name_table.read(entries(CONFIG), abstract_params(CONFIG), state)
    write_model(tmp_path / "lama", LamaModel(CONFIG, params), {})
    (tmp_path / "i").mkdir()
    random = np.random.default_rng(0)
    for i in range(3):
        array = random.integers(0, 256, (40, 36, 3), np.uint8)
        Image.fromarray(array).save(tmp_path / "i" / f"{i}.png")
    fixed = (
        *("--model", tmp_path / "lama", "--data", "folder"),
        *("--data_dir", tmp_path / "i", "--output", tmp_path / "o"),
        *("--masks", "box", "--num_images", "1", "--metrics", "pixels"),
    )
    return lambda *flags: rad("evaluate", *fixed, *flags)


def test_it_is_scored_as_what_it_is(evaluate, tmp_path):
    code, out, err = evaluate("--seed", "3")
    assert (code, err) == (0, [])
    record = json.loads((tmp_path / "o" / "results.json").read_text())
    assert (
        record["name"] == "lama"
        and record["masks"]["box"]["known_changed"]["mean"] == 0
    )
    settings = record["settings"]
    assert (settings["method"], settings["steps"], settings["sampler"]) == (
        "lama",
        1,
        "",
    )
    assert "at 32x32; lama: one pass; seed 3" in out
    assert evaluate("--seed", "3")[0] == 0  # resumes what is there


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--steps", "100"], "leave out steps"),
        (["--nfe", "100"], "leave out nfe"),
        (["--num_samples", "2"], "leave out num_samples"),
        (["--noise_embedding", "time"], "leave noise_embedding out"),
    ],
)
def test_options_that_would_do_nothing_are_refused(evaluate, flags, line):
    code, _, err = evaluate(*flags)
    assert (code, len(err)) == (2, 1) and err[0].endswith(line)
