"""Paths as people write them, through the commands: ~, .. and unset variables."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import rad_jax
from rad_jax.cli import main
from rad_jax.cli.arguments import Parser
from tests.conftest import DIGITS


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The home folder, with a folder in it that commands are run in."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


@pytest.fixture
def no_odd_folder(home):
    """Nothing may be written beside the places that were named."""
    yield
    found = list((home / "here").rglob("*"))
    assert not found, "written into the current folder"


def test_every_flag_of_a_path_makes_it_plain():
    """One that took the text as it is would make a folder that is named ~."""
    for name, verb in main.VERBS.items():
        parser = Parser()
        verb.add_flags(parser)
        as_it_is = [x.dest for x in parser._actions if x.type is Path]
        assert not as_it_is, name


@pytest.mark.parametrize("kind", ["~/{}", "~/here/../{}", "../{}", "../here/.././{}"])
def test_masks_and_pictures(kind, home, no_odd_folder, rad, tiny_run):
    run, _ = tiny_run
    (home / "runs").mkdir()
    (home / "runs" / "x").symlink_to(run)

    def at(name):
        return kind.format(name)

    masks = ("masks", "box", "--size=32", "--count=1")
    assert rad(*masks, f"--output={at('m')}") == (0, "", [])
    picture = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    Image.fromarray(picture).save(home / "p.png")
    arguments = [f"--model={at('runs/x')}", f"--image={at('p.png')}", "--steps=2"]
    arguments += [f"--mask={at('m')}/0000.png", f"--output={at('out.png')}"]
    code, _, err = rad("inpaint", *arguments)
    assert (code, err) == (0, [])
    hole = np.asarray(Image.open(home / "m" / "0000.png")) > 0
    filled = np.asarray(Image.open(home / "out.png"))
    np.testing.assert_array_equal(filled[~hole], picture[~hole])
    assert rad("info", at("runs/x"))[0] == 0


def test_a_run_of_another_folder_is_resumed(home, no_odd_folder, rad, tiny):
    """Its data set is written and read at one place, too."""
    code, _, _ = rad("prepare", "digits", "--data_dir=~/d")
    assert code == 0 and (home / "d" / "digits").is_dir()
    data = "--config.data.data_dir=~/d"
    rest = [x for x in tiny("train.num_steps=1") if "data_dir" not in x]
    command = ("train", f"--config={DIGITS}", "--workdir=../runs/x", data)
    assert rad(*command, *rest)[0] == 0
    code, _, err = rad(*command, *rest[:-1], "--config.train.num_steps=1")
    assert code == 0 and "../runs/x" not in " ".join(err)
    assert any("has 1 steps already" in line for line in err), err
    pretrained = (data, "--config.pretrained=../runs/x", *rest)
    command = ("train", f"--config={DIGITS}", "--workdir=~/runs/y", *pretrained)
    assert rad(*command)[0] == 0
    assert sorted(os.listdir(home / "runs")) == ["x", "y"]


EMPTY = {
    "train": ("train", f"--config={DIGITS}", "--workdir="),
    "inpaint": ("inpaint", "--model=m", "--image=i", "--mask=m", "--output="),
    "no such user": ("masks", "box", "--output=~no-such-user/x"),
    "a bucket": ("masks", "box", "--output=gs://b/x"),
    "out of a bucket": ("info", "gs://b/../x"),
}


@pytest.mark.parametrize("name", EMPTY)
def test_paths_that_lead_nowhere_are_one_line(name, home, no_odd_folder, rad):
    code, _, err = rad(*EMPTY[name])
    assert code == 2 and len(err) == 1
    flag = "folder" if name == "out of a bucket" else EMPTY[name][-1].split("=")[0]
    assert f"argument {flag}: " in err[0]


def test_a_config_with_an_empty_data_dir(home, rad, tiny):
    overrides = [*tiny(), "--config.data.data_dir="]
    code, _, err = rad("train", f"--config={DIGITS}", "--workdir=w", *overrides)
    assert code == 2 and "data.data_dir" in err[-1]


def test_python_paths_are_plain_too(home, tiny_run):
    run, _ = tiny_run
    (home / "x").symlink_to(run)
    for path in ("../x", "~/x", Path("../x")):
        assert rad_jax.load(path).config == rad_jax.load(run).config
