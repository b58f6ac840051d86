"""``rad_jax.Inpainter`` with whatever a program has in hand."""

import subprocess
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import rad_jax
from rad_jax.errors import UserError
from rad_jax.inference.fill_regions import Fills

pytestmark = pytest.mark.usefixtures("quickly")

SIZE = 16
RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (SIZE, SIZE), np.uint8)
RGB = RANDOM.integers(0, 256, (SIZE, SIZE, 3), np.uint8)
HOLE = np.zeros((SIZE, SIZE), bool)
HOLE[4:12, 3:14] = True


@pytest.fixture(scope="module")
def inpainter(tiny_run):
    return rad_jax.Inpainter.from_pretrained(tiny_run[0])


def fill(inpainter, image, mask: Any = HOLE, **options):
    return inpainter(image, mask, **{"steps": 2, **options})


def test_it_is_rad_jax_inpaint(inpainter):
    ours = fill(inpainter, GREY[..., None], key=jax.random.key(3), num_samples=2)
    theirs = rad_jax.inpaint(
        *(inpainter.model, GREY[..., None], HOLE),
        key=jax.random.key(3),
        num_samples=2,
        steps=2,
    )
    np.testing.assert_array_equal(ours, theirs)
    assert (ours[:, ~HOLE] == GREY[~HOLE][:, None]).all()
    assert (ours[:, HOLE] != GREY[HOLE][:, None]).mean() > 0.8


def forms(tmp_path):
    """One grey picture in every form, and how a result becomes bytes."""
    path = tmp_path / "a.png"
    Image.fromarray(GREY).save(path)
    scaled = GREY.astype(np.float32) / 255

    def of_unit(x):
        return np.rint(np.asarray(x, np.float32) * 255)

    def of_signed(x):
        return np.rint((np.asarray(x, np.float32) + 1) * 127.5)

    return {
        "path": (path, {}, np.asarray),
        "text": (str(path), {}, np.asarray),
        "PIL": (Image.fromarray(GREY), {}, np.asarray),
        "(h, w)": (GREY, {}, np.asarray),
        "(h, w, 1)": (GREY[..., None], {}, lambda x: x[..., 0]),
        "JAX": (jnp.asarray(GREY), {}, np.asarray),
        "[0, 1]": (scaled, {"value_range": (0, 1)}, of_unit),
        "[-1, 1]": (scaled * 2 - 1, {}, of_signed),
        "float64": (scaled.astype(float) * 2 - 1, {}, of_signed),
        "JAX floats": (jnp.asarray(scaled), {"value_range": (0, 1)}, of_unit),
    }


FORMS = (
    *("path", "text", "PIL", "(h, w)", "(h, w, 1)", "JAX", "[0, 1]", "[-1, 1]"),
    *("float64", "JAX floats"),
)


@pytest.mark.parametrize("name", FORMS)
def test_images_of_every_form(name, inpainter, tmp_path):
    image, options, to_bytes = forms(tmp_path)[name]
    filled = fill(inpainter, image, **options)
    expected = fill(inpainter, GREY)
    assert isinstance(filled, Image.Image) == (name in ("path", "text", "PIL"))
    found = to_bytes(filled)
    # A float of the hole may lie between two bytes.
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1
    if not isinstance(filled, Image.Image):
        given = np.asarray(image)
        assert filled.shape == given.shape
        known = ~HOLE.reshape(HOLE.shape + (1,) * (given.ndim - 2))
        known = np.broadcast_to(known, given.shape)
        np.testing.assert_array_equal(filled[known], given[known])


MASKS = {
    "bool": HOLE,
    "0 and 1": HOLE.astype(int),
    "0 and 255": HOLE.astype(np.uint8) * 255,
    "floats": HOLE.astype(np.float32),
    "(h, w, 1)": HOLE[..., None],
    "JAX": jnp.asarray(HOLE),
    "PIL 1": Image.fromarray(HOLE),
    "PIL L": Image.fromarray(HOLE.astype(np.uint8) * 255),
    "PIL levels": Image.fromarray(HOLE.astype(np.uint8)),
    "PIL RGB": Image.fromarray(HOLE.astype(np.uint8) * 200).convert("RGB"),
    "PIL layer": Image.fromarray(np.dstack([RGB * 0, HOLE.astype(np.uint8) * 255])),
}


@pytest.mark.parametrize("name", MASKS)
def test_masks_of_every_form(name, inpainter):
    filled = fill(inpainter, GREY, MASKS[name])
    np.testing.assert_array_equal(filled, fill(inpainter, GREY))


def test_a_mask_file(inpainter, tmp_path):
    Image.fromarray(HOLE).save(tmp_path / "m.png")
    filled = fill(inpainter, GREY, tmp_path / "m.png")
    np.testing.assert_array_equal(filled, fill(inpainter, GREY))


def test_soft_masks_and_no_hole(inpainter):
    soft = HOLE * np.float32(0.5)
    assert (fill(inpainter, GREY, soft)[~HOLE] == GREY[~HOLE]).all()
    np.testing.assert_array_equal(fill(inpainter, GREY, HOLE & ~HOLE), GREY)


def test_batches(inpainter):
    images = np.stack([GREY, GREY.T, GREY[::-1]])[..., None]
    filled = fill(inpainter, images, num_samples=2)
    assert filled.shape == (3, 2, SIZE, SIZE, 1)
    masks = np.stack([HOLE] * 3)
    again = fill(inpainter, images, masks, num_samples=2, batch_size=1)
    np.testing.assert_array_equal(filled, again)
    for some in (list(images), tuple(images)):
        listed = fill(inpainter, some, [HOLE] * 3, num_samples=2)
        assert isinstance(listed, list)
        np.testing.assert_array_equal(np.stack(listed), filled)
    first = fill(inpainter, images[:1], num_samples=2)
    np.testing.assert_array_equal(first[0], filled[0])
    mixed = fill(inpainter, [Image.fromarray(GREY), RGB, GREY[:9, :11]], output="pil",
                 mask=[HOLE, HOLE, HOLE[:9, :11]])  # fmt: skip
    assert [each.mode for each in mixed] == ["L", "RGB", "L"]
    assert mixed[2].size == (11, 9)


def test_outputs(inpainter):
    assert isinstance(fill(inpainter, GREY, output="pil"), Image.Image)
    as_array = fill(inpainter, Image.fromarray(RGB), output="numpy")
    assert as_array.shape == RGB.shape and as_array.dtype == np.uint8
    several = fill(inpainter, Image.fromarray(GREY), num_samples=3)
    assert len(several) == 3 and all(isinstance(x, Image.Image) for x in several)
    with_alpha = Image.fromarray(np.dstack([RGB, GREY]))
    with_alpha.info["icc_profile"] = b"profile"
    filled = fill(inpainter, with_alpha)
    assert filled.mode == "RGBA" and filled.info["icc_profile"] == b"profile"
    np.testing.assert_array_equal(np.asarray(filled)[..., 3], GREY)


def test_seeds_and_keys(inpainter):
    one, two = (fill(inpainter, GREY, seed=seed) for seed in (1, 2))
    assert (one != two).any()
    np.testing.assert_array_equal(one, fill(inpainter, GREY, seed=1))
    np.testing.assert_array_equal(one, fill(inpainter, GREY, key=jax.random.key(1)))
    np.testing.assert_array_equal(fill(inpainter, GREY), fill(inpainter, GREY, seed=0))


@pytest.mark.parametrize("strategy", ["auto", "whole", "crop", "resize", "tile"])
def test_large_pictures(strategy, inpainter):
    image = RANDOM.integers(0, 256, (50, 60, 3), np.uint8)
    hole = np.zeros((50, 60), bool)
    hole[3:6, 3:6] = hole[20:45, 20:50] = True
    filled = fill(inpainter, image, hole, strategy=strategy)
    np.testing.assert_array_equal(filled[~hole], image[~hole])
    assert (filled[hole] != image[hole]).mean() > 0.5


@pytest.mark.parametrize("strategy", ["auto", "tile"])
def test_on_step(strategy, inpainter):
    image = RANDOM.integers(0, 256, (50, 60, 1), np.uint8)
    hole = np.zeros((50, 60), bool)
    hole[20:45, 20:50] = hole[3:6, 3:6] = True
    calls = []
    options = {"steps": 5, "num_samples": 2, "strategy": strategy}
    filled = fill(
        *(inpainter, image, hole),
        **options,
        on_step=lambda *arguments: calls.append(arguments),
        on_step_every=2,
    )
    plain = fill(inpainter, image, hole, **options)
    assert np.abs(filled.astype(int) - plain.astype(int)).max() <= 1
    totals = {total for _, total, _ in calls}
    assert totals == {20}  # two samples of two regions
    steps = [step for step, *_ in calls]
    assert steps == sorted(steps) and steps[-1] == 20
    for _, _, preview in calls:
        assert preview.shape == image.shape and preview.dtype == np.uint8
        np.testing.assert_array_equal(preview[~hole], image[~hole])

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill(inpainter, image, hole, on_step=stop)


WRONG_TYPES = {
    "image": ((5, HOLE), "image is a int; what is accepted is a PIL image, a path, or"),
    "text arrays": ((np.array([["a"]]), HOLE), "image is <U1; accepted is a PIL image"),
    "int64": ((GREY.astype(int), HOLE), "image is int64; accepted is"),
    "one axis": ((GREY[0], HOLE), r"image has the shape \(16,\); accepted is"),
    "five axes": ((RGB[None, None], HOLE), "image has the shape"),
    "five channels": ((RGB[..., [0] * 5], HOLE), r"the shape \(16, 16, 5\)"),
    "a list of lists": (([[1, 2]], HOLE), "image 0 is a list; what is accepted is"),
    "PIL HSV": ((Image.fromarray(RGB).convert("HSV"), HOLE), "has PIL's mode HSV"),
    "mask": ((GREY, 5), "mask is a int; what is accepted is a PIL image, a path"),
    "mask axes": ((GREY, HOLE[..., None, None]), "mask has the shape|masks for 1"),
}


@pytest.mark.parametrize("name", WRONG_TYPES)
def test_other_types_are_refused_and_told_what_is_accepted(name, inpainter):
    arguments, match = WRONG_TYPES[name]
    with pytest.raises((TypeError, UserError), match=match) as error:
        fill(inpainter, *arguments)
    assert "\n" not in str(error.value)
    if name != "mask axes":
        assert error.type is TypeError


UNIT = GREY.astype(np.float32) / 255
WRONG_VALUES = {
    "no range": (
        (UNIT,),
        {},
        r"from 0 to 1, in \[0, 1\] or in \[-1, 1\]\? give",
    ),
    "beyond": ((UNIT * 3,), {"value_range": (0, 1)}, r"outside of \(0, 1\)"),
    "negative": ((UNIT - 0.5,), {"value_range": (0, 1)}, r"outside of \(0, 1\)"),
    "bytes": ((GREY,), {"value_range": (0, 1)}, "uint8, whose range is known"),
    "range": ((UNIT,), {"value_range": (0, 255)}, r"value_range is \(0, 255\); use"),
    "alpha": ((UNIT[..., None][..., [0] * 4] - 1,), {}, "4 channels of floats"),
    "empty": ((GREY[:0],), {}, "which has no pixels"),
    "mask size": ((GREY, HOLE[:5]), {}, r"mask has the shape \(5, 16\), its image"),
    "mask values": ((GREY, HOLE * 7), {}, "mask has values from 0 to 7; use booleans"),
    "PIL mask": ((GREY, Image.fromarray(RGB)), {}, "mask: the mask has the colours"),
    "masks": (([GREY] * 2, [HOLE] * 3), {}, "there are 3 masks for 2 images"),
    "labels": (([GREY] * 2,), {"label": [1]}, "there are 1 labels for 2 images"),
    "label": ((GREY,), {"label": 1}, "the model has no classes"),
    "sampler": (
        (GREY,),
        {"sampler": "dpm+"},
        r"use .* \(the nearest is 'dpm\+\+'",
    ),
    "grid": ((GREY,), {"grid": "logsnr"}, "the nearest is 'log_snr'"),
    "strategy": ((GREY,), {"strategy": "crops"}, "the nearest is 'crop'"),
    "output": ((GREY,), {"output": "np"}, "output is 'np'; use one of pil, numpy"),
    "both": ((GREY,), {"seed": 1, "key": jax.random.key(1)}, "seed or key, not both"),
    "seed": ((GREY,), {"seed": -1}, "seed is -1; it must lie in"),
    "samples": ((GREY,), {"num_samples": 0}, "num_samples is 0; it must be >= 1"),
    "steps": ((GREY,), {"steps": 0}, "steps is 0; it must lie in 1 .. "),
    "every": ((GREY,), {"on_step": print, "on_step_every": 0}, "on_step_every is 0"),
    "no file": (("none.png",), {}, "none.png: no such file"),
    "a bucket": (("gs://b/a.png",), {}, "must lie on this machine"),
}


@pytest.mark.parametrize("name", WRONG_VALUES)
def test_values_that_do_not_fit_are_one_line(name, inpainter):
    arguments, options, match = WRONG_VALUES[name]
    with pytest.raises(UserError, match=match) as error:
        fill(inpainter, *arguments, **options)
    assert "\n" not in str(error.value)


def test_a_model_that_gives_no_numbers(inpainter):
    params = jax.tree.map(lambda x: x * jnp.nan, inpainter.model.params)
    broken = rad_jax.Inpainter(inpainter.model._replace(params=params))
    with pytest.raises(UserError, match="image: non-finite output of the model"):
        fill(broken, GREY)


def test_public_names():
    """Without importing what is behind them: that takes seconds."""
    code = (
        "import sys, rad_jax; print(*dir(rad_jax)); "
        "print('jax' in sys.modules, 'numpy' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.splitlines() == [
        "Inpainter __version__ inpaint load with_adapters",
        "False False",
    ]


def test_little_is_done_beside_the_network(inpainter):
    """The time of everything but `fill`, of which a stub takes none."""
    quick = rad_jax.Inpainter(inpainter.model)
    prepared = quick._fills

    def instead(options):
        prepared(options)
        return Fills(lambda images, *_: images, lambda images, *_: images)

    quick._fills = instead
    fill(quick, GREY[..., None])
    began = time.perf_counter()
    for _ in range(20):
        fill(quick, GREY[..., None])
    assert (time.perf_counter() - began) / 20 < 0.02  # 5 ms on an idle machine
