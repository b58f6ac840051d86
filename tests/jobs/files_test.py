"""Files in, files out, around a model that is a stub."""

import dataclasses
import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rad_jax.errors import UserError
from rad_jax.files.bucket import in_bucket
from rad_jax.files.collect import is_many
from rad_jax.files.destination import destination
from rad_jax.files.remarks import Remarks
from rad_jax.inference.file_options import FileOptions
from rad_jax.inference.fill_regions import Fills
from rad_jax.inference.inpaint_file import inpaint_file
from rad_jax.inference.picture_fill import FillSettings, sample_seed
from rad_jax.inference.regions import denoiser_sizes
from rad_jax.inference.strategy import StrategyOptions
from rad_jax.jobs.division import Division
from rad_jax.jobs.folder import fill_folder
from rad_jax.jobs.record import Job
from tests.conftest import ROOT

H, W = 251, 333


def noise(images, holes, seeds):
    """A model whose result depends on the seed of each image, as it should."""
    shape = images.shape[1:]
    return np.stack(
        [
            np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)
            for seed in seeds
        ]
    )


def white(images, holes, seeds):
    return np.ones_like(images)


def inpaint(image, mask, output, fill=noise, **changes):
    arguments = {"channels": 3, "sizes": denoiser_sizes(256, 16), "text": {}}
    arguments |= {"strategy": StrategyOptions(), "division": Division()}
    arguments |= {name: changes.pop(name) for name in arguments & changes.keys()}
    options = dataclasses.replace(FileOptions(batch_size=4), **changes)
    division = arguments.pop("division")
    settings = FillSettings(Fills(fill, fill), options=options, **arguments)
    many = any(map(in_bucket, (image, output))) or is_many(image)
    names = output.parts[-1] if in_bucket(output) else output
    target = destination(Path(names), None, alone=not many)
    if not many:
        inpaint_file(image, mask, target, settings, Remarks())
        return 0
    job = Job(str(image), str(mask), "model", "steps", {"seed": options.seed}, 1)
    given = image, mask, target, output, settings, job
    return fill_folder(*given, division, Remarks())


def picture(path, size=(H, W), seed=0):
    path.parent.mkdir(exist_ok=True)
    random = np.random.default_rng(seed)
    array = random.integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(array).save(path)
    return array


def mask(path, size=(H, W), box=(slice(3, 90), slice(200, None))):
    path.parent.mkdir(exist_ok=True)
    hole = np.zeros(size, bool)
    hole[box] = True
    Image.fromarray(hole).save(path)
    return hole


def read(path):
    with Image.open(path) as image:
        return np.asarray(image)


def results(out):
    """Files of results, in order."""
    return sorted(path for path in out.iterdir() if not path.is_dir())


def names(out):
    return [path.name for path in results(out)]


@pytest.fixture
def folders(tmp_path):
    """Three pictures of two sizes, and their masks."""
    for seed, (name, size) in enumerate(
        {"a": (H, W), "b": (64, 48), "c": (H, W)}.items()
    ):
        picture(tmp_path / "i" / f"{name}.png", size, seed)
        mask(tmp_path / "m" / f"{name}.png", size, np.s_[10:40, 10:30])
    return tmp_path / "i", tmp_path / "m", tmp_path / "out"


def test_one_picture_of_odd_size(tmp_path, capsys):
    array = picture(tmp_path / "a.png")
    hole = mask(tmp_path / "m.png")
    out = tmp_path / "out.png"
    seen = []

    def fill(images, holes, seeds):
        seen.append((images, holes, seeds))
        return white(images, holes, seeds)

    code = inpaint(
        tmp_path / "a.png", tmp_path / "m.png", out, fill, text={"seed": "0"}
    )
    assert code == 0
    np.testing.assert_array_equal(read(out), np.where(hole[..., None], 255, array))
    with Image.open(out) as image:
        assert image.info["seed"] == "0"
    ((images, holes, seeds),) = seen
    assert images.shape == (1, 256, 336, 3) and images.dtype == np.float32
    assert holes.shape == (1, 256, 336) and holes.dtype == np.float32
    np.testing.assert_array_equal(holes[0, :H, :W], hole)
    assert holes.sum() == hole.sum()  # padding is known
    assert seeds.dtype == np.uint32 and seeds.tolist() == [sample_seed(0, "a", 0)]
    assert str(out) in capsys.readouterr().out


def test_inverted_mask_and_one_channel(tmp_path):
    array = picture(tmp_path / "a.png", (20, 20))
    hole = mask(tmp_path / "m.png", (20, 20), np.s_[:9])
    out = tmp_path / "out.png"
    files = tmp_path / "a.png", tmp_path / "m.png", out
    inpaint(*files, white, invert_mask=True, channels=1)
    np.testing.assert_array_equal(read(out), np.where(hole[..., None], array, 255))


def test_folder_is_filled_size_by_size(folders, capsys):
    images, masks, out = folders
    shapes = []

    def fill(images, holes, seeds):
        shapes.append(images.shape)
        return white(images, holes, seeds)

    assert inpaint(images, masks, out, fill, num_samples=3, batch_size=4) == 0
    # 6 results of one size are a full batch and a half, 3 of the other are nearly one.
    assert shapes == [(4, 256, 336, 3)] * 2 + [(4, 64, 48, 3)]
    assert names(out) == [f"{name}_{i}.png" for name in "abc" for i in range(3)]
    for path in results(out):
        before, hole = (read(f / f"{path.name[0]}.png") for f in (images, masks))
        np.testing.assert_array_equal(
            read(path), np.where(hole[..., None], 255, before)
        )
    printed = capsys.readouterr().out
    assert f"{out}{os.sep}: 9 images" in printed and "s per image" in printed


def test_the_largest_batches_come_first(folders):
    """They need the most memory."""
    shapes = []

    def fill(images, holes, seeds):
        shapes.append(images.shape[:3])
        return noise(images, holes, seeds)

    images, masks, out = folders
    picture(images / "0.png", (500, 200))
    mask(masks / "0.png", (500, 200), np.s_[10:40, 10:30])
    inpaint(images, masks, out, fill)
    assert shapes == [(2, 256, 336), (1, 512, 208), (1, 64, 48)]


def test_last_batch_is_as_long_as_the_others(folders):
    lengths = []

    def fill(images, holes, seeds):
        lengths.append(len(images))
        return noise(images, holes, seeds)

    images, masks, out = folders
    inpaint(images / "a.png", masks, out, fill, num_samples=5, batch_size=4)
    assert lengths == [3, 3]
    assert len(list(out.iterdir())) == 5


def test_a_result_depends_on_its_own_name_and_seed_only(folders, tmp_path):
    images, masks, _ = folders

    def run(name, image, **options):
        out = tmp_path / name
        inpaint(image, masks, out, num_samples=2, **options)
        return {path.name: path.read_bytes() for path in results(out)}

    folder = run("folder", images)
    alone = run("alone", images / "c.png", batch_size=1)
    other = run("other", images, seed=1)
    assert alone == {name: folder[name] for name in ("c_0.png", "c_1.png")}
    assert all(other[name] != folder[name] for name in folder)
    assert len(set(folder.values())) == len(folder)


def test_seeds_are_as_documented():
    assert sample_seed(3, "cat", 1) == 3207574130  # zlib.crc32(b"3/cat/1")
    seeds = {
        sample_seed(s, f"{i}", j) for s in range(9) for i in range(99) for j in (0, 1)
    }
    assert len(seeds) == 9 * 99 * 2


def test_mask_without_a_hole_writes_the_picture_back(folders, capsys):
    images, masks, out = folders
    mask(masks / "b.png", (64, 48), np.s_[:0])
    assert inpaint(images, masks, out, num_samples=2) == 0
    for name in "b_0.png", "b_1.png":
        np.testing.assert_array_equal(read(out / name), read(images / "b.png"))
    lines = [line for line in capsys.readouterr().out.splitlines() if "no hole" in line]
    assert len(lines) == 1 and str(images / "b.png") in lines[0]


def test_the_model_is_not_asked_where_there_is_no_hole(tmp_path):
    array = picture(tmp_path / "a.png", (9, 9))
    mask(tmp_path / "m.png", (9, 9), np.s_[:0])
    inpaint(tmp_path / "a.png", tmp_path / "m.png", tmp_path / "o.png", pytest.fail)
    np.testing.assert_array_equal(read(tmp_path / "o.png"), array)


def test_mask_that_is_all_hole(tmp_path):
    picture(tmp_path / "a.png", (17, 19))
    mask(tmp_path / "m.png", (17, 19), np.s_[:])
    inpaint(tmp_path / "a.png", tmp_path / "m.png", tmp_path / "o.png", white)
    assert (read(tmp_path / "o.png") == 255).all()


def test_bad_pictures_are_left_out_of_a_folder(folders, capsys):
    images, masks, out = folders
    (images / "text.png").write_bytes(b"hello")
    mask(masks / "text.png")
    picture(images / "cut.jpg")  # its header is good: it fails in its batch
    mask(masks / "cut.png")
    os.truncate(images / "cut.jpg", 20_000)
    picture(images / "small.png", (9, 9))
    mask(masks / "small.png", (9, 8))
    assert inpaint(images, masks, out, batch_size=2) == 1
    assert names(out) == ["a.png", "b.png", "c.png"]
    errors = capsys.readouterr().err
    assert "left out text.png: " in errors and "not a picture" in errors
    assert "left out cut.jpg: " in errors and "truncated" in errors
    assert "left out small.png: " in errors and "8x9" in errors


@pytest.mark.parametrize("bad", ["image", "mask"])
def test_one_bad_picture_or_mask_is_an_error(bad, tmp_path):
    picture(tmp_path / "image.png")
    mask(tmp_path / "mask.png")
    (tmp_path / f"{bad}.png").write_bytes(b"hello")
    out = tmp_path / "o.png"
    with pytest.raises(UserError, match=rf"{bad}\.png: not a picture"):
        inpaint(tmp_path / "image.png", tmp_path / "mask.png", out)
    assert not out.exists()


def test_a_broken_mask_for_a_folder_is_one_error(folders):
    images, masks, out = folders
    (masks / "a.png").write_bytes(b"hello")
    with pytest.raises(UserError, match=r"a\.png: not a picture"):
        inpaint(images, masks / "a.png", out)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_model_that_returns_no_numbers_is_an_error(value, folders):
    images, masks, out = folders
    files = images / "a.png", masks, out / "a.png"
    with pytest.raises(UserError, match=r"i/a\.png: non-finite output of the model"):
        inpaint(*files, lambda images, holes, seeds: images * np.float32(value))
    assert not out.exists()


def test_the_result_of_one_picture_is_replaced(folders):
    images, masks, out = folders
    for fill in noise, white:
        inpaint(images / "b.png", masks, out, fill)
    assert (read(out / "b.png")[10:40, 10:30] == 255).all()
    assert [path.name for path in out.iterdir()] == ["b.png"]


def test_no_more_is_read_than_the_device_and_the_disk_can_follow(tmp_path, monkeypatch):
    for i in range(60):
        picture(tmp_path / "i" / f"{i}.png", (9, 9))
    mask(tmp_path / "m.png", (9, 9), np.s_[2:5])
    read, most = [], []
    real = sys.modules["rad_jax.inference.pipeline"].decode_pair

    def load(pair, options):
        read.append(pair)
        return real(pair, options)

    def fill(*arrays):
        out = tmp_path / "out"
        most.append(len(read) - len(list(out.glob("*.png"))))
        return noise(*arrays)

    monkeypatch.setattr("rad_jax.inference.pipeline.decode_pair", load)
    monkeypatch.setattr("rad_jax.inference.pipeline.MOST_THREADS", 2)
    inpaint(tmp_path / "i", tmp_path / "m.png", tmp_path / "out", fill, batch_size=2)
    assert len(read) == 60 and max(most) <= 30


def test_full_disk_stops_with_nothing_half_written(folders):
    images, masks, out = folders
    code = f"""
import pathlib, resource, sys
sys.path.insert(0, {str(ROOT)!r})
import rad_jax.errors
from tests.jobs import files_test
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
try:
    files_test.inpaint(
        *map(pathlib.Path, {[str(path) for path in (images, masks, out)]!r})
    )
except rad_jax.errors.UserError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    reason = os.strerror(errno.EFBIG)
    assert f"{out / 'a.png'}: cannot be written ({reason})" in run.stdout, run.stderr
    assert set(names(out)) <= {"b.png"}  # is small enough
    assert not list(out.rglob("*.part"))
