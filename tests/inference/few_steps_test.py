"""A model that was distilled for few evaluations is run so, unless somebody objects."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import rad_jax
from rad_jax.checkpoints.load import load_diffusion
from rad_jax.checkpoints.model_folder import write_model
from rad_jax.chips.slices import find_slice
from rad_jax.diffusion.options import SamplingOptions
from rad_jax.errors import UserError
from rad_jax.inference import dry_run
from rad_jax.inference.for_chips import Batch, fill_flops, steps_of
from rad_jax.inference.inpaint import fill
from rad_jax.inference.samplers import default_sampler
from tests.chips.report_test import NEEDS

pytestmark = pytest.mark.usefixtures("quickly")

FEW = (1000, 640, 360, 160)
SIZE = 16
GREY = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE), np.uint8)
HOLE = np.zeros((SIZE, SIZE), bool)
HOLE[4:12, 3:14] = True


@pytest.fixture(scope="module")
def ordinary(tiny_run):
    return load_diffusion(tiny_run[0])


@pytest.fixture(scope="module")
def distilled(ordinary):
    return ordinary._replace(few_steps=FEW)


@pytest.fixture(scope="module")
def folder(distilled, tmp_path_factory):
    """As a model folder; do not write there."""
    place = tmp_path_factory.mktemp("models") / "few"
    write_model(place, distilled, {})
    return place


TIMES = pytest.mark.parametrize(
    ("options", "times"), [({}, FEW), ({"steps": 2}, (1000, 160))]
)


@TIMES
def test_arrays(ordinary, distilled, options, times):
    given = GREY[..., None], HOLE
    renoise = {"sampler": default_sampler(ordinary, "renoise"), "grid": times}
    key = jax.random.key(1)
    expected = rad_jax.inpaint(ordinary, *given, key=key, **renoise)
    found = rad_jax.inpaint(distilled, *given, key=key, **options)
    np.testing.assert_array_equal(found, expected)
    asked = rad_jax.inpaint(ordinary, *given, key=key, steps=len(times))
    assert (found != asked).any()
    images, masks = jnp.zeros((1, SIZE, SIZE, 1)), jnp.asarray(HOLE[None], jnp.float32)
    expected = fill(ordinary, images, masks, key[None], **renoise)
    found = fill(distilled, images, masks, key[None], **options)
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


@TIMES
def test_pictures_of_a_program(ordinary, distilled, options, times):
    inpainter, other = map(rad_jax.Inpainter, (distilled, ordinary))
    found = inpainter(GREY, HOLE, **options)
    expected = other(GREY, HOLE, sampler="renoise", grid=times)
    np.testing.assert_array_equal(found, expected)
    seen = []
    parts = inpainter(
        *(GREY, HOLE),
        on_step=lambda step, total, _: seen.append((step, total)),
        on_step_every=1,
        **options,
    )
    assert seen == [(i + 1, len(times)) for i in range(len(times))]
    assert abs(parts.astype(int) - found).max() <= 1


def test_what_it_was_not_distilled_for(ordinary, distilled):
    """A sampler or times of one's own are run as they are asked for."""
    inpainter, other = map(rad_jax.Inpainter, (distilled, ordinary))
    with pytest.raises(UserError, match="steps is 8; the model was distilled for 1"):
        inpainter(GREY, HOLE, steps=8)
    for options in (
        {"steps": 8, "sampler": "ddim"},
        {"sampler": "ddpm", "grid": (1000, 9)},
        {"steps": 3, "sampler": "renoise", "grid": "uniform"},
    ):
        found, expected = inpainter(GREY, HOLE, **options), other(GREY, HOLE, **options)
        np.testing.assert_array_equal(found, expected)


def test_what_other_chips_would_run(ordinary, distilled, monkeypatch):
    batch, own = Batch(1, (SIZE, SIZE)), SamplingOptions()
    assert steps_of(distilled, own) == 4 and steps_of(ordinary, own) == 100
    flops = fill_flops(distilled, own, batch)
    assert flops == fill_flops(ordinary, SamplingOptions(4), batch)
    monkeypatch.setattr(dry_run, "compile_fill", lambda *_: (1, NEEDS))
    where = find_slice("h100")
    said = dry_run.report(distilled, own, batch, where)
    assert "(renoise, times 1000 640 360 160; float32) on h100" in said
    with pytest.raises(UserError, match="steps is 8; the model was distilled for 1"):
        dry_run.report(distilled, SamplingOptions(8), batch, where)


def test_the_command(rad, folder, tiny_run, tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    Image.fromarray(HOLE).save(tmp_path / "m.png")

    def run(model, *flags):
        names = {"image": "a.png", "mask": "m.png", "output": "o.png"}
        files = [x for k, name in names.items() for x in (f"--{k}", tmp_path / name)]
        code, _, err = rad("inpaint", "--model", model, *files, *flags)
        assert (code, err) == (0, [])
        with Image.open(tmp_path / "o.png") as image:
            return image.info["Sampler"], np.asarray(image)

    for flags, times in (
        ([], FEW),
        (["--steps", 2], (1000, 160)),
        (["--nfe", 3], (1000, 360, 160)),
    ):
        said, pixels = run(folder, *flags)
        assert said == f"renoise, times {' '.join(map(str, times))}"
        asked = "--sampler", "renoise", "--times", ",".join(map(str, times))
        said_of_asked, expected = run(tiny_run[0], *asked)
        assert said == said_of_asked
        np.testing.assert_array_equal(pixels, expected)
    assert run(folder, "--steps", 3, "--sampler", "dpm++")[0].startswith("dpm++, 3 st")
    files = "--image", tmp_path / "a.png", "--mask", tmp_path / "m.png"
    out = "--output", tmp_path / "o.png"
    code, _, (line,) = rad("inpaint", "--model", folder, *files, *out, "--steps", 8)
    assert code == 2 and "steps is 8; the model was distilled for 1 .. 4" in line


def test_an_evaluation(rad, folder, tiny_run, digits_dir, tmp_path):
    def run(output, *flags, model=folder):
        data = "--data", "digits", "--data_dir", digits_dir, "--masks", "box"
        few = "--num_images", 2, "--metrics", "pixels", "--output", tmp_path / output
        return rad("evaluate", "--model", model, *data, *few, *flags)

    def results(output):
        return json.loads((tmp_path / output / "results.json").read_text())

    assert run("few")[0] == 0
    record = results("few")
    assert "; rad: renoise, times 1000 640 360 160; seed 0" in record["protocol"]
    settings = {name: record["settings"][name] for name in ("steps", "sampler", "grid")}
    times = "1000,640,360,160"
    assert settings == {"steps": 4, "sampler": "renoise", "grid": times}
    assert record["masks"]["box"]["forward_evaluations"] == 4
    # The same evaluation, in whatever words; and another.
    before = (tmp_path / "few" / "box" / "00000_0.png").stat().st_mtime_ns
    code, _, err = run("few", "--sampler", "renoise", "--times", times)
    assert (code, err) == (0, [])
    assert (tmp_path / "few" / "box" / "00000_0.png").stat().st_mtime_ns == before
    code, _, err = run("few", "--steps", 2)
    assert code == 2 and "holds an evaluation with steps 4, not 2" in err[0]
    code, _, err = run("more", "--steps", 8)
    assert code == 2 and "the model was distilled for 1 .. 4" in err[0]
    # Any model at times that somebody chooses.
    assert run("other", "--times", "1000,500", model=tiny_run[0])[0] == 0
    assert "rad: ddpm, times 1000 500; seed 0" in results("other")["protocol"]
