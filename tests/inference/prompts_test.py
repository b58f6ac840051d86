"""Filling by prompts: what guidance is, what each image is told, what is refused."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import rad_jax
from rad_jax.checkpoints.fingerprint import fingerprint
from rad_jax.checkpoints.model import parts
from rad_jax.checkpoints.model_folder import read_model, write_model
from rad_jax.diffusion.options import SamplingOptions
from rad_jax.errors import UserError
from rad_jax.files.pictures import save_png
from rad_jax.files.pixel_ranges import to_bytes
from rad_jax.inference.generate import generate
from rad_jax.inference.inpaint import fill, inpaint
from rad_jax.inference.inpainter import Inpainter
from rad_jax.inference.prompts import Prompts, cut_note, guided
from rad_jax.models.clip_config import require_text
from tests.inference.latent_test import SIZE, batch, keys
from tests.models.latent_models import latent_model, on_devices, text_model
from tests.text.tokenizers import tiny_tokenizer

pytestmark = pytest.mark.usefixtures("quickly")
pytest.importorskip("tokenizers", reason="the library is not installed")

STEPS = 2


def model_of():
    return on_devices(text_model())


def tokens(*texts):
    return jnp.asarray(tiny_tokenizer()(texts).ids)


def filled(prompts, count=2, **options):
    images, masks = batch(count)
    return np.asarray(
        fill(model_of(), images, masks, keys(count), labels=prompts, steps=STEPS)
    )


def test_guidance_goes_on_from_the_negative_to_the_prompt():
    """e_n + g (e_p - e_n), of the prediction alone, image by image."""
    like, unlike = (jax.random.normal(jax.random.key(i), (2, 4, 4, 6)) for i in (0, 1))
    scale = jnp.asarray([7.5, 0.5])
    found = guided(jnp.concatenate([like, unlike]), 4, scale)
    for i in range(2):
        a, b = like[i, ..., :4], unlike[i, ..., :4]
        np.testing.assert_allclose(
            found[i, ..., :4], b + scale[i] * (a - b), rtol=1e-5, atol=1e-6
        )
    np.testing.assert_array_equal(found[..., 4:], like[..., 4:])


def test_guidance_1_is_the_prompt_alone_and_0_the_negative():
    cat, dog = tokens("the cat", "the cat"), tokens("a dog", "a dog")
    alone = filled(Prompts(cat, None, None))
    one = filled(Prompts(cat, dog, jnp.ones(2)))
    np.testing.assert_allclose(one, alone, atol=2e-4)
    zero = filled(Prompts(cat, dog, jnp.zeros(2)))
    np.testing.assert_allclose(zero, filled(Prompts(dog, None, None)), atol=2e-4)
    assert np.abs(zero - one).max() > 1e-3


def test_images_have_prompts_of_their_own():
    """And guidance, and are what they are alone."""
    both = Prompts(tokens("the cat", "a dog"), tokens("", "the"), jnp.asarray([5, 2.0]))
    together = filled(both)
    images, masks = batch()
    last = jax.tree.map(lambda x: x[1:], both)
    alone = fill(
        model_of(), images[1:], masks[1:], keys()[1:], labels=last, steps=STEPS
    )
    np.testing.assert_allclose(together[1:], alone, atol=2e-4)


def test_the_prompt_is_one_for_all_images():
    images, masks = batch()
    prompt = {"prompt": "the cat", "negative_prompt": "a dog", "guidance": 3.0}
    image, mask = np.asarray(images[0]), np.asarray(masks[0])
    key = jax.random.key(0)
    found = inpaint(model_of(), image, mask, key=key, steps=STEPS, **prompt)
    known = mask == 0
    np.testing.assert_array_equal(found[0][known], image[known])
    given = Prompts(tokens("the cat"), tokens("a dog"), jnp.asarray([3.0]))
    own = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(1))
    expected = fill(model_of(), images[:1], masks[:1], own, labels=given, steps=STEPS)
    np.testing.assert_array_equal(found, expected)


def test_pictures_of_a_call_have_prompts_of_their_own():
    images, masks = batch()
    pictures = [to_bytes(np.asarray(image)) for image in images]
    hole = np.asarray(masks[0]) > 0
    inpainter = Inpainter(model_of())
    prompts = ["the cat", "a dog"]
    options = {"steps": STEPS, "guidance": 3.0, "key": jax.random.key(2)}
    both = inpainter(pictures, hole, prompt=prompts, **options)
    one = inpainter(pictures, hole, prompt="a dog", **options)
    assert (both[0] != one[0]).any() and (both[1] == one[1]).mean() > 0.99
    with pytest.raises(UserError, match="there are 3 prompts for 2 images"):
        inpainter(pictures, hole, prompt=["a"] * 3)


def test_whole_images_are_not_drawn_by_texts_yet():
    with pytest.raises(UserError, match="by which only holes are filled yet"):
        generate(model_of(), keys(), respacing="2")


def test_the_folder_keeps_the_tokenizer(tmp_path):
    write_model(tmp_path / "model", text_model(), {})
    read = read_model(tmp_path / "model")
    assert read.text is not None and read.text.tokenizer == tiny_tokenizer()
    assert fingerprint(read) == fingerprint(text_model())
    other = read.text._replace(tokenizer=tiny_tokenizer(pad="!"))
    assert fingerprint(read._replace(text=other)) != fingerprint(read)
    loaded = parts(rad_jax.load(tmp_path / "model"))["text"].params
    assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(loaded))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codec": None}, "is told texts and has no codec"),
        ({"text": None}, "is told texts of 32 channels, and the model has no encoder"),
    ],
)
def test_a_record_without_a_part_is_told(tmp_path, change, message):
    write_model(tmp_path / "model", text_model(), {})
    path = tmp_path / "model" / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=message):
        read_model(tmp_path / "model")


def test_a_larger_vocabulary_than_the_encoder_knows_is_told(tmp_path):
    text = text_model().text
    assert text is not None
    ours = tiny_tokenizer()
    more = dataclasses.replace(ours, tokens=(*ours.tokens, "more"))
    model = text_model()._replace(text=text._replace(tokenizer=more))
    write_model(tmp_path / "model", model, {})
    with pytest.raises(UserError, match="has 527 tokens, and the text encoder knows"):
        read_model(tmp_path / "model")


def test_a_command_fills_by_a_prompt(rad, tmp_path):
    write_model(tmp_path / "model", text_model(), {})
    images, masks = batch(1)
    save_png(to_bytes(np.asarray(images[0])), tmp_path / "a.png")
    save_png((np.asarray(masks[0]) * 255).astype(np.uint8), tmp_path / "m.png")

    def run(name, *flags):
        given = ("--image", tmp_path / "a.png", "--mask", tmp_path / "m.png")
        given += ("--model", tmp_path / "model", "--steps", STEPS)
        return rad("inpaint", *given, "--output", tmp_path / name, *flags)

    code, out, err = run("b.png", "--prompt", "the cat", "--guidance", 3)
    assert code == 0, err
    code, out, err = run("c.png", "--prompt", "the cat " * 20, "--guidance", 1)
    assert code == 0, err
    said = "the prompt is too long for 16 tokens: its last 26 are left out"
    assert said in out or said in "".join(err)
    a, b, c = (np.asarray(Image.open(tmp_path / f"{x}.png")) for x in "abc")
    known = np.asarray(masks[0]) == 0
    np.testing.assert_array_equal(a[known], b[known])
    assert (b != c).any() and b.shape == (SIZE, SIZE, 3)
    code, _, err = run("d.png")
    assert code == 2 and "the model is told texts; give a prompt" in err[-1]


def test_what_does_not_fit_is_told():
    images, masks = batch(1)
    one = keys(1)
    pixels = on_devices(latent_model())
    with pytest.raises(UserError, match="the model is told texts; give a prompt"):
        fill(model_of(), images, masks, one, steps=STEPS)
    with pytest.raises(UserError, match="is told no texts; leave the prompt out"):
        inpaint(
            pixels,
            np.asarray(images[0]),
            np.asarray(masks[0]),
            key=jax.random.key(0),
            prompt="the cat",
        )
    with pytest.raises(UserError, match=r"guidance is -1\.0; it must be >= 0"):
        SamplingOptions(prompt="a", guidance=-1.0)
    with pytest.raises(UserError, match="negative_prompt is given, and no prompt"):
        SamplingOptions(negative_prompt="a")
    with pytest.raises(UserError, match="is told texts of 32 channels, and the model"):
        require_text(text_model().config, None)
    sure = SamplingOptions(prompt="the cat").for_model()
    assert cut_note(model_of(), sure) is None
