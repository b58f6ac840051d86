"""The verb on files of a test's own folder."""

import pickle

import pytest

from rad_jax.checkpoints.model_folder import RECORD, check_free
from rad_jax.checkpoints.model_record import write_record
from rad_jax.files.atomic import atomic_folder


@pytest.fixture
def convert(rad, tmp_path):
    """``convert("a.pt", "m", ...)`` runs the verb on files of ``tmp_path``."""

    def run(source, output, *arguments):
        files = ["--input", tmp_path / source, "--output", tmp_path / output]
        return rad("convert", *files, *arguments)

    return run


@pytest.fixture
def quick_folders(monkeypatch):
    """Model folders without Orbax, which takes most of the time of a small network.

    `tests.convert.small.read_quick` reads them.
    """

    def write(folder, model, provenance, *, overwrite=False):
        check_free(folder, overwrite=overwrite)
        with atomic_folder(folder) as part:
            write_record(part / RECORD, model, provenance, crc32=0)
            (part / "model").write_bytes(pickle.dumps(model))

    monkeypatch.setattr("rad_jax.convert.parts.write_model", write)


@pytest.fixture
def converts(convert):
    """The same where it should work; returns what it prints."""

    def run(*arguments):
        code, out, err = convert(*arguments)
        assert (code, err) == (0, [])
        return out

    return run


@pytest.fixture
def refuses(convert, tmp_path):
    """The same where it should not: a line that begins so, and nothing is changed."""

    def run(*arguments, match, lines=1):
        before = snapshot(tmp_path)
        code, out, err = convert(*arguments)
        assert (code, len(err)) == (2, lines), err
        assert match in err[0], err
        assert "rad-jax: " not in out  # which says what is done
        assert snapshot(tmp_path) == before
        return err

    return run


def snapshot(folder):
    """All files below a folder and what they hold."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): path.read_bytes() for path in files} | {
        str(path): None for path in folder.rglob("*") if path.is_dir()
    }
