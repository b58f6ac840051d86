"""``rad-jax inpaint`` of many pictures: shards, workers, and the same command again."""

from pathlib import Path

import numpy as np
import pyarrow.parquet

from tests.inference.inpaint_command_test import HOLE, RGB, read, results, save
from tests.jobs.shard_files import png, read_shard, write_parquet, write_tar


def test_a_tar_by_the_command(inpaint):
    files = {f"{i}.png": png(RGB) for i in range(3)}
    masks = {f"{i}.mask.png": png(HOLE) for i in range(3)}
    write_tar(Path("a.tar"), files | masks)
    command = "--image", "a.tar", "--output", "o"
    code, out, err = inpaint(*command)
    assert (code, err) == (0, []) and "o/: 1 of 1 shards written" in out
    found = read_shard(Path("o/a.tar"))
    assert {*found} == {*files}
    code, out, err = inpaint(*command)
    assert (code, err) == (0, []) and "o/: 1 shards were there already" in out
    code, _, [line] = inpaint(*command, "--seed", 3)
    assert code == 2
    assert "o: holds results with seed 0, not 3; choose another output" in line
    # What the same picture becomes as a file.
    for name in files:
        save(Path("i") / name, RGB)
    save(Path("m.png"), HOLE)
    assert inpaint("--image", "i", "--mask", "m.png", "--output", "f")[0] == 0
    Path("one.png").write_bytes(found["1.png"])
    np.testing.assert_array_equal(read("one.png"), read("f/1.png"))


def test_columns_by_the_command(inpaint):
    write_parquet(Path("t.parquet"), [{"jpg": png(RGB), "hole": png(HOLE)}])
    command = "--image", "t.parquet", "--output", "o"
    code, _, err = inpaint(*command)
    assert (
        code == 2 and "left out t.parquet: t.parquet: has no column 'image'" in err[0]
    )
    code, _, err = inpaint(*command, "--columns", "image=jpg,mask=hole")
    assert (code, err) == (0, [])
    assert len(read_shard(Path("o/t.parquet"))) == 1
    code, _, [line] = inpaint(*command, "--columns", "picture=jpg")
    assert code == 2 and "must be some of image=X,mask=Y,id=Z" in line
    save(Path("i/a.png"), RGB)
    code, _, [line] = inpaint(
        *("--image", "i", "--mask", "i", "--output", "p", "--columns", "image=x")
    )
    assert code == 2 and "--columns is for Parquet and ArrayRecord files" in line
    code, _, [line] = inpaint("--image", "i", "--output", "p")
    assert code == 2 and "inpaint needs --mask, --mask_pattern or --extend" in line


def test_workers_by_the_command(inpaint, monkeypatch):
    for i in range(8):
        save(Path(f"i/{i}.png"), RGB)
    save(Path("m.png"), HOLE)
    command = "--image", "i", "--mask", "m.png", "--output", "o"
    assert inpaint(*command, "--shard", "0/2")[0] == 0
    first = results("o")
    assert 0 < len(first) < 8
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    code, _, [line] = inpaint(*command)
    assert code == 2 and "RAD_JAX_NUM_SHARDS is not; set it" in line
    monkeypatch.setenv("RAD_JAX_NUM_SHARDS", "2")
    code, _, err = inpaint(*command)
    assert (code, err) == (0, [])
    assert results("o") == [f"{i}.png" for i in range(8)]
    ids = pyarrow.parquet.read_table("o/manifest")["id"].to_pylist()
    assert sorted(ids) == [str(i) for i in range(8)]
