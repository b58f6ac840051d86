import os
import subprocess
import sys

import pytest

from rad_jax.data.records import source
from rad_jax.errors import UserError
from rad_jax.prepare import digits
from rad_jax.prepare.command import prepare


def run(program, *arguments):
    """Runs a program in a new interpreter, which knows nothing of the tests."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def left_in(folder):
    return [name for _, _, names in os.walk(folder) for name in names]


def test_prepared_data_set_is_found_and_left_alone(tmp_path, capsys):
    folder = prepare("digits", tmp_path)
    assert str(folder) == str(tmp_path / "digits" / "1.0.0")
    out, err = capsys.readouterr()
    assert out == f"digits: prepared in {folder}\n"
    assert [line.split(",")[0] for line in err.splitlines()] == [
        "digits train: 1500/1500 img",
        "digits test: 297/297 img",
    ]
    assert os.listdir(tmp_path) == ["digits"]
    before = {name: os.stat(folder / name).st_mtime_ns for name in os.listdir(folder)}

    assert prepare("digits", tmp_path) == folder
    out, err = capsys.readouterr()
    assert out == f"digits: already prepared in {folder}\n"
    assert err == ""
    after = {name: os.stat(folder / name).st_mtime_ns for name in os.listdir(folder)}
    assert after == before


def test_unknown_name_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(UserError, match=r"'digit'.*did you mean 'digits'\?.*digits"):
        prepare("digit", tmp_path)
    with pytest.raises(UserError, match="known names: digits") as caught:
        prepare("cats", tmp_path)
    assert "did you mean" not in str(caught.value)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError, RuntimeError])
def test_interrupted_preparation_leaves_nothing(tmp_path, monkeypatch, error):
    def stop(pixels):
        calls.append(pixels)
        if len(calls) == 1600:  # in the second split
            raise error("stop")
        return enlarge(pixels)

    calls = []
    enlarge = digits.enlarge
    monkeypatch.setattr(digits, "enlarge", stop)
    with pytest.raises(error, match="stop"):  # not dressed up as a full disk
        prepare("digits", tmp_path)
    assert left_in(tmp_path) == []
    monkeypatch.undo()
    prepare("digits", tmp_path)
    assert len(source("digits", tmp_path, "test")) == 297


def test_killed_preparation_is_not_taken_for_whole(tmp_path):
    """A killed process cannot tidy up: its folder stays, under another name."""
    program = """
import os, sys
from rad_jax.prepare import digits
from rad_jax.prepare import command
digits.NUM_TRAIN = 1790
count = iter(range(10**6))
enlarge = digits.enlarge
digits.enlarge = lambda x: os._exit(7) if next(count) == 1795 else enlarge(x)
command.prepare("digits", sys.argv[1])
"""
    assert run(program, tmp_path).returncode == 7
    assert left_in(tmp_path) != []
    with pytest.raises(UserError, match="rad-jax prepare digits"):
        source("digits", tmp_path, "train")
    prepare("digits", tmp_path)
    assert len(source("digits", tmp_path, "train")) == 1500


def test_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    """A limit on file size fails like a full disk, with EFBIG instead of ENOSPC."""
    program = """
import resource, sys
from rad_jax.prepare.command import prepare
from rad_jax.errors import UserError
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    prepare("digits", sys.argv[1])
except UserError as error:
    print(error)
"""
    done = run(program, tmp_path)
    assert done.stdout == (
        f"{tmp_path}: cannot be written (File too large); "
        "free some space and rerun the same command to resume, or choose another "
        "--data_dir\n"
    ), done.stderr
    assert left_in(tmp_path) == []


def test_folder_that_is_a_file_is_refused(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(UserError, match=r"file: cannot be written \(.*directory"):
        prepare("digits", file)


def test_other_process_may_prepare_meanwhile(tmp_path, monkeypatch):
    def overtaken():
        monkeypatch.undo()
        prepare("digits", tmp_path)
        return digits.load_digits()

    monkeypatch.setattr(digits, "load_digits", overtaken)
    folder = prepare("digits", tmp_path)
    assert os.listdir(folder.parent) == ["1.0.0"]


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json", "digits-train"])
def test_incomplete_folder_is_not_called_prepared(tmp_path, name):
    folder = prepare("digits", tmp_path)
    [file] = folder.glob(f"{name}*")
    file.unlink()
    with pytest.raises(
        UserError, match=r"1\.0\.0: is damaged, incomplete .*; prepare it"
    ):
        prepare("digits", tmp_path)


def test_without_scikit_learn_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(UserError, match=r"pip install 'rad-jax\[demo\]'"):
        prepare("digits", tmp_path)
    assert left_in(tmp_path) == []


def test_neither_tensorflow_nor_torch_is_imported(tmp_path):
    program = """
import sys
from rad_jax.data import examples, pipeline, records, splits
from rad_jax.prepare.command import prepare
prepare("digits", sys.argv[1])
found = records.source("digits", sys.argv[1], "train")
to_example = examples.ToExample(channels=3, image_size=16)
next(pipeline.batches(found, to_example, batch_size=4, seed=0))
splits.load_split("digits", sys.argv[1], "test", 1)
heavy = {"tensorflow", "torch"} & {name.split(".")[0] for name in sys.modules}
print("imported:", sorted(heavy))
"""
    done = run(program, tmp_path)
    assert done.stdout.splitlines()[-1:] == ["imported: []"], done.stderr
