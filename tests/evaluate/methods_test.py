"""``rad-jax evaluate`` of the comparison methods."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.models.plain_adm import write_plain


@pytest.fixture
def evaluate(tmp_path, digits_dir, rad, quickly):
    """``evaluate(*flags)`` of a plain ADM, two digits under boxes, twice each."""
    fixed = (
        *("--model", write_plain(tmp_path / "adm"), "--data", "digits"),
        *("--data_dir", digits_dir, "--output", tmp_path / "out", "--masks", "box"),
        *("--num_images", 2, "--num_samples", 2, "--metrics", "pixels"),
    )
    return lambda *flags: rad("evaluate", *fixed, *flags)


def record(folder):
    return json.loads((folder / "results.json").read_text())


def test_several_methods_see_the_same_and_resume_apart(evaluate, tmp_path, tiny_run):
    flags = "--nfe", 6, "--method", "rad,ddrm,deqir", "--name", "tiny"
    rad = "--model", tiny_run[0], "--plain_model", tmp_path / "adm"
    code, out, err = evaluate(*flags, *rad)
    assert (code, err) == (0, [])
    found = {x: record(tmp_path / "out" / x) for x in ("rad", "ddrm", "deqir")}
    assert "ddrm: fair, steps=6, eta=0.85" in out and "forward_evaluations 6" in out
    assert [each["name"] for each in found.values()] == [f"tiny {x}" for x in found]
    settings = [each["settings"] for each in found.values()]
    assert [x["steps"] for x in settings] == [6, 6, 6]
    assert settings[1]["model"] == settings[2]["model"] != settings[0]["model"]
    for name in ("data", "num_images", "seed", "num_samples"):
        assert len({x[name] for x in settings}) == 1
    for each in found.values():
        box = each["masks"]["box"]
        assert (box["forward_evaluations"], box["backward_evaluations"]) == (6, 0)
        assert box["known_changed"]["mean"] == 0
        assert box["energy_hole"]["low"] <= box["energy_hole"]["mean"]
    # What is there is not made again.
    lost, kept = (tmp_path / "out" / "ddrm" / "box" / f"0000{i}_1.png" for i in (0, 1))
    before, stamp = np.asarray(Image.open(lost)), kept.stat().st_mtime_ns
    lost.unlink()
    assert evaluate(*flags, *rad)[0] == 0
    np.testing.assert_array_equal(np.asarray(Image.open(lost)), before)
    assert kept.stat().st_mtime_ns == stamp
    assert (
        record(tmp_path / "out" / "deqir")["masks"]["box"]["forward_evaluations"] == 6
    )


def test_backward_evaluations_are_counted(evaluate, tmp_path):
    assert evaluate("--nfe", 2, "--method", "mcg", "--preset", "published")[0] == 0
    box = record(tmp_path / "out")["masks"]["box"]
    assert (box["forward_evaluations"], box["backward_evaluations"]) == (2, 2)
    assert box["known_changed"]["mean"] > 0


def test_rads_steps_on_a_plain_adm_are_cfg_1(evaluate, tmp_path):
    flags = "--nfe", 2, "--noise_embedding", "time"
    code, out, err = evaluate(*flags)
    assert (code, err) == (0, []) and "rad, Cfg. 1: ddpm, 2 steps" in out
    assert record(tmp_path / "out")["name"] == "rad, Cfg. 1"


def test_without_one_timestep_it_may_be_cfg_1(evaluate):
    code, _, [line] = evaluate("--nfe", 2)
    assert code == 0 and line.endswith("(evaluate --noise_embedding time)")


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (("--method", "dram"), "method is 'dram'; use one of rad, score_sde, ddrm"),
        (("--method", "ddrm,ddrm"), "method is ddrm,ddrm; give each method once"),
        (("--method", "all,ddrm"), "give each method once"),
        (("--method", "all", "--set", "steps=5"), "--set is of one method"),
        (("--method", "ddrm,ddnm", "--steps", 5), "--steps is RAD's"),
        (("--plain_model", "x"), "--plain_model is for the methods score_sde"),
        (("--method", "ddrm", "--set", "eta=2"), "eta is 2.0; it must lie in [0, 1]"),
        (("--method", "ddrm", "--preset", "mcg"), "preset of ddrm is 'mcg'"),
    ],
)
def test_what_cannot_be_is_one_line(evaluate, flags, line):
    code, _, err = evaluate(*flags)
    assert (code, len(err)) == (2, 1) and line in err[0]


def test_another_setting_is_another_evaluation(evaluate):
    assert evaluate("--method", "ddrm", "--nfe", 2)[0] == 0
    flags = "--method", "ddrm", "--nfe", 2, "--set", "eta=0.5"
    code, _, [line] = evaluate(*flags)
    assert code == 2 and "holds an evaluation with settings 'steps=2, eta=0.85" in line


def test_a_rad_model_is_refused(evaluate, tiny_run, tmp_path):
    code, _, [line] = evaluate("--method", "all", "--nfe", 2, "--model", tiny_run[0])
    assert code == 2 and "method score_sde needs a plain ADM" in line
    assert not (tmp_path / "out").exists()  # before RAD fills
