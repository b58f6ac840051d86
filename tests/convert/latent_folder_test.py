"""Folders of diffusers of bases in latents, to a model folder and back."""

import json
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy

import rad_jax
from rad_jax.checkpoints.model import parts
from rad_jax.checkpoints.model_folder import read_model, read_record
from rad_jax.files.pictures import read_picture, save_png
from tests.convert.latent_bases import (
    ENDS,
    LDM,
    PREDICTIONS,
    STEM,
    V1,
    V2,
    activation,
    codec_of,
    context,
    encoder,
    encoder_state,
    pad,
    tokenizer,
    unet_of,
    write_json,
    write_pipeline,
)
from tests.convert.small import read_quick
from tests.models.adm_files import FOLDER, network, one_level, relative_error
from tests.models.autoencoder_files import tiny
from tests.models.sd_files import numbers
from tests.weight_files.pickles import saved

TOLERANCE = 2e-5

LISTING = FOLDER / "bases" / "diffusers_folder.json"
"""Of a tiny Stable Diffusion that diffusers 0.42 saved."""


@pytest.fixture
def pipeline(tmp_path):
    """``pipeline(name)`` writes a folder ``p``."""
    return lambda name=V1: write_pipeline(tmp_path / "p", name)


def same(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def assert_converted(model, name):
    """Its parts are, bit for bit, those whose outputs tests/models compares."""
    config, params = unet_of(name)
    assert model.config == config
    same(model.params, params)
    codec, codec_params = tiny(codec_of(name))
    assert model.codec.config == codec
    same(model.codec.params, codec_params)
    schedule = model.schedule
    assert (schedule.kind, schedule.hole_betas) == ("scaled_linear", ENDS[name])
    assert (schedule.known_betas, schedule.known_steps) == (ENDS[name], 0)
    expected = "v" if PREDICTIONS.get(name) == "v_prediction" else "eps"
    assert model.parametrisation == expected
    assert set(parts(model)) == {"params", "codec"} | (
        set() if name == LDM else {"text"}
    )
    if name != LDM:
        text, text_params = encoder(context(name), activation(name))
        assert model.text.config == text
        same(model.text.params, text_params)
        assert model.text.tokenizer == tokenizer(pad(name))


@pytest.mark.usefixtures("quick_folders")
@pytest.mark.parametrize("name", ENDS)
def test_pipelines(tmp_path, pipeline, converts, name):
    pipeline(name)
    out = converts("p", "m")
    start, end = ENDS[name]
    assert f"scaled_linear betas {start} to {end}" in out
    assert_converted(read_quick(tmp_path / "m"), name)
    record = read_record(tmp_path / "m")["provenance"]
    assert (record["file"], record["layout"]) == ("p", "diffusers")
    assert record["linear_projections"] is (name == V2)


def values_that_matter(folder):
    """All configurations, but for classes and versions."""
    found = {}
    for path in sorted(folder.rglob("*.json")):
        content = json.loads(path.read_text())
        if path.name in ("config.json", "scheduler_config.json"):
            kept = {k: v for k, v in content.items() if not k.startswith("_")}
            found[str(path.relative_to(folder))] = kept
    return found


@pytest.mark.parametrize("name", ENDS)
def test_there_and_back(tmp_path, pipeline, converts, name):
    """Arrays bit for bit, and what the first folder says, the second says too."""
    pipeline(name)
    converts("p", "m")
    out = converts("m", "q", "--to", "diffusers")
    assert "arrays in the layout of diffusers" in out
    for path in (tmp_path / "p").rglob("*.safetensors"):
        again = tmp_path / "q" / path.relative_to(tmp_path / "p")
        before, after = map(safetensors.numpy.load_file, (path, again))
        assert before.keys() == after.keys()
        for key, array in before.items():
            np.testing.assert_array_equal(after[key], array)
    first, second = (values_that_matter(tmp_path / x) for x in "pq")
    assert first.keys() == second.keys()
    for file, values in first.items():
        for key, value in values.items():
            # The number of heads is of all levels or of each.
            if key == "attention_head_dim" and isinstance(value, int):
                assert second[file][key] in (value, [value] * 3)
            else:
                assert second[file][key] == value, (file, key)
    converts("q", "n")
    assert_converted(read_model(tmp_path / "n"), name)


def test_the_listing_of_diffusers(tmp_path, pipeline, converts):
    """Files are called as diffusers calls them, and say what its own say."""
    golden = json.loads(LISTING.read_text())["plain"]
    pipeline()
    converts("p", "m")
    converts("m", "q", "--to", "diffusers")
    files = [x for x in (tmp_path / "q").rglob("*") if x.is_file()]
    assert {str(x.relative_to(tmp_path / "q")) for x in files} == set(golden["files"])
    free = {  # of another class, of a smaller network, or with no bearing
        *("_class_name", "_diffusers_version", "block_out_channels", "scheduler"),
        *("down_block_types", "up_block_types", "intermediate_size", "vocab_size"),
        *("bos_token_id", "eos_token_id", "pad_token_id", "model_max_length"),
        *("num_attention_heads", "sample_size", "attention_head_dim"),
    }
    for name, values in golden["contents"].items():
        written = json.loads((tmp_path / "q" / name).read_text())
        for key, value in values.items():
            if key in written and key not in free:
                assert written[key] == value, (name, key)


@pytest.mark.usefixtures("quickly")
def test_outputs_through_load(tmp_path, pipeline, converts):
    """Of a folder converted and loaded, the golden numbers of another program."""
    pipeline()
    converts("p", "m")
    model, data = rad_jax.load(tmp_path / "m"), numbers(V1)
    told = one_level(data["t"]), None, None, data["context"]
    found = network(model.config)(model.params, data["x"], *told)
    assert relative_error(found, data["out"]) < TOLERANCE


@pytest.mark.usefixtures("quickly")
def test_a_hole_is_filled_by_a_prompt(tmp_path, pipeline, converts, rad):
    pytest.importorskip("tokenizers", reason="the library is not installed")
    pipeline()
    converts("p", "m")
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    mask = np.zeros((32, 32), np.uint8)
    mask[9:21, 6:18] = 255
    save_png(picture, tmp_path / "a.png")
    save_png(mask, tmp_path / "b.png")
    files = ("--image", "a.png", "--mask", "b.png", "--output", "c.png")
    files = [tmp_path / x if x.endswith("png") else x for x in files]
    flags = ("--prompt", "a bed", "--steps", "2")
    code, _, err = rad("inpaint", "--model", tmp_path / "m", *files, *flags)
    assert code == 0, err
    filled = read_picture(tmp_path / "c.png").samples
    np.testing.assert_array_equal(filled[mask == 0], picture[mask == 0])


FILES = {
    "bin": ("{}.bin",),
    "fp16": ("{}.fp16.safetensors",),
    "shards": ("{}-00001-of-00002.safetensors", "{}-00002-of-00002.safetensors"),
    "fp16 shards": tuple(f"{{}}.fp16-0000{i}-of-00002.bin" for i in (1, 2)),
}


@pytest.mark.usefixtures("quick_folders")
@pytest.mark.parametrize("form", FILES)
def test_files_of_weights(tmp_path, pipeline, converts, form):
    """Each network's, in each form; of halves the parameters are float32."""
    folder = pipeline(V2)
    half = "fp16" in form
    for path in list(folder.rglob("*.safetensors")):
        state = safetensors.numpy.load_file(path)
        path.unlink()
        kind = np.float16 if half else np.float32
        state = {key: x.astype(kind) for key, x in state.items()}
        names = FILES[form]
        for i, name in enumerate(names):
            stem = path.stem
            if name.endswith(".bin") and stem == "model":
                stem = "pytorch_model"
            part = dict(list(state.items())[i :: len(names)])
            write = (
                saved
                if name.endswith(".bin")
                else lambda to, x: safetensors.numpy.save_file(x, to)
            )
            write(path.with_name(name.format(stem)), part)
    converts("p", "m")
    model = read_quick(tmp_path / "m")
    _, params = unet_of(V2)

    def check(ours, theirs):
        assert ours.dtype == np.float32
        theirs = np.asarray(theirs)
        expected = theirs.astype(np.float16) if half else theirs
        np.testing.assert_array_equal(ours, expected.astype(np.float32))

    jax.tree.map(check, model.params, params)
    jax.tree.map(check, model.text.params, encoder(40, "gelu")[1])


@pytest.mark.usefixtures("quick_folders")
def test_older_keys(tmp_path, pipeline, converts):
    """Of attention before diffusers 0.18, and of positions in transformers' file."""
    folder = pipeline(LDM)
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for part in ("unet", "vqvae"):
        path = folder / part / f"{STEM}.safetensors"
        state = safetensors.numpy.load_file(path)
        for new, old in names.items():
            state = {k.replace(f".{new}.", f".{old}."): x for k, x in state.items()}
        safetensors.numpy.save_file(state, path)
    converts("p", "m")
    assert_converted(read_quick(tmp_path / "m"), LDM)
    shutil.rmtree(folder)
    path = pipeline() / "text_encoder" / "model.safetensors"
    ids = {"text_model.embeddings.position_ids": np.arange(16)[None]}
    safetensors.numpy.save_file(encoder_state(24) | ids, path)
    converts("p", "n")
    assert_converted(read_quick(tmp_path / "n"), V1)
    safetensors.numpy.save_file(encoder_state(24, prefix=""), path)
    converts("p", "o")
    assert_converted(read_quick(tmp_path / "o"), V1)


@pytest.mark.parametrize(
    ("missing", "match"),
    [
        ("vae", "p: has no vae/, a part of it"),
        ("text_encoder", "p: has no text_encoder/, a part of it"),
        ("tokenizer", "p: has no tokenizer/, a part of it"),
        ("tokenizer/tokenizer.json", "p/tokenizer: has no tokenizer.json and no"),
        ("unet", "p: has no unet/, a part of it"),
        ("unet/config.json", "p/unet: has no config.json"),
        ("scheduler", "p: has no scheduler/scheduler_config.json"),
        (f"unet/{STEM}.safetensors", f"p/unet: has no {STEM}.safetensors and no"),
        ("text_encoder/model.safetensors", "has no model.safetensors and no pytorch_m"),
    ],
)
def test_missing_parts(pipeline, refuses, missing, match):
    path = pipeline() / missing
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    refuses("p", "m", match=match)


def test_missing_shards(pipeline, refuses):
    path = pipeline() / "vae" / f"{STEM}.safetensors"
    path.rename(path.with_name(f"{STEM}-00001-of-00002.safetensors"))
    refuses("p", "m", match=f"{STEM}-00002-of-00002.safetensors is not beside it")


UNET, TEXT = "unet/config.json", "text_encoder/config.json"


@pytest.mark.parametrize(
    ("file", "changes", "match"),
    [
        (UNET, {"in_channels": 9}, "is of an inpainting U-Net of 9 channels"),
        (UNET, {"_class_name": "UNet3DModel"}, "is of UNet3DModel; only UNet2DModel"),
        (UNET, {"layers_per_block": 10**9}, "num_res_blocks is 2, config.json's 10000"),
        (UNET, {"cross_attention_dim": 10**18}, "is told states of 24 channels"),
        (TEXT, {"num_hidden_layers": 10**9}, "num_hidden_layers is 2, config.json's"),
        (TEXT, {"vocab_size": 10**18}, "vocab_size is 20, config.json's 1000"),
        (
            TEXT,
            {"hidden_act": "relu"},
            "config.json: activation is 'relu'; use",
        ),
        ("vae/config.json", {"shift_factor": 0.1}, "vae/config.json: shift_factor is"),
        (
            "scheduler/scheduler_config.json",
            {"beta_schedule": "sqrt"},
            "beta_schedule is 'sqrt'; only linear and squaredcos_cap_v2 and scaled_lin",
        ),
        (
            "scheduler/scheduler_config.json",
            {"prediction_type": "sample"},
            "prediction_type is 'sample'",
        ),
    ],
)
def test_configurations_that_are_refused(pipeline, refuses, file, changes, match):
    path = pipeline() / file
    write_json(path, json.loads(path.read_text()) | changes)
    refuses("p", "m", match=match)


def test_json_that_is_too_long(pipeline, refuses):
    (pipeline() / TEXT).write_bytes(b" " * (2**20 + 1))
    refuses("p", "m", match="text_encoder/config.json: is no configuration of diff")


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        ("StableDiffusionXLPipeline", "text_encoder_2"),
        ("StableDiffusion3Pipeline", "transformer"),
        ("FluxPipeline", "transformer"),
        ("LDMTextToImagePipeline", "bert"),
    ],
)
def test_other_pipelines(pipeline, refuses, kind, part):
    folder = pipeline()
    index = json.loads((folder / "model_index.json").read_text())
    index |= {"_class_name": kind, part: ["transformers", "X"]}
    write_json(folder / "model_index.json", index)
    refuses("p", "m", match=f"p: is of a {kind} (it has {part}/), which is not supp")


@pytest.mark.parametrize(
    "flags",
    [
        ("--preset", "sd15"),
        ("--key", "ema"),
        ("--tokenizer", "t"),
        ("--image_size", "64"),
    ],
)
def test_flags_that_have_no_use(pipeline, refuses, flags):
    pipeline()
    refuses("p", "m", *flags, match=f"{flags[0]} has no use with a folder of diffusers")


def test_tokens_of_another_model(pipeline, refuses):
    folder = pipeline()
    path = folder / "tokenizer" / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["vocab"]["z"] = len(content["model"]["vocab"])
    write_json(path, content)
    refuses("p", "m", match="tokenizer: has 21 tokens, and the text encoder 20")


def test_what_cannot_be_written(tmp_path, pipeline, converts, refuses):
    pipeline(LDM)
    converts("p", "m")
    match = "is of a base in latents, which is no single network"
    for to in ("torch", "safetensors"):
        refuses("m", "x.pt", "--to", to, match=match)
    write_json(tmp_path / "full" / "notes.json", {})
    match = "full: exists, and is no folder of diffusers"
    refuses("m", "full", "--to", "diffusers", "--overwrite", match=match)
    converts("m", "q", "--to", "diffusers")
    refuses("m", "q", "--to", "diffusers", match="q: exists; choose another output or")
    converts("m", "q", "--to", "diffusers", "--overwrite")
    (tmp_path / "q" / "mine.txt").write_text("")
    match = "q: exists, and holds more than is written here (mine.txt)"
    refuses("m", "q", "--to", "diffusers", "--overwrite", match=match)
