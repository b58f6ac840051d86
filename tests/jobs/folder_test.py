"""Folders that are filled by several workers, some of which do not end well."""

import fcntl
import json
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet
import pytest

from rad_jax.errors import UserError
from rad_jax.inference.picture_fill import sample_seed
from rad_jax.inference.regions import denoiser_sizes
from rad_jax.jobs import files_job, journal, record
from rad_jax.jobs.division import Division
from rad_jax.jobs.manifest import SCHEMA
from tests.conftest import ROOT
from tests.jobs.files_test import (
    inpaint,
    mask,
    names,
    noise,
    picture,
    results,
)


def contents(out):
    return {path.name: path.read_bytes() for path in results(out)}


def manifest(out):
    """Rows by id; each id once."""
    rows = pyarrow.parquet.read_table(out / "manifest").to_pylist()
    found = {row["id"]: row for row in rows}
    assert len(found) == len(rows)
    return found


@pytest.fixture
def folders(tmp_path):
    """Twelve small pictures and their masks."""
    for i in range(12):
        picture(tmp_path / "i" / f"{i}.png", (16, 16), i)
        mask(tmp_path / "m" / f"{i}.png", (16, 16), np.s_[2 : 4 + i])
    return tmp_path / "i", tmp_path / "m", tmp_path / "out"


def test_the_manifest_says_what_became_of_every_picture(folders):
    images, masks, out = folders
    (images / "3.png").write_bytes(b"no picture")
    (masks / "4.png").unlink()
    mask(masks / "5.png", (16, 16), np.s_[:0])
    assert inpaint(images, masks, out, seed=7) == 1
    table = pyarrow.parquet.read_table(out / "manifest")
    assert table.schema.equals(SCHEMA)
    found = manifest(out)
    assert {*found} == {str(i) for i in range(12)}
    good = found["1"]
    assert good["status"] == "ok" and good["error"] == "" and good["seconds"] > 0
    assert good["source"] == "1.png" and good["seed"] == sample_seed(7, "1", 0)
    assert good["hole"] == pytest.approx(3 / 16) and good["strategy"] == "whole"
    assert good["scale"] == 1 and good["model"] == "model"
    assert found["3"]["status"] == "error" and "not a picture" in found["3"]["error"]
    assert "no mask for" in found["4"]["error"]
    assert found["5"]["hole"] == 0 and found["5"]["strategy"] == ""


def test_what_is_finished_is_not_done_again_and_what_failed_is(folders, capsys):
    images, masks, out = folders
    good = (images / "3.png").read_bytes()
    (images / "3.png").write_bytes(b"no picture")
    assert inpaint(images, masks, out) == 1
    before = {path: path.stat().st_mtime_ns for path in results(out)}
    assert len(before) == 11
    filled = []

    def fill(images, holes, seeds):
        filled.extend(seeds)
        return noise(images, holes, seeds)

    (images / "3.png").write_bytes(good)
    picture(images / "new.png", (16, 16))
    mask(masks / "new.png", (16, 16), np.s_[2:4])
    capsys.readouterr()
    assert inpaint(images, masks, out, fill) == 0
    assert {*filled} == {sample_seed(0, "3", 0), sample_seed(0, "new", 0)}
    assert "11 images were there already" in capsys.readouterr().out
    after = {path: path.stat().st_mtime_ns for path in results(out)}
    assert before.items() <= after.items() and len(after) == 13
    assert all(row["status"] == "ok" for row in manifest(out).values())
    assert inpaint(images, masks, out, pytest.fail) == 0  # nothing is left


def test_a_result_that_is_no_number_is_left_out_and_the_rest_is_done(folders, capsys):
    images, masks, out = folders
    bad = sample_seed(0, "7", 0)

    def fill(images, holes, seeds):
        filled = noise(images, holes, seeds)
        filled[np.asarray(seeds) == bad] = np.nan
        return filled

    assert inpaint(images, masks, out, fill) == 1
    assert {*names(out)} == {f"{i}.png" for i in range(12) if i != 7}
    assert "7.png: non-finite output of the model" in manifest(out)["7"]["error"]
    assert "left out 7.png: " in capsys.readouterr().err


def test_workers_divide_the_work(folders, tmp_path):
    images, masks, out = folders
    inpaint(images, masks, tmp_path / "one")
    seen = []
    for i in range(3):
        before = {*names(out)} if out.exists() else set()
        inpaint(images, masks, out, division=Division(i, 3))
        seen.append({*names(out)} - before)
    assert sum(map(len, seen)) == 12 and all(seen)
    assert contents(out) == contents(tmp_path / "one")
    assert len(manifest(out)) == 12


def test_a_batch_has_one_length_whatever_is_left(folders, tmp_path):
    """To the last bit: another length may be another program."""
    lengths = []

    def fill(images, holes, seeds):
        lengths.append(len(images))
        # The rounding of a matrix product may depend on the number of rows.
        return noise(images, holes, seeds) * np.float32(1 - 0.1 * len(images))

    images, masks, out = folders
    options = {"sizes": denoiser_sizes(16, 4), "batch_size": 8}
    inpaint(images, masks, tmp_path / "one", fill, **options)
    for i in range(4):
        inpaint(images, masks, out, fill, division=Division(i, 4), **options)
    assert {*lengths} == {8}
    assert contents(out) == contents(tmp_path / "one")
    # Of fewer pictures than a batch takes, the length is theirs, also when resumed.
    few = tmp_path / "few"
    for i in range(3):
        picture(few / f"{i}.png", (16, 16), i)
    lengths.clear()
    for i in range(2):
        inpaint(
            few,
            masks,
            tmp_path / "o",
            fill,
            division=Division(i, 2),
            **options,
        )
    assert {*lengths} == {3}


def test_an_output_takes_one_job(folders, monkeypatch):
    images, masks, out = folders
    inpaint(images, masks, out)
    with pytest.raises(UserError, match=r"holds results with seed 0, not 1; choose an"):
        inpaint(images, masks, out, seed=1)
    other = images.parent / "other"
    images.rename(other)
    with pytest.raises(UserError, match=rf"holds results with image {images}, not "):
        inpaint(other, masks, out)
    other.rename(images)
    monkeypatch.setattr(record, "__version__", "9.9")
    with pytest.raises(UserError, match=r"is of rad_jax 0\.[\d.]+, and this is 9\.9"):
        inpaint(images, masks, out)
    (out / "manifest" / record.FILE).write_text("{")
    with pytest.raises(UserError, match=r"_job\.json: cannot be read"):
        inpaint(images, masks, out)
    assert len(results(out)) == 12


@pytest.mark.parametrize("end", ["whole", "cut", "as Parquet, too"])
def test_rows_of_a_worker_that_was_killed_are_not_lost(end, folders):
    images, masks, out = folders
    inpaint(images, masks, out)
    folder = out / "manifest"
    (path,) = folder.glob("*.parquet")
    rows = [list(row.values()) for row in pyarrow.parquet.read_table(path).to_pylist()]
    journal = folder / f"_journal-{path.stem}.jsonl"
    text = "".join(json.dumps(row) + "\n" for row in rows)
    journal.write_text(text[:-9] if end == "cut" else text)
    if end != "as Parquet, too":
        path.unlink()
    filled = []

    def fill(images, holes, seeds):
        filled.extend(seeds)
        return noise(images, holes, seeds)

    before = contents(out)
    assert inpaint(images, masks, out, fill) == 0
    assert len({*filled}) == (1 if end == "cut" else 0)
    assert not journal.exists() and len(manifest(out)) == 12
    assert contents(out) == before


@pytest.mark.parametrize("when", ["before it is opened", "before it is asked"])
def test_a_worker_that_ends_while_another_starts(when, folders, monkeypatch):
    images, masks, out = folders
    inpaint(images, masks, out)
    name = out / "manifest" / "_journal-00001-of-00002-0a.jsonl"
    if when == "before it is opened":
        name.symlink_to("gone")  # listed, and not there
    else:
        name.touch()
        monkeypatch.setattr(journal, "_is_held", lambda file: name.unlink())
    assert inpaint(images, masks, out, fill=pytest.fail) == 0
    assert len(manifest(out)) == 12


def test_one_part_has_one_worker(folders):
    images, masks, out = folders
    inpaint(images, masks, out)
    held = out / "manifest" / "_journal-00001-of-00002-abcd.jsonl"
    with held.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another worker is at its part 1/2; wait"):
            inpaint(images, masks, out, division=Division(1, 2))
        with pytest.raises(UserError, match="a worker is at its part 1/2; divide by"):
            inpaint(images, masks, out, division=Division(0, 3))
        assert inpaint(images, masks, out, division=Division(0, 2)) == 0
    assert inpaint(images, masks, out, division=Division(1, 2)) == 0


def test_pictures_of_a_large_folder_are_not_listed_first(folders, monkeypatch, capsys):
    images, masks, out = folders
    inpaint(images, masks, out)
    (masks / "7.png").rename(masks / "7-mask.PNG")
    (masks / "8.png").rename(masks / "8_mask001.png")
    picture(images / "2.jpg", (16, 16))  # the same name as 2.png
    mask(masks / "6.gif", (16, 16))
    (masks / "9.png").unlink()
    monkeypatch.setattr(files_job, "MOST_LISTED", 5)
    (images / "folder.png").mkdir()
    large = images.parent / "large"
    capsys.readouterr()
    assert inpaint(images, masks, large) == 1
    out_lines, err_lines = capsys.readouterr()
    assert "has more than 5 pictures; not listed first" in out_lines
    errors = [line for line in err_lines.splitlines() if line.startswith("left out")]
    assert len(errors) == 3
    assert any("6.png: has several masks, 6.png, 6.gif; keep" in x for x in errors)
    assert any(f"9.png: no mask in {masks}; add it" in x for x in errors)
    assert any("another picture has the same name but for the" in x for x in errors)
    found = contents(large)
    same = {f"{i}.png" for i in (0, 1, 3, 4, 5, 7, 8, 10, 11)}
    assert {*found} - {"2.png"} == same
    assert all(found[name] == contents(out)[name] for name in same)


def test_a_mask_of_two_names_is_one_file(folders, monkeypatch):
    """As where x.png is x.PNG too."""
    images, masks, out = folders
    (masks / "3.PNG").hardlink_to(masks / "3.png")
    monkeypatch.setattr(files_job, "MOST_LISTED", 5)
    assert inpaint(images, masks, out) == 0
    assert len(results(out)) == 12


def test_masks_among_the_pictures_of_a_large_folder(folders, monkeypatch):
    images, masks, out = folders
    for path in masks.iterdir():
        path.rename(images / f"{path.stem}_mask.png")
    monkeypatch.setattr(files_job, "MOST_LISTED", 5)
    assert inpaint(images, images, out) == 0
    assert len(results(out)) == 12
    pattern = images.parent / "pattern"
    assert inpaint(images, None, pattern, mask_pattern="{stem}_mask.png") == 0
    assert contents(pattern) == contents(out)
    alone = images.parent / "alone"
    assert inpaint(images, images / "3_mask.png", alone) == 0
    assert len(results(alone)) == 23  # nothing says that the others are masks
    with pytest.raises(UserError, match=r"more than 5 pictures; then mask_pattern may"):
        inpaint(images, None, pattern, mask_pattern="{stem}_*.png")
    with pytest.raises(UserError, match=r"then --mask must be a folder or one file"):
        inpaint(images, images / "*_mask.png", pattern)


WORKER = f"""
import pathlib, sys, time
sys.path.insert(0, {str(ROOT)!r})
from rad_jax.jobs.division import parse_division
from tests.jobs.files_test import inpaint, noise

def slow(*arrays):
    time.sleep(0.02)
    return noise(*arrays)

image, mask, output, shard = sys.argv[1:]
paths = map(pathlib.Path, (image, mask, output))
sys.exit(inpaint(*paths, slow, division=parse_division(shard), batch_size=4))
"""


def run_until_done(folders, workers, most_seconds, generator):
    """Starts workers, kills each at some time, and starts it again until it ends."""
    images, masks, out = folders
    left, killed = {*range(workers)}, 0
    while left:
        running = {}
        for i in left:
            command = [
                sys.executable,
                "-c",
                WORKER,
                images,
                masks,
                out,
                f"{i}/{workers}",
            ]
            process = subprocess.Popen(
                list(map(str, command)),
                text=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
            running[i] = process, time.monotonic() + generator.uniform(0, most_seconds)
        while running:
            for i, (process, end) in list(running.items()):
                if process.poll() is not None:
                    _, said = process.communicate()
                    assert process.returncode in (0, -signal.SIGKILL), said
                    left -= {i} if process.returncode == 0 else set()
                    killed += process.returncode != 0
                    del running[i]
                elif time.monotonic() > end:
                    process.kill()
            time.sleep(0.01)
        most_seconds *= 1.5
    return killed


@pytest.mark.parametrize(
    "pictures, rounds", [(60, 1), pytest.param(2000, 20, marks=pytest.mark.slow)]
)
def test_killed_workers_lose_nothing(pictures, rounds, tmp_path):
    """Every picture is once in the result, byte for byte as of one run in peace."""
    images, masks = tmp_path / "i", tmp_path / "m.png"
    for i in range(pictures):
        picture(images / f"{i}.png", (16, 16), i)
    mask(masks, (16, 16), np.s_[3:9])
    peace = tmp_path / "peace"
    inpaint(images, masks, peace, batch_size=4)
    expected, killed = contents(peace), 0
    for number in range(rounds):
        out = tmp_path / f"out{number}"
        generator = random.Random(number)
        killed += run_until_done((images, masks, out), 4, 6.0, generator)
        assert contents(out) == expected
        rows = manifest(out)
        assert len(rows) == pictures
        assert all(row["status"] == "ok" for row in rows.values())
        left = [path for path in out.rglob("*") if path.suffix != ".png"]
        assert {x.name.partition("-")[0] for x in left if x.suffix != ".parquet"} == {
            "manifest",
            "_job.json",
            "_lock",
        }
    assert killed >= rounds


def test_progress_counts_what_is_left_out(folders, capsys):
    images, masks, out = folders
    (masks / "4.png").unlink()
    assert inpaint(images, masks, out) == 1
    assert "inpaint: 12/12 image" in capsys.readouterr().err


def test_rows_of_a_journal_become_a_table_piece_by_piece(folders, monkeypatch):
    monkeypatch.setattr("rad_jax.jobs.manifest.MOST_ROWS", 5)
    images, masks, out = folders
    inpaint(images, masks, out)
    assert {*manifest(out)} == {str(i) for i in range(12)}
    [path] = (out / "manifest").glob("*.parquet")
    assert pyarrow.parquet.ParquetFile(path).num_row_groups == 3
