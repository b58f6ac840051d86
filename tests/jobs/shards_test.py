"""Shards in, shards out, around a model that is a stub."""

import dataclasses
import errno
import io
import os
import subprocess
import sys

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from rad_jax.errors import UserError
from rad_jax.files.remarks import Remarks
from rad_jax.inference.file_options import FileOptions
from rad_jax.inference.fill_regions import Fills
from rad_jax.inference.picture_fill import FillSettings
from rad_jax.inference.regions import denoiser_sizes
from rad_jax.inference.strategy import StrategyOptions
from rad_jax.jobs import table_shard
from rad_jax.jobs.division import Division
from rad_jax.jobs.find_shards import find_shards
from rad_jax.jobs.record import Job
from rad_jax.jobs.shard_kinds import KINDS, Columns, kind_of
from rad_jax.jobs.shards import fill_shards
from tests.conftest import ROOT
from tests.jobs.files_test import noise
from tests.jobs.folder_test import manifest
from tests.jobs.shard_files import (
    decoded,
    hole,
    members,
    picture,
    png,
    read_shard,
    rows,
    write,
    write_array_record,
    write_parquet,
    write_tar,
    write_zip,
)


def run(image, output, mask=None, fill=noise, *, columns=Columns(), **changes):  # noqa: B008
    division = changes.pop("division", Division())
    options = dataclasses.replace(FileOptions(batch_size=4), **changes)
    sizes = denoiser_sizes(16, 4)
    fills = Fills(fill, fill)
    settings = FillSettings(fills, 3, sizes, options, StrategyOptions(), {})
    shards = find_shards(image, mask, options)
    assert shards is not None
    job = Job(str(image), str(mask), "model", "steps", {"seed": options.seed}, 4)
    return fill_shards(
        shards, output, "png", settings, job, division, columns, Remarks()
    )


def assert_filled(data, number):
    """Known pixels are the picture's, the others are not."""
    found, where = decoded(data), hole(number)
    np.testing.assert_array_equal(found[~where], picture(number)[~where])
    assert (found[where] != picture(number)[where]).mean() > 0.9


NAMES = {
    "x.tar": "tar",
    "X.ZIP": "zip",
    "a.parquet": "parquet",
    "a.array_record": "array_record",
    "a.arrayrecord": "array_record",
    "digits-train.array_record-00000-of-00008": "array_record",
    "tar": None,
    "a.png": None,
    "a.tar.png": None,
}


@pytest.mark.parametrize("name", NAMES)
def test_kinds_by_name(name):
    assert kind_of(name) == NAMES[name]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_comes_back_as_itself(kind, tmp_path, capsys):
    paths = [
        write(kind, tmp_path / "i" / f"s{i}", range(7 * i, 7 * i + 7)) for i in (0, 1)
    ]
    out = tmp_path / "out"
    assert run(tmp_path / "i", out) == 0
    assert "14 images" in capsys.readouterr().out
    for number, path in enumerate(paths):
        found = read_shard(out / path.name)
        expected = range(7 * number, 7 * number + 7)
        names = [f"{i}.png" for i in expected]
        # In order of the input; an archive is read in order of its own.
        assert list(found) == names
        for i in expected:
            assert_filled(found[f"{i}.png"], i)
    assert {*manifest(out)} == {str(i) for i in range(14)}
    row = manifest(out)["9"]
    assert row["source"].startswith(paths[1].name + "/9") and row["status"] == "ok"


def test_results_depend_on_the_id_alone(tmp_path):
    """Not on the kind, the shard, the batch or the number of workers."""
    found = []
    for kind in KINDS:
        folder = tmp_path / kind
        write(kind, folder / "all", range(9))
        run(folder, tmp_path / f"o_{kind}")
        (path,) = (p for p in (tmp_path / f"o_{kind}").iterdir() if p.is_file())
        found.append(read_shard(path))
    assert all(each == found[0] for each in found)
    folder = tmp_path / "parts"
    for part in range(3):
        write("tar", folder / f"{part}", range(part, 9, 3))
    together = {}
    for i, there in enumerate((["0.tar", "2.tar"], ["0.tar", "1.tar", "2.tar"])):
        run(folder, tmp_path / "o", batch_size=3, division=Division(i, 2))
        assert sorted(path.name for path in (tmp_path / "o").glob("*.tar")) == there
    for path in (tmp_path / "o").glob("*.tar"):
        together |= read_shard(path)
    assert together == found[0]


def test_what_is_whole_is_not_done_again(tmp_path, capsys):
    for i in range(3):
        write("tar", tmp_path / "i" / f"{i}", range(4 * i, 4 * i + 4))
    out = tmp_path / "out"
    assert run(tmp_path / "i", out, num_samples=2) == 0
    before = {path.name: path.read_bytes() for path in out.glob("*.tar")}
    assert list(read_shard(out / "0.tar")) == [
        f"{i}_{s}.png" for i in range(4) for s in (0, 1)
    ]
    assert run(tmp_path / "i", out, fill=pytest.fail, num_samples=2) == 0
    assert "3 shards were there already" in capsys.readouterr().out
    # Killed between the results and the manifest, or before either.
    (out / "manifest" / "1.tar.parquet").unlink()
    (out / "manifest" / "2.tar.parquet").unlink()
    (out / "2.tar").unlink()
    assert run(tmp_path / "i", out, num_samples=2) == 0
    assert {path.name: path.read_bytes() for path in out.glob("*.tar")} == before
    assert len(manifest(out)) == 12
    with pytest.raises(UserError, match="holds results with seed 0, not 3; choose"):
        run(tmp_path / "i", out, seed=3)


def test_samples_of_tables_have_a_column(tmp_path):
    write("parquet", tmp_path / "i" / "a", range(3))
    run(tmp_path / "i", tmp_path / "o", num_samples=2)
    found = pyarrow.parquet.read_table(tmp_path / "o" / "a.parquet").to_pylist()
    assert [(row["id"], row["sample"]) for row in found] == [
        (str(i), sample) for i in range(3) for sample in (0, 1)
    ]


MASKS = {
    "WebDataset's": "{}.mask.png",
    "x_mask": "{}_mask.png",
    "x-mask": "{}-mask.png",
    "LaMa's": "{}_mask001.png",
}


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_masks_in_the_archive(kind, name, tmp_path):
    path = tmp_path / f"a.{kind}"
    maker = write_tar if kind == "tar" else write_zip
    maker(path, members(range(3), MASKS[name]) | {"0.json": b"{}"})
    assert run(path, tmp_path / "o") == 0
    found = read_shard(tmp_path / "o" / path.name)
    assert {*found} == {"0.png", "1.png", "2.png"}
    for i in range(3):
        assert_filled(found[f"{i}.png"], i)


def test_masks_elsewhere(tmp_path):
    """A shard of the same name, one picture for all, a pattern, alpha, a border."""
    images, masks = tmp_path / "i", tmp_path / "m"
    for shard in ("a", "b"):
        numbers = range(3) if shard == "a" else range(3, 6)
        write_tar(images / f"{shard}.tar", members(numbers, ""))
        write_tar(masks / f"{shard}.tar", {f"{i}.png": png(hole(i)) for i in numbers})
    assert run(images, tmp_path / "folder", masks) == 0
    assert_filled(read_shard(tmp_path / "folder" / "b.tar")["4.png"], 4)
    assert run(images / "a.tar", tmp_path / "one", masks / "a.tar") == 0
    one = read_shard(tmp_path / "one" / "a.tar")
    assert one == read_shard(tmp_path / "folder" / "a.tar")
    (tmp_path / "m.png").write_bytes(png(hole(1)))
    assert run(images, tmp_path / "all", tmp_path / "m.png") == 0
    assert_filled(read_shard(tmp_path / "all" / "a.tar")["1.png"], 1)
    pairs = members(range(3), "masks/{}.gif.png")
    pairs = {x if "/" in x else f"images/{x}": data for x, data in pairs.items()}
    write_zip(tmp_path / "p.zip", pairs)
    pattern = "../masks/{stem}.gif.png"
    assert run(tmp_path / "p.zip", tmp_path / "p", mask_pattern=pattern) == 0
    found = read_shard(tmp_path / "p" / "p.zip")
    assert {*found} == {f"images/{i}.png" for i in range(3)}
    alpha = np.dstack([picture(0), np.where(hole(0), 0, 255).astype(np.uint8)])
    write_parquet(tmp_path / "alpha.parquet", [{"image": png(alpha)}])
    assert run(tmp_path / "alpha.parquet", tmp_path / "alpha", alpha_hole=True) == 0
    (data,) = read_shard(tmp_path / "alpha" / "alpha.parquet").values()
    assert (decoded(data)[..., 3] == 255).all()
    write_parquet(tmp_path / "edge.parquet", [{"image": png(picture(0))}])
    assert run(tmp_path / "edge.parquet", tmp_path / "edge", extend=(0, 0, 4, 0)) == 0
    (data,) = read_shard(tmp_path / "edge" / "edge.parquet").values()
    assert decoded(data).shape == (16, 20, 3)


def test_columns_paths_and_ids(tmp_path):
    """Hugging Face's dicts, paths beside the table, and rows without an id."""
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "1.png").write_bytes(png(picture(1)))
    table = [
        {"jpg": {"bytes": png(picture(0)), "path": None}, "hole": png(hole(0))},
        {"jpg": {"bytes": None, "path": "pictures/1.png"}, "hole": png(hole(1))},
    ]
    write_parquet(tmp_path / "t.parquet", table)
    named = Columns("jpg", "hole", "key")
    assert run(tmp_path / "t.parquet", tmp_path / "o", columns=named) == 0
    found = read_shard(tmp_path / "o" / "t.parquet")
    assert list(found) == ["t/00000000.png", "t/00000001.png"]
    for i, data in enumerate(found.values()):
        assert_filled(data, i)


def left_out(capsys):
    lines = capsys.readouterr().err.splitlines()
    return [line for line in lines if line.startswith("left out ")]


def test_bad_pictures_of_a_shard_are_left_out(tmp_path, capsys):
    """Names that lead out, links, bombs, two alike, no mask, unknown formats."""
    bomb = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "png")
    files = members(range(2)) | {
        "../out.png": png(picture(5)),
        "../out.mask.png": png(hole(5)),
        "x/../../up.png": png(picture(5)),
        "x/../../up.mask.png": png(hole(5)),
        "lonely.png": png(picture(5)),
        "no.png": b"hello",
        "no.mask.png": png(hole(5)),
        "bomb.png": bomb.getvalue(),
        "bomb.mask.png": png(hole(5)),
        "1.gif": png(picture(5)),
        "small.png": png(picture(5)[:9]),
        "small.mask.png": png(hole(5)),
    }
    write_tar(tmp_path / "i" / "a.tar", files)
    write_tar(tmp_path / "i" / "b.tar", members(range(20, 23)))
    out = tmp_path / "out"
    assert run(tmp_path / "i", out) == 1
    lines = left_out(capsys)
    for part in (
        "a.tar/../out.png: its name leads out of the archive; rename it",
        "a.tar/x/../../up.png: its name leads out of the archive",
        "a.tar/lonely.png: has no mask; add one, such as x_mask.png of x.png",
        "a.tar/no.png: not a picture",
        "a.tar/bomb.png: more than 89478485 pixels; scale it down",
        "a.tar/1.gif: the shard has two of the id 1; rename one",
        "the mask has 16x16 pixels and its picture 16x9",
    ):
        assert sum(part in line for line in lines) == 1, (part, lines)
    assert len(lines) == 7
    assert {*read_shard(out / "a.tar")} == {"0.png", "1.png"}
    assert len(read_shard(out / "b.tar")) == 3
    table = pyarrow.parquet.read_table(out / "manifest" / "a.tar.parquet").to_pylist()
    assert sum(row["status"] == "error" for row in table) == 7
    # A shard with bad pictures is whole; what it lacks is said again.
    assert run(tmp_path / "i", out, fill=pytest.fail) == 1
    assert "7 images of those that were there failed" in capsys.readouterr().out


def damaged_tar(path):
    write_tar(path, members(range(5)))
    os.truncate(path, path.stat().st_size // 2)


def damaged_zip(path):
    write_zip(path, members(range(5)))
    os.truncate(path, path.stat().st_size - 30)


def damaged_parquet(path):
    write_parquet(path, rows(range(5)))
    os.truncate(path, path.stat().st_size - 9)


def no_mask_column(path):
    write_parquet(path, [{"image": png(picture(0)), "label": 3}])


def unknown_codec(path):
    write_parquet(path, rows(range(5)), compression="zstd", write_statistics=False)
    data = bytearray(path.read_bytes())
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    # Field 4 of a column's metadata is its codec, after its path: ZSTD, 6, in zigzag.
    for name in (b"id", b"image", b"mask"):
        at = data.index(bytes([0x19, 0x18, len(name)]) + name, footer)
        at += 3 + len(name)
        assert data[at : at + 2] == b"\x15\x0c"
        data[at + 1] = 2 * 3  # LZO, which nobody builds
    path.write_bytes(data)


def damaged_array_record(path):
    write_array_record(path, rows(range(5)))
    os.truncate(path, path.stat().st_size // 2)


def no_example(path):
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(str(path), "group_size:1")
    writer.write(b"hello")
    writer.close()


def compressed(path):
    import gzip

    write_tar(path, members(range(5)))
    path.write_bytes(gzip.compress(path.read_bytes()))


DAMAGED = {
    "tar": ("bad.tar", damaged_tar, "is damaged or cut short"),
    "zip": ("bad.zip", damaged_zip, "neither a zip nor a tar, or damaged"),
    "parquet": ("bad.parquet", damaged_parquet, "is damaged or cut short"),
    "column": (
        "bad.parquet",
        no_mask_column,
        "has no column 'mask', but image, label; say which by --columns",
    ),
    "codec": ("bad.parquet", unknown_codec, "bad.parquet: is damaged or cut short"),
    "array_record": ("bad.array_record", damaged_array_record, "is damaged or cut"),
    "no example": ("bad.array_record", no_example, "is damaged or cut short"),
    "compressed": ("bad.tar", compressed, "is compressed; unpack it first: gunzip"),
    "empty": ("bad.tar", lambda path: write_tar(path, {}), "holds no picture"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_shard_is_left_out_and_the_rest_is_done(name, tmp_path, capsys):
    file, damage, message = DAMAGED[name]
    folder = tmp_path / "i"
    for each in ("a", "z"):
        write("tar", folder / each, range(3))
    damage(folder / file)
    out = tmp_path / "out"
    assert run(folder, out) == 1
    (line,) = left_out(capsys)
    assert line.startswith(f"left out {file}: ") and message in line
    assert sorted(p.name for p in out.iterdir()) == ["a.tar", "manifest", "z.tar"]
    assert len(read_shard(out / "z.tar")) == 3
    # Mended, it is done; the others are not done again.
    kind = file.partition(".")[2]
    (folder / file).unlink()
    write(kind, folder / "bad", range(3)).rename(folder / file)
    assert run(folder, out) == 0
    assert len(read_shard(out / file)) == 3
    damage(folder / file)
    with pytest.raises(UserError, match="nothing could be filled, as the lines above"):
        run(folder / file, tmp_path / "alone")
    # Of several workers one may have bad ones alone: no mistake of the command.
    assert run(folder / file, tmp_path / "o", division=Division(0, 2)) == 1


ROWS = {
    "nothing": ({"image": None}, "has nothing as its image; give a file's bytes"),
    "a number": ({"image": 3}, "has int as its image; give a file's bytes"),
    "out": ({"image": "../x.png"}, "its image is '../x.png'; give a path below the"),
    "absolute": ({"image": "/x.png"}, "its image is '/x.png'; give a path below the"),
    "gone": ({"image": "x.png"}, "x.png: no such file; check the name"),
    "no mask": ({"image": png(picture(0)), "mask": None}, "has nothing as its mask"),
}


@pytest.mark.parametrize("name", ROWS)
def test_bad_rows_of_a_table(name, tmp_path, capsys):
    row, message = ROWS[name]
    write_parquet(tmp_path / "bad.parquet", [{"mask": png(hole(0)), **row}])
    with pytest.raises(UserError, match="nothing could be filled"):
        run(tmp_path / "bad.parquet", tmp_path / "out")
    (line,) = left_out(capsys)
    assert message in line


def test_a_row_group_that_would_fill_the_memory(tmp_path, monkeypatch, capsys):
    write("parquet", tmp_path / "a", range(5))
    monkeypatch.setattr(table_shard, "MOST_ROW_GROUP", 2**10)
    with pytest.raises(UserError, match="nothing could be filled"):
        run(tmp_path / "a.parquet", tmp_path / "out")
    assert "a row group has 0 GiB; write smaller ones" in left_out(capsys)[0]


MISTAKES = {
    "no such shard": ("x.tar", None, {}, r"x\.tar: no such file or folder"),
    "no such masks": ("a.tar", "m.tar", {}, r"m\.tar: no such file or folder"),
    "none of that name": ("a.tar", "m", {}, r"m/a\.tar: no such file, with the masks"),
    "of tables": ("t.parquet", "a.tar", {}, r"masks of Parquet files are a column"),
    "a pattern and masks": (
        "a.tar",
        "m",
        {"mask_pattern": "{stem}.gif"},
        "of shards, mask_pattern looks for masks in the shard itself",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_of_paths(name, tmp_path):
    image, mask, options, message = MISTAKES[name]
    write("tar", tmp_path / "a", range(3))
    write("parquet", tmp_path / "t", range(3))
    (tmp_path / "m").mkdir()
    mask = None if mask is None else tmp_path / mask
    with pytest.raises(UserError, match=message):
        find_shards(
            tmp_path / image, mask, dataclasses.replace(FileOptions(), **options)
        )


def test_a_folder_with_pictures_is_one_of_pictures(tmp_path):
    write("tar", tmp_path / "i" / "a", range(3))
    (tmp_path / "i" / "x.png").write_bytes(png(picture(0)))
    assert find_shards(tmp_path / "i", None, FileOptions()) is None
    found = find_shards(tmp_path / "i" / "*.tar", None, FileOptions())
    assert [shard.name for shard in found or ()] == ["a.tar"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk_leaves_nothing_half_written(kind, tmp_path):
    write(kind, tmp_path / "i" / "a", range(40))
    code = f"""
import pathlib, resource, sys
sys.path.insert(0, {str(ROOT)!r})
import rad_jax.errors
from tests.jobs import shards_test
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    folder = pathlib.Path({str(tmp_path)!r})
    shards_test.run(folder / "i", folder / "o")
except rad_jax.errors.UserError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    reason = os.strerror(errno.EFBIG)
    assert f"cannot be written ({reason})" in done.stdout, done.stderr
    left = [path for path in (tmp_path / "o").rglob("*") if path.is_file()]
    assert [path.name for path in left] == ["_job.json"]
    assert run(tmp_path / "i", tmp_path / "o") == 0  # when there is space again
