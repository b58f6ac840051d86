"""Filling with a LaMa: arrays, files and the Python API, at any size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import rad_jax
from rad_jax.checkpoints.model import LamaModel
from rad_jax.checkpoints.model_folder import write_model
from rad_jax.convert.lama import entries
from rad_jax.diffusion.options import SamplingOptions
from rad_jax.errors import UserError
from rad_jax.inference import lama
from rad_jax.inference.inpaint import fill, fill_by_seed
from rad_jax.inference.regions import Sizes, plan
from rad_jax.inference.strategy import StrategyOptions
from rad_jax.models.lama import abstract_params
from rad_jax.models.lama_config import LamaConfig
from rad_jax.weight_files import name_table
from tests.models.lama_files import generator, outputs

CONFIG = LamaConfig(2, 8)
RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "lama"
    params = name_table.read(
        entries(CONFIG), abstract_params(CONFIG), generator("tiny")
    )
    write_model(path, LamaModel(CONFIG, params), {})
    return path


@pytest.fixture(scope="module")
def model(folder):
    return rad_jax.load(folder)


def keys(count):
    return jax.vmap(jax.random.key)(np.arange(count))


def picture(h, w):
    return RANDOM.integers(0, 256, (h, w, 3), np.uint8)


def hole(h, w):
    mask = np.zeros((h, w), bool)
    mask[h // 4 : -(h // 4), w // 3 : -(w // 4)] = True
    return mask


def whole(model, image, mask):
    """A picture of a size that needs no padding, filled by the network alone."""
    run = lama.compiled_lama(model.config)
    images, masks = jnp.asarray(image[None]), jnp.asarray(mask[None])
    params = jax.tree.map(np.asarray, model.params)
    return np.asarray(run(params, images, masks.astype(np.float32)))[0]


@pytest.mark.parametrize("size", ["32x32", "48x40"])
def test_fillings_are_the_authors(model, size):
    """Pasted as they are; in [0, 1] there, 1e-5 of which is 2e-5 of ours."""
    expected = outputs("tiny")[size]
    image = 2 * expected["image"] - 1
    mask = expected["mask"][..., 0]
    arrays = jnp.asarray(image), jnp.asarray(mask)
    filled = np.asarray(fill(model, *arrays, keys(1)))
    np.testing.assert_allclose((filled + 1) / 2, expected["inpainted"], atol=1e-5)
    np.testing.assert_array_equal(filled[mask == 0], image[mask == 0])


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (17, 24), (31, 33), (16, 16)])
def test_any_size_is_padded_by_its_mirror_image(model, size):
    """Both the image and its mask, below and to the right, as NumPy's symmetric."""
    h, w = size
    image = RANDOM.uniform(-1, 1, (h, w, 3)).astype(np.float32)
    mask = np.zeros((h, w), np.float32)
    mask[h // 2 :, w // 2 :] = 1  # up to the edge, so that the margin has a hole too
    pad = [(0, max(-(-x // 8) * 8, 16) - x) for x in size]
    padded = np.pad(image, [*pad, (0, 0)], mode="symmetric")
    expected = whole(model, padded, np.pad(mask, pad, mode="symmetric"))[:h, :w]
    filled = rad_jax.inpaint(model, image, mask, key=jax.random.key(0))[0]
    np.testing.assert_allclose(filled, expected, atol=1e-6)
    np.testing.assert_array_equal(filled[mask == 0], image[mask == 0])
    assert (filled[mask > 0] != image[mask > 0]).all()


def test_every_part_of_a_soft_hole_is_hole(model):
    image, mask = RANDOM.uniform(-1, 1, (24, 32, 3)).astype(np.float32), hole(24, 32)
    soft = np.where(mask, np.linspace(0.01, 1, 32), 0).astype(np.float32)
    np.testing.assert_array_equal(
        rad_jax.inpaint(model, image, soft, key=jax.random.key(0)),
        rad_jax.inpaint(model, image, mask, key=jax.random.key(0)),
    )


def test_seeds_and_batches_change_nothing(model):
    images = RANDOM.uniform(-1, 1, (3, 20, 30, 3)).astype(np.float32)
    masks = np.stack([hole(20, 30)] * 3).astype(np.float32)
    by_seed = fill_by_seed(model, SamplingOptions())
    three = by_seed(images, masks, np.arange(3, dtype=np.uint32))
    one = by_seed(images[1:2], masks[1:2], np.array([77], np.uint32))
    np.testing.assert_allclose(three[1], one[0], atol=1e-6)


def test_the_command(folder, tmp_path, rad):
    image, mask = picture(37, 50), hole(37, 50)
    Image.fromarray(image).save(tmp_path / "a.png")
    Image.fromarray(mask).save(tmp_path / "m.png")
    files = ["--image", tmp_path / "a.png", "--mask", tmp_path / "m.png"]
    flags = ["--model", folder, *files, "--output", tmp_path / "o.png"]
    code, _, err = rad("inpaint", *flags)
    assert (code, err) == (0, [])
    with Image.open(tmp_path / "o.png") as file:
        assert isinstance(file, Image.Image) and file.info["Sampler"] == lama.ONE_PASS
        filled = np.asarray(file)
    np.testing.assert_array_equal(filled[~mask], image[~mask])
    same = rad_jax.Inpainter.from_pretrained(folder)(image, mask, seed=4)
    np.testing.assert_array_equal(filled, same)
    assert (filled[mask] != image[mask]).any(axis=-1).mean() > 0.9


def test_grey_pictures(folder, tmp_path, rad):
    image, mask = picture(24, 24)[..., 0], hole(24, 24)
    Image.fromarray(image).save(tmp_path / "a.png")
    Image.fromarray(mask).save(tmp_path / "m.png")
    files = ["--image", tmp_path / "a.png", "--mask", tmp_path / "m.png"]
    code, _, err = rad(
        "inpaint", "--model", folder, *files, "--output", tmp_path / "o.png"
    )
    assert (code, err) == (0, [])
    with Image.open(tmp_path / "o.png") as file:
        assert file.mode == "L"
        np.testing.assert_array_equal(np.asarray(file)[~mask], image[~mask])


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--steps", "50"], "steps"),
        (["--steps", "100"], "steps"),  # the default, but somebody wrote it
        (["--sampler=ddim", "--eta", "0.5"], "sampler, eta"),
        (["--grid", "log_snr"], "grid"),
        (["--num_samples", "2"], "num_samples"),
        (["--seed", "7"], "seed"),
        (["--feather", "2"], "feather"),
        (["--strategy", "tile"], "strategy tile"),
    ],
)
def test_options_that_would_do_nothing_are_refused(folder, tmp_path, rad, flags, named):
    files = ["--image", tmp_path / "a.png", "--mask", tmp_path / "m.png"]
    flags = ["--model", folder, *files, "--output", tmp_path / "o.png", *flags]
    code, _, err = rad("inpaint", *flags)
    assert (code, len(err)) == (2, 1)
    assert err[0].startswith("rad-jax: the model is a LaMa")
    assert err[0].endswith(f"leave out {named}")


def test_labels_are_refused(folder, tmp_path, rad):
    Image.fromarray(picture(24, 24)).save(tmp_path / "a.png")
    files = ["--image", tmp_path / "a.png", "--mask", tmp_path / "a.png"]
    flags = ["--model", folder, *files, "--output", tmp_path / "o.png", "--label", 3]
    code, _, err = rad("inpaint", *flags)
    assert code == 2 and err == ["rad-jax: the model has no classes; give no label"]


@pytest.mark.parametrize(
    "options", [{"steps": 50}, {"num_samples": 2}, {"on_step": print}, {"eta": 0.5}]
)
def test_the_python_api_refuses_the_same(model, options):
    if "eta" in options:
        options = {**options, "sampler": "ddim"}
    inpainter = rad_jax.Inpainter(model)
    with pytest.raises(UserError, match=f"leave out .*{next(iter(options))}"):
        inpainter(picture(24, 24), hole(24, 24), **options)


@pytest.mark.parametrize("options", [{"steps": 50}, {"num_samples": 2}])
def test_inpaint_refuses_the_same(model, options):
    with pytest.raises(UserError, match=f"leave out {next(iter(options))}"):
        rad_jax.inpaint(
            model, picture(24, 24), hole(24, 24), key=jax.random.key(0), **options
        )


# Large pictures.


def planned(size, *boxes, strategy="auto"):
    mask = np.zeros(size, bool)
    for top, left, bottom, right in boxes:
        mask[top:bottom, left:right] = True
    return plan(mask, lama.SIZES, StrategyOptions(strategy))


@pytest.mark.parametrize(
    ("size", "box", "expected"),
    [
        # Up to 2048 x 2048 pixels whole, whatever the sides.
        ((2048, 2048), (9, 9, 2000, 2000), ("whole", (2048, 2048))),
        ((1365, 3000), (9, 9, 20, 20), ("whole", (1365, 3000))),
        # Then windows of 1024, of up to 2048 as they are, and larger ones scaled down.
        ((3000, 4000), (500, 500, 600, 600), ("crop", (1024, 1024))),
        ((3000, 4000), (500, 500, 1300, 1300), ("crop", (1600, 1600))),
        ((3000, 4000), (100, 100, 2900, 3900), ("crop", (1536, 2048))),
    ],
)
def test_how_large_pictures_are_divided(size, box, expected):
    (region,) = planned(size, box)
    assert (region.strategy, region.size) == expected
    assert region.canvas == region.size  # no padding but LaMa's own


def test_a_window_is_filled_as_a_picture_of_its_own(model, monkeypatch):
    """The rest of a large picture is not seen, and its pixels stay."""
    small = Sizes(native=32, stride=1, largest=64, whole=64**2, tiled=False)
    monkeypatch.setattr(lama, "SIZES", small)
    image, mask = picture(100, 130), np.zeros((100, 130), bool)
    mask[40:50, 60:70] = True
    filled = rad_jax.Inpainter(model)(image, mask)
    window = slice(29, 61), slice(49, 81)
    alone = rad_jax.Inpainter(model)(image[window], mask[window])
    np.testing.assert_array_equal(filled[window], alone)
    np.testing.assert_array_equal(filled[~mask], image[~mask])
