"""`rad-jax convert` of LaMa's checkpoints, and what it says of other variants."""

import json
import zipfile

import jax
import numpy as np
import pytest

from rad_jax.checkpoints.load import load
from rad_jax.checkpoints.model import LamaModel
from rad_jax.checkpoints.model_folder import RECORD
from rad_jax.convert.lama import COUNTER, entries, infer_lama
from rad_jax.models.lama import abstract_params
from rad_jax.models.lama_config import LamaConfig
from rad_jax.weight_files import name_table
from rad_jax.weight_files.read import read_state_dict
from tests.models.lama_files import PREFIX, generator, published, shapes
from tests.weight_files.pickles import Raw, program, saved, text
from tests.weight_files.script_arrays_test import made

CONFIG = LamaConfig(2, 8)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("tiny", CONFIG),
        ("lama_fourier", LamaConfig(9)),
        ("big_lama", LamaConfig(18)),
    ],
)
def test_names_are_a_bijection(name, config):
    """Of all keys of the published models but counters, with their shapes."""
    wanted = {k: x for k, x in shapes(name).items() if not k.endswith(COUNTER)}
    assert infer_lama(wanted) == config
    table, abstract = entries(config), abstract_params(config)
    assert name_table.file_shapes(table, abstract) == wanted
    paths = [entry.path for entry in table]
    assert len(set(paths)) == len(paths) == len(jax.tree.leaves(abstract))


def checkpoint(path, state):
    """As Lightning writes it, with more than the generator."""
    skipped = Raw(b"comegaconf.dictconfig\nDictConfig\n)\x81}" + b"b")
    return saved(
        path,
        {
            "epoch": 39,
            "pytorch-lightning_version": "1.2.9",
            "state_dict": {**state, "val_evaluator.scores.ssim.window": np.ones(4)},
            "callbacks": {},
            "hyper_parameters": skipped,
        },
    )


def script(path, state, prefix):
    """As torch.jit.save writes it: an object for each module of the tree."""
    tree = {}
    for name, array in state.items():
        key = name.removeprefix(PREFIX)
        *parents, last = (prefix + key).split(".")
        node = tree
        for name in parents:
            node = node.setdefault(name, {})
        node[last] = array
    storages = []

    def module(node):
        if isinstance(node, dict):
            return made(*[text(name) + module(x) for name, x in node.items()])
        return program(node, storages)

    data = module(tree)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("big-lama/data.pkl", b"\x80\x02" + data + b".")
        for i, array in enumerate(storages):
            archive.writestr(f"big-lama/data/{i}", array.tobytes())
        code = zipfile.ZIP_DEFLATED
        archive.writestr("big-lama/code/__torch__.py", "raise SystemExit", code)
    return path


def assert_converted(folder):
    model = load(folder)
    assert isinstance(model, LamaModel) and model.config == CONFIG
    state = name_table.write(entries(CONFIG), model.abstract_params(), model.params)
    expected = generator("tiny")
    assert set(state) == set(expected)
    for key, array in expected.items():
        np.testing.assert_array_equal(state[key], array)


def test_a_checkpoint_of_lightning(tmp_path, converts, rad):
    checkpoint(tmp_path / "best.ckpt", published("tiny"))
    out = converts("best.ckpt", "m")
    assert "left out: 1 arrays of val_evaluator" in out
    count = sum(key.endswith(COUNTER) for key in published("tiny"))
    assert f"left out: {count} counters of batches in training" in out
    assert "135,571 parameters, float32, in the layout of lama" in out
    assert "num_blocks 2, base_channels 8" in out
    assert_converted(tmp_path / "m")
    code, out, err = rad("info", tmp_path / "m")
    assert (code, err) == (0, [])
    # As PyTorch counts: means and variances are no parameters.
    weights = [
        x for k, x in generator("tiny").items() if not k.endswith(("_mean", "_var"))
    ]
    assert f"{sum(x.size for x in weights):,} parameters (float32)" in out
    assert '"architecture": "lama"' in out and '"file": "best.ckpt"' in out


@pytest.mark.parametrize("prefix", ["model.generator.", "model.", ""])
def test_torchscript(tmp_path, converts, prefix):
    script(tmp_path / "big-lama.pt", published("tiny"), prefix)
    converts("big-lama.pt", "m")
    assert_converted(tmp_path / "m")


def test_there_and_back(tmp_path, converts):
    checkpoint(tmp_path / "a.ckpt", published("tiny"))
    converts("a.ckpt", "m", "--image_size", "512")
    assert load(tmp_path / "m").config.image_size == 512
    out = converts("m", "b.safetensors", "--to", "safetensors")
    assert "arrays in the layout of lama" in out
    state = read_state_dict(tmp_path / "b.safetensors")
    for key, array in generator("tiny").items():
        np.testing.assert_array_equal(state[key], array)
    converts("b.safetensors", "n")
    assert_converted(tmp_path / "n")


def test_older_versions_say_what_to_do(tmp_path, converts):
    """They take records of format 1 alone, which are of U-Nets."""
    checkpoint(tmp_path / "a.ckpt", published("tiny"))
    converts("a.ckpt", "m")
    record = json.loads((tmp_path / "m" / RECORD).read_text())
    assert record["format"] == 2 and "schedule" not in record


@pytest.mark.parametrize("name", ["gan", [], {}])
def test_unknown_architectures_are_refused(tmp_path, converts, rad, name):
    checkpoint(tmp_path / "a.ckpt", published("tiny"))
    converts("a.ckpt", "m")
    path = tmp_path / "m" / RECORD
    record = json.loads(path.read_text()) | {"architecture": name}
    path.write_text(json.dumps(record))
    code, _, err = rad("info", tmp_path / "m")
    assert code == 2 and len(err) == 1
    assert f"architecture is {name!r}, which this version of rad_jax does" in err[0]


# Variants, each of which must be a line.


def without(*parts):
    state = published("tiny")
    return {k: x for k, x in state.items() if not any(part in k for part in parts)}


def with_shapes(changes):
    """The tiny one with arrays of zeros of other shapes, by end of key."""
    state = published("tiny")
    for end, shape in changes.items():
        state[PREFIX + end] = np.zeros(shape, np.float32)
    return state


def moved(by):
    """Blocks that begin with another number."""
    return {
        k.replace("model.5.", f"model.{5 + by}."): x for k, x in without("x").items()
    }


def other_ratio():
    return with_shapes({"model.4.ffc.convl2g.weight": (32, 32, 3, 3)})


def lfu():
    key = "model.5.conv1.ffc.convg2g.lfu.conv_layer.weight"
    return with_shapes({key: (48, 48, 1, 1)})


def only(*names):
    return {name: np.zeros((4, 4), np.float32) for name in names}


VARIANTS = {
    "LFU": (lfu, "of a LaMa with local Fourier units (enable_lfu)"),
    "ratio": (other_ratio, "32 global channels of 64 in its residual blocks, not 48"),
    "global channels at once": (
        lambda: with_shapes({"model.1.ffc.convl2g.weight": (8, 4, 7, 7)}),
        "of a LaMa with global channels before its residual blocks",
    ),
    "no blocks": (
        lambda: without(".conv1.", ".conv2."),
        "residual blocks do not begin",
    ),
    "a block too high": (
        lambda: moved(95),
        "residual blocks do not begin at model.5.*",
    ),
    "cut short": (
        lambda: without("model.18."),
        "other than in its published models in model.18.weight, model.18.bias",
    ),
    "more": (
        lambda: with_shapes({"model.19.weight": (3,)}),
        "other than in its published models in model.19.weight",
    ),
    "another shape": (
        lambda: with_shapes({"model.18.weight": (1, 8, 7, 7)}),
        "other than in its published models in model.18.weight",
    ),
    "no shape": (
        lambda: with_shapes({"model.1.ffc.convl2l.weight": (8,)}),
        "whose model.1.ffc.convl2l.weight has the shape (8,)",
    ),
    "odd": (
        lambda: with_shapes({"model.1.ffc.convl2l.weight": (3, 4, 7, 7)}),
        "base_channels is 3; it must be even",
    ),
    "pix2pixHD": (
        lambda: only("generator.model.1.weight", "discriminator.model0.0.weight"),
        "holds a generator of LaMa without Fourier convolutions",
    ),
    "discriminator": (
        lambda: only("discriminator.model0.0.weight"),
        "holds LaMa's discriminator without its generator",
    ),
    "another order": (
        lambda: without("model.1."),
        "holds Fourier convolutions, but not in the order of LaMa's generator",
    ),
    "another network": (
        lambda: only("a.weight"),
        "of no network that can be",
    ),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_are_a_line(tmp_path, refuses, name):
    make, match = VARIANTS[name]
    checkpoint(tmp_path / "a.ckpt", make())
    (line,) = refuses("a.ckpt", "m", match=f"{tmp_path / 'a.ckpt'}: ")
    assert match in line


@pytest.mark.parametrize(
    "flag",
    [("--preset", "ffhq256"), ("--num_heads", "4"), ("--noise_schedule", "linear")],
)
def test_flags_of_other_networks(tmp_path, refuses, flag):
    checkpoint(tmp_path / "a.ckpt", published("tiny"))
    refuses("a.ckpt", "m", *flag, match=f"{flag[0]} has no use with a LaMa")


def test_weights_that_are_no_numbers(tmp_path, refuses):
    state = published("tiny")
    state[f"{PREFIX}model.1.bn_l.running_var"][0] = np.nan
    checkpoint(tmp_path / "a.ckpt", state)
    refuses("a.ckpt", "m", match="running_var")


@pytest.mark.parametrize(
    ("verb", "flags"),
    [
        ("sample", ["--output", "o"]),
        ("convert", ["--to", "diffusers", "--output", "o.safetensors"]),
    ],
)
def test_what_a_lama_cannot(tmp_path, converts, rad, verb, flags):
    checkpoint(tmp_path / "a.ckpt", published("tiny"))
    converts("a.ckpt", "m")
    given = "--input" if verb == "convert" else "--model"
    *flags, name = flags
    code, _, err = rad(verb, given, tmp_path / "m", *flags, tmp_path / name)
    assert code == 2 and len(err) == 1 and "is a LaMa" in err[0]
