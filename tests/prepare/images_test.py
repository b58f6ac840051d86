"""Real image files become data sets that TFDS reads: the same ones, however made."""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rad_jax.data.records import source
from rad_jax.data.resize import center_crop
from rad_jax.data.sources import split_indices
from rad_jax.errors import UserError
from rad_jax.prepare import image_sets
from rad_jax.prepare.command import prepare
from tests.data.image_files import (
    FILES,
    SIZE,
    class_tars,
    encoded,
    picture,
    tar_bytes,
    tree,
    write_folder,
    write_lmdb,
    write_tar,
    write_zip,
)
from tests.data.sources_test import write_links


def pixels_of(record):
    return np.asarray(Image.open(io.BytesIO(record["image"])))


def test_links_and_other_files_are_counted(tmp_path, rad):
    path = write_links(tmp_path / "a.tar", encoded(picture(0)))
    with tarfile.open(path, "a") as archive:
        for name, content in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    command = ("prepare", "few", "--source", path, "--data_dir", tmp_path / "data")
    code, out, err = rad(*command, "--size", SIZE, "--num_workers", 1)
    assert (code, err) == (0, [])
    folder = tmp_path / "data" / "few" / "1.0.0"
    assert out.splitlines()[1:-1] == [
        "few: left out files that are no images: .txt 1",
        f"few: 3 images skipped, see {folder}/skipped.txt",
        *out.splitlines()[3:-1],
    ]
    skipped = (folder / "skipped.txt").read_text()
    assert "b/soft.png: a link to '../a/real.png', which is not followed\n" in skipped


def test_every_image_is_there_once_with_its_name(cats, tmp_path, rad, small_shards):
    data = tmp_path / "data"
    code, out, err = rad(
        *("prepare", "cats", "--source", cats, "--data_dir", data),
        *("--size", SIZE, "--num_workers", 1),
    )
    folder = data / "cats" / "1.0.0"
    assert (code, err) == (0, [])
    assert out.splitlines() == [
        f"cats: looking through {cats}",
        "cats: 27 train, 3 validation",
        f"cats: prepared in {folder}",
    ]
    assert os.listdir(data / "cats") == ["1.0.0"]
    found = {}
    for split, ids in split_indices(30).items():
        records = source("cats", data, split)
        builder_names = [sorted(FILES)[i] for i in ids]
        for i, name in enumerate(builder_names):
            found[name] = pixels_of(records[i])
        assert len(records) == len(ids)
    assert set(found) == set(FILES)
    for name, pixels in found.items():
        expected = np.asarray(center_crop(picture(int(name[:3])), SIZE))
        np.testing.assert_array_equal(pixels, expected)


def test_tfds_reads_it_with_names_and_labels(cats, tmp_path):
    from tensorflow_datasets.core import read_only_builder

    (tmp_path / "tree").mkdir()
    for name in FILES:
        (tmp_path / "tree" / f"class{int(name[:3]) % 3}").mkdir(exist_ok=True)
        (cats / name).rename(tmp_path / "tree" / f"class{int(name[:3]) % 3}" / name)
    prepare(
        "cats",
        tmp_path / "data",
        tmp_path / "tree",
        size=SIZE,
        num_workers=1,
        labels=True,
    )
    builder: Any = read_only_builder.builder_from_files(
        "cats", data_dir=str(tmp_path / "data")
    )
    features: Any = builder.info.features
    assert features["label"].names == ["class0", "class1", "class2"]
    assert features["image"].shape == (SIZE, SIZE, 3)
    assert builder.info.splits["train"].num_examples == 27
    seen = []
    for split in ("train", "validation"):
        for example in builder.as_data_source(split=split):
            name = example["id"].decode()
            assert name.startswith(f"class{example['label']}/")
            expected = center_crop(picture(int(name[-7:-4])), SIZE)
            np.testing.assert_array_equal(example["image"], np.asarray(expected))
            seen.append(name[-7:])
    assert sorted(seen) == sorted(FILES)


def test_number_of_workers_changes_no_byte(cats, tmp_path, small_shards):
    (cats / "012.png").write_bytes(b"broken")
    made = []
    for i, workers in enumerate((1, 2)):
        folder = prepare(
            "cats", tmp_path / f"{i}", cats, size=SIZE, num_workers=workers
        )
        made.append(tree(tmp_path / f"{i}"))
        assert len(list(folder.glob("*.array_record*"))) == 8
    assert made[0] == made[1]


KILLED = """
import sys
from rad_jax.prepare import plan
from rad_jax.prepare.command import prepare
plan.FEW_IMAGES = 4
prepare("cats", sys.argv[1], sys.argv[2], size=8, num_workers=2)
"""


def test_killed_preparation_goes_on(tmp_path, small_shards):
    """The finished files stay as they are; in the end nothing tells of the kill."""
    # Large enough that the first files are done long before the last one.
    files = {f"{i:03d}.png": encoded(picture(i).resize((400, 400))) for i in range(30)}
    cats = write_folder(tmp_path / "source", files)
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = subprocess.Popen([sys.executable, "-c", KILLED, killed, cats])
    while len(done := list(killed.glob("cats/.incomplete/records/*.json"))) < 2:
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    incomplete = killed / "cats" / ".incomplete"
    done = [incomplete / "data" / path.stem for path in done]
    assert len(list((incomplete / "records").iterdir())) < 8
    with pytest.raises(UserError, match="holds no data set 'cats'"):
        source("cats", killed, "train")
    (incomplete / "data" / ".cats-train.part").write_text("half of something")
    before = {path.name: path.stat().st_mtime_ns for path in done}

    folder = Path(prepare("cats", killed, cats, size=SIZE, num_workers=1))
    after = {name: (folder / name).stat().st_mtime_ns for name in before}
    assert after == before
    prepare("cats", whole, cats, size=SIZE, num_workers=1)
    assert tree(killed) == tree(whole)


def test_kinds_of_source_make_the_same_data_set(tmp_path):
    write_folder(tmp_path / "0", FILES)
    write_zip(tmp_path / "1", FILES)
    write_tar(tmp_path / "2", FILES)
    for i in range(3):
        prepare("cats", tmp_path / f"d{i}", tmp_path / f"{i}", size=SIZE, num_workers=1)
    assert tree(tmp_path / "d0") == tree(tmp_path / "d1") == tree(tmp_path / "d2")


IMAGENET = {
    f"n0144076{i % 3}/n0144076{i % 3}_{i}.JPEG": encoded(picture(i), "JPEG")
    for i in range(12)
}


def test_imagenet_is_the_same_from_its_tar_its_tars_and_its_folders(tmp_path, rad):
    official = {"ILSVRC2012_img_train.tar": tar_bytes(class_tars(IMAGENET))}
    others = {"ILSVRC2012_img_val.tar": tar_bytes({"x.JPEG": b""}), "devkit.gz": b""}
    kaggle = {f"ILSVRC/train/{name}": data for name, data in IMAGENET.items()}
    kaggle |= {"ILSVRC/val/1.JPEG": b"", "ILSVRC/test/1.JPEG": b""}
    write_folder(tmp_path / "official", official | others)
    (tmp_path / "tar").write_bytes(official["ILSVRC2012_img_train.tar"])
    write_folder(tmp_path / "tars", class_tars(IMAGENET))
    write_folder(tmp_path / "tree", IMAGENET)
    write_zip(tmp_path / "kaggle", kaggle)
    made = {}
    for kind in ("official", "tar", "tars", "tree", "kaggle"):
        data = tmp_path / f"data_{kind}"
        code, _, err = rad(
            *("prepare", "imagenet256", "--source", tmp_path / kind),
            *("--data_dir", data, "--size", SIZE, "--num_workers", 1),
        )
        assert code == 0, err
        assert [x.split(": holds ")[1] for x in err] == [
            "3 classes, imagenet256 has 1000; going on with what is there",
            "12 images, imagenet256 has 1281167; going on with what is there",
        ]
        made[kind] = tree(data)
        labels = {x["label"] for x in source("imagenet256", data, "train")}
        assert labels == {0, 1, 2}
    assert made["official"] == made["tar"] == made["tars"] == made["tree"]
    images = {x["image"] for x in source("imagenet256", data, "train")}
    assert images == {
        x["image"] for x in source("imagenet256", tmp_path / "data_tar", "train")
    }  # but for longer names


def test_lsun_is_cut_to_what_the_paper_takes(tmp_path, rad):
    bedrooms = {f"{i:040x}": encoded(picture(i), "WEBP") for i in range(20)}
    write_lmdb(tmp_path / "lmdb", bedrooms)
    arguments = ("prepare", "lsun_bedroom256", "--source", tmp_path / "lmdb")
    arguments += ("--size", SIZE)
    about = image_sets.IMAGE_SETS["lsun_bedroom256"]
    assert about.num_train == 288_000
    code, out, err = rad(*arguments, "--data_dir", tmp_path / "a", "--num_workers", 1)
    assert code == 0
    assert "lsun_bedroom256: 18 train, 2 validation" in out
    assert "holds 20 images, lsun_bedroom256 has 3033042; going on" in err[0]
    # In two processes too: LMDB must not be opened before a fork.
    code, out, _ = rad(
        *arguments, "--data_dir", tmp_path / "b", "--num_train", 5, "--num_workers", 2
    )
    assert "lsun_bedroom256: 5 train, 2 validation" in out
    everything, some = (
        {x["image"] for x in source("lsun_bedroom256", tmp_path / name, "train")}
        for name in "ab"
    )
    assert some < everything


def test_bad_images_are_skipped_and_reported(cats, tmp_path, rad):
    write_folder(
        cats,
        {
            "000.png": b"",
            "007.png": FILES["007.png"][:-300],
            "a\nb.png": b"text",
            "long.png": encoded(Image.new("L", (1, 5000))),
        },
    )
    huge = cats / "huge.png"
    with huge.open("wb") as file:
        file.truncate(1 << 29)  # a hole: it takes no space
    data = tmp_path / "data"
    code, out, err = rad(
        *("prepare", "cats", "--source", cats, "--data_dir", data),
        *("--size", 256, "--num_workers", 1),
    )
    report = data / "cats" / "1.0.0" / "skipped.txt"
    assert (code, err) == (0, [])
    assert f"cats: 5 images skipped, see {report}\n" in out
    lines = sorted(report.read_text().splitlines())
    assert len(lines) == 5
    for line, start in zip(
        lines,
        (
            "000.png: not a picture",
            "007.png: ",
            "a?b.png: not a picture",
            "huge.png: 512 MiB, more than 256",
            "long.png: 1x5000 pixels are too long and thin",
        ),
        strict=True,
    ):
        assert line.startswith(start)
    counts = [len(source("cats", data, split)) for split in ("train", "validation")]
    assert sum(counts) == 33 - 5


def test_file_of_bad_images_only_is_no_hindrance(tmp_path, small_shards):
    files = {
        f"{i:03d}.png": FILES[f"{i:03d}.png"] if i > 20 else b"" for i in range(30)
    }
    prepare(
        "cats",
        tmp_path / "data",
        write_folder(tmp_path / "source", files),
        size=SIZE,
        num_workers=1,
    )
    records = source("cats", tmp_path / "data", "train")
    info = json.loads((tmp_path / "data/cats/1.0.0/dataset_info.json").read_text())
    lengths = [int(x) for x in info["splits"][0]["shardLengths"]]
    assert 0 in lengths
    assert len(records) == sum(lengths)
    for i in range(len(records)):
        assert pixels_of(records[i]).shape == (SIZE, SIZE, 3)
