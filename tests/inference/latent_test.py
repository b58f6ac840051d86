"""Filling and drawing by a base in latents: pictures in, pictures out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import rad_jax
from rad_jax.baselines.choice import Baseline
from rad_jax.checkpoints.model import program_params
from rad_jax.checkpoints.model_folder import write_model
from rad_jax.diffusion.latents import decode, encode, latent_masks
from rad_jax.diffusion.options import SamplerConfig
from rad_jax.errors import UserError
from rad_jax.files.pictures import save_png
from rad_jax.files.pixel_ranges import to_bytes
from rad_jax.inference.generate import generate
from rad_jax.inference.inpaint import fill, inpaint
from rad_jax.inference.inpainter import Inpainter
from rad_jax.inference.sizes import sizes_of
from tests.models.autoencoder_files import KL, VQ
from tests.models.latent_models import latent_model, on_devices

pytestmark = pytest.mark.usefixtures("quickly")

SIZE, STEPS = 32, 2


def model_of(name=KL):
    return on_devices(latent_model(name))


def batch(count=2, size=(SIZE, SIZE)):
    images = jax.random.uniform(jax.random.key(0), (count, *size, 3), minval=-1)
    masks = np.zeros((count, *size), np.float32)
    # Not along cells of four pixels.
    masks[:, 9:21, 6:18] = 1
    return images, jnp.asarray(masks)


def keys(count=2):
    return jax.random.split(jax.random.key(1), count)


@pytest.mark.parametrize(
    ("name", "seam"), [(KL, "poisson"), (KL, "feather"), (VQ, "paste")]
)
def test_known_pixels_are_the_pictures(name, seam):
    images, masks = batch()
    filled = fill(model_of(name), images, masks, keys(), steps=STEPS, seam=seam)
    known = np.asarray(masks) == 0
    np.testing.assert_array_equal(np.asarray(filled)[known], np.asarray(images)[known])
    assert np.abs(filled).max() <= 1 and np.isfinite(filled).all()
    hole = np.asarray(filled)[~known]
    assert np.abs(hole - np.asarray(images)[~known]).mean() > 0.1


def test_what_was_in_the_hole_is_not_used():
    """Not even by the encoder, which sees around a cell."""
    images, masks = batch()
    other = jnp.where(masks[..., None] > 0, jnp.nan, images)
    a, b = (fill(model_of(), x, masks, keys(), steps=STEPS) for x in (images, other))
    np.testing.assert_array_equal(a, b)


def test_known_latents_stay_where_they_were():
    """Pasted alone, what is decoded far from the hole is decoded of the encoding."""
    model = model_of()
    images, masks = batch()
    codec = model.codec
    assert codec is not None
    latents = encode(codec.config, codec.params, images, masks)
    pixels = model._replace(codec=None)
    cells = latent_masks(masks, codec.config.stride)
    # The network alone, on latents as if they were pictures, which are not clipped.
    sampler = SamplerConfig(variance="small", clip=False)
    inner = fill(pixels, latents, cells, keys(), steps=STEPS, sampler=sampler)
    known = np.asarray(cells) == 0
    np.testing.assert_array_equal(np.asarray(inner)[known], np.asarray(latents)[known])
    whole = fill(model, images, masks, keys(), steps=STEPS, seam="paste")
    expected = jnp.clip(decode(codec.config, codec.params, inner), -1, 1)
    hole = np.asarray(masks) == 1
    np.testing.assert_allclose(
        np.asarray(whole)[hole], np.asarray(expected)[hole], atol=2e-5
    )


def test_pictures_of_any_size():
    """Sides are multiples of cells times the network's stride, or padded to them."""
    model = model_of()
    assert sizes_of(model).native == SIZE and sizes_of(model).stride == 8
    image = np.asarray(batch(1, (37, 45))[0])[0]
    mask = np.zeros((37, 45), bool)
    mask[20:, 30:] = True
    pixels = to_bytes(image)
    filled = inpaint(model, pixels, mask, key=jax.random.key(0), steps=STEPS)
    assert filled.shape == (1, 37, 45, 3) and filled.dtype == np.uint8
    np.testing.assert_array_equal(filled[0][~mask], pixels[~mask])


def test_an_image_is_what_it_is_alone():
    images, masks = batch(3)
    together = fill(model_of(), images, masks, keys(3), steps=STEPS)
    alone = fill(model_of(), images[1:2], masks[1:2], keys(3)[1:2], steps=STEPS)
    np.testing.assert_allclose(together[1:2], alone, atol=1e-5)


def test_soft_masks_fill_too():
    images, masks = batch()
    soft = jnp.clip(masks - 0.4 * (jnp.arange(SIZE) % 2).reshape(1, 1, -1), 0, 1)
    filled = fill(model_of(), images, soft, keys(), steps=STEPS)
    known = np.asarray(soft) == 0
    np.testing.assert_array_equal(np.asarray(filled)[known], np.asarray(images)[known])


def test_a_program_may_look_at_the_steps():
    """Previews are pictures, and the result is that of one call."""
    model = model_of()
    images, masks = batch(1)
    picture = to_bytes(np.asarray(images[0]))
    hole = np.asarray(masks[0]) > 0
    seen = []
    inpainter = Inpainter(model)

    def on_step(step, total, preview):
        seen.append((step, total, preview.shape))

    parted = inpainter(picture, hole, seed=3, steps=4, on_step=on_step, on_step_every=2)
    whole = inpainter(picture, hole, seed=3, steps=4)
    assert seen == [(2, 4, (SIZE, SIZE, 3)), (4, 4, (SIZE, SIZE, 3))]
    assert np.abs(np.asarray(parted, int) - np.asarray(whole, int)).max() <= 1
    np.testing.assert_array_equal(np.asarray(parted)[~hole], picture[~hole])


def test_large_pictures_are_tiled():
    model = model_of()
    picture = to_bytes(np.asarray(batch(1, (96, 96))[0])[0])
    hole = np.zeros((96, 96), bool)
    hole[4:92, 4:92] = True
    filled = Inpainter(model)(picture, hole, steps=1, strategy="tile")
    np.testing.assert_array_equal(np.asarray(filled)[~hole], picture[~hole])


def test_whole_images_are_decoded():
    drawn = generate(model_of(), keys(), respacing="2")
    assert drawn.shape == (2, SIZE, SIZE, 3) and np.isfinite(drawn).all()


def test_parameters_of_a_base_in_pixels_are_as_they_were():
    model = model_of()
    pixels = model._replace(codec=None)
    assert program_params(pixels) is pixels.params
    assert set(program_params(model)) == {"params", "codec"}


@pytest.fixture
def folder(tmp_path):
    write_model(tmp_path / "model", latent_model(), {})
    images, masks = batch(1)
    save_png(to_bytes(np.asarray(images[0])), tmp_path / "a.png")
    save_png((np.asarray(masks[0]) * 255).astype(np.uint8), tmp_path / "m.png")
    return tmp_path


def test_commands_fill_and_draw(rad, folder):
    given = ("--image", folder / "a.png", "--mask", folder / "m.png", "--steps", 2)
    for seam in ("paste", "poisson"):
        out = folder / f"{seam}.png"
        more = ("--seam", seam, "--output", out)
        code, _, err = rad("inpaint", "--model", folder / "model", *given, *more)
        assert code == 0, err
        filled, image = (np.asarray(Image.open(x)) for x in (out, folder / "a.png"))
        known = np.asarray(Image.open(folder / "m.png")) == 0
        np.testing.assert_array_equal(filled[known], image[known])
    drawn = folder / "drawn.png"
    code, _, err = rad(
        *("sample", "--model", folder / "model", "--output", drawn),
        *("--respacing", 2, "--num_samples", 1),
    )
    assert code == 0, err
    assert np.asarray(Image.open(drawn)).shape == (SIZE, SIZE, 3)


def test_what_does_not_fit_is_told(rad, folder):
    images, masks = batch()
    pixels = model_of()._replace(codec=None)
    with pytest.raises(UserError, match="seam is paste, of models in latents"):
        fill(pixels, images, masks, keys(), steps=STEPS, seam="paste")
    with pytest.raises(UserError, match="seam is 'glue'; use one of paste, feather"):
        fill(model_of(), images, masks, keys(), steps=STEPS, seam="glue")
    with pytest.raises(UserError, match="method ddnm is of pixels, and this model"):
        fill(model_of(), images, masks, keys(), method=Baseline("ddnm"))
    given = ("--image", folder / "a.png", "--mask", folder / "m.png")
    code, _, err = rad(
        *("inpaint", "--model", folder / "model", *given, "--seam", "paste"),
        *("--method", "ddnm", "--output", folder / "b.png"),
    )
    assert code == 2 and "--seam is RAD's" in err[-1]
    assert rad_jax.load(folder / "model").channels == 3
