"""What goes wrong with many pictures, as a user of `rad-jax inpaint` sees it."""

import errno
import io
import os
import subprocess
import sys

import pytest
from PIL import Image

from rad_jax.inference.fill_regions import Fills
from rad_jax.jobs import inpaint_command, record
from tests.conftest import ROOT
from tests.jobs.files_test import noise
from tests.jobs.shard_files import (
    hole,
    members,
    picture,
    png,
    read_shard,
    write,
    write_parquet,
    write_tar,
)
from tests.jobs.shards_test import DAMAGED, ROWS


@pytest.fixture
def command(tiny_run, rad, tmp_path, monkeypatch):
    """``command()``: `rad-jax inpaint` of shards, by a stand-in for the network."""
    monkeypatch.setattr(inpaint_command, "_fills", lambda *_: Fills(noise, noise))

    def run(**changes):
        flags = {"model": tiny_run[0], "image": tmp_path / "i", "batch_size": 4}
        flags |= {"output": tmp_path / "o", **changes}
        return rad("inpaint", *(f"--{x}={y}" for x, y in flags.items()))

    return run


def test_damaged_shards_are_one_line_each_and_the_rest_is_done(command, tmp_path):
    folder = tmp_path / "i"
    write("tar", folder / "good", range(5))
    for number, (file, damage, _) in enumerate(DAMAGED.values()):
        damage(folder / f"{number}{file}")
    code, out, lines = command()
    assert code == 1 and len(lines) == len(DAMAGED)
    for number, (file, _, message) in enumerate(DAMAGED.values()):
        [line] = [x for x in lines if f"left out {number}{file}: " in x]
        assert message in line
    assert f"1 of {len(DAMAGED) + 1} shards written" in out
    assert sorted(x.name for x in (tmp_path / "o").iterdir()) == [
        "good.tar",
        "manifest",
    ]
    assert len(read_shard(tmp_path / "o" / "good.tar")) == 5
    bad = folder / "0bad.tar"
    code, _, lines = command(image=bad, output=tmp_path / "alone")
    assert code == 2 and "nothing could be filled" in lines[-1]


def test_bad_members_and_rows_are_one_line_each(command, tmp_path):
    """A name with .., a second of one id, no mask, no picture, bombs; rows without."""
    bomb = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "png")
    more = {
        "bomb.png": bomb.getvalue(),
        "bomb.mask.png": png(hole(5)),
        "../out.png": png(picture(5)),
        "../out.mask.png": png(hole(5)),
        "1.gif": png(picture(5)),
        "lonely.png": png(picture(5)),
        "no.png": b"hello",
        "no.mask.png": png(hole(5)),
    }
    write_tar(tmp_path / "i" / "a.tar", members(range(3)) | more)
    rows = [{"mask": png(hole(0)), **row} for row, _ in ROWS.values()]
    texts = [x for x in rows if isinstance(x["image"], str)]
    write_parquet(tmp_path / "i" / "t.parquet", texts)
    code, _, lines = command()
    assert code == 1 and len(lines) == 5 + len(texts)
    for part in (
        "a.tar/../out.png: its name leads out of the archive",
        "a.tar/1.gif: the shard has two of the id 1",
        "a.tar/lonely.png: has no mask",
        "a.tar/no.png: not a picture",
        "a.tar/bomb.png: more than 89478485 pixels",
        "its image is '../x.png'; give a path below the",
    ):
        assert sum(part in line for line in lines) == 1, (part, lines)
    assert {*read_shard(tmp_path / "o" / "a.tar")} == {"0.png", "1.png", "2.png"}


def test_an_output_of_another_job_or_version(command, tmp_path, monkeypatch):
    write("tar", tmp_path / "i" / "a", range(3))
    assert command()[0] == 0
    before = {x: x.read_bytes() for x in (tmp_path / "o").rglob("*") if x.is_file()}
    code, _, [line] = command(seed=1)
    assert code == 2 and "o: holds results with seed 0, not 1; choose another" in line
    code, _, [line] = command(dilate=1)
    assert code == 2 and "holds results with dilate 0, not 1" in line
    monkeypatch.setattr(record, "__version__", "9.9")
    code, _, [line] = command()
    assert code == 2 and "and this is 9.9; go on with that version" in line
    after = {x: x.read_bytes() for x in (tmp_path / "o").rglob("*") if x.is_file()}
    assert after == before


def test_a_full_disk_in_the_middle_of_a_shard(command, tiny_run, tmp_path):
    write("tar", tmp_path / "i" / "a", range(40))
    flags = {"model": tiny_run[0], "image": tmp_path / "i", "output": tmp_path / "o"}
    given = ["inpaint", "--batch_size=4", *(f"--{x}={y}" for x, y in flags.items())]
    code = f"""
import resource, sys
sys.path.insert(0, {str(ROOT)!r})
from rad_jax.cli.main import main
from rad_jax.inference.fill_regions import Fills
from rad_jax.jobs import inpaint_command
from tests.jobs.files_test import noise
inpaint_command._fills = lambda *_: Fills(noise, noise)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
sys.exit(main({given!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    [line] = [x for x in done.stderr.splitlines() if x.startswith("rad-jax: /")]
    assert done.returncode == 2
    assert f"cannot be written ({os.strerror(errno.EFBIG)}); free some space" in line
    left = [path for path in (tmp_path / "o").rglob("*") if path.is_file()]
    assert [path.name for path in left] == ["_job.json"]
    assert command()[0] == 0
    assert len(read_shard(tmp_path / "o" / "a.tar")) == 40
