"""``rad-jax inpaint`` in a bucket at s3://, as a user has it."""

import importlib.util

import pytest
from s3fs import S3FileSystem

from rad_jax.files.bucket import CHUNK_BYTES, copy_file, folder_at
from tests.files.bucket_test import assert_stopped
from tests.jobs.bucket_test import put_pictures, rows_of
from tests.jobs.folder_test import contents
from tests.jobs.shard_files import write


@pytest.fixture
def command(tiny_run, rad):
    """``command(image=..., output=...)``: exit code, output, lines of errors."""

    def run(**flags):
        flags = {"model": tiny_run[0], "steps": 1, "batch_size": 4, **flags}
        return rad("inpaint", *(f"--{x}={y}" for x, y in flags.items()))

    return run


@pytest.fixture
def places(s3, tmp_path):
    """Flags for pictures in the bucket and the same ones here; results likewise."""
    put_pictures(s3, tmp_path, 28)
    names = {"image": "i", "mask": "m", "output": "o"}
    here = {flag: tmp_path / name for flag, name in names.items()}
    return {flag: f"s3://bucket/{name}" for flag, name in names.items()}, here


def test_pictures_one_by_one(s3, command, places, tmp_path):
    """From the bucket to it, from here to it, and from it to here: the same bytes."""
    there, here = places
    assert command(**here)[0] == 0
    code, out, errors = command(**there)
    assert (code, errors) == (0, []) and "s3://bucket/o/: 6 images" in out
    back = {**there, "output": tmp_path / "back"}
    assert command(**back)[0] == 0
    assert command(**here | {"output": "s3://bucket/o2"})[0] == 0
    expected = contents(here["output"])
    assert len(expected) == 6 and contents(back["output"]) == expected
    for folder in ("o", "o2"):
        assert {x: s3.read(f"{folder}/{x}") for x in expected} == expected
        rows = rows_of(s3, f"{folder}/manifest/")
        assert {*rows} == {*"012345"} and rows["3"]["status"] == "ok"
    s3.requests.clear()
    code, out, _ = command(**there)
    assert code == 0 and "6 images were there already" in out
    assert not s3.requests["PUT"]
    code, _, [line] = command(**there, seed=1)
    assert code == 2 and "s3://bucket/o: holds results with seed 0, not 1" in line


def test_shards(s3, command, tmp_path):
    shards = [write(kind, tmp_path / "i" / kind, range(5)) for kind in ("tar", "zip")]
    shards += [write("parquet", tmp_path / "i" / "table", range(5, 9))]
    for path in shards:
        s3.write(f"i/{path.name}", path.read_bytes())
    flags = {"image": "s3://bucket/i", "output": "s3://bucket/o"}
    assert command(image=tmp_path / "i", output=tmp_path / "o")[0] == 0
    code, out, errors = command(**flags)
    assert (code, errors) == (0, []) and "3 of 3 shards written" in out
    for path in shards:
        assert s3.read(f"o/{path.name}") == (tmp_path / "o" / path.name).read_bytes()
        assert f"o/manifest/{path.name}.parquet" in s3.names()
    s3.requests.clear()
    code, out, _ = command(**flags)
    assert code == 0 and "3 shards were there already" in out
    assert not s3.requests["PUT"]


def test_a_result_of_several_parts_appears_whole(s3, tmp_path):
    """Of more than s3fs sends at once, as shards may be."""
    data = bytes(range(256)) * (5 * CHUNK_BYTES // 256)
    (tmp_path / "large").write_bytes(data)
    copy_file(tmp_path / "large", folder_at("s3://bucket/large", ("s3",)))
    assert s3.requests["POST"] == 2 and s3.requests["PUT"] == 2
    assert s3.read("large") == data


@pytest.mark.parametrize("sent", (100, 5 * CHUNK_BYTES))
def test_a_copy_that_is_stopped_leaves_nothing(sent, s3, tmp_path, monkeypatch):
    assert_stopped(sent, folder_at("s3://bucket/large", ("s3",)), tmp_path, monkeypatch)
    assert s3.names() == []
    # In one request, nothing is begun; of parts, what was sent is thrown away.
    assert s3.requests["DELETE"] == (sent > 100)


def refused(command, **flags):
    """The one line of a command that cannot begin."""
    code, out, errors = command(**flags)
    [line] = [x for x in errors if x.startswith("rad-jax")]
    assert code == 2 and "Traceback" not in out + "".join(errors)
    return line


@pytest.mark.parametrize("flag", ("image", "mask", "output"))
def test_a_bucket_that_denies(flag, s3, command, places):
    there, here = places
    s3.forbidden = True
    flags = here | {flag: there[flag]}
    if flag == "mask":
        flags |= {"image": there["image"]}
    line = refused(command, **flags)
    assert f"{there['image' if flag == 'mask' else flag]}: cannot be reached" in line
    assert "this machine may read and write there" in line


@pytest.mark.parametrize("flag", ("image", "output"))
def test_no_such_bucket(flag, s3, command, places):
    _, here = places
    line = refused(command, **here | {flag: "s3://other/x"})
    assert "s3://other/x: " in line


def test_no_credentials(s3, command, places, monkeypatch):
    there, _ = places
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    S3FileSystem.clear_instance_cache()  # else it has those of other tests
    line = refused(command, **there)
    S3FileSystem.clear_instance_cache()
    assert "s3://bucket/i: cannot be reached (Unable to locate credentials)" in line


def test_a_bucket_that_throttles_is_asked_again(s3, command, places, monkeypatch):
    async def at_once(seconds):
        waited.append(seconds)

    waited = []
    monkeypatch.setattr("s3fs.core.asyncio.sleep", at_once)
    there, _ = places
    s3.throttled = 7
    assert command(**there)[0] == 0
    assert len(rows_of(s3)) == 6 and len(waited) >= 7
    s3.throttled = 10**9
    line = refused(command, **there | {"output": "s3://bucket/o2"})
    assert "s3://bucket/i: cannot be reached" in line and "slow" in line


def test_without_s3fs(monkeypatch, command):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    line = refused(command, image="s3://bucket/i", output="o")
    assert "s3://bucket/i: buckets need s3fs: pip install 'rad-jax[s3]'" in line
