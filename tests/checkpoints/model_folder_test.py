"""Model folders: what is written is read, whole or not at all."""

import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import subprocess

import jax
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest

from rad_jax.checkpoints import model_folder
from rad_jax.checkpoints.describe import describe
from rad_jax.checkpoints.fingerprint import fingerprint
from rad_jax.checkpoints.load import load, load_shapes
from rad_jax.checkpoints.model import Model
from rad_jax.checkpoints.model_folder import (
    check_free,
    read_model,
    read_record,
    write_model,
)
from rad_jax.checkpoints.model_record import record_of
from rad_jax.diffusion.schedule_config import ScheduleConfig
from rad_jax.errors import UserError
from rad_jax.models import network
from rad_jax.models.config import UNetConfig
from rad_jax.models.ncsnpp_config import NCSNppConfig
from rad_jax.models.network import abstract_params
from tests.models.adm_files import random_params

# Orbax reads arrays at once: those that are done after one has failed find its event
# loop closed, and complain where nobody listens.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)

CONFIG = UNetConfig(
    image_size=32,
    model_channels=32,
    channel_mult=(1.0,),
    num_res_blocks=1,
    attention_resolutions=(),
    num_classes=3,
    dropout=0.25,
    noise_embedding="time",
)
SCHEDULE = ScheduleConfig(kind="cosine", known_steps=500, hole_betas=(1e-3, 0.01))
PARAMS = jax.tree.map(np.asarray, random_params(abstract_params(CONFIG)))
MODEL = Model(CONFIG, SCHEDULE, "v", PARAMS)
FEW = (1000, 640, 360, 160)
GRANTED = ", base_steps=1000, timestep_scale=1.0, sigmas=(0.01, 50.0), unit_input=False"
"""What version 0.1.0 did not know of a schedule."""


def write(folder, overwrite=False, **changes):
    model = MODEL._replace(**changes)
    write_model(folder, model, {"file": "a.pt"}, overwrite=overwrite)
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A model folder; do not write there."""
    return write(tmp_path_factory.mktemp("models") / "new" / "model")


def assert_equal(params, expected):
    jax.tree.map(np.testing.assert_array_equal, params, expected)


def test_shapes_need_no_arrays(tmp_path):
    """Their types are those of the files, while these are there."""
    half = jax.tree.map(
        lambda x: x.astype(ml_dtypes.bfloat16) if x.ndim > 1 else x, PARAMS
    )
    folder = write(tmp_path / "model", params=half)
    model = load_shapes(folder, dtype="bfloat16", noise_embedding="spatial")
    assert isinstance(model, Model)
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), half)
    assert model.params == like
    assert (model.config.dtype, model.config.noise_embedding) == ("bfloat16", "spatial")
    (folder / "params" / "_METADATA").write_text("{")
    with pytest.raises(UserError, match="params: is damaged"):
        load_shapes(folder)
    shutil.rmtree(folder / "params")
    assert load_shapes(folder).params == abstract_params(CONFIG)
    (folder / "model.json").unlink()
    with pytest.raises(UserError, match="neither a model folder"):
        load_shapes(folder)


def test_shapes_of_a_run(tiny_run, tmp_path):
    workdir, _ = tiny_run
    loaded, model = load(workdir), load_shapes(workdir)
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), loaded.params)
    assert model._replace(params=like) == loaded._replace(params=like)
    assert model.params == like
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match="holds no finished checkpoint"):
        load_shapes(tmp_path)


def test_what_is_written_is_read(written):
    config, schedule, parametrisation, params, few_steps, codec, text = read_model(
        written
    )
    assert (config, schedule, parametrisation) == (CONFIG, SCHEDULE, "v")
    assert few_steps == () and codec is text is None
    assert_equal(params, PARAMS)
    assert {type(leaf) for leaf in jax.tree.leaves(params)} == {np.ndarray}
    assert os.listdir(written.parent) == ["model"]


def test_info_says_what_the_network_is_told(written):
    assert '"noise_embedding": "time"' in describe(written)


def test_records_from_before_a_key_are_read(written, tmp_path):
    folder = tmp_path / "old"
    shutil.copytree(written, folder)
    record = json.loads((folder / "model.json").read_text())
    del record["model"]["noise_embedding"]
    (folder / "model.json").write_text(json.dumps(record))
    config, *_ = read_model(folder)
    assert config == dataclasses.replace(CONFIG, noise_embedding="spatial")


def test_kernels_may_be_bfloat16(tmp_path):
    """They come back as they were; a changed bit is told."""
    half = jax.tree.map(
        lambda x: x.astype(ml_dtypes.bfloat16) if x.ndim > 1 else x, PARAMS
    )
    params = read_model(write(tmp_path / "a", params=half))[3]
    types = jax.tree.map(lambda x: x.dtype, half)
    assert jax.tree.map(lambda x: x.dtype, params) == types
    assert set(map(str, jax.tree.leaves(types))) == {"float32", "bfloat16"}
    assert_equal(params, half)
    (path,) = (tmp_path / "a" / "params" / "d").iterdir()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    refused(tmp_path / "a", "params: is damaged")


def test_parameters_are_read_a_few_at_a_time(written, monkeypatch):
    """Orbax needs twice the memory of what it reads at once."""
    restore, sizes = ocp.Checkpointer.restore, []

    def watched(*args, **options):
        part = restore(*args, **options)
        sizes.append([leaf.nbytes for leaf in jax.tree.leaves(part)])
        return part

    monkeypatch.setattr(ocp.Checkpointer, "restore", watched)
    monkeypatch.setattr(model_folder, "GROUP_BYTES", 100_000)
    assert_equal(read_model(written)[3], PARAMS)
    assert len(sizes) > 5 and max(map(len, sizes)) > 1
    assert all(sum(size) <= 100_000 or len(size) == 1 for size in sizes)


def test_the_record(written):
    record = read_record(written)
    assert record["provenance"] == {"file": "a.pt"}
    assert record["model"]["channel_mult"] == [1.0]
    assert set(record) == {
        "format", "rad_jax", "model", "schedule", "parametrisation", "provenance",
        "crc32",
    }  # fmt: skip


def test_orbaxs_own_checkpointer_reads_the_parameters(written):
    like = abstract_params(CONFIG)
    with ocp.StandardCheckpointer() as checkpointer:
        assert_equal(checkpointer.restore(written.absolute() / "params", like), PARAMS)


def test_parameters_may_be_on_a_device(tmp_path):
    write(tmp_path / "a", params=jax.device_put(PARAMS))
    assert_equal(read_model(tmp_path / "a")[3], PARAMS)


def test_a_relative_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = write(type(tmp_path)("a"))
    assert_equal(read_model(folder)[3], PARAMS)


def test_nothing_is_replaced_unless_it_is_asked_for(tmp_path):
    folder = write(tmp_path / "a")
    other = jax.tree.map(np.negative, PARAMS)
    with pytest.raises(UserError, match="a: exists; choose another output or --overw"):
        write(folder, params=other)
    assert_equal(read_model(folder)[3], PARAMS)
    write(folder, params=other, overwrite=True)
    assert_equal(read_model(folder)[3], other)
    assert os.listdir(tmp_path) == ["a"]


def test_only_model_folders_are_replaced(tmp_path):
    (tmp_path / "photo.png").write_bytes(b"1")
    for path in (tmp_path, tmp_path / "photo.png"):
        with pytest.raises(UserError, match="exists, and is no model folder"):
            write(path, overwrite=True)
        with pytest.raises(UserError, match="exists, and is no model folder"):
            check_free(path, overwrite=False)
    assert os.listdir(tmp_path) == ["photo.png"]


def test_a_failed_write_keeps_the_folder_that_was_there(tmp_path, monkeypatch):
    folder = write(tmp_path / "a")

    def fail(*_, **__):
        raise ValueError("Error: No space left on device [os_error_code='28']")

    monkeypatch.setattr(ocp.Checkpointer, "save", fail)
    match = "a: cannot be written .No space left on device.; free some space"
    with pytest.raises(UserError, match=match):
        write(folder, overwrite=True)
    assert_equal(read_model(folder)[3], PARAMS)
    assert os.listdir(tmp_path) == ["a"]


def test_a_failed_rename_puts_the_old_folder_back(tmp_path, monkeypatch):
    folder = write(tmp_path / "a")
    rename, failures = pathlib.Path.rename, []

    def fail_once(path, target):
        if target == folder and not failures:
            failures.append(path)
            raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(pathlib.Path, "rename", fail_once)
    with pytest.raises(UserError, match=r"a: cannot be written \(Input/output error"):
        write(folder, params=jax.tree.map(np.negative, PARAMS), overwrite=True)
    assert failures
    assert_equal(read_model(folder)[3], PARAMS)
    assert os.listdir(tmp_path) == ["a"]


# Damage.


def copy_of(written, tmp_path):
    subprocess.run(["cp", "-r", written, tmp_path / "a"], check=True)
    return tmp_path / "a"


def refused(folder, match):
    with pytest.raises(UserError, match=match) as error:
        read_model(folder)
    assert "\n" not in str(error.value)


def test_what_is_no_model_folder(tmp_path):
    refused(tmp_path, "is no model folder, it has no model.json")
    refused(tmp_path / "none", "is no model folder, it has no model.json")


@pytest.mark.parametrize(
    "content, match",
    [
        (b"", r"model\.json: cannot be read"),
        (b"\xff", r"model\.json: cannot be read"),
        (b"[" * 100_000, r"model\.json: cannot be read"),
        (b"[]", r"model\.json: is damaged, or of another program"),
        (b"{}", r"model\.json: is damaged, or of another program"),
        (b'{"format": 3}', "another version of rad_jax"),
        (b'{"format": 1}', r"model\.json: is damaged"),
    ],
)
def test_a_damaged_record(written, tmp_path, content, match):
    folder = copy_of(written, tmp_path)
    (folder / "model.json").write_bytes(content)
    refused(folder, match)


@pytest.mark.parametrize(
    "block, key, value, match",
    [
        ("model", "image_size", "32", r"model\.image_size is '32'"),
        ("model", "image_size", 0, "image_size is 0"),
        ("model", "channel_mult", "12", "is damaged"),
        ("model", "wings", 2, r"no key model\.wings"),
        (
            "schedule",
            "kind",
            "square",
            r"kind is 'square', which this version of rad_j",
        ),
        ("schedule", "hole_betas", ["a", "b"], "is damaged"),
        (None, "parametrisation", "x", "parametrisation is 'x', which this version"),
        (None, "parametrisation", ["eps"], r"parametrisation is \['eps'\], which"),
        (None, "architecture", "dit", "architecture is 'dit', .*; update it"),
        (None, "codec", {"factor": 8}, "config has no key codec.factor"),
        (None, "codec", {"kind": "dc"}, "codec.kind is .*, which this version of rad"),
        (None, "codec", [1], "is damaged"),
        (None, "text", "clip", "config text: must be a block of keys"),
        (None, "model", None, "must be a block of keys"),
        (None, "crc32", 1, "params: is damaged; convert the model again"),
        ("model", "model_channels", 64, r"params: does not fit model\.json"),
        ("model", "num_classes", None, "params: is damaged"),
    ],
)
def test_a_record_that_fits_nothing(written, tmp_path, block, key, value, match):
    folder = copy_of(written, tmp_path)
    record = json.loads((folder / "model.json").read_text())
    (record if block is None else record[block])[key] = value
    (folder / "model.json").write_text(json.dumps(record))
    refused(folder, match)


def test_a_base_of_another_architecture_and_process(tmp_path):
    """Format 2 names both, and leaves places for a codec and text."""
    config = NCSNppConfig(16, 8, (1, 2), 1, (8,), embedding="positional", dropout=0.1)
    schedule = ScheduleConfig("subvp", 100, 0)
    params = random_params(network.abstract_params(config))
    model = Model(config, schedule, "score", params)
    write_model(tmp_path / "a", model, {})
    record = json.loads((tmp_path / "a" / "model.json").read_text())
    assert (record["format"], record["architecture"]) == (2, "ncsnpp")
    assert "architecture" not in record["model"]
    assert record["codec"] is record["text"] is None
    found = read_model(tmp_path / "a")
    assert found[:3] == model[:3]
    assert_equal(found.params, params)


def test_what_format_1_cannot_say_is_format_2():
    """And all else is format 1, which older versions read."""
    formats = {}
    for name, change in {
        "adm": {},
        "v": {"parametrisation": "v"},
        "score": {"parametrisation": "score"},
        "vp": {"schedule": ScheduleConfig("vp")},
        "ddpm": {"config": NCSNppConfig(16, 8, (1,), 1, (), embedding="positional")},
        "sigmas": {"schedule": ScheduleConfig(sigmas=(0.1, 1.0))},
        "unit": {"schedule": ScheduleConfig("ve", unit_input=True)},
        "few": {"few_steps": FEW},
    }.items():
        formats[name] = record_of(MODEL._replace(**change), {})["format"]
    assert formats.pop("adm") == formats.pop("v") == 1
    assert set(formats.values()) == {2}


def test_a_model_that_was_distilled_says_its_times(tmp_path, rad):
    """In a record that older versions refuse; what rebuilds the model keeps them."""
    folder = write(tmp_path / "a", few_steps=FEW)
    record = json.loads((folder / "model.json").read_text())
    assert (record["format"], record["architecture"]) == (2, "adm")
    assert record["few_steps"] == list(FEW)
    assert record["codec"] is record["text"] is None
    found = read_model(folder)
    assert found[:3] == MODEL[:3] and found.few_steps == FEW
    for read in (load, load_shapes):
        again = read(folder, dtype="bfloat16")
        assert isinstance(again, Model) and again.few_steps == FEW
    line = "distilled for 1 .. 4 steps, at times 1000, 640, 360, 160"
    assert line in describe(folder).splitlines()
    file = tmp_path / "a.safetensors"
    converted = ("convert", "--input", folder, "--output", file, "--to", "safetensors")
    code, out, err = rad(*converted)
    assert (code, err) == (0, []) and "distilled for times 1000 640 360 160" in out


def test_an_ordinary_record_does_not_speak_of_few_steps(written):
    assert "few_steps" not in (written / "model.json").read_text()
    assert "distilled" not in describe(written)


@pytest.mark.parametrize(
    "value",
    [
        *(None, 4, "1000", {}, [], [1000, "160"], [1000, 160.0], [1000, True]),
        *([999, 160], [160, 1000], [1000, 1000], [1000, 0], [1000, -1], [[1000]]),
        [1000, *[500] * 10_000],
    ],
)
def test_times_that_cannot_be_are_damage(written, tmp_path, value):
    folder = copy_of(written, tmp_path)
    record = json.loads((folder / "model.json").read_text())
    record["few_steps"] = value
    (folder / "model.json").write_text(json.dumps(record))
    match = (
        r"model\.json: is damaged \(few_steps is .{1,80}; it must be times that fall"
    )
    refused(folder, match)


def test_fingerprints_are_what_they_were():
    """Job folders and evaluations hold them."""
    digest = hashlib.sha256(repr(MODEL[:3]).replace(GRANTED, "").encode())
    for path, leaf in jax.tree.leaves_with_path(PARAMS):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(leaf.tobytes())
    assert fingerprint(MODEL) == digest.hexdigest()[:16]
    assert fingerprint(MODEL._replace(few_steps=FEW)) != fingerprint(MODEL)


def test_damaged_parameters_are_told(written, tmp_path):
    """Every file that is cut short or has a byte changed is told, or not needed."""
    folder = copy_of(written, tmp_path)
    told = set()
    for path in sorted((folder / "params").rglob("*")):
        if path.is_dir():
            continue
        data = path.read_bytes()
        middle = len(data) // 2
        changed = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        for damaged in (data[:middle], changed):
            path.write_bytes(damaged)
            try:
                assert_equal(read_model(folder)[3], PARAMS)
            except UserError as error:
                assert "params: is damaged" in str(error)
                told.add(path.parent.name)
            path.write_bytes(data)
    assert {"params", "d"} <= told


def test_configs_of_every_field_are_kept(tmp_path):
    """Nothing of a config has its default here, so nothing can be lost."""
    config = dataclasses.replace(
        CONFIG,
        in_channels=6,
        out_channels=4,
        learn_sigma=False,
        num_heads=2,
        num_head_channels=16,
        num_heads_upsample=1,
        use_new_attention_order=True,
        use_scale_shift_norm=False,
        resblock_updown=False,
        dtype="bfloat16",
        use_remat=True,
    )
    betas = (1e-3, 2e-3), (3e-3, 4e-3)
    others = 1, 40, 2.0, (0.1, 2.0), True
    schedule = ScheduleConfig("ve_index", 10, 20, *betas, *others)
    for value, default in ((config, CONFIG), (schedule, ScheduleConfig())):
        for field in dataclasses.fields(value):
            if field.default is not dataclasses.MISSING:
                assert getattr(value, field.name) != field.default, default
    params = random_params(abstract_params(config))
    write(tmp_path / "a", config=config, schedule=schedule, params=params)
    assert read_model(tmp_path / "a")[:2] == (config, schedule)
