"""The comparison methods through ``rad-jax inpaint`` and the Python API."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import rad_jax
from rad_jax.baselines.choice import METHODS, Baseline
from rad_jax.checkpoints.model_folder import write_model
from rad_jax.diffusion.options import SamplerConfig
from rad_jax.errors import UserError
from rad_jax.inference import comparison
from rad_jax.inference.inpaint import fill
from tests.models.plain_adm import CONFIG, plain_model, write_plain

RANDOM = np.random.default_rng(0)
SHORT = {"repaint": (("jump_length", "2"), ("jump_samples", "2"))}
FEW = {"deqir": 20, "mcg": 3}
"""Evaluations that tests can wait for."""


def few(method, preset="fair", **changes):
    nfe = 30 if (method, preset) == ("deqir", "published") else FEW.get(method, 6)
    return Baseline(method, preset, nfe, SHORT.get(method, ()), **changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_plain(tmp_path_factory.mktemp("models") / "adm")


@pytest.fixture
def inpaint(folder, tmp_path, rad, monkeypatch, quickly):
    """``inpaint(*flags)`` of picture.png under hole.png, into out.png."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(RANDOM.integers(0, 256, (16, 16), np.uint8)).save("picture.png")
    hole = np.zeros((16, 16), np.uint8)
    hole[4:12, 5:11] = 255
    Image.fromarray(hole).save("hole.png")
    fixed = "--image", "picture.png", "--mask", "hole.png", "--output", "out.png"
    return lambda *flags: rad("inpaint", "--model", folder, *fixed, *flags)


def pixels(name):
    return np.asarray(Image.open(name))


def sampler_of(name):
    """What a PNG file says of it, after its pixels."""
    with Image.open(name) as picture:
        picture.load()
        return picture.info["Sampler"]


def batch(count=2):
    images = RANDOM.uniform(-1, 1, (count, 16, 16, 1)).astype(np.float32)
    masks = np.zeros((count, 16, 16), np.float32)
    masks[:, 4:12, 5:11] = 1
    return jnp.asarray(images), jnp.asarray(masks)


@pytest.mark.parametrize("method", METHODS)
def test_a_picture_is_filled_and_says_how(inpaint, method):
    code, out, err = inpaint("--method", method, "--nfe", FEW.get(method, 6))
    assert (code, err) == (0, []) and "out.png" in out
    hole = pixels("hole.png") > 0
    np.testing.assert_array_equal(
        pixels("out.png")[~hole], pixels("picture.png")[~hole]
    )
    assert (pixels("out.png") != pixels("picture.png"))[hole].any()
    text = sampler_of("out.png")
    assert text.startswith(f"{method} (fair): steps=")


def test_published_settings_and_single_ones(inpaint):
    flags = "--preset", "published", "--set", "steps=4", "--set", "eta=0.5"
    assert inpaint("--method", "ddrm", *flags)[0] == 0
    text = sampler_of("out.png")
    assert text == (
        "ddrm (published): steps=4, eta=0.5, eta_b=1.0, sigma_0=0.0, final_paste=false"
    )


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (("--steps", 5), "--steps is RAD's; --method ddrm takes --preset, --nfe and"),
        (("--sampler", "ddim"), "--sampler is RAD's"),
        (("--strategy", "tile"), "strategy tile is RAD's"),
        (("--set", "stps=5"), "ddrm has no setting 'stps'"),
        (("--set", "steps=1001"), "steps is 1001; it must lie in 1 .. 1000"),
        (("--feather", 2), "hole.png: is soft, and ddrm knows pixels that"),
        (("--mask", "all.png"), "all.png: is a hole of everything, which leaves ddrm"),
        (("--label", 1), "the model has no classes"),
    ],
)
def test_what_a_method_cannot_take_is_one_line(inpaint, flags, line):
    Image.new("L", (16, 16), 255).save("all.png")
    code, _, err = inpaint("--method", "ddrm", *flags)
    assert (code, len(err)) == (2, 1) and line in err[0]


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (("--preset", "published"), "--preset is of the methods score_sde, ddrm"),
        (("--set", "steps=5"), "--set is of the methods"),
        (("--nfe", 5, "--steps", 5), "--nfe and --steps say the same of rad"),
        (("--method", "radd"), "invalid choice: 'radd'"),
    ],
)
def test_rad_takes_no_settings_of_others(inpaint, flags, line):
    code, _, err = inpaint(*flags)
    assert (code, len(err)) == (2, 1) and line in err[0]


def test_rads_steps_on_a_plain_adm_are_named(inpaint):
    code, out, err = inpaint("--nfe", 2)
    assert (code, err) == (0, []) and "Cfg. 1 of the paper's Table 3" in out
    assert "2 steps" in sampler_of("out.png")


def test_a_rad_model_is_refused(tiny_run, rad, inpaint):
    fixed = "--image", "picture.png", "--mask", "hole.png", "--output", "out.png"
    code, _, [line] = rad("inpaint", "--model", tiny_run[0], *fixed, "--method", "mcg")
    assert code == 2 and "method mcg needs a plain ADM" in line
    assert "(schedule.known_steps is 1000, not 0)" in line


def test_no_learned_variance_is_one_line(inpaint, tmp_path, rad):
    config = dataclasses.replace(CONFIG, learn_sigma=False)
    fixed = "--image", "picture.png", "--mask", "hole.png", "--output", "out.png"
    flags = ("--model", write_plain(tmp_path / "adm", config), *fixed, "--nfe", 2)
    code, _, [line] = rad("inpaint", *flags, "--method", "score_sde")
    assert code == 2 and line.endswith("use the setting variance=small")
    more = "--method", "score_sde", "--set", "variance=small"
    assert rad("inpaint", *flags, *more)[0] == 0


def test_an_upsampler_is_one_line(inpaint, tmp_path, rad):
    config = dataclasses.replace(CONFIG, in_channels=2)
    fixed = "--image", "picture.png", "--mask", "hole.png", "--output", "out.png"
    folder = write_plain(tmp_path / "adm", config)
    code, _, [line] = rad("inpaint", "--model", folder, *fixed, "--method", "ddrm")
    assert code == 2 and line.endswith("it enlarges images and cannot inpaint them")


def test_a_gradient_of_mcg_that_is_no_number_is_one_line(inpaint, tmp_path, rad):
    model = plain_model()
    huge = model._replace(params=jax.tree.map(lambda x: x * 1e25, model.params))
    write_model(tmp_path / "huge", huge, {})
    fixed = "--image", "picture.png", "--mask", "hole.png", "--output", "out.png"
    flags = "--model", tmp_path / "huge", *fixed, "--method", "mcg", "--nfe", 2
    code, _, [line] = rad("inpaint", *flags)
    assert code == 2 and "picture.png: non-finite output of the model" in line
    assert "mcg's steps along the gradient may be too long" in line
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("method", METHODS)
def test_an_image_does_not_depend_on_its_batch(method, quickly):
    """Not even in the published MCG, whose norm is the whole batch's."""
    model, keys = plain_model(), jax.random.split(jax.random.key(0), 3)
    images, masks = batch(3)
    for preset in ("fair", "published"):
        one = few(method, preset)
        all_of_them = fill(model, images, masks, keys, method=one)
        alone = fill(model, images[1:2], masks[1:2], keys[1:2], method=one)
        np.testing.assert_allclose(alone[0], all_of_them[1], rtol=1e-4, atol=1e-4)


def test_a_network_that_predicts_v_fills_as_one_that_predicts_noise(quickly):
    """Its outputs are converted: those of noise stand in for those of v."""
    model, arrays = plain_model(), batch()
    keys = jax.random.split(jax.random.key(0), 2)
    seen = {}

    def spied(parametrisation):
        def fake(*_):
            def predict(params, x, level, noise, labels):
                del params, level, labels
                t = jnp.round(noise.timesteps[:, 0]).astype(int)
                bar = jnp.cumprod(1 - jnp.linspace(1e-4, 0.02, 1000))[t]
                a, b = (jnp.sqrt(y)[:, None, None, None] for y in (bar, 1 - bar))
                eps = 0.5 * jnp.tanh(x)
                v = (eps - b * x) / a  # eps = b x + a v
                first = eps if parametrisation == "eps" else v
                return jnp.concatenate([first, jnp.zeros_like(x)], -1)

            return predict

        return fake

    for parametrisation in ("eps", "v"):
        comparison.compiled_baseline.cache_clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(comparison, "make_denoise", spied(parametrisation))
            told = model._replace(parametrisation=parametrisation)
            for method in ("score_sde", "deqir"):
                seen[method, parametrisation] = fill(
                    told, *arrays, keys, method=few(method, "published")
                )
    comparison.compiled_baseline.cache_clear()
    for method in ("score_sde", "deqir"):
        ours, theirs = seen[method, "v"], seen[method, "eps"]
        np.testing.assert_allclose(ours, theirs, atol=2e-3)


@pytest.mark.parametrize("method", ["ddrm", "deqir"])
def test_labels_reach_every_evaluation(method, quickly):
    """Also of DeqIR, whose batch holds all images of every chain."""
    config = dataclasses.replace(CONFIG, num_classes=3)
    model, (images, masks) = plain_model(config), batch()
    keys = jax.random.split(jax.random.key(0), 2)
    one = few(method, "published")
    labels = jnp.array([0, 2], jnp.int32)
    both = fill(model, images, masks, keys, method=one, labels=labels)
    for i, label in enumerate(labels):
        only = slice(i, i + 1)
        alone = fill(
            model,
            images[only],
            masks[only],
            keys[only],
            method=one,
            labels=label[None],
        )
        np.testing.assert_allclose(alone[0], both[i], atol=1e-4)
    swapped = fill(model, images, masks, keys, method=one, labels=labels[::-1])
    assert float(jnp.abs(swapped - both).max()) > 1e-3


def test_the_python_api(folder, quickly):
    model = rad_jax.load(folder)
    images, masks = (np.asarray(x) for x in batch(1))
    one = few("ddrm")
    options = {"key": jax.random.key(0), "num_samples": 2, "method": one}
    filled = rad_jax.inpaint(model, images[0], masks[0], **options)
    known = masks[0] == 0
    assert filled.shape == (2, 16, 16, 1) and (filled[0] != filled[1]).any()
    np.testing.assert_array_equal(filled[1][known], images[0][known])
    with pytest.raises(UserError, match="are RAD's; give the method's"):
        rad_jax.inpaint(model, images[0], masks[0], **options, steps=5)
    with pytest.raises(UserError, match="are RAD's; give the method's"):
        sampler = SamplerConfig(method="ddim")
        rad_jax.inpaint(model, images[0], masks[0], **options, sampler=sampler)
    with pytest.raises(UserError, match="mask: is soft"):
        rad_jax.inpaint(model, images[0], masks[0] * 0.5, **options)
    with pytest.raises(UserError, match="the model has no classes"):
        rad_jax.inpaint(model, images[0], masks[0], **options, label=3)


def test_an_inpainter_takes_a_method(folder, quickly):
    """Known pixels as they were, large pictures cropped, and each mistake a line."""
    inpainter = rad_jax.Inpainter.from_pretrained(folder)
    picture = RANDOM.integers(0, 256, (40, 33), np.uint8)
    hole = np.zeros((40, 33), bool)
    hole[20:26, 4:12] = True
    one, two = (inpainter(picture, hole, method=few("ddrm"), seed=i) for i in (0, 1))
    np.testing.assert_array_equal(one[~hole], picture[~hole])
    assert (one != two)[hole].any()
    again = inpainter(picture, hole, method=few("ddrm"), seed=0)
    np.testing.assert_array_equal(again, one)
    refused: list[tuple[dict[str, Any], str]] = [
        ({"steps": 5}, "steps, sampler, grid, eta, snr and seam are RAD's"),
        ({"strategy": "tile"}, "strategy tile is RAD's"),
        ({"on_step": print}, "on_step is RAD's"),
    ]
    for options, message in refused:
        with pytest.raises(UserError, match=message):
            inpainter(picture, hole, method=few("ddrm"), **options)
    with pytest.raises(UserError, match="mask 1: is a hole of everything"):
        everything = np.ones_like(hole)
        inpainter([picture, picture], [hole, everything], method=few("ddrm"))
    with pytest.raises(UserError, match="mask: is soft, and ddrm"):
        inpainter(picture, hole * np.float32(0.5), method=few("ddrm"))
