"""``rad-jax evaluate``, run as by a user: a few digits and a tiny model."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from rad_jax.checkpoints.load import load_diffusion
from rad_jax.data.splits import load_split
from rad_jax.diffusion.options import SamplingOptions
from rad_jax.errors import UserError
from rad_jax.evaluate import fills
from rad_jax.evaluate.evaluate import evaluate
from rad_jax.evaluate.protocol import fingerprint
from rad_jax.evaluate.settings import Evaluation
from rad_jax.masks.evaluation import evaluation_mask
from tests.train.processes_test import RAD, finish, started

COUNT = 5


def flags(tiny_run, data_dir, output, **changes):
    options = {
        "model": tiny_run[0],
        "data": "digits",
        "data_dir": data_dir,
        "output": output,
        "masks": "box,wide",
        "num_images": COUNT,
        "num_samples": 2,
        "steps": 2,
        "batch_size": 4,
    }
    options |= changes
    return [x for name, value in options.items() for x in (f"--{name}", str(value))]


@pytest.fixture(scope="module")
def done(tiny_run, digits_dir, tmp_path_factory):
    """An evaluation that is finished: its folder, to be copied by who changes it."""
    from rad_jax.cli.main import main

    output = tmp_path_factory.mktemp("evaluation") / "out"
    assert main(["evaluate", *flags(tiny_run, digits_dir, output)]) == 0
    return output


def results(folder):
    return json.loads((folder / "results.json").read_text())


def pictures(folder):
    return {
        path.relative_to(folder): np.asarray(Image.open(path))
        for path in folder.rglob("*_*.png")
        if path.parent != folder
    }


def without_times(record):
    for scores in record["masks"].values():
        scores.pop("seconds_per_image")
        scores.pop("scoring_seconds_per_image")
    return record


def test_pictures_are_the_originals_outside_the_hole(done, digits_dir):
    images, _ = load_split("digits", digits_dir, "test", 1, most=COUNT)
    found = pictures(done)
    assert len(found) == 2 * 2 * COUNT
    for kind in ("box", "wide"):
        for i in range(COUNT):
            hole = evaluation_mask(kind, 16, seed=0, index=i)
            samples = [
                found[fills.sample_path(done, kind, i, s).relative_to(done)]
                for s in range(2)
            ]
            for sample in samples:
                np.testing.assert_array_equal(sample[~hole], images[i, ..., 0][~hole])
            assert (samples[0] != samples[1])[hole].any()


def test_scores_are_those_of_the_pictures(done, digits_dir):
    record = results(done)
    images, _ = load_split("digits", digits_dir, "test", 1, most=COUNT)
    found = pictures(done)
    errors = []
    for i in range(COUNT):
        hole = evaluation_mask("box", 16, seed=0, index=i)
        decibels = []
        for s in range(2):
            path = fills.sample_path(done, "box", i, s).relative_to(done)
            apart = (found[path] / 255 - images[i, ..., 0] / 255)[hole]
            decibels.append(-10 * np.log10(np.mean(apart**2)))
        errors.append(np.mean(decibels))
    score = record["masks"]["box"]["psnr_hole"]
    assert score["mean"] == pytest.approx(np.mean(errors), rel=1e-4)
    assert score["low"] < score["mean"] < score["high"] and score["images"] == COUNT
    for scores in record["masks"].values():
        assert scores["known_changed"]["mean"] == 0
        assert 0 <= scores["accuracy"]["mean"] <= 1
        assert scores["frechet_classifier"] > 0
        assert scores["diversity_rms"]["mean"] > 0
        assert 0 < scores["seconds_per_image"] < 60
        assert 0 < scores["scoring_seconds_per_image"] < 60
    assert "5 images of digits test at 16x16, 2 samples each; rad" in record["protocol"]
    assert (done / "contact_sheet.png").is_file()


def test_goes_on_where_it_was_stopped(done, tiny_run, digits_dir, tmp_path, rad):
    """What is there is not made again, and what comes out is the same to the bit."""
    expected, before = without_times(results(done)), pictures(done)
    output = tmp_path / "out"
    shutil.copytree(done, output)
    (output / "results.json").unlink()
    kept = fills.sample_path(output, "box", 0, 0)
    stamp = kept.stat().st_mtime_ns
    lost = [("box", 1, 1), ("wide", 0, 0), ("wide", 4, 1)]
    for kind, i, sample in lost:
        fills.sample_path(output, kind, i, sample).unlink()
    code, out, _ = rad("evaluate", *flags(tiny_run, digits_dir, output))
    assert code == 0 and "accuracy" in out
    assert kept.stat().st_mtime_ns == stamp
    after = pictures(output)
    assert set(after) == set(before)
    for path, pixels in before.items():
        np.testing.assert_array_equal(after[path], pixels, err_msg=str(path))
    assert without_times(results(output)) == expected


def assert_close(one, other):
    """Scores alike but for the order of sums; all else equal."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_close(one[key], other[key])
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=1e-6)
    else:
        assert one == other


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "devices"), [(2, 1), (1, 8)])
def test_the_same_however_it_is_shared(
    done, tiny_run, digits_dir, tmp_path, processes, devices
):
    output = tmp_path / "out"
    command = [*RAD, "evaluate", *flags(tiny_run, digits_dir, output)]
    with started(command, processes=processes, devices=devices) as run:
        finish(run)
    for path, pixels in pictures(done).items():
        again = np.asarray(Image.open(output / path))
        np.testing.assert_array_equal(again, pixels, err_msg=str(path))
    one, other = without_times(results(output)), without_times(results(done))
    assert one.pop("hardware") != other.pop("hardware")
    del one["revision"], other["revision"]  # of a tree that may be changing
    assert_close(one, other)


def test_another_setting_needs_another_folder(done, tiny_run, digits_dir, rad):
    before = (done / "results.json").read_text()
    code, _, err = rad("evaluate", *flags(tiny_run, digits_dir, done, steps=3))
    assert code == 2
    assert len(err) == 1
    assert f"{done}: holds an evaluation with steps 2, not 3" in err[0]
    assert (done / "results.json").read_text() == before


def test_a_kind_of_masks_can_be_added(done, tiny_run, digits_dir, tmp_path, rad):
    output = tmp_path / "out"
    shutil.copytree(done, output)
    more = flags(tiny_run, digits_dir, output, masks="box,extreme")
    assert rad("evaluate", *more)[0] == 0
    record = without_times(results(output))
    assert list(record["masks"]) == ["box", "extreme"]
    assert record["masks"]["box"] == without_times(results(done))["masks"]["box"]


def test_masks_from_files(tiny_run, digits_dir, tmp_path, rad):
    """Those that ``rad-jax masks`` writes; one for each image, of its size."""
    sets = {"mine": (16, COUNT), "few": (16, COUNT - 1), "large": (32, COUNT)}
    for name, (size, count) in sets.items():
        options = ["--size", size, "--count", count, "--output", tmp_path / name]
        assert rad("masks", "box", *options)[0] == 0

    def evaluated(name):
        output = tmp_path / f"{name}_out"
        masks = {"masks": tmp_path / name}
        return output, rad("evaluate", *flags(tiny_run, digits_dir, output, **masks))

    output, (code, _, _) = evaluated("mine")
    assert code == 0 and list(results(output)["masks"]) == ["mine"]
    images, _ = load_split("digits", digits_dir, "test", 1, most=COUNT)
    for i in range(COUNT):
        hole = np.asarray(Image.open(tmp_path / "mine" / f"{i:04d}.png")) > 0
        filled = np.asarray(Image.open(output / "mine" / f"{i:05d}_0.png"))
        np.testing.assert_array_equal(filled[~hole], images[i, ..., 0][~hole])
        assert (filled != images[i, ..., 0])[hole].any()
    _, (code, _, err) = evaluated("few")
    assert code == 2 and "few: holds 4 masks (.png) for 5 images" in err[0]
    _, (code, _, err) = evaluated("large")
    assert code == 2 and "0000.png: the mask has 32x32 pixels" in err[0]
    assert not pictures(tmp_path / "large_out")


def test_what_the_network_is_told(done, tiny_run, digits_dir, tmp_path, rad):
    """Cfg. 1 of the paper's Table 3: one timestep for all pixels, other fillings."""
    output = tmp_path / "out"
    told = {"noise_embedding": "time", "masks": "box"}
    assert rad("evaluate", *flags(tiny_run, digits_dir, output, **told))[0] == 0
    spatial = pictures(done)
    assert any((x != spatial[path]).any() for path, x in pictures(output).items())
    assert results(output)["settings"]["model"] != results(done)["settings"]["model"]


def test_originals_are_the_least_there_is(tiny_run, digits_dir, tmp_path, rad):
    output = tmp_path / "out"
    changes = {"method": "originals", "num_samples": 1, "masks": "box"}
    assert rad("evaluate", *flags(tiny_run, digits_dir, output, **changes))[0] == 0
    scores = results(output)["masks"]["box"]
    assert scores["frechet_classifier"] == pytest.approx(0, abs=1e-6)
    assert scores["psnr_hole"]["mean"] == 100
    assert scores["seam_ratio"] == 1
    assert scores["accuracy"] == scores["accuracy_originals"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"masks": "bax"}, "mask kind 'bax' is unknown; did you mean 'box'?"),
        ({"masks": ","}, "masks: name one kind or more"),
        ({"masks": "box,wide,box"}, "masks: 'box' is named twice"),
        ({"metrics": "fit"}, "metrics 'fit' are unknown; there are pixels, lpips"),
        ({"method": "lama"}, "method is 'lama'; use one of rad, score_sde, ddrm"),
        ({"num_images": 298}, "digits test: has 297 images, not 298"),
        ({"steps": 1001}, "1001"),
        ({"metrics": "fid"}, "pt_inception-2015-12-05-6726825d.pth"),
        ({"metrics": "lpips"}, "alexnet-owt-7be5be79.pth"),
        ({"reference": "no.npz"}, "no.npz: cannot be read"),
        ({"seed": -1}, "seed is -1"),
        ({"split": "tost"}, "has no split 'tost'"),
    ],
)
def test_wrong_requests(
    tiny_run, digits_dir, tmp_path, rad, monkeypatch, changes, said
):
    monkeypatch.setenv("RAD_JAX_METRICS", str(tmp_path / "nowhere"))
    output = tmp_path / "out"
    code, _, err = rad("evaluate", *flags(tiny_run, digits_dir, output, **changes))
    assert code == 2 and len(err) == 1 and said in err[0]
    assert not output.exists()


def test_a_folder_of_something_else(tiny_run, digits_dir, tmp_path, rad):
    (tmp_path / "thesis.txt").write_text("precious")
    code, _, err = rad("evaluate", *flags(tiny_run, digits_dir, tmp_path))
    assert code == 2 and "holds something that is no evaluation" in err[0]
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_model_that_gives_nan(tiny_run, digits_dir, tmp_path):
    model = load_diffusion(tiny_run[0])
    broken = model._replace(params=jax.tree.map(lambda x: x * np.nan, model.params))
    settings = Evaluation(
        "digits",
        digits_dir,
        "test",
        ["box"],
        num_images=2,
        sampling=SamplingOptions(steps=2),
    )
    with pytest.raises(UserError, match="image 0 under box: non-finite output"):
        evaluate(broken, settings, tmp_path / "out")
    assert not pictures(tmp_path / "out")


def test_a_picture_that_was_tampered_with(done, tiny_run, digits_dir, tmp_path, rad):
    output = tmp_path / "out"
    shutil.copytree(done, output)
    path = fills.sample_path(output, "box", 2, 0)
    Image.new("L", (8, 8)).save(path)
    code, _, err = rad("evaluate", *flags(tiny_run, digits_dir, output))
    assert code == 2 and f"{path}: is not a picture of 16x16" in err[0]


def test_fingerprints_tell_models_apart(tiny_run):
    model = load_diffusion(tiny_run[0])
    again = load_diffusion(tiny_run[0])
    assert fingerprint(model) == fingerprint(again)
    config = dataclasses.replace(model.config, dtype="bfloat16")
    assert fingerprint(model._replace(config=config)) != fingerprint(model)
    moved = jax.tree.map(lambda x: x + 1e-3, model.params)
    assert fingerprint(model._replace(params=moved)) != fingerprint(model)
