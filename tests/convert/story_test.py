"""From a checkpoint to an inpainted picture and back, all by the command."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from rad_jax.checkpoints.model import Model
from rad_jax.checkpoints.model_folder import write_model
from rad_jax.cli.main import main
from rad_jax.diffusion.schedule_config import ScheduleConfig
from rad_jax.models.config import UNetConfig
from rad_jax.models.network import abstract_params
from rad_jax.weight_files.write import write_safetensors, write_torch
from tests.models.adm_files import description, golden_weights

SIZE = 30

ADM = description("tiny_cond_heads")
"""With classes."""

RAD = description("rad_unet")
"""In diffusers' layout, without."""


def linear(state):
    """The authors' network as plain diffusers has it."""
    return {
        key: array[..., 0, 0] if "time_emb" in key and array.ndim == 4 else array
        for key, array in state.items()
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint ``a.pt`` of a class-conditional ADM, its model folder ``m``."""
    path = tmp_path_factory.mktemp("story")
    write_torch(path / "a.pt", golden_weights(ADM["state_dict"]))
    flags = "--image_size 32 --num_heads 4 --use_new_attention_order false"
    stated = [*flags.split(), "--noise_schedule", "linear"]
    files = ["--input", str(path / "a.pt"), "--output", str(path / "m")]
    assert main(["convert", *files, *stated]) == 0
    return path


@pytest.fixture
def inpaint(rad, tmp_path):
    """Runs the verb on a picture and a mask: exit code, stderr, given, filled, hole."""
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    hole = np.zeros((SIZE, SIZE), bool)
    hole[4:19, 3:12] = True
    Image.fromarray(pixels).save(tmp_path / "i.png")
    Image.fromarray(hole).save(tmp_path / "h.png")

    def run(model, *arguments):
        files = {
            "model": model,
            "image": tmp_path / "i.png",
            "mask": tmp_path / "h.png",
        }
        pairs = [(f"--{name}", path) for name, path in files.items()]
        flags = [part for pair in pairs for part in pair]
        output = tmp_path / "out.png"
        code, _, err = rad(
            "inpaint", *flags, "--output", output, "--steps", 2, *arguments
        )
        return code, err, pixels, hole, output

    return run


def assert_filled(result):
    code, err, pixels, hole, output = result
    assert (code, err) == (0, [])
    with Image.open(output) as image:
        filled, info = np.asarray(image), dict(image.info)
    np.testing.assert_array_equal(filled[~hole], pixels[~hole])
    assert (filled[hole] != pixels[hole]).mean() > 0.8
    return filled, info


def test_an_adm_there_and_back(folder, tmp_path, rad, inpaint):
    code, out, _ = rad("info", folder / "m")
    assert code == 0
    head, _, text = out.partition("\n")
    count = sum(np.prod(shape, dtype=int) for shape in ADM["state_dict"].values())
    assert head == f"{folder / 'm'}: model folder, {count:,} parameters (float32)"
    said = json.loads(text)
    assert said["model"]["num_heads"] == 4 and said["model"]["num_classes"] == 1000
    assert said["schedule"]["kind"] == "linear" and said["parametrisation"] == "eps"
    provenance = said["provenance"]
    assert (provenance["file"], provenance["layout"]) == ("a.pt", "openai")
    assert provenance["preset"] is None and len(provenance["sha256"]) == 64

    one, info = assert_filled(inpaint(folder / "m", "--label", 3))
    assert info["Class"] == "3"
    other, _ = assert_filled(inpaint(folder / "m", "--label", 999))
    assert (one != other).any()

    back = ["--output", tmp_path / "b.pt", "--to", "torch"]
    assert rad("convert", "--input", folder / "m", *back)[0] == 0
    assert (tmp_path / "b.pt").read_bytes() == (folder / "a.pt").read_bytes()


@pytest.mark.slow
def test_a_diffusers_network_there_and_back(tmp_path, rad, inpaint):
    a, b = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    state = linear(golden_weights(RAD["state_dict"]))
    write_safetensors(a, state)
    flags = "--image_size 32 --num_head_channels 32 --noise_schedule linear"
    stated = flags.split()
    model = tmp_path / "m"
    assert rad("convert", "--input", a, "--output", model, *stated)[0] == 0
    code, out, _ = rad("info", model)
    assert code == 0 and '"layout": "diffusers"' in out
    assert_filled(inpaint(model))
    to = ["--to", "diffusers"]
    assert rad("convert", "--input", model, "--output", b, *to)[0] == 0
    found = safetensors.numpy.load_file(b)
    assert found.keys() == state.keys()
    for key, array in state.items():
        np.testing.assert_array_equal(found[key], array, strict=True)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "rad-jax: the model has 1000 classes; give a label, 0 .. 999"),
        (
            ["--label", "1000"],
            "rad-jax: there is no class 1000; the model's are 0 .. 9",
        ),
        (["--label", "-1"], "rad-jax: there is no class -1; the model's are 0 .. 999"),
        (["--label", str(10**12)], "rad-jax: there is no class 1000000000000; the mod"),
        (["--label", "cat"], "argument --label: invalid int value: 'cat'"),
    ],
)
def test_labels_that_there_are_not(folder, inpaint, arguments, message):
    code, err, *_, output = inpaint(folder / "m", *arguments)
    assert (code, len(err)) == (2, 1) and message in err[0]
    assert not output.exists()


def test_what_cannot_be_inpainted_with(tmp_path, folder, inpaint):
    config = UNetConfig(
        image_size=32,
        model_channels=32,
        channel_mult=(1,),
        num_res_blocks=1,
        attention_resolutions=(),
        in_channels=6,
    )
    plain = dataclasses.replace(config, in_channels=3)
    for name, each in (("up", config), ("plain", plain)):
        shapes = abstract_params(each)
        write_model(
            tmp_path / name,
            Model(
                each,
                ScheduleConfig(),
                "eps",
                jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes),
            ),
            {},
        )
    for model, arguments, message in (
        ("up", [], "the model takes 6 channels and gives 3: it enlarges images and c"),
        ("plain", ["--label", 0], "the model has no classes; give no label"),
        (
            "i.png",
            [],
            "i.png: is a file; to make a model folder of a checkpoint: ",
        ),
        ("none", [], "none: no such folder; check the name"),
        (".", [], "is neither a model folder (it has no model.json) nor the workdir"),
    ):
        code, err, *_, output = inpaint(tmp_path / model, *arguments)
        assert (code, len(err)) == (2, 1) and message in err[0], err
        assert not output.exists()
