"""Pictures on a local Ray, around a model that is a stub."""

import dataclasses
import functools
import importlib
import os
import random
import secrets
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow
import pyarrow.parquet
import pytest

from rad_jax.checkpoints.load import load
from rad_jax.diffusion.options import SamplingOptions
from rad_jax.errors import UserError
from rad_jax.inference.file_options import FileOptions
from rad_jax.inference.fill_regions import Fills
from rad_jax.inference.picture_fill import FillSettings, sample_seed
from rad_jax.inference.regions import denoiser_sizes
from rad_jax.inference.strategy import StrategyOptions
from rad_jax.jobs.inpaint_command import Prepared, prepare_files
from rad_jax.jobs.ray_data import SCHEMA, Filler, decode_rows, fill_dataset
from rad_jax.jobs.shard_kinds import Columns
from tests.jobs import shards_test
from tests.jobs.files_test import noise
from tests.jobs.folder_test import manifest
from tests.jobs.shard_files import picture, png, read_shard, rows, write_parquet

pytestmark = pytest.mark.filterwarnings(
    r"ignore::DeprecationWarning:ray\.",
    r"ignore::FutureWarning:ray\.",
    r"ignore:os\.fork\(\) was called:RuntimeWarning",  # to other programs
)

OPTIONS = FileOptions(seed=5, batch_size=4)


def prepare(options, fill=noise):
    """The model of `shards_test.run`; Ray's processes import it from here."""
    fills, sizes = Fills(fill, fill), denoiser_sizes(16, 4)
    settings = FillSettings(fills, 3, sizes, options, StrategyOptions(), {})
    return Prepared(lambda: "model", "steps", None, settings, "")


def bad_rows():
    good = rows([90])[0]
    return [
        good | {"id": "text", "image": b"hello"},
        good | {"id": "small", "mask": png(picture(0)[:9])},
        good | {"id": "none", "image": None},
        good | {"id": "no mask", "mask": None},
    ]


def write_shards(folder, pictures):
    """Pictures in four files, and four more that cannot be filled."""
    each = pictures // 3
    for i in range(3):
        numbers = range(each * i, each * (i + 1))
        write_parquet(folder / f"{i}.parquet", rows(numbers))
    rest = rows(range(3 * each, pictures))
    write_parquet(folder / "3.parquet", [*bad_rows(), *rest])
    return folder


def by_shards(folder, out, **options):
    """Images and manifest of the same pictures, filled in peace without Ray."""
    assert shards_test.run(folder, out, seed=5, batch_size=4, **options) == 1
    images = {}
    for path in out.glob("*.parquet"):
        images |= read_shard(path)
    return images, manifest(out)


def by_ray(data, folder, out, prepare):
    """Rows of results, which Ray has read, filled and written."""
    dataset = data.read_parquet(str(folder))
    # Two actors, and room for tasks beside them.
    filled = fill_dataset(dataset, prepare, OPTIONS, actors=2, num_cpus=0.5)
    filled.write_parquet(str(out))
    return pyarrow.parquet.read_table(out).to_pylist()


def assert_same(found, pictures, images, told):
    """Each picture once, with the bytes and the manifest of a run in peace."""
    ids = [row["id"] for row in found]
    assert len(ids) == len({*ids}) == len(told) == pictures + 4
    filled = {row["id"] + ".png": row["image"] for row in found if row["image"]}
    assert filled == images and len(images) == pictures
    for row in found:
        for name in {*row} - {"image", "sample", "seconds", "error"}:
            assert row[name] == told[row["id"]][name], name
        # Errors name the row; a shard's name it with its file.
        error = told[row["id"]]["error"].replace("3.parquet/", "")
        assert row["error"] == error
        assert bool(error) == (row["status"] == "error") == (row["image"] is None)


@pytest.fixture(scope="module")
def data():
    """``ray.data`` of two CPUs; its servers listen on this machine alone.

    It takes seconds to start, and as many again for its processes to import JAX: once
    for all tests.
    """
    with (
        # Short: paths of sockets have a limit.
        tempfile.TemporaryDirectory(prefix="ray-") as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        token = Path(folder, "token")
        token.touch(0o600)
        token.write_text(secrets.token_hex(32))
        # Without this one 127.0.0.1 becomes the machine's address in the network, and
        # the servers listen there. Ray reads it when it is imported.
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        # Ray would write a token into the home, and tell its authors of its use.
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray = importlib.import_module("ray")
        importlib.import_module("ray.data")
        before = psutil.Process().children(recursive=True)
        assert ray.util.get_node_ip_address() == "127.0.0.1"
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            _temp_dir=folder,
            object_store_memory=2**27,
            log_to_driver=False,
            logging_level="ERROR",
        )
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield ray.data
        ours = {*psutil.Process().children(recursive=True)} - {*before}
        ray.shutdown()
        _, left = psutil.wait_procs(ours, timeout=30)
        assert ours and not left


@pytest.mark.slow
def test_rows_are_those_of_shards(data, tmp_path):
    shards = write_shards(tmp_path / "i", 50)
    expected = by_shards(shards, tmp_path / "peace")
    found = by_ray(data, shards, tmp_path / "ray", prepare)
    assert_same(found, 50, *expected)


def killed_once(folder, call, *arrays):
    """Fills; the first process that does so for the ``call``-th time is killed."""
    mine = folder / str(os.getpid())
    with mine.open("a") as file:
        file.write("x")
    # Nobody goes ahead: two are at work when one is killed.
    started = time.monotonic()
    while len([*folder.iterdir()]) < 2 and time.monotonic() < started + 60:
        time.sleep(0.05)
    if mine.stat().st_size >= call:
        try:
            (folder / "killed").touch(exist_ok=False)
        except FileExistsError:
            return noise(*arrays)
        os.kill(os.getpid(), signal.SIGKILL)
    return noise(*arrays)


@pytest.mark.parametrize(
    "pictures, latest", [(50, 3), pytest.param(2000, 150, marks=pytest.mark.slow)]
)
def test_an_actor_that_is_killed_loses_nothing(pictures, latest, data, tmp_path):
    shards = write_shards(tmp_path / "i", pictures)
    expected = by_shards(shards, tmp_path / "peace")
    (tmp_path / "pids").mkdir()
    call = random.randint(2, latest)
    print("killed in call", call)
    fill = functools.partial(killed_once, tmp_path / "pids", call)
    found = by_ray(
        data, shards, tmp_path / "ray", functools.partial(prepare, fill=fill)
    )
    assert_same(found, pictures, *expected)
    # Two actors, and the one in the place of the first that was killed.
    names = {path.name for path in (tmp_path / "pids").iterdir()}
    assert "killed" in names and len(names) == 1 + 3


def filled(table, options, columns=Columns(), own=True):  # noqa: B008
    """Rows of results, without Ray."""
    decoded = list(decode_rows(pyarrow.Table.from_pylist(table), options, columns))
    filler = Filler(prepare, options)
    results = pyarrow.concat_tables(filler(pyarrow.concat_tables(decoded)))
    assert results.schema == SCHEMA
    return results.to_pylist()


def test_samples_have_rows_and_seeds(tmp_path):
    options = dataclasses.replace(OPTIONS, num_samples=2)
    found = filled([*rows(range(3)), *bad_rows()[:1]], options)
    assert [(row["id"], row["sample"]) for row in found] == [
        *((str(i), sample) for i in range(3) for sample in (0, 1)),
        ("text", 0),
    ]
    assert [x["seed"] for x in found[:2]] == [sample_seed(5, "0", i) for i in (0, 1)]
    write_parquet(tmp_path / "i" / "a.parquet", rows(range(3)))
    shards_test.run(tmp_path / "i", tmp_path / "o", seed=5, batch_size=4, num_samples=2)
    expected = pyarrow.parquet.read_table(tmp_path / "o" / "a.parquet").to_pylist()
    assert [row["image"] for row in found[:-1]] == [row["image"] for row in expected]


def test_columns_of_other_names_and_no_id():
    table = [
        {"jpg": {"bytes": row["image"], "path": None}, "hole": row["mask"], "key": key}
        for row, key in zip(rows(range(3)), (0, 1, None), strict=True)
    ]
    found = filled(table, OPTIONS, Columns("jpg", "hole", "key"))
    expected = filled(rows(range(2)), OPTIONS)
    assert [row["image"] for row in found[:2]] == [row["image"] for row in expected]
    assert found[2]["error"] == "a row has no id; give each one of its own"


def test_no_column_of_masks_where_options_say_what_is_filled():
    options = dataclasses.replace(OPTIONS, extend=(0, 0, 4, 0))
    (row,) = filled([{"id": "0", "image": png(picture(0))}], options)
    assert row["status"] == "ok" and row["hole"] == pytest.approx(0.2)


def test_every_batch_has_one_length():
    lengths = []

    def fill(images, *rest):
        lengths.append(len(images))
        return noise(images, *rest)

    decoded = decode_rows(pyarrow.Table.from_pylist(rows(range(6))), OPTIONS, Columns())
    filler = Filler(functools.partial(prepare, fill=fill), OPTIONS)
    list(filler(pyarrow.concat_tables(decoded)))
    assert lengths == [4, 4]


MISTAKES = {
    "column": (
        {"columns": Columns(mask="hole")},
        r"no column 'hole', but id, image, mask; say which by columns=Columns\(",
    ),
    "no id": ({"columns": Columns(id="key")}, "no column 'key'"),
    "pattern": ({"mask_pattern": "{stem}_m.png"}, "mask_pattern is for files"),
    "quality": ({"quality": 3}, "quality"),
    "actors": ({"actors": (2, 1)}, r"actors is \(2, 1\); give a number"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name, data):
    changes, message = MISTAKES[name]
    arguments = {x: changes[x] for x in ("columns", "actors") if x in changes}
    rest = {x: y for x, y in changes.items() if x not in arguments}
    options = dataclasses.replace(OPTIONS, **rest)
    dataset = data.from_arrow(pyarrow.Table.from_pylist(rows([0])))
    with pytest.raises(UserError, match=message):
        fill_dataset(dataset, prepare, options, **arguments)


def test_prepare_takes_the_options_that_it_is_given():
    with pytest.raises(UserError, match="prepare made other options"):
        Filler(lambda options: prepare(FileOptions(seed=9)), OPTIONS)


def test_without_ray(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(
        UserError, match=r"needs Ray Data: pip install 'rad-jax\[ray\]'"
    ):
        fill_dataset(None, prepare, OPTIONS)


def trained(workdir, options):
    """A real model; each actor loads it."""
    return prepare_files(load(workdir), SamplingOptions(steps=2), options)


@pytest.mark.slow
def test_a_trained_model(data, tiny_run, tmp_path, rad):
    workdir, _ = tiny_run
    size = load(workdir).config.image_size
    table = []
    for i in range(21):
        random = np.random.default_rng(i)
        image = random.integers(0, 256, (size, size, 3), np.uint8)
        inside = np.zeros((size, size), bool)
        inside[4 : 9 + i % 9] = True
        table.append({"id": str(i), "image": png(image), "mask": png(inside)})
    write_parquet(tmp_path / "i" / "0.parquet", table[:9])
    write_parquet(tmp_path / "i" / "1.parquet", table[9:])
    flags = {"model": workdir, "image": tmp_path / "i", "output": tmp_path / "peace"}
    flags |= {"steps": 2, "seed": 5, "batch_size": 4}
    code, _, errors = rad("inpaint", *(f"--{x}={y}" for x, y in flags.items()))
    assert code == 0, errors
    found = by_ray(
        data, tmp_path / "i", tmp_path / "o", functools.partial(trained, workdir)
    )
    images = read_shard(tmp_path / "peace" / "0.parquet")
    images |= read_shard(tmp_path / "peace" / "1.parquet")
    assert {row["id"] + ".png": row["image"] for row in found} == images
