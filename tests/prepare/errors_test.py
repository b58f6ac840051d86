"""Where a preparation stops: one line, and the finished files wait for the next."""

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from rad_jax.prepare import image_sets, images, shards
from rad_jax.prepare.command import prepare
from tests.data.image_files import (
    FILES,
    SIZE,
    encoded,
    tree,
    write_folder,
    write_zip,
)
from tests.files.zips import with_long_numbers, write_long_directory


def test_full_disk_keeps_what_is_finished(tmp_path, small_shards):
    """A limit on file size fails like a full disk, with EFBIG instead of ENOSPC."""
    flat = encoded(Image.new("L", (300, 300)))
    noise = encoded(Image.effect_noise((300, 300), 99))
    files = {f"{i:03d}.png": flat if i < 15 else noise for i in range(30)}
    cats = write_folder(tmp_path / "source", files)
    program = """
import resource, sys
from rad_jax.prepare import plan
from rad_jax.cli.main import main
plan.FEW_IMAGES = 4
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
sys.exit(main(sys.argv[1:]))
"""
    data = tmp_path / "data"
    arguments = ("prepare", "cats", "--source", cats, "--data_dir", data)
    arguments = [str(x) for x in (*arguments, "--size", 300)]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments, "--num_workers", "2"],
        capture_output=True,
        text=True,
        check=False,
    )
    incomplete = data / "cats" / ".incomplete"
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        f"rad-jax: {incomplete}/data: cannot be written (File too large); free some "
        "space and rerun the same command to resume, or choose another --data_dir"
    ), done.stderr
    assert "Traceback" not in done.stderr
    finished = {x.name: x.stat().st_mtime_ns for x in incomplete.glob("data/cats*")}
    assert 1 <= len(finished) < 8
    folder = Path(prepare("cats", data, cats, size=300, num_workers=1))
    assert {x: (folder / x).stat().st_mtime_ns for x in finished} == finished
    prepare("cats", tmp_path / "whole", cats, size=300, num_workers=1)
    assert tree(data) == tree(tmp_path / "whole")


@pytest.fixture
def begun(cats, tmp_path, monkeypatch, small_shards):
    """The arguments of a preparation that was stopped after two files."""

    def write(shard):
        calls.append(shard)
        if len(calls) == 3:
            raise KeyboardInterrupt
        yield from shards.write_shard(shard)

    calls = []
    with monkeypatch.context() as patch:
        patch.setattr(images, "write_shard", write)
        with pytest.raises(KeyboardInterrupt):
            prepare("cats", tmp_path / "data", cats, size=SIZE, num_workers=1)
    return ("prepare", "cats", "--source", cats, "--data_dir", tmp_path / "data")


def test_progress_counts_what_was_done_before(begun, capfd):
    from rad_jax.cli.main import main

    main([str(x) for x in (*begun, "--size", SIZE, "--num_workers", 1)])
    assert capfd.readouterr().err.startswith("cats: 30/30 img, ")


@pytest.mark.parametrize(
    ("change", "flags", "differs"),
    [
        ({}, ("--size", 9), "size 8, now 9"),
        ({"new.png": b"1"}, ("--size", SIZE), "images 30, now 31"),
        ({"000.png": b"1"}, ("--size", SIZE), "other names or sizes of files"),
        ({}, ("--size", SIZE, "--num_train", 20), "train 27, now 20"),
    ],
)
def test_other_source_or_settings_are_refused(begun, rad, change, flags, differs):
    incomplete = begun[-1] / "cats" / ".incomplete"
    before = tree(incomplete)
    write_folder(begun[3], change)
    code, _, err = rad(*begun, *flags, "--num_workers", 1)
    assert code == 2
    assert err == [
        f"rad-jax: {incomplete}: was begun with {differs}; go on as it was begun, or "
        "prepare into another --data_dir"
    ]
    assert tree(incomplete) == before


def test_two_preparations_at_once_are_refused(begun, rad):
    incomplete = begun[-1] / "cats" / ".incomplete"
    with (incomplete / "lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        code, _, err = rad(*begun, "--size", SIZE, "--num_workers", 1)
    assert (code, err) == (
        2,
        [
            f"rad-jax: {incomplete}: another preparation is at work there; wait for "
            "it, or stop it"
        ],
    )
    assert rad(*begun, "--size", SIZE, "--num_workers", 1)[0] == 0


def test_other_process_may_finish_meanwhile(cats, tmp_path, rad, monkeypatch):
    def overtaken(*arguments):
        monkeypatch.undo()
        prepare("cats", tmp_path / "data", cats, size=SIZE, num_workers=1)
        made.update(tree(tmp_path / "data"))
        return image_sets.find_images(*arguments)

    made = {}
    monkeypatch.setattr(images, "find_images", overtaken)
    arguments = ("--source", cats, "--data_dir", tmp_path / "data", "--num_workers", 1)
    code, out, err = rad("prepare", "cats", *arguments, "--size", SIZE)
    assert (code, err) == (0, [])
    assert out.endswith(f"prepared in {tmp_path}/data/cats/1.0.0\n")
    assert tree(tmp_path / "data") == made != {}


def test_prepared_data_set_is_left_alone(cats, tmp_path, rad):
    arguments = ("prepare", "cats", "--data_dir", tmp_path / "data", "--size")
    rad(*arguments, SIZE, "--source", cats, "--num_workers", 1)
    folder = tmp_path / "data" / "cats" / "1.0.0"
    before = tree(folder)
    for more in (("--source", cats), ("--source", "gone"), ()):
        code, out, _ = rad(*arguments, SIZE, *more)
        assert (code, out) == (0, f"cats: already prepared in {folder}\n")
    code, _, err = rad(*arguments, 16)
    assert (code, err) == (
        2,
        [
            f"rad-jax: {folder}: has images of 8x8 pixels, not 16x16; give --size 8 "
            "or another --data_dir"
        ],
    )
    assert tree(folder) == before


def test_source_that_goes_away_stops_it(cats, tmp_path, rad, monkeypatch):
    def vanish(shard):
        (cats / "005.png").unlink(missing_ok=True)
        yield from shards.write_shard(shard)

    monkeypatch.setattr(images, "write_shard", vanish)
    code, _, err = rad(
        *("prepare", "cats", "--source", cats, "--data_dir", tmp_path / "data"),
        *("--num_workers", 1),
    )
    assert code == 2
    assert err == [
        f"rad-jax: {cats}/005.png: cannot be read (No such file or directory); is it "
        "still there?"
    ]


SMALL = {"1.png": FILES["001.png"], "2.png": FILES["002.png"]}
IN_FOLDERS = {f"a/{name}": data for name, data in SMALL.items()}
REFUSED = [
    (("cats",), "gone", None, "source: no such file or folder; check the name"),
    (("cats",), "empty", {}, "source: holds no images; check the name"),
    (("cats",), "one", {"1.png": b""}, "source: holds 1 image; a data set takes 2"),
    (
        ("cats",),
        "all bad",
        {"1.png": b"", "2.png": b"x"},
        "source: not one image for the split 'train' can be used, e.g. 1.png: not a",
    ),
    (("cats", "--labels"), "no classes", SMALL, "source: '1.png' lies in no folder"),
    (("Cats",), "capital", SMALL, "data set 'Cats': cannot be its name; use lower"),
    (("folder",), "reserved", SMALL, "data set 'folder': cannot be its name"),
    (("../cats",), "path", SMALL, "data set '../cats': cannot be its name"),
    (("digits",), "digits", SMALL, "data set 'digits': takes no --source, nor what"),
    (("ffhq256", "--labels"), "none", IN_FOLDERS, "has no classes; leave out --labels"),
    (("imagenet256",), "flat", SMALL, "source: holds no folder of a class, such as"),
]


@pytest.mark.parametrize(
    ("arguments", "files", "reason"),
    [(x, files, reason) for x, _, files, reason in REFUSED],
    ids=[name for _, name, _, _ in REFUSED],
)
def test_refusals_are_one_line_and_leave_nothing(
    tmp_path, rad, arguments, files, reason
):
    if files is not None:
        (tmp_path / "source").mkdir()
        write_folder(tmp_path / "source", files)
    code, _, err = rad(
        *("prepare", *arguments, "--source", tmp_path / "source"),
        *("--data_dir", tmp_path / "data", "--num_workers", 1),
    )
    assert code == 2
    assert len(err) == 1
    assert reason in err[0]
    assert tree(tmp_path / "data") == {}


def test_a_bucket_is_refused(cats, rad):
    arguments = ("--source", cats, "--data_dir", "gs://bucket/data")
    code, _, err = rad("prepare", "cats", *arguments)
    assert code == 2
    assert "prepare into a local folder, then copy it" in err[0]


def test_names_need_a_source(tmp_path, rad):
    for name, reason in {
        "ffhq256": "give --source, the folder images1024x1024, or a zip or tar of it",
        "ffhq": "unknown; did you mean 'ffhq256'? known names: digits, photos, f",
        "cats": "unknown; known names: digits, ",
    }.items():
        code, _, err = rad("prepare", name, "--data_dir", tmp_path / "data")
        assert code == 2
        assert len(err) == 1
        assert reason in err[0]


def test_fewer_images_than_are_known_is_a_warning(cats, tmp_path, rad):
    arguments = ("--source", cats, "--data_dir", tmp_path, "--num_workers", 1)
    code, _, err = rad("prepare", "celeba_hq256", *arguments, "--size", SIZE)
    assert code == 0
    assert err == [
        f"rad-jax: warning: {cats}: holds 30 images, celeba_hq256 has 30000; going on "
        "with what is there"
    ]


def far_member(path):
    data = write_zip(path, FILES).read_bytes()
    path.write_bytes(with_long_numbers(data, 1, 1, 2**63))


@pytest.mark.parametrize(
    "write, match",
    [
        (far_member, "a member lies outside of the file"),
        (write_long_directory, "its directory is longer than 536870912 bytes"),
    ],
)
def test_hostile_zips(tmp_path, rad, write, match):
    source = tmp_path / "a.zip"
    write(source)
    arguments = ("--source", source, "--data_dir", tmp_path / "data", "--size", SIZE)
    code, _, err = rad("prepare", "cats", *arguments)
    said = f"rad-jax: {source}: is damaged or cut short ({match}); fetch it again"
    assert (code, err) == (2, [said])
