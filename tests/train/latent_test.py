"""Training on latents: what is trained on, resumed, kept and refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from rad_jax.checkpoints.load import load_diffusion
from rad_jax.checkpoints.model import parts
from rad_jax.checkpoints.model_folder import write_model
from rad_jax.config.experiment import from_dict, to_dict
from rad_jax.config.file import load_config
from rad_jax.errors import UserError
from rad_jax.files.pixel_ranges import to_float
from rad_jax.models.autoencoder import make_encode
from rad_jax.train.clean_images import clean_images
from rad_jax.train.pretrained import load_pretrained
from rad_jax.train.state import NOTHING_FROZEN
from tests.conftest import DIGITS, TINY
from tests.models.latent_models import latent_model

SIZE, COUNT = 32, 8


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A model in latents to start from, and pictures to train on."""
    folder = tmp_path_factory.mktemp("latent")
    write_model(folder / "model", latent_model(), {})
    (folder / "pictures").mkdir()
    draws = np.random.default_rng(0)
    for i in range(COUNT):
        pixels = draws.integers(0, 256, (SIZE, SIZE, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "pictures" / f"{i}.png")
    return folder


def codec_of_model():
    codec = latent_model().codec
    assert codec is not None
    return codec


def file_of(start, tmp_path, **codec):
    """A config whose codec is that of the model, but for these keys."""
    block = dataclasses.asdict(codec_of_model().config) | codec
    text = (
        "from configs import digits\n"
        "import ml_collections\n"
        "def get_config():\n"
        "    config = digits.get_config()\n"
        f"    config.codec = ml_collections.ConfigDict({block!r})\n"
        "    return config\n"
    )
    folder = tmp_path / "configs"
    folder.mkdir(exist_ok=True)
    (folder / "latent.py").write_text(text)
    (folder / "digits.py").write_text(DIGITS.read_text())
    (folder / "base.py").write_text((DIGITS.parent / "base.py").read_text())
    return folder / "latent.py"


def changes(start, *more):
    own = (
        "data.name=folder",
        f"data.data_dir={start / 'pictures'}",
        "data.train_split=all",
        "data.eval_split=all",
        f"pretrained={start / 'model'}",
        "model.image_size=8",
        "model.channel_mult=(1, 1)",
        "model.in_channels=4",
        "model.out_channels=4",
        "model.learn_sigma=False",
        "loss.vlb_weight=0.0",
        "train.num_steps=4",
        "train.checkpoint_every=2",
    )
    # A tuple that is given twice is a longer one.
    small = [change for change in TINY if "channel_mult" not in change]
    return [f"--config.{change}" for change in (*small, *own, *more)]


def test_what_is_trained_on_is_the_mean_of_the_latents(start, tmp_path, quickly):
    experiment = load_config(file_of(start, tmp_path), changes(start))
    assert (experiment.image_size, experiment.channels) == (32, 3)
    codec = codec_of_model()
    frozen = NOTHING_FROZEN._replace(codec=codec.params)
    images = jnp.asarray(np.arange(2 * 32 * 32 * 3).reshape(2, 32, 32, 3) % 251)
    images = images.astype(jnp.uint8)
    found = clean_images(experiment)(frozen, images)
    mean = make_encode(codec.config)(codec.params, to_float(images)).mean
    assert found.shape == (2, 8, 8, 4)
    np.testing.assert_array_equal(found, codec.config.scaling_factor * mean)


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("rank", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_a_run_keeps_its_autoencoder_and_resumes(rad, start, tmp_path, rank):
    """In two parts, from a workdir that is alone in the end, bit for bit."""
    config = file_of(start, tmp_path)
    lora = f"lora.rank={rank}"

    def trains(folder, *more):
        given = changes(start, lora, *more)
        return rad("train", "--config", config, "--workdir", folder, *given)

    whole, parted = tmp_path / "whole", tmp_path / "parted"
    code, _, err = trains(whole, "train.sample_every=4")
    assert code == 0, err
    assert list((whole / "samples").iterdir())
    assert trains(parted, "train.num_steps=2")[0] == 0
    assert trains(parted)[0] == 0
    model, other = load_diffusion(whole), load_diffusion(parted)
    for name, part in parts(model).items():
        equal(part.params, parts(other)[name].params)
    assert model.codec is not None and model.image_size == 32
    equal(model.codec.params, codec_of_model().params)


def test_the_plan_counts_the_autoencoder(rad, start, tmp_path):
    config = file_of(start, tmp_path)
    code, out, _ = rad("train", "--config", config, "--dry_run", *changes(start))
    assert code == 0 and "frozen 0 B" not in out


def test_the_config_is_stored_and_read(start, tmp_path):
    experiment = load_config(file_of(start, tmp_path), changes(start))
    assert from_dict(to_dict(experiment)) == experiment


def test_what_does_not_fit_the_model_is_named(start, tmp_path):
    other = file_of(start, tmp_path, scaling_factor=0.5)
    with pytest.raises(UserError, match=r"codec.scaling_factor is 0.18\d* there, 0.5"):
        load_pretrained(load_config(other, changes(start)))
    write_model(tmp_path / "pixels", latent_model()._replace(codec=None), {})
    here = changes(start, f"pretrained={tmp_path / 'pixels'}")
    with pytest.raises(UserError, match="codec is None there, an autoencoder of kind"):
        load_pretrained(load_config(file_of(start, tmp_path), here))


@pytest.mark.parametrize(
    "change, message",
    [
        ("pretrained=", "codec: an autoencoder is not trained here; set pretrained"),
        ("model.out_channels=3", "latents of 4 channels, and the network denoises 3"),
        ("loss.vlb_weight=1.0", "vlb_weight"),
        ("distil.features=lpips", "distil.features=lpips is of pictures"),
    ],
)
def test_what_latents_do_not_have_is_refused(start, tmp_path, change, message):
    more = ["model.in_channels=3"] if "out_channels" in change else []
    more += ["model.learn_sigma=True"] if "vlb" in change else []
    with pytest.raises(UserError, match=message) as raised:
        load_config(file_of(start, tmp_path), changes(start, change, *more))
    assert "\n" not in str(raised.value)
