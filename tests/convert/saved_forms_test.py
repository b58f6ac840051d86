"""`rad-jax convert` of weights as people save them, beside all else that they save."""

import hashlib
import json

import jax
import numpy as np
import pytest
import safetensors.numpy

from rad_jax.checkpoints.model_folder import read_record
from rad_jax.convert.adm import adm_to_params
from tests.convert.small import CONFIG, FLAGS, diffusers, openai, prefixed, read_quick
from tests.weight_files.pickles import Raw, legacy, saved, text

pytestmark = pytest.mark.usefixtures("quick_folders")

WEIGHTS, OTHER = openai(), openai(seed=1)
EXTRA = np.ones(3, np.float32)


def assert_converted(folder, expected=WEIGHTS):
    jax.tree.map(
        np.testing.assert_array_equal,
        read_quick(folder).params,
        adm_to_params(CONFIG, expected),
    )


def wrapped(*names):
    """Keys as a program has them that wraps the whole network and its blocks."""
    state = {}
    for key, array in WEIGHTS.items():
        first, _, rest = key.partition(".")
        state[".".join([*names, first, "_checkpoint_wrapped_module", rest])] = array
    return state


NAMESPACE = Raw(b"cargparse\nNamespace\n)\x81}" + text("lr") + text("cosine") + b"sb")
COUNTER = Raw(b"ccollections\nCounter\n}K\x01K\x02s\x85R")
SCALAR = Raw(
    b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\n" + text("f8") + b"\x89\x88\x87R"
    b"(K\x03" + text("<") + b"NNNK\x00tb"
    b"c_codecs\nencode\n" + text("x" * 8) + text("latin1") + b"\x86R\x86R"
)
OMEGA = Raw(b"comegaconf.dictconfig\nDictConfig\n)\x81}" + text("_content") + b"}sb")
PROTOCOL_4 = Raw(b"\x8c\x05torch\x8c\x06device\x93" + text("cuda") + b"\x85R")
SET = Raw(b"\x8f(K\x01K\x02\x90")
FROZEN = Raw(b"(K\x01\x91")
OLD = Raw(b"c__builtin__\nset\n](K\x01e\x85R")
OBJECT = Raw(b"(cmodels\nNet\nK\x01o")
INSTANCE = Raw(b"(K\x01imodels\nNet\n")
NEW_EX = Raw(b"cmodels\nNet\n)}\x92(Nu(Ne")
DEFAULT = Raw(b"ccollections\ndefaultdict\nc__builtin__\nlist\n\x85R(" + b"K\x01]u")
QUANTISED = Raw(
    b"ctorch._utils\n_rebuild_tensor_v2\n(("
    + text("storage")
    + b"ctorch\nQInt8Storage\n"
    + text("9")
    + text("cpu")
    + b"K\x01tQK\x00))\x89}tR"
)

# What is saved, the line that says what was taken, and what is skipped.
FORMS = {
    "plain": (WEIGHTS, None),
    "module.": (prefixed("module.", WEIGHTS), "weights: module, without the prefix m"),
    "model.": (
        prefixed("model.", WEIGHTS),
        "weights: model, without the prefix model.",
    ),
    "unet.": (prefixed("unet.", WEIGHTS), "weights: unet, without the prefix unet."),
    "latent diffusion": (
        {
            "state_dict": {
                "betas": EXTRA,
                **prefixed("model.diffusion_model.", WEIGHTS),
                "first_stage_model.encoder.weight": EXTRA,
            }
        },
        "left out: 2 arrays of betas, first_stage_model",
    ),
    "Lightning": (
        {
            "epoch": 3,
            "state_dict": prefixed("model.", WEIGHTS),
            "optimizer_states": [{"state": {0: {"exp_avg": EXTRA}}}],
            "callbacks": {"ModelCheckpoint": {"best": "a.ckpt"}},
            "hyper_parameters": OMEGA,
        },
        "weights: state_dict.model, without the prefix model.",
    ),
    "torch.compile": (
        prefixed("_orig_mod.", WEIGHTS),
        "taken out of the keys: _orig_m",
    ),
    "torch.compile of DDP": (
        prefixed("_orig_mod.module.", WEIGHTS),
        "weights: module, without the prefix module.",
    ),
    "FSDP and checkpoints": (
        wrapped("_fsdp_wrapped_module", "module"),
        "taken out of the keys: _checkpoint_wrapped_module, _fsdp_wrapped_module",
    ),
    "model_state_dict": ({"model_state_dict": WEIGHTS}, "weights: model_state_dict"),
    "net": ({"net": WEIGHTS, "epoch": 1}, "weights: net"),
    "params_ema": (
        {"params": OTHER, "params_ema": WEIGHTS},
        "weights: params_ema, averaged ones; --key takes others: params",
    ),
    "model_ema before": (
        {"model_ema": {"module": WEIGHTS}, "model": OTHER},
        "weights: model_ema.module, averaged ones; --key takes others: model",
    ),
    "an average by prefix": (
        {**prefixed("model.", OTHER), **prefixed("model.ema.", WEIGHTS)},
        "weights: model.ema, averaged ones, without the prefix model.ema.; --key",
    ),
    "several": (
        {"teacher": WEIGHTS, "student": OTHER, "schema": OTHER},
        "weights: teacher; --key takes others: student, schema",
    ),
    "deep": ({"a": [1, {"b": [{"c": WEIGHTS}]}]}, "weights: a.1.b.0.c"),
    "a list": ([WEIGHTS, OTHER], "weights: 0; --key takes others: 1"),
    "settings": ({"model": WEIGHTS, "args": NAMESPACE}, "run: argparse.Namespace"),
    "a counter": ({"model": WEIGHTS, "c": COUNTER}, "run: collections.Counter"),
    "numbers of NumPy": (
        {"model": WEIGHTS, "best": SCALAR},
        "run: numpy.core.multiarray.scalar, numpy.dtype, _codecs.encode",
    ),
    "sets": ({"model": WEIGHTS, "s": SET, "f": FROZEN}, "run: set"),
    "sets of old": ({"model": WEIGHTS, "s": OLD}, "run: __builtin__.set"),
    "protocol 4": ({"model": WEIGHTS, "device": PROTOCOL_4}, "run: torch.device"),
    "objects of every opcode": (
        {"model": WEIGHTS, "x": [OBJECT, INSTANCE, NEW_EX]},
        "run: models.Net",
    ),
    "a dictionary with defaults": (
        {"model": WEIGHTS, "d": DEFAULT},
        "run: collections.defaultdict, __builtin__.list",
    ),
    "a quantised tensor": ({"model": WEIGHTS, "q": QUANTISED}, "run: torch.QInt8Stor"),
    "many": (
        {"model": WEIGHTS, "x": [Raw(b"cm%d\nX\n)\x81" % i) for i in range(5)]},
        "run: m0.X, m1.X, m2.X and 2 more",
    ),
    "keys that are no names": (
        {"model": WEIGHTS, "x": Raw(b"}(NK\x01\x88K\x01G" + bytes(8) + b"K\x01u")},
        "weights: model",
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_forms_that_are_read(tmp_path, converts, name):
    tree, said = FORMS[name]
    saved(tmp_path / "a.pt", tree)
    out = converts("a.pt", "m", *FLAGS)
    assert_converted(tmp_path / "m")
    lines = out.splitlines()
    if said is None:
        assert lines[0].startswith(f"{tmp_path / 'a.pt'}: ")
    else:
        assert any(said in line for line in lines), out
    assert len([line for line in lines if line.startswith("skipped")]) <= 1


@pytest.mark.parametrize("kind", ["safetensors", "npz"])
def test_prefixes_in_other_formats(tmp_path, converts, kind):
    state = prefixed("unet.", WEIGHTS) | prefixed("ema.unet.", OTHER)
    if kind == "npz":
        np.savez(tmp_path / "a.npz", allow_pickle=True, **state)
    else:
        safetensors.numpy.save_file(state, tmp_path / "a.safetensors")
    converts(f"a.{kind}", "m", *FLAGS)
    assert_converted(tmp_path / "m", OTHER)
    converts(f"a.{kind}", "n", *FLAGS, "--key", "unet")
    assert_converted(tmp_path / "n")


def test_keys_that_are_asked_for(tmp_path, converts):
    tree = {"ema": OTHER, "state": {"net": prefixed("module.", WEIGHTS)}}
    saved(tmp_path / "a.pt", tree)
    for i, key in enumerate(("state.net.module", "state.net", "state", "state.net.")):
        converts("a.pt", f"m{i}", *FLAGS, "--key", key)
        assert_converted(tmp_path / f"m{i}")


def test_the_outermost_may_be_asked_for(tmp_path, converts):
    saved(tmp_path / "a.pt", {**WEIGHTS, **prefixed("ema.", OTHER)})
    converts("a.pt", "m", *FLAGS, "--key", ".")
    assert_converted(tmp_path / "m")


def test_graphs_with_cycles_and_sharing(tmp_path, converts):
    """Each object is visited once, however many ways there are to it."""
    shared = b"]q\x01" + b"".join(
        b"0](" + b"h%c" % i * 2 + b"eq%c" % (i + 1) for i in range(1, 60)
    )
    tree = Raw(b"}q\x00(" + text("itself") + b"h\x00" + text("shared") + shared + b"u")
    saved(tmp_path / "a.pt", {"graph": tree, "model": WEIGHTS})
    converts("a.pt", "m", *FLAGS)
    assert_converted(tmp_path / "m")


MODULE = b")\x81}(" + text("_parameters") + b"}" + text("_modules") + b"}ub"


def whole_model(path):
    saved(path, Raw(b"c__main__\nNet\n" + MODULE))


def model_beside(path):
    saved(path, {"model": Raw(b"cnets.unet\nUNet\n" + MODULE), "epoch": 1})


def legacy_model(path):
    part = b"(" + text("module") + b"cnets\nNet\n" + text("n.py") + text("x") + b"tQ"
    legacy(path, b"\x80\x02" + part + MODULE + b".", keys=(), data=b"")


def an_object(path):
    saved(path, Raw(b"cnets\nThing\n)\x81"))


def a_module_and_weights(path):
    saved(path, {"model": WEIGHTS, "x": Raw(b"cos\nsystem\n(" + text("ls") + b"tR")})


def attribute(path):
    saved(path, {"w": WEIGHTS, "x": Raw(b"ccollections\nOrderedDict.__init__\n")})


def twice(path):
    saved(path, {**WEIGHTS, **prefixed("_orig_mod.", WEIGHTS)})


def hundreds(path):
    markers = {"time_embed.0.weight": EXTRA, "input_blocks.0.0.weight": EXTRA}
    saved(path, {f"m{i}": markers for i in range(101)})


def a_tower(path):
    blocks = {f"output_blocks.{i}.0.in_layers.2.weight": EXTRA for i in range(501)}
    saved(path, WEIGHTS | blocks)


def a_tower_of_diffusers(path):
    blocks = {f"down_blocks.0.resnets.{i}.conv2.weight": EXTRA for i in range(501)}
    saved(path, diffusers() | blocks)


@pytest.mark.parametrize(
    "make, match",
    [
        (a_tower, "has 501 blocks output_blocks.*, more than any such U-Net"),
        (a_tower_of_diffusers, "has 501 blocks down_blocks.0.resnets.*, more than an"),
        (
            whole_model,
            "is a whole model object of class __main__.Net, saved with its co",
        ),
        (model_beside, "is a whole model object of class nets.unet.UNet, saved with i"),
        (
            legacy_model,
            "is a whole model object of class nets.Net, saved with its code",
        ),
        (an_object, "is an object of class nets.Thing, not weights; save its state_di"),
        (a_module_and_weights, "wants to run os.system: refused"),
        (attribute, "wants to run collections.OrderedDict.__init__: refused"),
        (twice, "has keys of . twice, with and without a wrapper"),
        (hundreds, "has the weights of more than 100 networks"),
    ],
)
def test_forms_that_are_refused(tmp_path, refuses, make, match):
    make(tmp_path / "a.pt")
    refuses("a.pt", "m", *FLAGS, match=f"rad-jax: {tmp_path / 'a.pt'}: {match}")


@pytest.mark.parametrize(
    "key, match",
    [
        ("x", "a.pt: has no weights at --key x; it has them at ema, model.module"),
        ("em", "has no weights at --key em; it has them at"),
        ("\x1b[2J", r"has no weights at --key \x1b[2J; it has them at"),
    ],
)
def test_keys_that_there_are_not(tmp_path, refuses, key, match):
    saved(tmp_path / "a.pt", {"ema": OTHER, "model": prefixed("module.", WEIGHTS)})
    refuses("a.pt", "m", *FLAGS, "--key", key, match=match)


# Several files.


def sharded(folder, suffix, *, index=None, states=None):
    """Two files, by default each with a half, and perhaps an index."""
    halves = states or [dict(list(WEIGHTS.items())[i::2]) for i in range(2)]
    names = [f"x-0000{i}-of-00002.{suffix}" for i in (1, 2)]
    for name, state in zip(names, halves, strict=True):
        if suffix == "bin":
            saved(folder / name, state)
        else:
            safetensors.numpy.save_file(state, folder / name)
    if index is not None:
        keys = {
            key: name for name, x in zip(names, halves, strict=True) for key in x
        } | index
        text = json.dumps({"metadata": {}, "weight_map": keys})
        (folder / f"x.{suffix}.index.json").write_text(text)
    return names


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
@pytest.mark.parametrize("given", ["first", "second", "index"])
def test_shards(tmp_path, converts, suffix, given):
    names = sharded(tmp_path, suffix, index={} if given == "index" else None)
    source = {"first": names[0], "second": names[1]}.get(
        given, f"x.{suffix}.index.json"
    )
    converts(source, "m", *FLAGS)
    assert_converted(tmp_path / "m")
    provenance = read_record(tmp_path / "m")["provenance"]
    contents = b"".join((tmp_path / name).read_bytes() for name in names)
    assert provenance["file"] == source
    assert provenance["sha256"] == hashlib.sha256(contents).hexdigest()


def test_a_missing_shard(tmp_path, refuses):
    names = sharded(tmp_path, "safetensors", index={})
    (tmp_path / names[1]).unlink()
    said = f"is shard 1 of 2; {names[1]} is not beside it"
    refuses(names[0], "m", *FLAGS, match=f"{tmp_path / names[0]}: {said}")
    index = tmp_path / "x.safetensors.index.json"
    said = f"{index}: names {names[1]}, which is not beside it"
    refuses(index.name, "m", *FLAGS, match=said)


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"a": "../x"}, "names ../x, which is no file beside it"),
        ({"a": "/etc/passwd"}, "names /etc/passwd, which is no file beside it"),
        ({"a": "..\\x"}, "names ..\\\\x, which is no file beside it"),
        ({"a": ".."}, "names .., which is not beside it"),
        ({"a": ""}, "names , which is not beside it"),
        ({"a": "x" * 9999}, "x..., which is not beside it"),
        ({"a": "x\0"}, "names x\\x00, which is not beside it"),
        ({"a": "\ud800"}, "names \\ud800, which is not beside it"),
        ({"a": 7}, "names a int, which is no file beside it"),
        ({"a": "x-00001-of-00002.bin"}, "x-00001-of-00002.bin has no array a"),
        ({str(i): f"f{i}" for i in range(1001)}, "names 1003 files, more than weights"),
    ],
)
def test_hostile_indices(tmp_path, refuses, changes, match):
    sharded(tmp_path, "bin", index=changes)
    refuses("x.bin.index.json", "m", *FLAGS, match=match)


@pytest.mark.parametrize(
    "content, match",
    [
        (b"{", "is no index of weights; get the file again"),
        (b"[" * 10**5, "is no index of weights; get the file again"),
        (b"[]", "is no index of weights: it has no weight_map"),
        (b'{"weight_map": {}}', "is no index of weights: it has no weight_map"),
        (b" " * (2**24 + 1), "is too large for an index of weights"),
    ],
)
def test_damaged_indices(tmp_path, refuses, content, match):
    (tmp_path / "x.bin.index.json").write_bytes(content)
    refuses("x.bin.index.json", "m", *FLAGS, match=match)


def test_shards_that_do_not_fit_together(tmp_path, refuses):
    names = sharded(tmp_path, "bin", states=[WEIGHTS, {"out.2.bias": EXTRA}])
    refuses(names[0], "m", *FLAGS, match="has the array out.2.bias in two files")
    saved(tmp_path / names[1], [1])
    refuses(names[0], "m", *FLAGS, match=f"holds no state dict in {names[1]}")
    (tmp_path / names[1]).write_bytes(b"")
    refuses(names[0], "m", *FLAGS, match=f"{tmp_path / names[1]}: is empty; get the f")
    (tmp_path / "x-00003-of-00002.bin").touch()
    match = "is called shard 3 of 2; correct its name"
    refuses("x-00003-of-00002.bin", "m", *FLAGS, match=match)


def test_the_layout_of_diffusers_is_found_as_well(tmp_path, converts):
    saved(tmp_path / "a.pt", {"unet_ema": prefixed("module.", diffusers())})
    converts("a.pt", "m", *FLAGS)
    assert_converted(tmp_path / "m")


def test_key_is_for_files(tmp_path, rad):
    """Not for a model folder, a run or adapters."""
    (tmp_path / "m" / "checkpoints").mkdir(parents=True)
    files = ["--input", tmp_path / "m", "--output", tmp_path / "n"]
    code, _, err = rad("convert", *files, "--key", "ema")
    said = "rad-jax: --key has no use with a folder, which records it"
    assert (code, err) == (2, [said])
