"""Single files of bases in latents, of CompVis's layout, to a model folder."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import safetensors.numpy

from rad_jax.checkpoints.model_folder import read_record
from rad_jax.convert import adm, autoencoder, clip, sd
from rad_jax.convert.latent_presets import LATENT_PRESETS, LatentPreset
from rad_jax.diffusion.betas import LATENT_VQ, STABLE_DIFFUSION, make_betas
from rad_jax.models.autoencoder import abstract_params as codec_params
from rad_jax.models.clip import abstract_params as text_params
from rad_jax.models.config import UNetConfig
from rad_jax.models.network import abstract_params
from rad_jax.models.sd_config import SDConfig
from rad_jax.text.tokenizer import END
from rad_jax.text.tokenizer_files import write_tokenizer
from rad_jax.weight_files import compvis, name_table
from tests.convert.clip_names_test import openclip_state
from tests.convert.latent_bases import encoder, encoder_state, tokenizer
from tests.convert.sd_names_test import BASES, CKPT, PUBLISHED, keys_of
from tests.convert.small import prefixed, read_quick
from tests.models.adm_files import random_params
from tests.models.autoencoder_files import KL, VQ, tiny
from tests.models.latent_models import CONFIG
from tests.models.sd_files import COMPVIS, golden_unet
from tests.models.sd_files import sd as golden_sd
from tests.weight_files.pickles import saved, text, zipped

pytestmark = pytest.mark.usefixtures("quick_folders")

WIDTH = 24
"""Of what the golden U-Net is told."""

NETWORK = "model.diffusion_model."
FIRST_STAGE = "first_stage_model."
TRANSFORMERS = "cond_stage_model.transformer."

FACES = dataclasses.replace(CONFIG, in_channels=3, out_channels=3)


def codec_state(name):
    config, params = tiny(name)
    state = autoencoder.from_params(config, params, autoencoder.COMPVIS)
    return {key: np.array(x, order="C") for key, x in state.items()}


def betas(ends):
    return make_betas("scaled_linear", 1000, ends).astype(np.float32)


def sd_file(openclip=False):
    """All arrays of a file of Stable Diffusion, with what nothing here uses."""
    state = encoder_state(WIDTH)
    prefix = TRANSFORMERS
    if openclip:
        state, prefix = openclip_state(encoder_state(WIDTH), 2), ""
        state = {key: np.asarray(x) for key, x in state.items()}
    *_, unet = golden_unet(COMPVIS)
    loss = {"loss.logvar": np.zeros(1, np.float32)}
    return {
        "betas": betas(STABLE_DIFFUSION),
        **unet,
        **prefixed(FIRST_STAGE, codec_state(KL) | loss),
        **prefixed(prefix, state),
    }


def ldm_params(seed=0):
    return random_params(abstract_params(FACES), seed)


def ldm_file():
    state = adm.params_to_adm(FACES, ldm_params())
    unet = {key: np.array(x, order="C") for key, x in state.items()}
    return {
        "betas": betas(LATENT_VQ),
        **prefixed(NETWORK, unet),
        **prefixed(FIRST_STAGE, codec_state(VQ)),
    }


@pytest.fixture
def presets():
    """Presets ``tiny_sd``, ``tiny_sd2`` and ``tiny_ldm`` of the files above."""
    config, _ = golden_sd(COMPVIS)
    text, _ = encoder(WIDTH)
    own = (config, STABLE_DIFFUSION)
    found = {
        "tiny_sd": LatentPreset("a", *own, "eps", tiny(KL)[0], text),
        "tiny_sd2": LatentPreset("b", *own, "v", tiny(KL)[0], text, "!"),
        "tiny_ldm": LatentPreset("c", FACES, LATENT_VQ, "eps", tiny(VQ)[0]),
    }
    theirs = dict(LATENT_PRESETS)
    LATENT_PRESETS.clear()
    LATENT_PRESETS.update(found)
    yield
    # All anew, not one by one: their order is what help lists.
    LATENT_PRESETS.clear()
    LATENT_PRESETS.update(theirs)


@pytest.fixture
def tokens(tmp_path):
    """The flags for a folder of a tokenizer."""
    (tmp_path / "t").mkdir()
    write_tokenizer(tokenizer(), tmp_path / "t")
    return ("--tokenizer", tmp_path / "t")


def same(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def assert_sd(model, prediction="eps", pad=END):
    """Its parts are, bit for bit, those whose outputs tests/models compares."""
    config, params = golden_sd(COMPVIS)
    assert (model.config, model.parametrisation) == (config, prediction)
    same(model.params, params)
    same(model.codec.params, tiny(KL)[1])
    text, params = encoder(WIDTH)
    assert model.text.config == text
    same(model.text.params, params)
    assert model.text.tokenizer == tokenizer(pad)
    schedule = model.schedule
    assert (schedule.kind, schedule.hole_betas) == ("scaled_linear", STABLE_DIFFUSION)
    assert schedule.known_steps == 0
    assert model.codec.config.scaling_factor == pytest.approx(0.18215)


@pytest.mark.parametrize("suffix", ["ckpt", "safetensors"])
def test_stable_diffusion(tmp_path, presets, tokens, converts, suffix):
    path, state = tmp_path / f"a.{suffix}", sd_file()
    if suffix == "ckpt":
        saved(path, {"state_dict": state, "global_step": 7})
    else:
        safetensors.numpy.save_file(state, path)
    out = converts(path.name, "m", "--preset", "tiny_sd", *tokens)
    assert "left out: 1 arrays of betas" in out
    assert "left out: 1 arrays of codec, which nothing here uses" in out
    assert "from preset tiny_sd: image_size 64, prediction eps, scaled linear" in out
    assert_sd(read_quick(tmp_path / "m"))
    record = read_record(tmp_path / "m")["provenance"]
    assert (record["layout"], record["preset"]) == ("compvis", "tiny_sd")
    assert record["linear_projections"] is False


def test_openclip(tmp_path, presets, tokens, converts):
    """Its last layer and projection are left out; texts are filled up with "!"."""
    saved(tmp_path / "a.ckpt", {"state_dict": sd_file(openclip=True)})
    out = converts("a.ckpt", "m", "--preset", "tiny_sd2", *tokens)
    assert "arrays of text, which nothing here uses" in out
    assert_sd(read_quick(tmp_path / "m"), "v", pad="!")


def test_averages_are_taken(tmp_path, presets, converts):
    """Of the U-Net; the file's factor goes before the preset's."""
    state = ldm_file()
    averages = {
        average: state[key] for key, average in compvis.average_keys(state).items()
    }
    for key in list(state):
        if key.startswith(NETWORK):
            state[key] = np.zeros_like(state[key])
    others = {"scale_factor": np.array(0.25, np.float32)}
    saved(tmp_path / "a.ckpt", {"state_dict": {**state, **averages, **others}})
    out = converts("a.ckpt", "m", "--preset", "tiny_ldm")
    assert "model_ema" in out and "averaged ones" in out and "times 0.25" in out
    model = read_quick(tmp_path / "m")
    same(model.params, jax.tree.map(np.asarray, ldm_params()))
    assert model.codec.config.scaling_factor == 0.25
    assert model.config.image_size == 8 and model.text is None
    assert model.schedule.hole_betas == LATENT_VQ


@pytest.mark.parametrize(
    ("flags", "match"),
    [
        ((), "give a preset; presets that fit: tiny_sd, tiny_sd2"),
        (("--preset", "none"), "none is no preset of bases in latents; there are ti"),
        (("--preset", "tiny_ldm"), "does not match preset tiny_ldm: params has "),
        (
            ("--preset", "tiny_sd"),
            "a.ckpt: holds no tokenizer; give --tokenizer",
        ),
        (("--preset", "tiny_sd", "--image_size", "64"), "--image_size has no use with"),
        (("--preset", "tiny_sd", "--tokenizer", "none"), "none: has no tokenizer.json"),
    ],
)
def test_flags_that_do_not_fit(tmp_path, presets, refuses, flags, match):
    saved(tmp_path / "a.ckpt", {"state_dict": sd_file()})
    refuses("a.ckpt", "m", *flags, match=match)


def without(state, *starts):
    return {key: x for key, x in state.items() if not key.startswith(starts)}


def changed(key, array):
    return sd_file() | {key: array}


CONV_IN = NETWORK + "input_blocks.0.0.weight"
FILES = {
    "inpainting": (
        lambda: changed(CONV_IN, np.zeros((32, 9, 3, 3), np.float32)),
        "is of an inpainting U-Net of 9 channels",
    ),
    "xl": (
        lambda: changed(NETWORK + "label_emb.0.0.weight", np.zeros(1, np.float32)),
        "is of Stable Diffusion XL, which is not supported yet",
    ),
    "no codec": (
        lambda: without(sd_file(), FIRST_STAGE),
        "no autoencoder of its own (first_stage_model.)",
    ),
    "no text": (
        lambda: without(sd_file(), "cond_stage_model."),
        "no text encoder of CLIP (cond_stage_model.)",
    ),
    "no unet": (lambda: without(sd_file(), NETWORK), "but no U-Net of CompVis's"),
    "betas": (
        lambda: changed("betas", betas(LATENT_VQ)),
        "has betas from 0.0015 to 0.0195, and the preset's go from 0.00085 to 0.012",
    ),
    "factor": (
        lambda: changed("scale_factor", np.zeros((), np.float32)),
        "has the scale_factor 0.0, which no latents have",
    ),
    "shape": (
        lambda: changed(NETWORK + "out.2.bias", np.zeros(5, np.float32)),
        "out.2.bias is (5,), the preset's (4,)",
    ),
    "numbers": (
        lambda: changed(NETWORK + "out.2.bias", np.full(4, np.nan, np.float32)),
        "out.2.bias is NaN or infinite",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_refused(tmp_path, presets, tokens, refuses, name):
    make, match = FILES[name]
    saved(tmp_path / "a.ckpt", {"state_dict": make()})
    refuses("a.ckpt", "m", "--preset", "tiny_sd", *tokens, match=match)


def test_code_is_not_run(tmp_path, presets, refuses):
    zipped(tmp_path / "a.ckpt", b"\x80\x02cos\nsystem\n(" + text("touch x") + b"tR.")
    refuses("a.ckpt", "m", "--preset", "tiny_sd", match="os.system")


def test_a_factor_that_is_missing(tmp_path, presets, refuses):
    preset = LATENT_PRESETS["tiny_ldm"]._replace(own_factor=True)
    LATENT_PRESETS["tiny_ldm"] = preset
    saved(tmp_path / "a.ckpt", {"state_dict": ldm_file()})
    refuses("a.ckpt", "m", "--preset", "tiny_ldm", match="has no scale_factor")
    match = "is told no text; leave out --tokenizer"
    LATENT_PRESETS["tiny_ldm"] = preset._replace(own_factor=False)
    refuses("a.ckpt", "m", "--preset", "tiny_ldm", "--tokenizer", "t", match=match)


def test_published_architectures():
    """Presets are what the published configurations and lists of arrays say."""
    one, two = (
        sd.config_from_diffusers(PUBLISHED[f"{x}/unet"]["config"])
        for x in ("sd15", "sd21")
    )
    assert LATENT_PRESETS["sd15"].config.differences(one) == {}
    assert LATENT_PRESETS["sd21"].config.differences(two) == {}
    for name, theirs in (("sd15", "sd15"), ("sd21", "sd21"), ("sd21_base", "sd21")):
        about = PUBLISHED[f"{theirs}/text_encoder"]["config"]
        assert LATENT_PRESETS[name].text == clip.config_from_transformers(about)
    config = LATENT_PRESETS["ldm_churches256"].config
    assert isinstance(config, UNetConfig)
    count = sum(x.size for x in jax.tree.leaves(abstract_params(config)))
    published = PUBLISHED["ldm lsun_churches256 unet"]
    assert count == published["params"]
    table = adm.entries(config)
    assert len([x for entry in table for x in entry.keys]) == published["n_keys"]


def test_the_published_file():
    """Each key of Stable Diffusion 1.5's file goes to one array; none is left."""
    keys = keys_of(CKPT)
    preset = LATENT_PRESETS["sd15"]
    assert isinstance(preset.config, SDConfig) and preset.text
    encoder_prefix = f"{TRANSFORMERS}text_model."
    tables = [
        sd.compvis_entries(preset.config, linear=False),
        autoencoder.entries(preset.codec, autoencoder.COMPVIS),
        clip.transformers_entries(preset.text, encoder_prefix),
    ]
    abstracts = [
        abstract_params(preset.config),
        codec_params(preset.codec),
        text_params(preset.text),
    ]
    found = {}
    for start, table, abstract in zip(
        ("", FIRST_STAGE, ""), tables, abstracts, strict=True
    ):
        shapes = name_table.file_shapes(table, abstract)
        found |= {start + key: shape for key, shape in shapes.items()}
    left = keys.keys() - found.keys()
    assert {key: keys[key] for key in found} == found
    tables_of_process = {x for x in left if "." not in x}
    assert left - tables_of_process == {f"{encoder_prefix}embeddings.position_ids"}
    assert all(keys[x] == (1000,) for x in tables_of_process)
    converter = json.loads((BASES / "sd15_ckpt_to_diffusers_keys.json").read_text())
    vae = {x for x in keys if x.startswith(FIRST_STAGE)}
    assert set(converter["vae"].values()) == vae
