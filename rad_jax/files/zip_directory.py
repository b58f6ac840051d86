"""The directory of a zip archive, read without trust.

Python's zipfile takes the numbers of a directory as they are: one that claims to be of
gigabytes is read whole, a member may begin at 2**63, and an extra field can be made to
take a tenth of a second. Here every number is compared with the file before it is used.
"""

import struct
import zipfile
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s4B4H3L5H2L")
_LONGEST_COMMENT = 2**16 - 1
_LOCAL_HEADER = 30
_IN_EXTRA = 2**32 - 1
"""What stands for a number that is too large for 32 bits."""


class Member(NamedTuple):
    """A file in an archive, as the directory describes it.

    Attributes:
      name: with slashes.
      offset: of its header in the archive's file.
      stored: bytes in the archive.
      size: bytes of the file; not compared with anything.
      method: zip's number of the compression.
      crc: checksum of the file.
      encrypted: needs a password.
    """

    name: str
    offset: int
    stored: int
    size: int
    method: int
    crc: int
    encrypted: bool


def is_zip(file: BinaryIO) -> bool:
    """Whether a file ends as a zip archive does, intact or not."""
    return _end(file) is not None


def zip_members(file: BinaryIO, max_bytes: int) -> Iterator[Member]:
    """The members of an archive, in the order of its directory.

    Args:
      file: the archive.
      max_bytes: longest directory that is read.

    Raises:
      zipfile.BadZipFile: the directory is damaged, too long, or a member lies outside
        of the file.
    """
    end = _end(file)
    if end is None:
        raise zipfile.BadZipFile("it has no directory")
    position, size, offset = end
    start = position - size
    # Bytes before the archive, such as those of a program that unpacks itself.
    shift = start - offset
    if start < 0 or shift < 0:
        raise zipfile.BadZipFile("its directory lies outside of the file")
    if size > max_bytes:
        raise zipfile.BadZipFile(f"its directory is longer than {max_bytes} bytes")
    file.seek(start)
    directory = file.read(size)
    at = 0
    while at < len(directory):
        member, at = _member(directory, at)
        member = member._replace(offset=member.offset + shift)
        if member.offset + _LOCAL_HEADER + member.stored > start:
            raise zipfile.BadZipFile("a member lies outside of the file")
        yield member


def _end(file: BinaryIO) -> tuple[int, int, int] | None:
    """Where the directory ends, its size, and where it says that it begins."""
    length = file.seek(0, 2)
    before = max(0, length - _LONGEST_COMMENT - _END.size)
    file.seek(before)
    tail = file.read(length - before)
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < _END.size:
        return None
    _, _, _, _, _, size, offset, _ = _END.unpack_from(tail, at)
    position = before + at
    # In front of it, the same with longer numbers.
    longer = position - _LOCATOR.size - _END_64.size
    if longer >= 0:
        file.seek(longer)
        data = file.read(_END_64.size + _LOCATOR.size)
        if data[_END_64.size :][:4] == b"PK\6\7" and data[:4] == b"PK\6\6":
            *_, size, offset = _END_64.unpack_from(data)
            position = longer
    return position, size, offset


def _member(directory: bytes, at: int) -> tuple[Member, int]:
    """The entry that begins here, and where the next one does."""
    if len(directory) - at < _ENTRY.size or directory[at : at + 4] != b"PK\1\2":
        raise zipfile.BadZipFile("its directory is damaged")
    fields = _ENTRY.unpack_from(directory, at)
    flags, method, crc, stored, size = fields[5], fields[6], *fields[9:12]
    lengths, offset = fields[12:15], fields[18]
    at += _ENTRY.size
    name = directory[at : at + lengths[0]]
    extra = directory[at + lengths[0] : at + lengths[0] + lengths[1]]
    at += sum(lengths)
    if at > len(directory):
        raise zipfile.BadZipFile("its directory is damaged")
    try:
        text = name.decode("utf-8" if flags & 0x800 else "cp437")
    except UnicodeDecodeError as error:
        raise zipfile.BadZipFile("a member's name is damaged") from error
    text = text.partition("\0")[0]  # as Python's zipfile
    size, stored, offset = _long_numbers(extra, (size, stored, offset))
    return Member(text, offset, stored, size, method, crc, bool(flags & 1)), at


def _long_numbers(extra: bytes, numbers: tuple[int, ...]) -> list[int]:
    """The numbers, those from an extra field that do not fit 32 bits."""
    found = list(numbers)
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        at += 4
        if at + length > len(extra):
            raise zipfile.BadZipFile("an extra field is damaged")
        if kind == 1:
            wanted = [i for i, number in enumerate(found) if number == _IN_EXTRA]
            if length < 8 * len(wanted):
                raise zipfile.BadZipFile("an extra field is damaged")
            for place, i in enumerate(wanted):
                (found[i],) = struct.unpack_from("<Q", extra, at + 8 * place)
        at += length
    return found
