"""What rad_jax 0.1.0 wrote is read, gone on with, and gives what it gave then.

tests/golden/version_0_1/make.py says how it was made. If one of these fails, files that
users have are read otherwise than before.
"""

import dataclasses
import hashlib
import json
import shutil
import tarfile

import jax
import numpy as np
import pytest
from PIL import Image

import rad_jax
from rad_jax.checkpoints.model import Model
from rad_jax.config.experiment import from_dict
from rad_jax.data.splits import load_split
from rad_jax.train.loop import train
from rad_jax.train.stop import StopRequest
from tests.golden_files import FOLDER

pytestmark = pytest.mark.usefixtures("quickly")

# Of the training images, as bytes.
IMAGES = "d6199aabd7d82be287a36311e54f810a472cf819ae93f7531b2af42473644428"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("version_0_1")
    with tarfile.open(FOLDER / "version_0_1" / "folders.tar.xz") as file:
        file.extractall(folder, filter="data")
    return folder


@pytest.fixture(autouse=True)
def _there(unpacked, monkeypatch):
    """The stored paths are relative."""
    monkeypatch.chdir(unpacked)


@pytest.fixture(scope="module")
def expected(unpacked):
    """Checksums of parameters, and the metrics of further steps."""
    return json.loads((unpacked / "expected.json").read_text())


@pytest.mark.parametrize("name", ["run", "model"])
def test_parameters_are_the_same_to_the_bit(expected, name):
    model = rad_jax.load(name)
    assert isinstance(model, Model)
    assert model.parametrisation == "eps" and model.channels == 3
    digest = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(model.params):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.asarray(leaf).tobytes())
    assert digest.hexdigest() == expected["params"][name]


def test_adapters_are_those_of_their_run():
    base = rad_jax.load("lora/base")
    adapted = rad_jax.with_adapters(base, "adapters").params
    jax.tree.map(np.testing.assert_allclose, adapted, rad_jax.load("lora").params)
    assert np.any(adapted["conv_out"]["kernel"])
    assert not np.any(base.params["conv_out"]["kernel"])


@pytest.mark.parametrize(
    "name, said",
    [("run", "run: step 1, "), ("model", "model: model folder, "), ("lora", "step 1,")],
)
def test_info_reads_it(rad, name, said):
    code, out, err = rad("info", name)
    assert (code, err) == (0, []) and said in out and " parameters (float32)" in out


def test_a_hole_is_filled_alike(rad, unpacked, tmp_path):
    files = ("--image", "image.png", "--mask", "mask.png", "--output")
    arguments = (*files, tmp_path / "filled.png", "--steps", 3)
    assert rad("inpaint", "--model", "model", *arguments)[0] == 0
    then, now = (
        np.asarray(Image.open(folder / "filled.png")).astype(int)
        for folder in (unpacked, tmp_path)
    )
    hole = np.asarray(Image.open("mask.png")) > 0
    np.testing.assert_array_equal(now[~hole], then[~hole])
    np.testing.assert_allclose(now, then, atol=1)  # other CPUs round otherwise


@pytest.mark.parametrize("name", ["run", pytest.param("lora", marks=pytest.mark.slow)])
def test_a_run_goes_on_as_it_did(expected, tmp_path, name):
    workdir = tmp_path / name
    shutil.copytree(name, workdir)
    experiment = from_dict(json.loads((workdir / "config.json").read_text()))
    longer = dataclasses.replace(experiment.train, num_steps=3)
    train(dataclasses.replace(experiment, train=longer), workdir, StopRequest())
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    first, *more = map(json.loads, lines)
    assert first["step"] == 1
    for line, then in zip(more, expected["metrics"][name], strict=True):
        assert line == pytest.approx(then, rel=1e-5)


def test_a_data_set_is_read():
    images, labels = load_split("pictures", "data", "train", 3)
    assert images.shape == (18, 16, 16, 3) and not labels.any()
    assert hashlib.sha256(images.tobytes()).hexdigest() == IMAGES


def test_results_are_read(rad, tmp_path):
    assert rad("report", "evaluation", "--output", tmp_path)[0] == 0
    assert "2 images of pictures validation" in (tmp_path / "report.md").read_text()


def test_an_evaluation_goes_on(rad, tmp_path):
    """None of its pictures is made again; the scores are what they were."""
    output = tmp_path / "evaluation"
    shutil.copytree("evaluation", output)

    def stamps():
        return {path: path.stat().st_mtime_ns for path in output.glob("box/*.png")}

    made = stamps()
    before = json.loads((output / "results.json").read_text())
    (output / "results.json").unlink()
    data = ("--data", "pictures", "--data_dir", "data", "--split", "validation")
    rest = "--masks box --num_images 2 --steps 2 --metrics pixels --batch_size 2"
    arguments = (*data, "--output", output, *rest.split())
    code, out, _ = rad("evaluate", "--model", "run", *arguments)
    assert code == 0 and "psnr_hole" in out
    assert len(made) == 2 and stamps() == made
    after = json.loads((output / "results.json").read_text())
    for record in (before, after):
        for name in ("seconds_per_image", "scoring_seconds_per_image"):
            del record["masks"]["box"][name]
    assert after["settings"] == {**before["settings"], "preset": "", "settings": ""}
    for name, score in before["masks"]["box"].items():
        assert after["masks"]["box"][name] == pytest.approx(score, rel=1e-4), name
