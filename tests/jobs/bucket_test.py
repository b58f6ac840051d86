"""Shards and pictures in a bucket, by a stand-in of the cloud."""

import io
import tarfile

import numpy as np
import pyarrow.parquet
import pytest

from rad_jax.errors import UserError
from rad_jax.files.bucket import folder_at
from rad_jax.jobs import bucket_journal
from rad_jax.jobs.division import Division
from tests.jobs.files_test import inpaint, mask, names, picture
from tests.jobs.folder_test import contents
from tests.jobs.shard_files import read_shard, write
from tests.jobs.shards_test import assert_filled, left_out, run


def test_shards_of_a_bucket(bucket, tmp_path, capsys):
    for i in range(2):
        path = write("tar", tmp_path / "i" / f"{i}", range(3 * i, 3 * i + 3))
        bucket.objects[f"in/{path.name}"] = path.read_bytes(), 1
    bucket.objects["in/bad.tar"] = b"hello", 1
    image, output = folder_at("gs://bucket/in"), folder_at("gs://bucket/out")
    assert run(image, output) == 1
    assert "bad.tar: neither a zip nor a tar, or damaged" in left_out(capsys)[0]
    assert bucket.names("out/") == [
        "out/0.tar",
        "out/1.tar",
        "out/manifest/0.tar.parquet",
        "out/manifest/1.tar.parquet",
        "out/manifest/_job.json",
    ]
    run(tmp_path / "i", tmp_path / "here")
    for name in ("0.tar", "1.tar"):
        assert bucket.read(f"out/{name}") == (tmp_path / "here" / name).read_bytes()
    with tarfile.open(fileobj=io.BytesIO(bucket.read("out/1.tar"))) as archive:
        assert archive.getnames() == ["3.png", "4.png", "5.png"]
    rows = io.BytesIO(bucket.read("out/manifest/1.tar.parquet"))
    assert pyarrow.parquet.read_table(rows)["id"].to_pylist() == ["3", "4", "5"]
    del bucket.objects["in/bad.tar"]
    assert run(image, output, fill=pytest.fail) == 0
    assert "2 shards were there already" in capsys.readouterr().out
    with pytest.raises(UserError, match="gs://bucket/out: holds results with seed 0"):
        run(image, output, seed=1)


def test_a_bucket_s_shards_to_this_machine_and_masks_there(bucket, tmp_path):
    path = write("parquet", tmp_path / "a", range(3))
    bucket.objects["in/a.parquet"] = path.read_bytes(), 1
    assert run(folder_at("gs://bucket/in/a.parquet"), tmp_path / "o") == 0
    assert_filled(read_shard(tmp_path / "o" / "a.parquet")["2.png"], 2)


def test_a_bucket_that_is_not_for_us(bucket, tmp_path):
    image = folder_at("gs://bucket/in/a.tar")
    bucket.forbidden = True
    with pytest.raises(UserError, match="nothing could be filled"):
        run(image, tmp_path / "o")
    with pytest.raises(UserError, match="gs://bucket/out: cannot be reached"):
        run(write("tar", tmp_path / "a", range(2)), folder_at("gs://bucket/out"))


def put_pictures(bucket, folder, size):
    """Six small pictures and their masks, here and in the bucket."""
    for i in range(6):
        picture(folder / "i" / f"{i}.png", (size, size), i)
        mask(folder / "m" / f"{i}.png", (size, size), np.s_[2 : 4 + i])
    for path in folder.glob("[im]/*.png"):
        bucket.write(f"{path.parent.name}/{path.name}", path.read_bytes())


@pytest.fixture
def pictures(bucket, tmp_path):
    """Where they are, and where results go."""
    put_pictures(bucket, tmp_path, 16)
    return {name: folder_at(f"gs://bucket/{name}") for name in ("i", "m", "o")}


def rows_of(bucket, prefix="o/manifest/"):
    """Rows of a manifest by id, each there once."""
    found = {}
    for name in bucket.names(prefix):
        if name.endswith(".parquet"):
            table = pyarrow.parquet.read_table(io.BytesIO(bucket.read(name)))
            for row in table.to_pylist():
                assert found.setdefault(row["id"], row) is row
    return found


def test_pictures_one_by_one(bucket, pictures, tmp_path, capsys):
    """From a bucket to it, from here to it, and from it to here: the same bytes."""
    here = tmp_path / "here"
    assert inpaint(tmp_path / "i", tmp_path / "m", here) == 0
    assert inpaint(pictures["i"], pictures["m"], pictures["o"]) == 0
    assert inpaint(tmp_path / "i", tmp_path / "m", folder_at("gs://bucket/o2")) == 0
    assert inpaint(pictures["i"], pictures["m"], tmp_path / "back") == 0
    for i in range(6):
        data = (here / f"{i}.png").read_bytes()
        assert data == bucket.read(f"o/{i}.png") == bucket.read(f"o2/{i}.png")
        assert data == (tmp_path / "back" / f"{i}.png").read_bytes()
    assert {*rows_of(bucket)} == {*"012345"} == {*rows_of(bucket, "o2/manifest/")}
    row = rows_of(bucket)["3"]
    assert (row["status"], row["source"]) == ("ok", "3.png")
    capsys.readouterr()
    assert inpaint(pictures["i"], pictures["m"], pictures["o"], fill=pytest.fail) == 0
    assert "6 images were there already" in capsys.readouterr().out
    with pytest.raises(UserError, match="gs://bucket/o: holds results with seed 0"):
        inpaint(pictures["i"], pictures["m"], pictures["o"], seed=1)


def test_workers_share_a_bucket(bucket, pictures):
    for i in range(3):
        inpaint(*pictures.values(), division=Division(i, 3))
    assert {*rows_of(bucket)} == {*"012345"}


def test_what_is_written_before_a_worker_is_lost_stays(bucket, pictures, monkeypatch):
    with monkeypatch.context() as patch:  # as if it had been killed
        patch.setattr(bucket_journal, "MOST_ROWS", 2)
        patch.setattr(bucket_journal.BucketJournal, "close", lambda self: None)
        inpaint(*pictures.values(), division=Division(0, 2))
    told = len(rows_of(bucket))
    mine = [x for x in "012345" if Division(0, 2).has(x)]
    assert told == len(mine) // 2 * 2
    for i in range(2):
        inpaint(*pictures.values(), division=Division(i, 2))
    assert {*rows_of(bucket)} == {*"012345"}


def test_masks_of_a_bucket_s_pictures(bucket, pictures, tmp_path):
    """One for all, here and there; beside the pictures; by a pattern; alpha is none."""
    image, one = pictures["i"], tmp_path / "m" / "2.png"
    inpaint(image, one, tmp_path / "a")
    inpaint(image, pictures["m"] / "2.png", tmp_path / "b")
    inpaint(tmp_path / "i", one, tmp_path / "c")
    assert contents(tmp_path / "a") == contents(tmp_path / "c")
    assert contents(tmp_path / "b") == contents(tmp_path / "c")
    for i in range(6):
        bucket.objects[f"i/{i}_mask.png"] = bucket.objects[f"m/{i}.png"]
    inpaint(tmp_path / "i", tmp_path / "m", tmp_path / "d")
    inpaint(image, image, tmp_path / "e")
    inpaint(image, None, tmp_path / "f", mask_pattern="{stem}_mask.png")
    assert contents(tmp_path / "e") == contents(tmp_path / "d")
    inpaint(image / "[0-3].png", image, tmp_path / "g")
    assert contents(tmp_path / "g").items() < contents(tmp_path / "d").items()
    assert contents(tmp_path / "f") == contents(tmp_path / "d")


def test_folders_patterns_and_single_pictures_of_a_bucket(bucket, pictures, tmp_path):
    for i in range(2):
        bucket.objects[f"i/deep/{i}.png"] = bucket.objects[f"i/{i}.png"]
        bucket.objects[f"m/deep/{i}.png"] = bucket.objects[f"m/{i}.png"]
    image, masks, output = pictures.values()
    bucket.objects["i/filled/9.png"] = b"not to be read", 1
    inpaint(image, masks, folder_at("gs://bucket/i/filled"), recursive=True)
    found = rows_of(bucket, "i/filled/manifest/")
    assert {*found} == {*"012345", "deep/0", "deep/1"}
    assert "i/filled/deep/1.png" in bucket.objects
    inpaint(image / "[01].png", masks, output)
    assert {*rows_of(bucket)} == {"0", "1"}
    inpaint(image / "5.png", masks, tmp_path / "o")
    assert names(tmp_path / "o") == ["5.png"]


def test_bad_pictures_of_a_bucket_are_left_out(bucket, pictures, capsys):
    bucket.objects["i/0.png"] = b"no picture", 1
    bucket.objects["i/2.jpg"] = bucket.objects["i/2.png"]
    del bucket.objects["m/1.png"]
    assert inpaint(*pictures.values()) == 1
    lines = sorted(left_out(capsys))
    assert "left out 0.png: gs://bucket/i/0.png: not a picture" in lines[0]
    assert "gs://bucket/i/1.png: has no mask" in lines[1]
    assert "gs://bucket/i/2.jpg: another picture has the same name" in lines[2]
    assert len(lines) == 4
    failed = [x for x, row in rows_of_all(bucket) if row == "error"]
    assert sorted(failed) == ["0", "1", "2", "2"]
    assert bucket.names("o/3") == ["o/3.png"] and "o/0.png" not in bucket.objects


def rows_of_all(bucket):
    """Ids and status, also of pictures that have one name."""
    for name in bucket.names("o/manifest/"):
        if name.endswith(".parquet"):
            table = pyarrow.parquet.read_table(io.BytesIO(bucket.read(name)))
            yield from ((row["id"], row["status"]) for row in table.to_pylist())


WRONG = {
    "the output": (("i", "m", "i"), {}, "gs://bucket/i: holds the inputs"),
    "masks": (("i", "m", "m"), {}, "gs://bucket/m: holds the inputs"),
    "nothing": (("none", "m", "o"), {}, "gs://bucket/none: holds no picture"),
    "star": (("i", None, "o"), {"mask_pattern": "{stem}*.png"}, "may have no [*]"),
    "both": (("i", "m", "o"), {"mask_pattern": "{stem}.png"}, "without --mask"),
    "here": (("i", "here", "o"), {}, "here: masks of a bucket's pictures lie in"),
    "no mask": (("i", "m/9.png", "o"), {}, "gs://bucket/m/9.png: cannot be read"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_done_in_a_bucket(case, bucket, pictures, tmp_path):
    paths, options, says = WRONG[case]
    given = [None if x is None else folder_at(f"gs://bucket/{x}") for x in paths]
    if case == "here":
        given[1] = tmp_path / "here"
    with pytest.raises(UserError, match=says):
        inpaint(*given, **options)
    assert not bucket.names("o/")


@pytest.fixture
def command(bucket, tiny_run, rad, monkeypatch, tmp_path):
    """``command()``: `rad-jax inpaint` in a bucket of pictures; nobody waits."""

    async def at_once(seconds):
        waited.append(seconds)

    waited = []
    monkeypatch.setattr("gcsfs.retry.asyncio.sleep", at_once)
    put_pictures(bucket, tmp_path, 28)  # the network's size

    def run(**changes):
        flags = {"model": tiny_run[0], "steps": 1, "image": "gs://bucket/i"}
        flags |= {"mask": "gs://bucket/m", "output": "gs://bucket/o", **changes}
        return rad("inpaint", *(f"--{x}={y}" for x, y in flags.items()))

    run.waited = waited
    return run


def test_a_bucket_that_throttles_is_asked_again(bucket, command):
    bucket.throttled = 3
    code, out, errors = command()
    assert code == 0 and "gs://bucket/o/: 6 images" in out
    assert len(command.waited) >= 3 and len(rows_of(bucket)) == 6
    bucket.throttled = 10**9
    code, out, errors = command(output="gs://bucket/o2")
    [line] = errors
    assert code == 2 and "gs://bucket/i: cannot be reached" in line
    assert "slow down" in line and "Traceback" not in out


def test_a_bucket_that_denies_by_the_command(bucket, command, tmp_path):
    bucket.forbidden = True
    for flag, path in (("image", "i"), ("output", "o")):
        here = {name: tmp_path / name[0] for name in ("image", "mask", "output")}
        code, _, errors = command(**{**here, flag: f"gs://bucket/{path}"})
        [line] = [x for x in errors if x.startswith("rad-jax: ")]
        assert code == 2 and f"gs://bucket/{path}: cannot be reached" in line


def test_names_of_files_in_a_bucket_are_no_output(command):
    code, _, [line] = command(output="gs://bucket/o.png")
    assert code == 2 and "gs://bucket/o.png: results in a bucket need a folder" in line
