"""The same images from every kind of source, and what is said of broken ones."""

import gzip
import io
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from rad_jax.data import image_file, sources
from rad_jax.data.image_file import BadImage
from rad_jax.data.sources import Images, fingerprint, open_images
from rad_jax.errors import UserError
from tests.data.image_files import (
    class_tars,
    tar_bytes,
    write_folder,
    write_lmdb,
    write_tar,
    write_zip,
)
from tests.files.zips import with_long_numbers, write_long_directory

# Nothing here is decoded: any bytes will do. Sorted, folders by folder.
FILES = {
    f"{folder}/{i}.{suffix}": f"{folder}{i}".encode() * (600 * i + 1)
    for folder in ("n01440764", "n01443537", "n02007558")
    for i, suffix in enumerate(("JPEG", "png", "webp"))
}
JUNK = {
    "readme.txt": b"x",
    ".hidden.png": b"x",
    "__MACOSX/n01440764/._0.JPEG": b"x",
    "Thumbs.db": b"x",
}


SOURCES = {
    "folder": lambda path: write_folder(path, FILES | JUNK),
    "deflated zip": lambda path: write_zip(path, FILES | JUNK),
    "stored zip": lambda path: write_zip(path, FILES | JUNK, zipfile.ZIP_STORED),
    "tar": lambda path: write_tar(path, FILES | JUNK),
    "GNU tar": lambda path: write_tar(path, FILES, tar_format=tarfile.GNU_FORMAT),
    "tar of .": lambda path: write_tar(path, {f"./{k}": v for k, v in FILES.items()}),
    "tar of tars": lambda path: write_tar(path, class_tars(FILES) | JUNK),
    "folder of tars": lambda path: write_folder(path, class_tars(FILES) | JUNK),
    "folder of a tar": lambda path: write_folder(path, {"a.tar": tar_bytes(FILES)}),
    "LMDB": lambda path: write_lmdb(path, FILES),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_kind_of_source_holds_the_same(tmp_path, kind):
    images = open_images(SOURCES[kind](tmp_path / "source"))
    assert isinstance(images, Images)
    assert list(images.names) == sorted(FILES)
    read = {name: images.read(i) for i, name in enumerate(images.names)}
    assert read == FILES


@pytest.mark.parametrize("kind", SOURCES)
def test_some_of_them_go_to_another_process(tmp_path, kind):
    images = open_images(SOURCES[kind](tmp_path / "source"))
    ids = [4, 0, 8]  # in any order
    some = images.take(ids)
    assert list(some.names) == [images.names[i] for i in ids]
    pickled = pickle.dumps(some)
    assert len(pickled) < 1500
    program = "import pickle, sys; print(pickle.load(sys.stdin.buffer).read(2).hex())"
    done = subprocess.run(
        [sys.executable, "-c", program], input=pickled, capture_output=True, check=True
    )
    assert bytes.fromhex(done.stdout.decode()) == FILES[images.names[8]]


@pytest.mark.parametrize("kind", ["folder", "deflated zip", "tar", "LMDB"])
def test_threads_may_read_at_once(tmp_path, kind):
    images = open_images(SOURCES[kind](tmp_path / "source"))
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(images.read, [*range(len(FILES))] * 50))
    assert read == [FILES[name] for name in images.names] * 50


def test_fingerprint_tells_other_names_and_contents(tmp_path):
    seen = set()
    files = dict(FILES)
    for i, change in enumerate(({}, {"new.png": b"1"}, {"new.png": b"12"})):
        files |= change
        for kind in (write_folder, write_zip, write_tar, write_lmdb):
            there = f"{i}{kind.__name__}"
            first = fingerprint(open_images(kind(tmp_path / there, files)))
            again = fingerprint(open_images(tmp_path / there))
            assert first == again
            seen.add((kind.__name__, first))
    # An LMDB's file grows by whole pages.
    assert len(seen) == 12 - 1
    same_size = write_zip(tmp_path / "crc", files | {"new.png": b"34"})
    assert ("write_zip", fingerprint(open_images(same_size))) not in seen


def test_links_are_followed_but_not_in_circles(tmp_path):
    folder = write_folder(tmp_path / "a", {"b/1.png": b"1"})
    elsewhere = write_folder(tmp_path / "c", {"2.png": b"2"})
    (folder / "b" / "up").symlink_to(folder)
    (folder / "linked").symlink_to(elsewhere)
    (folder / "3.png").symlink_to(elsewhere / "2.png")
    (folder / "4.png").symlink_to("nowhere")
    os.mkfifo(folder / "pipe.png")  # to open it would be to wait for ever
    images = open_images(folder)
    assert images.names == ["3.png", "4.png", "b/1.png", "linked/2.png"]
    assert images.read(0) == b"2"
    with pytest.raises(BadImage, match=r"^4.png: broken symlink"):
        images.read(1)


def write_links(path, content=b"1"):
    """A tar with a real image, a hard link to it, and what cannot be read there."""
    links = {
        "a/hard.png": (tarfile.LNKTYPE, "./a/real.png"),
        "b/out.png": (tarfile.LNKTYPE, "/etc/passwd"),
        "b/soft.png": (tarfile.SYMTYPE, "../a/real.png"),
        "b/pipe.png": (tarfile.FIFOTYPE, ""),
    }
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("a/real.png")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
        for name, (kind, target) in links.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
        archive.addfile(tarfile.TarInfo("a/notes.TXT"))
        archive.addfile(tarfile.TarInfo("a/.hidden"))
    return path


def test_hard_links_in_a_tar_are_followed_and_others_reported(tmp_path):
    images = open_images(write_links(tmp_path / "a.tar"))
    found = dict(zip(images.names, range(5), strict=True))
    assert [images.read(found[f"a/{name}.png"]) for name in ("real", "hard")] == [
        b"1",
        b"1",
    ]
    for name, reason in (
        ("out", "a link to '/etc/passwd', which is not followed"),
        ("soft", "a link to '../a/real.png', which is not followed"),
        ("pipe", "no regular file"),
    ):
        with pytest.raises(BadImage, match=f"^b/{name}.png: {reason}"):
            images.read(found[f"b/{name}.png"])
    assert images.others == {".txt": 1}


@pytest.mark.parametrize("write", [write_folder, write_zip, write_tar])
def test_what_is_no_image_is_counted_by_suffix(write, tmp_path):
    files = {"a.png": b"1", "b.jfif": b"2", "c.txt": b"3", "d/e.XML": b"4"}
    odd = {"d/f.xml": b"5", "README": b"6", ".hidden.txt": b"7", "__MACOSX/x": b"8"}
    images = open_images(write(tmp_path / "a", files | odd))
    assert images.names == ["a.png", "b.jfif"]
    assert images.others == {".txt": 1, ".xml": 2, "no suffix": 1}


def test_names_that_are_not_utf8_are_read(tmp_path):
    name = os.fsdecode(b"\xff.png")
    (tmp_path / name).write_bytes(b"1")
    images = open_images(tmp_path)
    assert [images.read(i) for i in range(len(images.names))] == [b"1"]
    fingerprint(images)


REFUSED = {
    "missing": (lambda path: None, "no such file or folder; check the name"),
    "empty folder": (lambda path: path.mkdir(), "holds no images"),
    "no images": (lambda path: write_folder(path, JUNK), "holds no images"),
    "zip without images": (lambda path: write_zip(path, JUNK), "holds no images"),
    "text": (lambda path: path.write_text("hello"), "neither a zip nor a tar"),
    "empty file": (lambda path: path.write_bytes(b""), "neither a zip nor a tar"),
    "compressed tar": (
        lambda path: path.write_bytes(gzip.compress(tar_bytes(FILES))),
        "is compressed; unpack it first: gunzip",
    ),
    "cut zip": (
        lambda path: path.write_bytes(write_zip(path, FILES).read_bytes()[:-100]),
        "neither a zip nor a tar",
    ),
    "broken zip": (
        lambda path: path.write_bytes(
            write_zip(path, FILES).read_bytes().replace(b"PK\1\2", b"PK\1\3")
        ),
        "is damaged or cut short",
    ),
    "zip with a member at 2**63": (
        lambda path: path.write_bytes(
            with_long_numbers(write_zip(path, FILES).read_bytes(), 1, 1, 2**63)
        ),
        "is damaged or cut short .a member lies outside of the file.; fetch it again",
    ),
    "zip with a member of 2**64": (
        lambda path: path.write_bytes(
            with_long_numbers(write_zip(path, FILES).read_bytes(), 1, 2**64 - 1, 0)
        ),
        "is damaged or cut short .a member lies outside of the file.; fetch it again",
    ),
    "zip with gigabytes of directory": (
        write_long_directory,
        "is damaged or cut short .its directory is longer than 536870912 bytes",
    ),
    "no LMDB": (
        lambda path: write_folder(path, {"data.mdb": b"x" * 9000}),
        "is no LMDB, or damaged",
    ),
    "empty LMDB": (
        lambda path: write_folder(path, {"data.mdb": b""}),
        "is no LMDB, or damaged|is cut short",
    ),
    "tar member twice": (
        lambda path: path.write_bytes(
            tar_bytes({"a/b.png": b"1"})[:1024] + tar_bytes({"a/b.png": b"2"})
        ),
        "holds 'a/b.png' twice",
    ),
    "two of a folder's zips": (
        lambda path: (
            path.mkdir(),
            write_zip(path / "x.zip", {"a.png": b""}),
            write_tar(path / "x.tar", {"a.png": b""}),
        ),
        "holds 'x/a.png' twice",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_sources_are_named_in_one_line(tmp_path, kind):
    write, reason = REFUSED[kind]
    write(tmp_path / "source")
    with pytest.raises(UserError, match=f"source.*({reason})") as caught:
        open_images(tmp_path / "source")
    assert "\n" not in str(caught.value)


def test_tar_cut_anywhere_is_refused(tmp_path):
    whole = {"nested": tar_bytes(class_tars(FILES)), "flat": tar_bytes(FILES)}
    for data in whole.values():
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            last = archive.getmembers()[-1]
        end = last.offset_data + -(-last.size // 512) * 512  # of what is not the end
        for cut in [*range(1, end, 7 * 512), *range(512, end + 1, 512)]:
            (tmp_path / "a.tar").write_bytes(data[:cut])
            with pytest.raises(UserError, match=r"a.tar.*(cut short|neither)"):
                open_images(tmp_path / "a.tar")
        (tmp_path / "a.tar").write_bytes(data[: end + 512])
        assert open_images(tmp_path / "a.tar").names == sorted(FILES)


def test_tar_with_a_broken_header_is_refused(tmp_path):
    data = bytearray(tar_bytes(FILES))
    data[data.index(b"n01443537/0") + 150] ^= 1  # in its checksum
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(UserError, match=r"a.tar: is damaged or cut short at byte \d+;"):
        open_images(tmp_path / "a.tar")


def test_lmdb_cut_short_is_refused_before_it_kills_us(tmp_path):
    path = write_lmdb(tmp_path / "a", FILES) / "data.mdb"
    size = path.stat().st_size
    os.truncate(path, size - 4096)
    with pytest.raises(UserError, match=f"data.mdb: is cut short, {size - 4096} bytes"):
        open_images(tmp_path / "a")


def test_without_lmdb_one_line_says_what_to_install(tmp_path, monkeypatch):
    write_lmdb(tmp_path / "a", FILES)
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(UserError, match=r"a: is an LMDB.*pip install 'rad-jax\[lmdb\]"):
        open_images(tmp_path / "a")


def zip_with(tmp_path, change, method=zipfile.ZIP_DEFLATED):
    """A zip of a.png and b.png; ``change`` edits the bytes of the archive."""
    path = write_zip(tmp_path / "x.zip", {"a.png": b"a" * 999, "b.png": b"b"}, method)
    path.write_bytes(change(path.read_bytes()))
    return open_images(path)


def encrypted(data):
    """Sets the bit that says so, in the directory at the end."""
    at = data.index(b"PK\1\2") + 8
    return data[:at] + bytes([data[at] | 1]) + data[at + 1 :]


def with_size(size):
    at = 24  # of the size, in an entry of the directory
    return lambda data: (
        data[: (entry := data.index(b"PK\1\2")) + at]
        + struct.pack("<I", size)
        + data[entry + at + 4 :]
    )


BAD_MEMBERS = {
    "encrypted": (encrypted, "encrypted"),
    "stated too small": (with_size(500), "wrong checksum"),
    "stated too large": (with_size(2000), "wrong checksum"),
    "stated huge": (with_size(2**31), "2048 MiB, more than 256"),
    "damaged": (lambda data: data.replace(b"KL", b"??", 1), "damaged in the zip"),
    "elsewhere": (lambda data: data.replace(b"PK\3\4", b"PK\3\5", 1), "not where"),
}


@pytest.mark.parametrize("kind", BAD_MEMBERS)
def test_bad_member_of_a_zip_leaves_the_others(tmp_path, kind):
    change, reason = BAD_MEMBERS[kind]
    images = zip_with(tmp_path, change)
    with pytest.raises(BadImage, match=f"^a.png: .*{reason}"):
        images.read(0)
    assert images.read(1) == b"b"


def test_damage_that_only_the_checksum_shows(tmp_path):
    images = zip_with(
        tmp_path, lambda x: x.replace(b"aa", b"ab", 1), zipfile.ZIP_STORED
    )
    with pytest.raises(BadImage, match=r"^a.png: .*wrong checksum"):
        images.read(0)


def test_other_compression_is_named(tmp_path):
    images = zip_with(tmp_path, lambda data: data, zipfile.ZIP_LZMA)
    with pytest.raises(BadImage, match=r"a.png: compressed by method 14"):
        images.read(0)


@pytest.mark.parametrize("kind", ["folder", "stored zip", "tar", "LMDB"])
def test_huge_files_are_not_read(tmp_path, kind, monkeypatch):
    images = open_images(SOURCES[kind](tmp_path / "source"))
    monkeypatch.setattr(image_file, "MAX_BYTES", 1000)
    i = list(images.names).index("n01440764/1.png")
    with pytest.raises(BadImage, match=r"^n01440764/1.png: 0 MiB, more than 0"):
        images.read(i)
    assert images.read(0) == b"n014407640"


def test_source_that_went_away_is_no_bad_image(tmp_path):
    """Else a disk that is unplugged would be a million skipped images."""
    for kind in ("folder", "tar"):
        images = open_images(SOURCES[kind](tmp_path / kind))
        os.rename(tmp_path / kind, tmp_path / "elsewhere")
        with pytest.raises(UserError, match=f"{kind}.*is it still there") as caught:
            images.read(0)
        assert not isinstance(caught.value, BadImage)
        os.rename(tmp_path / "elsewhere", tmp_path / f"{kind}.away")
    images = open_images(write_tar(tmp_path / "b.tar", FILES))
    os.truncate(tmp_path / "b.tar", 1000)
    with pytest.raises(UserError, match=r"b.tar: ends before.*changed") as caught:
        images.read(8)
    assert not isinstance(caught.value, BadImage)


def test_split_is_fair_and_always_the_same():
    for count in (1, 2, 9, 10, 11, 345, 10_001, 70_000):
        parts = sources.split_indices(count)
        held_out = {1: 0, 2: 1, 9: 1, 10: 1, 11: 2, 345: 35}.get(count, 1000)
        assert len(parts["validation"]) == held_out
        together = np.concatenate([*parts.values()])
        np.testing.assert_array_equal(np.sort(together), np.arange(count))
        np.testing.assert_array_equal(parts["train"], np.sort(parts["train"]))
    # As published: whoever trained on a set must find the same images held out.
    assert sources.split_indices(70_000)["validation"][:3].tolist() == [
        10840,
        56267,
        14849,
    ]
    assert sources.split_indices(20)["validation"].tolist() == [18, 1]


def test_fewer_to_train_on_are_some_of_the_others():
    everything = sources.split_indices(5000)
    some = sources.split_indices(5000, 300)
    np.testing.assert_array_equal(some["validation"], everything["validation"])
    assert len(some["train"]) == 300 == len(set(some["train"]))
    assert set(some["train"]) < set(everything["train"])
    assert some["train"].max() > 4000 > 1000 > some["train"].min()
    assert len(sources.split_indices(5000, 10**6)["train"]) == 4500
