"""``rad-jax demo`` on a tiny network and few digits."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from rad_jax.cli.main import main
from rad_jax.data.splits import load_split
from rad_jax.evaluate import demo

KEYS = {
    "accuracy_inpainted",
    "accuracy_true",
    "accuracy_mean_filled",
    "hole_rmse",
    "hole_rmse_mean_filled",
    "diversity",
    "known_pixels_changed",
    "seconds_per_image",
}


@pytest.fixture
def run(tiny, tmp_path, monkeypatch, capsys):
    """Runs the demo with 24 held-out digits."""

    def few(name, data_dir, split, channels, **options):
        part = "test[:24]" if split == "test" else split
        return load_split(name, data_dir, part, channels, **options)

    monkeypatch.setattr(demo, "load_split", few)
    monkeypatch.setattr(demo, "STEPS", 2)
    monkeypatch.setattr(demo, "NUM_SAMPLES", 2)

    def run():
        changes = tiny("train.num_steps=4", "train.checkpoint_every=2")
        changes = [change for change in changes if "data_dir" not in change]
        assert main(["demo", "--output", str(tmp_path), *changes]) == 0
        return capsys.readouterr(), json.loads((tmp_path / "metrics.json").read_text())

    return run


def test_demo_measures_and_draws_and_goes_on(run, tmp_path):
    (out, err), record = run()
    assert set(record["masks"]) == {"box", "extreme", "perlin"}
    assert record["protocol"]["steps"] == record["protocol"]["samples_per_image"] == 2
    assert record["device"].startswith("cpu, ")
    assert 0 < record["seconds_until_trained"] < record["seconds_in_all"]
    for row in record["masks"].values():
        assert set(row) == KEYS
        assert row["known_pixels_changed"] == 0
        assert row["accuracy_true"] > 0.95
        assert 0 <= row["accuracy_inpainted"] <= 1
        # Hardly trained: worse than the mean digit, and two samples differ.
        assert row["hole_rmse"] > row["hole_rmse_mean_filled"] > 0.1
        assert row["diversity"] > 0.1
        assert row["seconds_per_image"] > 0
    holes = record["masks"]
    assert holes["extreme"]["accuracy_mean_filled"] < holes["box"]["accuracy_true"]
    for name in ("inpainted.png", "metrics.json", "model"):
        assert str(tmp_path / name) in out
    assert "train: 4/4 step" in err

    with Image.open(tmp_path / "inpainted.png") as image:
        sheet = np.asarray(image)
    # 4 digits of 3 kinds; input, mask, 2 samples, truth; under a line of names.
    assert sheet.shape == (16 + 2 + 12 * 66, 2 + 5 * 66, 3)
    tile = sheet[18 : 18 + 64, 2:]
    given, mask, *samples, truth = (tile[:, i * 66 : i * 66 + 64] for i in range(5))
    hole = mask > 0
    assert hole.any() and not hole.all() and (given[hole] == 128).all()
    for shown in (given, *samples):
        np.testing.assert_array_equal(shown[~hole], truth[~hole])

    (out, err), again = run()
    assert "model: has 4 steps already" in err and "already prepared" in out
    for kind, row in record["masks"].items():
        row.pop("seconds_per_image")
        again["masks"][kind].pop("seconds_per_image")
        assert again["masks"][kind] == row


def test_without_scikit_learn_one_line_says_what_to_install(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "sklearn.svm", None)
    assert main(["demo", "--output", str(tmp_path / "demo")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == ("rad-jax: the demo needs scikit-learn; pip install 'rad-jax[demo]'")
    assert not (tmp_path / "demo").exists()
