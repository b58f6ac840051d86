"""Image files in zip and tar archives, read in place and never extracted.

An archive is looked through once; what is kept of a member is where its bytes are, so
any process reads any member at once. ImageNet's tar of tars is looked through alike.
"""

import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from rad_jax.data.image_file import BadImage, Others, check_bytes, is_image_name
from rad_jax.errors import UserError, first_line
from rad_jax.files.zip_directory import is_zip, zip_members

MAX_DIRECTORY = 2**29
"""Longest directory of a zip that is read; ImageNet's would have 2**27 bytes."""

_LOCAL_HEADER = struct.Struct("<4s22xHH")  # of a zip's member: lengths of what follows
_COMPRESSED = {
    b"\x1f\x8b": ("r:gz", "gunzip"),
    b"BZ": ("r:bz2", "bunzip2"),
    b"\xfd7": ("r:xz", "unxz"),
}


class Member(NamedTuple):
    """Where an image is.

    Attributes:
        name: unique within the source.
        archive: path of the archive.
        offset: of its bytes in a tar; of what stands before them in a zip.
        stored: bytes in the archive.
        size: bytes of the file.
        method: zip's number of the compression; None in a tar.
        crc: checksum of the file in a zip, else 0.
        problem: why it cannot be read, if that is known.
    """

    name: str
    archive: str
    offset: int
    stored: int
    size: int
    method: int | None = None
    crc: int = 0
    problem: str = ""


class ArchiveImages:
    """The images of archives; see ``sources.Images``."""

    def __init__(self, members: Sequence[Member], others: Others | None = None):
        """Wraps members that are there, and counts of what is no image."""
        self._members = members
        self.others = Others() if others is None else others
        self.names: Sequence[str] = [member.name for member in members]

    def read(self, i: int) -> bytes:
        """The bytes of an image file."""
        member = self._members[i]
        if member.problem:
            raise BadImage(f"{member.name}: {member.problem}")
        check_bytes(member.name, max(member.stored, member.size))
        try:
            with open(member.archive, "rb") as file:
                file.seek(member.offset)
                if member.method is not None:
                    _skip_header(file, member)
                data = file.read(member.stored)
        except OSError as error:
            raise UserError(
                f"{member.archive}: cannot be read ({error.strerror}); is it still "
                "there?"
            ) from error
        if len(data) < member.stored:
            raise UserError(
                f"{member.archive}: ends before {member.name!r} does; has it changed?"
            )
        return data if member.method is None else _unpack(data, member)

    def take(self, ids: Sequence[int]) -> "ArchiveImages":
        """Some of the images."""
        return ArchiveImages([self._members[i] for i in ids])

    def sizes(self) -> Iterator[int]:
        """What would change with the contents, most of the time."""
        return (member.size ^ member.crc << 64 for member in self._members)


def is_archive(path: Path) -> bool:
    """Whether a file is a zip or a tar, by its contents.

    Raises:
        UserError: it is compressed as a whole, so that no member can be read alone.
    """
    with path.open("rb") as file:
        start = file.read(2)
        zipped = is_zip(file)
    mode, program = _COMPRESSED.get(start, ("r:", ""))
    if program and _is_tar(path, mode):
        raise UserError(f"{path}: is compressed; unpack it first: {program} {path}")
    return zipped or _is_tar(path, "r:")


def _is_tar(path: Path, mode: Any) -> bool:
    """Whether a tar begins here, compressed as the mode of `tarfile.open` says.

    To try all modes would be to take any file for LZMA, which can ask for gigabytes.
    """
    try:
        with tarfile.open(path, mode):
            return True
    except Exception:  # parsers raise nearly anything on broken files
        return False


def members(path: Path, others: Others) -> list[Member]:
    """Looks through an archive.

    Images are what counts; where a tar holds none, then those of the tars that it
    holds, each as if it were a folder. ``others`` counts what is no image.

    Raises:
        UserError: it is damaged, cut short or cannot be read.
    """
    try:
        with path.open("rb") as file:
            if is_zip(file):
                return list(_zip_images(file, str(path), others))
            end = os.fstat(file.fileno()).st_size
            inside = list(_tar_members(file, str(path), 0, end, others))
            images = [member for member in inside if is_image_name(member.name)]
            if images:
                return images
            return [
                inner._replace(name=f"{tar.name[: -len('.tar')]}/{inner.name}")
                for tar in inside
                for inner in _tar_members(
                    file, str(path), tar.offset, tar.offset + tar.size, others
                )
                if is_image_name(inner.name)
            ]
    except UserError:
        raise
    except Exception as error:  # parsers raise nearly anything on broken files
        raise UserError(
            f"{path}: is damaged or cut short ({first_line(error)}); fetch it again"
        ) from error


def _zip_images(file: BinaryIO, path: str, others: Others) -> Iterator[Member]:
    for inner in zip_members(file, MAX_DIRECTORY):
        name = _plain(inner.name)
        if not is_image_name(name):
            others.add(inner.name)
            continue
        problem = "encrypted" if inner.encrypted else ""
        yield Member(name, path, *inner[1:6], problem)


def _tar_members(
    file: BinaryIO, path: str, start: int, end: int, others: Others
) -> Iterator[Member]:
    """Images and tars of the tar that lies between two offsets of a file."""
    file.seek(start)
    places: dict[str, tuple[int, int]] = {}  # of what a hard link may lead to
    # Its offsets count from the start of the file, not of the tar.
    with tarfile.TarFile(fileobj=file) as archive:
        while (info := archive.next()) is not None:
            # It would keep them all.
            archive.members.clear()  # pyright: ignore[reportAttributeAccessIssue]
            name = _plain(info.name)
            if not (is_image_name(name) or name.lower().endswith(".tar")):
                if not info.isdir():
                    others.add(name)
                continue
            problem, offset, size = "", info.offset_data, info.size
            if info.issparse():
                problem = "has holes, so that it does not lie in the tar as it is"
            elif info.islnk() and (place := places.get(_plain(info.linkname))):
                offset, size = place
            elif info.islnk() or info.issym():
                problem = f"a link to {info.linkname!r}, which is not followed"
            elif not info.isreg():
                problem = "no regular file"
            else:
                places[name] = offset, size
            if not problem:
                yield Member(name, path, offset, size, size)
            elif is_image_name(name):
                yield Member(name, path, 0, 0, 0, problem=problem)
        # Where a header cannot be read, Python's tarfile takes that for the end. The
        # true end is a block of zeros.
        file.seek(archive.offset)
        if archive.offset + 512 > end or any(file.read(512)):
            raise UserError(
                f"{path}: is damaged or cut short at byte {archive.offset}; "
                "fetch it again"
            )


def _plain(name: str) -> str:
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def _skip_header(file: BinaryIO, member: Member) -> None:
    """Goes from a zip's header of a member to its bytes."""
    header = file.read(_LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size or header[:4] != b"PK\x03\x04":
        raise BadImage(f"{member.name}: not where the zip's directory says")
    _, name_length, extra_length = _LOCAL_HEADER.unpack(header)
    file.seek(name_length + extra_length, os.SEEK_CUR)


def _unpack(data: bytes, member: Member) -> bytes:
    """Decompresses a member of a zip."""
    if member.method == zipfile.ZIP_DEFLATED:
        try:  # one byte more than there should be, to see whether there is more
            data = zlib.decompressobj(-15).decompress(data, member.size + 1)
        except zlib.error as error:
            raise BadImage(f"{member.name}: damaged in the zip ({error})") from error
    elif member.method != zipfile.ZIP_STORED:
        raise BadImage(f"{member.name}: compressed by method {member.method}")
    if len(data) != member.size or zlib.crc32(data) != member.crc:
        raise BadImage(f"{member.name}: damaged in the zip (wrong checksum)")
    return data
