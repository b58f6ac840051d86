"""The directory of a zip archive, as Python's zipfile reads it."""

import io
import struct
import zipfile

import pytest

from rad_jax.files.zip_directory import is_zip, zip_members
from tests.files.zips import with_long_numbers

MOST = 2**16


def archive(*, before=b"", comment=b"", method=zipfile.ZIP_STORED):
    file = io.BytesIO()
    file.write(before)
    with zipfile.ZipFile(file, "a", method) as opened:
        opened.writestr("a/1.png", b"1" * 100)
        opened.writestr("a/п.png", b"2" * 99)
        with opened.open("long", "w", force_zip64=True) as member:
            member.write(b"3")
        opened.comment = comment
    return file.getvalue()


INTACT = {
    "stored": archive(),
    "deflated": archive(method=zipfile.ZIP_DEFLATED),
    "after other bytes": archive(before=b"#!/bin/sh\n"),
    "with a comment": archive(comment=b"x" * 999),
    "of 64 bits": with_long_numbers(archive(), 1, 1, 200),
}


@pytest.fixture(params=["32 bits", "64 bits"])
def data(request, monkeypatch):
    """An archive whose end has numbers of 32 bits, and of 64."""
    if request.param == "64 bits":
        monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 2)
    return archive(before=b"12")


@pytest.fixture
def read(tmp_path):
    """``read(data)``: the members of an archive of these bytes."""

    def members(data):
        path = tmp_path / "a.zip"
        path.write_bytes(data)
        with path.open("rb") as file:
            found = list(zip_members(file, MOST))
            assert is_zip(file)
        return found

    return members


def assert_as_zipfile(read, data):
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        expected = [
            (
                *(info.filename, info.header_offset, info.compress_size),
                *(info.file_size, info.compress_type, info.CRC, False),
            )
            for info in opened.infolist()
        ]
    assert list(map(tuple, read(data))) == expected


@pytest.mark.parametrize("kind", INTACT)
def test_as_zipfile_reads_it(read, kind):
    assert_as_zipfile(read, INTACT[kind])


def test_ends_of_both_kinds(read, data):
    assert_as_zipfile(read, data)


def test_encrypted_members(read, data):
    at = data.index(b"PK\1\2") + 8
    data = data[:at] + bytes([data[at] | 1]) + data[at + 1 :]
    assert [x.encrypted for x in read(data)] == [1, 0, 0]


def changed(data, mark, at, *values):
    """An archive with other numbers of 32 bits behind a mark."""
    at += data.rindex(mark)
    new = struct.pack(f"<{len(values)}L", *values)
    return data[:at] + new + data[at + len(new) :]


BROKEN = {
    "no archive": (lambda x: b"PK\3\4" + bytes(100), "it has no directory"),
    "cut": (lambda x: x[:-1], "it has no directory"),
    "huge": (lambda x: changed(x, b"PK\5\6", 12, 2**32 - 2), "lies outside"),
    "far": (lambda x: changed(x, b"PK\5\6", 16, 2**32 - 2), "lies outside"),
    "long": (
        lambda x: bytes(2**17) + changed(x[-22:], b"PK\5\6", 12, 2**16 + 1, 0),
        "its directory is longer than 65536 bytes",
    ),
    "no entry": (lambda x: x.replace(b"PK\1\2", b"PK\1\3"), "is damaged"),
    "half an entry": (lambda x: changed(x, b"PK\5\6", 12, 40, 0), "is damaged"),
    "a long name": (lambda x: changed(x, b"PK\1\2", 28, 2**16 - 1), "is damaged"),
    "no text": (lambda x: x.replace("п".encode(), b"\xff\xff"), "name is damaged"),
    "behind": (lambda x: changed(x, b"PK\1\2", 42, 2**31), "a member lies outside"),
    "large": (lambda x: changed(x, b"PK\1\2", 20, 2**31), "a member lies outside"),
    "far behind": (lambda x: with_long_numbers(x, 1, 1, 2**63), "a member lies outs"),
    "very large": (lambda x: with_long_numbers(x, 1, 2**64 - 1, 0), "a member lies o"),
    "a short extra": (
        lambda x: with_long_numbers(x, 1, 1, 1).replace(b"\1\0\x18\0", b"\1\0\x10\0"),
        "an extra field is damaged",
    ),
    "a long extra": (
        lambda x: with_long_numbers(x, 1, 1, 1).replace(b"\1\0\x18\0", b"\1\0\x19\0"),
        "an extra field is damaged",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_ones(read, kind):
    change, match = BROKEN[kind]
    with pytest.raises(zipfile.BadZipFile, match=match):
        read(change(archive()))
