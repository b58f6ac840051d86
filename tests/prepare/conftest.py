import pytest

from tests.data.image_files import FILES, write_folder


@pytest.fixture
def cats(tmp_path):
    """A folder of 30 images."""
    return write_folder(tmp_path / "source", FILES)


@pytest.fixture
def small_shards(monkeypatch):
    """4 images to a file: 7 files to train on and one held out, of 30."""
    monkeypatch.setattr("rad_jax.prepare.plan.FEW_IMAGES", 4)
