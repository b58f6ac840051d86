"""Shards in a bucket, by a stand-in of the cloud."""

import io
import tarfile

import pyarrow.parquet
import pytest

from rad_jax.errors import UserError
from rad_jax.files.bucket import folder_at
from rad_jax.inference.file_options import FileOptions
from rad_jax.jobs.find_shards import require_pictures
from tests.files.bucket_test import bucket  # noqa: F401 (a fixture)
from tests.jobs.shard_files import read_shard, write
from tests.jobs.shards_test import assert_filled, left_out, run


def test_shards_of_a_bucket(bucket, tmp_path, capsys):  # noqa: F811
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


def test_a_bucket_s_shards_to_this_machine_and_masks_there(bucket, tmp_path):  # noqa: F811
    path = write("parquet", tmp_path / "a", range(3))
    bucket.objects["in/a.parquet"] = path.read_bytes(), 1
    assert run(folder_at("gs://bucket/in/a.parquet"), tmp_path / "o") == 0
    assert_filled(read_shard(tmp_path / "o" / "a.parquet")["2.png"], 2)


def test_a_bucket_that_is_not_for_us(bucket, tmp_path):  # noqa: F811
    image = folder_at("gs://bucket/in/a.tar")
    bucket.forbidden = True
    with pytest.raises(UserError, match="nothing could be filled"):
        run(image, tmp_path / "o")
    with pytest.raises(UserError, match="gs://bucket/out: cannot be reached"):
        run(write("tar", tmp_path / "a", range(2)), folder_at("gs://bucket/out"))


def test_pictures_of_a_bucket_are_refused():
    pytest.importorskip("gcsfs")
    image = folder_at("gs://bucket/pictures")
    with pytest.raises(UserError, match="pictures are filled in such shards"):
        require_pictures(image, None, FileOptions())
