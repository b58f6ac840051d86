"""Arrays that lie in a file: where each one is, and a look at one at a time.

A checkpoint of gigabytes is never held twice: an array is mapped into memory when it is
asked for, and the mapping goes when the array does. Files are taken for hostile: what
they say of an array is checked before anything of its size is made.
"""

import dataclasses
import math
import struct
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from rad_jax.errors import UserError
from rad_jax.files.zip_directory import zip_members
from rad_jax.weight_files.bad_file import BadFile

MAX_DIMS = 32
MAX_ELEMENTS = 2**48
MAX_DIRECTORY = 2**24
"""Longest directory of a zip archive; a checkpoint's has a hundred bytes an array."""

CODE = (".py", ".debug_pkl")
"""Ends of the names that TorchScript gives to code."""

MAX_REPEATED = 8
"""How many times a file's size its arrays may have, where they share their bytes."""


class Extent(NamedTuple):
    """Bytes of a file: the first one, and how many."""

    start: int
    size: int


class Span(NamedTuple):
    """An array in a file.

    Attributes:
      offset: bytes from the start of the file to its first element.
      dtype: little-endian.
      shape: its shape.
      strides: bytes from an element to the next, of each axis.
    """

    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class MappedArrays(Mapping[str, np.ndarray]):
    """The arrays of files by name, read-only, each mapped when it is asked for.

    Attributes:
      spans: where they lie; to look at shapes and types maps nothing.
      paths: the file of each.
    """

    spans: Mapping[str, Span]
    paths: Mapping[str, Path]

    def __getitem__(self, key: str) -> np.ndarray:
        """The array.

        Raises:
          UserError: the file is no longer there, or has become shorter.
        """
        return _map(self.paths[key], self.spans[key])

    def __iter__(self) -> Iterator[str]:
        """Their names, in the file's order."""
        return iter(self.spans)

    def __len__(self) -> int:
        """How many."""
        return len(self.spans)


def _map(path: Path, span: Span) -> np.ndarray:
    if 0 in span.shape:
        return np.empty(span.shape, span.dtype)
    steps = zip(span.shape, span.strides, strict=True)
    size = sum((n - 1) * step for n, step in steps) + span.dtype.itemsize
    try:
        data = np.memmap(path, np.uint8, "r", offset=span.offset, shape=(size,))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: has changed while it was read ({error})") from error
    return np.ndarray(span.shape, span.dtype, data, strides=span.strides)


def checked_span(
    extent: Extent, dtype: np.dtype, offset: Any, shape: Any, strides: Any
) -> Span:
    """An array inside an extent, from what a file says of it.

    Args:
      extent: the bytes that it must lie in.
      dtype: of its elements.
      offset: elements from the start of the extent.
      shape: sequence of integers.
      strides: elements from one to the next, of each axis.

    Raises:
      BadFile: these are no such numbers, an element lies outside, or two of them are
        the same (four bytes could pass for an array of terabytes).
    """
    if not (_is_count(offset) and _are_counts(shape) and _are_counts(strides)):
        raise BadFile("has an array whose shape makes no sense")
    if len(shape) != len(strides):
        raise BadFile("has an array whose shape makes no sense")
    if math.prod(max(n, 1) for n in shape) > MAX_ELEMENTS:
        raise BadFile("has an array that is larger than any computer's memory")
    reach = 0
    for step, n in sorted(zip(strides, shape, strict=True)):
        if n > 1 and step <= reach and 0 not in shape:
            raise BadFile("has an array that overlaps itself; save a copy of it")
        reach += (n - 1) * step
    if 0 not in shape and (offset + reach + 1) * dtype.itemsize > extent.size:
        raise BadFile("has an array that reaches beyond its storage")
    return Span(
        extent.start + offset * dtype.itemsize,
        dtype,
        tuple(shape),
        tuple(step * dtype.itemsize for step in strides),
    )


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_ELEMENTS


def _are_counts(values: Any) -> bool:
    # Their number first: many arrays can share one tuple of a million.
    few = isinstance(values, tuple | list) and len(values) <= MAX_DIMS
    return few and all(map(_is_count, values))


def check_sizes(spans: Iterable[Span], size: int) -> None:
    """Refuses arrays that are together much larger than the files that they lie in.

    Args:
      spans: of the arrays.
      size: bytes of the files.

    Raises:
      BadFile: a few bytes pass for many arrays.
    """
    claimed = sum(math.prod(span.shape) * span.dtype.itemsize for span in spans)
    if claimed > MAX_REPEATED * size:
        raise BadFile(
            f"has arrays of {claimed} bytes in {size}: they repeat each other; save "
            "copies of them"
        )


def contiguous_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides in elements of an array in C order."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def stored_members(file: BinaryIO) -> dict[str, Extent]:
    """Where the members of a zip archive lie, without reading them.

    TorchScript's code, which is compressed and not for us, is left out.

    Raises:
      BadFile: it is no intact archive, or a member is compressed or encrypted.
    """
    size = file.seek(0, 2)
    try:
        found = list(zip_members(file, MAX_DIRECTORY))
    except zipfile.BadZipFile as error:
        raise BadFile(
            f"is a damaged zip archive, perhaps cut short; get the file again ({error})"
        ) from error
    members = {}
    for member in found:
        if "/code/" in member.name and member.name.endswith(CODE):
            continue
        if member.method != zipfile.ZIP_STORED or member.encrypted:
            raise BadFile(
                "is a zip archive with compressed or encrypted members; save it again "
                "as PyTorch's torch.save or numpy.savez do"
            )
        file.seek(member.offset)
        header = file.read(30)
        if header[:4] != b"PK\3\4" or len(header) < 30 or member.name in members:
            raise BadFile("is a damaged zip archive; get the file again")
        name, extra = struct.unpack("<HH", header[26:])
        extent = Extent(member.offset + 30 + name + extra, member.size)
        if extent.start + extent.size > size:
            raise BadFile("is cut short; get the file again")
        members[member.name] = extent
    return members
