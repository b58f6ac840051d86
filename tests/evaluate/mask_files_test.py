import json

import numpy as np
import pytest
from PIL import Image

from rad_jax.errors import UserError
from rad_jax.evaluate import mask_files
from rad_jax.evaluate.mask_files import write_masks
from rad_jax.masks.evaluation import evaluation_mask


@pytest.mark.parametrize(("kind", "max_coverage"), [("wide", None), ("box", 0.5)])
def test_files_are_the_masks(tmp_path, kind, max_coverage):
    folder = tmp_path / "new" / "masks"
    write_masks(kind, 40, 5, 7, folder, max_coverage)
    names = [f"000{index}.png" for index in range(5)]
    assert {path.name for path in folder.iterdir()} == {
        *names,
        "contact_sheet.png",
        "coverage.json",
    }
    shares = []
    for index, name in enumerate(names):
        with Image.open(folder / name) as image:
            assert image.mode == "L"
            pixels = np.asarray(image)
        hole = evaluation_mask(kind, 40, seed=7, index=index, max_coverage=max_coverage)
        np.testing.assert_array_equal(pixels, np.where(hole, 255, 0))
        shares.append(hole.mean())
    summary = json.loads((folder / "coverage.json").read_text())
    assert summary["settings"] == {
        "kind": kind,
        "size": 40,
        "count": 5,
        "seed": 7,
        "max_coverage": max_coverage,
    }
    assert summary["mean"] == pytest.approx(np.mean(shares))
    assert summary["std"] == pytest.approx(np.std(shares))
    assert summary["min"] == min(shares)
    assert summary["max"] == max(shares)
    assert summary["deciles"] == pytest.approx(np.quantile(shares, np.arange(11) / 10))


def test_contact_sheet_shows_the_first_masks(tmp_path, monkeypatch):
    monkeypatch.setattr(mask_files, "_SHEET_TILES", 5)
    write_masks("box", 300, 7, 0, tmp_path)
    with Image.open(tmp_path / "contact_sheet.png") as image:
        sheet = np.asarray(image)
    side = 100 + 2  # every third pixel, and the frame
    assert sheet.shape == (2 * (side + 2) + 2, 3 * (side + 2) + 2, 3)
    for index in range(5):
        hole = evaluation_mask("box", 300, seed=0, index=index)[::3, ::3]
        top, left = (at * (side + 2) + 3 for at in divmod(index, 3))
        tile = sheet[top : top + 100, left : left + 100]
        np.testing.assert_array_equal(tile, np.where(hole, 255, 0)[..., None] + [0] * 3)
        assert (sheet[top - 1, left : left + 100] == 128).all()
    assert (sheet[side + 4 :, 2 * (side + 2) :] == 255).all()  # no sixth mask


def test_names_sort_beyond_four_digits(tmp_path, monkeypatch):
    monkeypatch.setattr(mask_files, "progress", lambda items, **_: list(items)[-2:])
    monkeypatch.setattr(mask_files, "_SHEET_TILES", 10**9)
    write_masks("box", 8, 10_001, 0, tmp_path)
    assert (tmp_path / "10000.png").exists()
    assert (tmp_path / "09999.png").exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kind": "extrme"}, "did you mean 'extreme'"),
        ({"size": 0}, "size is 0"),
        ({"seed": -2}, "seed is -2"),
        ({"count": 0}, "count of masks is 0"),
        ({"count": 10**9}, "from 1 to 1000000"),
        ({"max_coverage": 2.0}, "max_coverage"),
    ],
)
def test_refuses_nonsense_before_it_makes_a_folder(tmp_path, changed, message):
    settings = {"kind": "box", "size": 32, "count": 1, "seed": 0, **changed}
    with pytest.raises(UserError, match=message):
        write_masks(**settings, output=tmp_path / "masks")
    assert not (tmp_path / "masks").exists()


def test_never_mixes_with_other_files(tmp_path):
    (tmp_path / "0000.png").write_text("precious")
    with pytest.raises(UserError, match="holds files already"):
        write_masks("box", 32, 1, 0, tmp_path)
    assert (tmp_path / "0000.png").read_text() == "precious"
    assert len(list(tmp_path.iterdir())) == 1


def test_output_that_cannot_be_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    for output in (tmp_path / "file", tmp_path / "file" / "masks"):
        with pytest.raises(UserError, match="choose another"):
            write_masks("box", 32, 1, 0, output)


def test_full_disk_is_one_clear_line(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mask_files.Path, "write_text", full)
    with pytest.raises(UserError, match=r"coverage.json: cannot be written \(No space"):
        write_masks("box", 32, 1, 0, tmp_path)
