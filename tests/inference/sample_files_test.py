"""``rad-jax sample``: a model folder becomes pictures."""

import dataclasses
import errno
import os
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import rad_jax
from rad_jax.checkpoints.load import load_diffusion
from rad_jax.checkpoints.model import Model
from rad_jax.checkpoints.model_folder import write_model
from rad_jax.diffusion.options import SamplerConfig
from rad_jax.diffusion.schedule_config import ScheduleConfig
from rad_jax.files.pixel_ranges import to_truncated_bytes
from rad_jax.inference.generate import adm_sampler, compiled_generate, generate
from rad_jax.models.network import abstract_params
from tests.inference.generate_test import CLASSES, SIZE, UPSAMPLER
from tests.models.adm_files import random_params
from tests.runtime.memory_test import Limited

GREY = dataclasses.replace(CLASSES, in_channels=1, out_channels=1, num_classes=None)
CONFIGS = {"grey": GREY, "classes": CLASSES, "upsampler": UPSAMPLER}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folder of the model folders; do not write there."""
    folder = tmp_path_factory.mktemp("models")
    for name, config in CONFIGS.items():
        write_model(
            folder / name,
            Model(
                config, ScheduleConfig(), "eps", random_params(abstract_params(config))
            ),
            {},
        )
    return folder


@pytest.fixture
def sample(rad, models, tmp_path):
    """``sample("grey", "--seed", 1)`` writes to ``tmp_path / "out"``."""

    def run(model, *extra, output="out"):
        arguments = ("--model", models / model, "--output", tmp_path / output)
        return rad("sample", *arguments, "--respacing", "3", *extra)

    return run


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def picture(path, size=(8, 8)):
    random = np.random.default_rng(len(path.name))
    Image.fromarray(random.integers(0, 256, (*size[::-1], 3), np.uint8)).save(path)
    return path


def test_samples_and_their_sheet(sample, tmp_path, models):
    """Three of a grey model, in two batches, and what their files hold."""
    extra = ("--num_samples", 3, "--batch_size", 2, "--seed", 5)
    code, out, err = sample("grey", *extra)
    assert (code, err) == (0, [])
    folder = tmp_path / "out"
    names = [f"000{i}.png" for i in range(3)]
    assert sorted(os.listdir(folder)) == [*names, "contact_sheet.png"]
    said = out.splitlines()
    assert re.fullmatch(f"{folder}/: 3 images, [0-9.e-]+ s per image", said[0])
    assert said[1].startswith(f"{folder / 'contact_sheet.png'}: ")
    images = [pixels(folder / name) for name in names]
    assert {(x.shape, x.dtype.name) for x in images} == {((SIZE, SIZE), "uint8")}
    sheet = pixels(folder / "contact_sheet.png")
    assert sheet.shape == (2 * 66 + 2, 2 * 66 + 2, 3)
    for i, image in enumerate(images):
        top, left = (2 + 66 * at for at in divmod(i, 2))
        tile = sheet[top : top + 64 : 4, left : left + 64 : 4]
        np.testing.assert_array_equal(tile, np.stack([image] * 3, -1))
    with Image.open(folder / names[0]) as image:
        assert image.info["Software"] == f"rad_jax {rad_jax.__version__}"
        assert image.info["Sampler"] == "ddpm, respacing 3"
        assert image.info["Seed"] == "5" and "Class" not in image.info


def test_a_sample_depends_on_seed_and_number_alone(sample, tmp_path):
    """Not on how many there are, nor on the batch, but for the order of sums."""
    for output, count, size, seed in (("a", 3, 1, 1), ("b", 4, 2, 1), ("c", 3, 1, 2)):
        extra = ("--num_samples", count, "--batch_size", size, "--seed", seed)
        assert sample("grey", *extra, output=output)[0] == 0
    three, four, other = (
        [pixels(tmp_path / x / f"000{i}.png").astype(int) for i in range(3)]
        for x in "abc"
    )
    for i in range(3):
        assert abs(three[i] - four[i]).max() <= 1
        assert (three[i] != other[i]).mean() > 0.5
    assert (three[0] != three[1]).mean() > 0.5


def test_one_file_is_what_generate_gives_in_guided_diffusions_bytes(
    sample, tmp_path, models
):
    extra = ("--seed", 4, "--sampler", "ddim", "--eta", 0.5)
    assert sample("grey", *extra, output="new/one.png")[0] == 0
    assert os.listdir(tmp_path / "new") == ["one.png"]
    key = jax.random.fold_in(jax.random.key(4), 0)
    model = load_diffusion(models / "grey")
    sampler = adm_sampler(model, "ddim", 0.5)
    image = generate(model, key[None], respacing="3", sampler=sampler)
    expected = np.asarray(to_truncated_bytes(image))[0, ..., 0]
    np.testing.assert_array_equal(pixels(tmp_path / "new" / "one.png"), expected)


def classes_of(folder):
    found = []
    for path in sorted(folder.glob("0*.png")):
        with Image.open(path) as image:
            found.append(int(image.info["Class"]))
    return found


def test_classes_go_round_and_decide_what_is_drawn(sample, tmp_path):
    for output, *extra in (
        ("a", "--classes", "3, 1", "--num_samples", 3),
        ("b", "--classes", "3,0,3"),  # by default as many samples
    ):
        code, out, _ = sample("classes", *extra, output=output)
        assert code == 0 and "classes drawn" not in out
    a, b = tmp_path / "a", tmp_path / "b"
    assert classes_of(a) == [3, 1, 3] and classes_of(b) == [3, 0, 3]
    same = [
        np.array_equal(pixels(a / f"000{i}.png"), pixels(b / f"000{i}.png"))
        for i in range(3)
    ]
    assert same == [True, False, True]


def test_classes_are_drawn_from_the_seed(sample, tmp_path):
    drawn = []
    for output, seed, count in (("a", 0, 3), ("b", 0, 5), ("c", 1, 5)):
        extra = ("--num_samples", count, "--batch_size", 3, "--seed", seed)
        code, out, _ = sample("classes", *extra, output=output)
        found = classes_of(tmp_path / output)
        assert code == 0
        assert out.startswith(f"classes drawn: {', '.join(map(str, found))}\n")
        drawn.append(found)
    assert drawn[0] == drawn[1][:3] and drawn[1] != drawn[2]
    assert len(set(drawn[1] + drawn[2])) > 2


def test_low_resolution_pictures_go_round(sample, tmp_path):
    """Of any square sizes; by default there is one sample of each."""
    folder = tmp_path / "small"
    folder.mkdir()
    for name, side in (("a", 8), ("bb", 4), ("ccc", 8)):
        picture(folder / f"{name}.png", (side, side))
    extra = ("--classes", 2, "--low_res")
    assert sample("upsampler", *extra, folder)[0] == 0
    one = ("--num_samples", 3, *extra, folder / "a.png")
    assert sample("upsampler", *one, output="one")[0] == 0
    first, second = (
        [pixels(path) for path in sorted((tmp_path / x).glob("0*.png"))]
        for x in ("out", "one")
    )
    assert {x.shape for x in first} == {(SIZE, SIZE, 3)}
    same = [np.array_equal(x, y) for x, y in zip(first, second, strict=True)]
    assert same == [True, False, False]


def test_what_is_there_stays_unless_told_otherwise(sample, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    assert sample("grey")[0] == 0  # an empty folder is as good as a new one
    kept = picture(folder / "mine.png").read_bytes()
    before = (folder / "0000.png").read_bytes()
    refused = f"rad-jax: {folder}: exists; choose another output, or --overwrite"
    assert sample("grey", "--seed", 1) == (2, "", [refused])
    file = f"out{os.sep}0000.png"
    refused = refused.replace(str(folder), str(tmp_path / file))
    assert sample("grey", "--seed", 1, output=file) == (2, "", [refused])
    assert (folder / "0000.png").read_bytes() == before
    assert sample("grey", "--seed", 1, "--overwrite")[0] == 0
    assert (folder / "0000.png").read_bytes() != before
    assert (folder / "mine.png").read_bytes() == kept


@pytest.mark.parametrize(
    "model, extra, output, message",
    [
        ("grey", ["--classes", "1"], "out", "the model has no classes; give no label"),
        (
            "classes",
            ["--classes", "1,5"],
            "out",
            "there is no class 5; the model's are",
        ),
        ("classes", ["--classes", "cat"], "out", "'cat' is no list of classes; give"),
        ("classes", ["--classes", "1,,2"], "out", "'1,,2' is no list of classes"),
        ("upsampler", [], "out", "the model enlarges images; give it some as low_res"),
        ("upsampler", ["--low_res", "no.png"], "out", "no.png: no such file or folder"),
        ("upsampler", ["--low_res", "empty"], "out", "empty: holds no picture"),
        ("upsampler", ["--low_res", "text.png"], "out", "text.png: not a picture"),
        (
            "upsampler",
            ["--low_res", "wide.png"],
            "out",
            "wide.png: low_res has 9x8 pix",
        ),
        (
            "upsampler",
            ["--low_res", "large.png"],
            "out",
            "large.png: low_res has 17x17",
        ),
        ("upsampler", ["--low_res", "0000.png", "--overwrite"], ".", "would overwrite"),
        (
            "grey",
            ["--low_res", "large.png"],
            "out",
            "does not enlarge images; leave lo",
        ),
        (
            "grey",
            ["--respacing", "ddim999"],
            "out",
            "respacing 'ddim999': no whole stride",
        ),
        (
            "grey",
            ["--respacing", "some"],
            "out",
            "respacing 'some': 'some' is not a co",
        ),
        ("grey", ["--sampler", "plms"], "out", "argument --sampler: invalid choice"),
        (
            "grey",
            ["--eta", "0.5"],
            "out",
            "eta is 0.5; only the sampler ddim takes one",
        ),
        ("grey", ["--sampler", "ddim", "--eta", "2"], "out", "eta is 2.0; it must lie"),
        ("grey", ["--seed", "-1"], "out", "seed is -1; it must lie in 0 .. 2**32 - 1"),
        ("grey", ["--num_samples", "0"], "out", "0 is not a count; give 1 or more"),
        ("grey", ["--num_samples", "2"], "x.png", "x.png: 2 samples need a folder"),
        ("grey", [], "x.jpg", "x.jpg: samples are .png files; name it x.png"),
        ("grey", [], "text.png/out", "text.png: cannot be written to; choose another"),
        ("grey", ["--model", "nowhere"], "out", "nowhere: no such folder"),
        ("grey", ["--model", "."], "out", ".: is neither a model folder"),
    ],
)
def test_mistakes_are_one_line(
    sample, tmp_path, monkeypatch, model, extra, output, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("no picture")
    for name, size in (("0000", (8, 8)), ("wide", (9, 8)), ("large", (17, 17))):
        picture(tmp_path / f"{name}.png", size)
    before = sorted(os.listdir(tmp_path))
    code, out, err = sample(model, *extra, output=output)
    assert (code, out, len(err)) == (2, "", 1), err
    assert err[0].startswith("rad-jax") and message in err[0]
    assert sorted(os.listdir(tmp_path)) == before


def test_a_model_that_gives_no_numbers(sample, tmp_path, monkeypatch):
    broken = jax.jit(lambda *_: jnp.full((1, SIZE, SIZE, 1), jnp.nan))
    monkeypatch.setattr(
        "rad_jax.inference.generate.compiled_generate", lambda *_: broken
    )
    code, _, err = sample("grey")
    assert code == 2 and len(err) == 1
    assert "0000.png: non-finite output of the model" in err[0]
    assert not (tmp_path / "out").exists()


def test_too_little_memory_for_the_batch(sample, tmp_path, monkeypatch):
    """The files are those of a batch that fits, and it is said once what fits."""
    assert sample("grey", "--num_samples", 5, "--batch_size", 2, output="fits")[0] == 0
    limited = Limited(
        compiled_generate(
            GREY, ScheduleConfig(), SamplerConfig(variance="learned"), None
        ),
        most=2,
    )
    monkeypatch.setattr(
        "rad_jax.inference.generate.compiled_generate", lambda *_: limited
    )
    code, _, err = sample("grey", "--num_samples", 5, "--batch_size", 4)
    said = "rad-jax: out of memory with 3 images at once, trying 2"
    assert (code, err) == (0, [said])
    assert limited.lengths == [3, 2, 2, 2, 2]
    files = sorted((tmp_path / "fits").iterdir())
    assert len(files) == 5 + 1
    for path in files:
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()


def test_a_full_disk(sample, tmp_path, monkeypatch):
    """One line; what has been written is whole, and nothing else is left."""
    write, sizes = Path.write_bytes, []

    def limited(path, data):
        sizes.append(len(data))
        if len(sizes) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", limited)
    code, _, err = sample("grey")
    sheet = tmp_path / "out" / "contact_sheet.png"
    assert (code, len(err)) == (2, 1)
    assert f"{sheet}: cannot be written (No space left on device); free" in err[0]
    assert os.listdir(sheet.parent) == ["0000.png"]
    assert pixels(sheet.with_name("0000.png")).shape == (SIZE, SIZE)
