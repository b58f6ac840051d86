"""Flax's msgpack files (`flax.serialization.to_bytes`), of whose arrays none is read.

The library msgpack, which Flax brings, would copy every array and makes whatever sizes
a file claims; here each array becomes a `Span`, and every length is compared with what
is left of the file before anything is made of it.
"""

import dataclasses
import math
import re
import struct
from typing import Any, BinaryIO, Literal, NamedTuple

import ml_dtypes
import numpy as np

from rad_jax.weight_files.bad_file import BadFile, shown
from rad_jax.weight_files.lazy_array import (
    MAX_DIMS,
    Extent,
    Span,
    checked_span,
    contiguous_strides,
)
from rad_jax.weight_files.placeholder import Placeholder
from rad_jax.weight_files.safe_unpickle import Unpickled

# By the names that Flax writes. It writes them in the machine's byte order; no machine
# that JAX runs on is big-endian.
DTYPES = {
    name: np.dtype(name).newbyteorder("<")
    for name in (
        *("float64", "float32", "float16", "bool"),
        *("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8"),
    )
} | {"bfloat16": np.dtype(ml_dtypes.bfloat16)}

MAX_DEPTH = 32
"""Dictionaries and lists within each other; a training state has 8."""

MAX_ITEMS = 2**18
"""Of all dictionaries and lists; a training state has some thousands."""

MAX_TEXT = 2**23
"""Bytes of all names and texts."""

# A dictionary that is not empty, and the beginning of its first name.
BEGINNING = re.compile(
    rb"(?:[\x81-\x8f]|\xde..|\xdf....)(?:([\xa1-\xbf])|\xd9(.))", re.DOTALL
)
FIRST_NAMES = re.compile(
    rb"ema_rate|lr|model_state|optimizer|params_ema|rng|step"  # score_sde's state
    rb"|params|opt_state|state|target"  # others of Flax
    rb"|[A-Z][A-Za-z0-9]{0,99}_\d{1,9}"  # its modules
)

ARRAY = 1
"""Type of the extension that arrays are; 2 is a complex number, 3 NumPy's scalar."""

CHUNKED = "__msgpack_chunked_array__"

OTHER = Placeholder("a value that is no array")
"""What stands for bytes and for extensions that are no arrays."""

DAMAGED = "is damaged or cut short; get the file again"
NO_ARRAY = "has an array that is not made of a shape, a type and its elements"


class _Head(NamedTuple):
    """What begins a value.

    Attributes:
      kind: "plain" is a whole value.
      number: that value; else how many bytes, items or pairs follow.
    """

    kind: Literal["plain", "text", "bytes", "extension", "list", "map"]
    number: Any


CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}

# Kind and format of the number that follows the byte.
NUMBERS: dict[int, tuple[Any, str]] = {
    **{0xC4: ("bytes", ">B"), 0xC5: ("bytes", ">H"), 0xC6: ("bytes", ">I")},
    **{0xC7: ("extension", ">B"), 0xC8: ("extension", ">H"), 0xC9: ("extension", ">I")},
    **{0xCA: ("plain", ">f"), 0xCB: ("plain", ">d")},
    **{0xCC + i: ("plain", f">{letter}") for i, letter in enumerate("BHIQbhiq")},
    **{0xD9: ("text", ">B"), 0xDA: ("text", ">H"), 0xDB: ("text", ">I")},
    **{0xDC: ("list", ">H"), 0xDD: ("list", ">I")},
    **{0xDE: ("map", ">H"), 0xDF: ("map", ">I")},
}


def is_msgpack(head: bytes) -> bool:
    """Whether a file begins like a dictionary of Flax's.

    A name must follow that Flax gives: any bytes could be msgpack of something.
    """
    found = BEGINNING.match(head)
    if found is None:
        return False
    short, long = found.groups()
    length = long[0] if short is None else short[0] & 31
    name = head[found.end() :][:length]
    return len(name) == length and FIRST_NAMES.fullmatch(name) is not None


def read_msgpack(file: BinaryIO) -> Unpickled:
    """What Flax saved: dictionaries with names, lists, plain values, `Span`s.

    Raises:
      BadFile: it is damaged, has what no such file has, or holds an array in pieces.
    """
    source = _Source(file, file.seek(0, 2))
    file.seek(0)
    value = _value(source, 0)
    left = source.end - source.position
    if left:
        raise BadFile(f"is damaged: {left} bytes follow its end; get the file again")
    return Unpickled(value)


@dataclasses.dataclass
class _Source:
    """A file that is read on, and what it may still hold.

    Attributes:
      file: open at the position.
      end: bytes of it.
      position: bytes that were read or passed over.
      items: how many dictionaries and lists may still have.
      text: bytes that names and texts may still have.
    """

    file: BinaryIO
    end: int
    position: int = 0
    items: int = MAX_ITEMS
    text: int = MAX_TEXT

    def take(self, size: int) -> bytes:
        """The next bytes."""
        self._advance(size)
        data = self.file.read(size)
        if len(data) != size:  # it has become shorter
            raise BadFile(DAMAGED)
        return data

    def skip(self, size: int) -> None:
        """Passes over the next bytes."""
        self._advance(size)
        self.file.seek(self.position)

    def _advance(self, size: int) -> None:
        if size > self.end - self.position:
            raise BadFile(DAMAGED)
        self.position += size

    def take_text(self, size: int) -> str:
        """The next bytes, as text."""
        self.text -= size
        if self.text < 0:
            raise BadFile("has more text than weights have")
        try:
            return self.take(size).decode()
        except UnicodeDecodeError as error:
            raise BadFile(DAMAGED) from error

    def take_head(self) -> _Head:
        """What begins the next value."""
        code = self.take(1)[0]
        if code < 0x80:
            return _Head("plain", code)
        if code >= 0xE0:
            return _Head("plain", code - 256)
        if code < 0x90:
            return _Head("map", code & 15)
        if code < 0xA0:
            return _Head("list", code & 15)
        if code < 0xC0:
            return _Head("text", code & 31)
        if code in CONSTANTS:
            return _Head("plain", CONSTANTS[code])
        if 0xD4 <= code <= 0xD8:
            return _Head("extension", 1 << (code - 0xD4))
        if code not in NUMBERS:
            raise BadFile(DAMAGED)
        kind, form = NUMBERS[code]
        (number,) = struct.unpack(form, self.take(struct.calcsize(form)))
        return _Head(kind, number)

    def count(self, items: int) -> None:
        """Counts what a dictionary or a list says that it has."""
        if items > self.end - self.position:  # each takes a byte at least
            raise BadFile(DAMAGED)
        self.items -= items
        if self.items < 0:
            raise BadFile(f"has more than {MAX_ITEMS} values, more than weights have")


def _value(source: _Source, depth: int) -> Any:
    """The next value."""
    # Python has a bounded stack.
    if depth > MAX_DEPTH:
        raise BadFile(f"has more than {MAX_DEPTH} dictionaries within each other")
    kind, number = source.take_head()
    match kind:
        case "plain":
            return number
        case "text":
            return source.take_text(number)
        case "bytes":
            source.skip(number)
            return OTHER
        case "extension":
            return _extension(source, number)
        case "list":
            source.count(number)
            return [_value(source, depth + 1) for _ in range(number)]
        case "map":
            return _map(source, number, depth)


def _map(source: _Source, pairs: int, depth: int) -> dict[str, Any]:
    source.count(2 * pairs)
    values: dict[str, Any] = {}
    for _ in range(pairs):
        kind, size = source.take_head()
        if kind != "text":
            raise BadFile("has a dictionary whose keys are not names")
        name = source.take_text(size)
        if name == CHUNKED:
            raise BadFile(
                "has an array of more than 1 GB, which Flax stores in pieces: that is "
                "not read"
            )
        if name in values:
            raise BadFile(f"has the key {shown(name)} twice in a dictionary")
        values[name] = _value(source, depth + 1)
    return values


def _extension(source: _Source, size: int) -> Span | Placeholder:
    (kind,) = source.take(1)
    if kind != ARRAY:
        source.skip(size)
        return OTHER
    end = source.position + size
    span = _array(source)
    if source.position != end:
        raise BadFile(NO_ARRAY)
    return span


def _array(source: _Source) -> Span:
    """Shape, name of the type, and elements in C order, which are passed over."""
    if source.take_head() != ("list", 3):
        raise BadFile(NO_ARRAY)
    kind, dims = source.take_head()
    if kind != "list" or dims > MAX_DIMS:
        raise BadFile(NO_ARRAY)
    sizes = [source.take_head() for _ in range(dims)]
    if not all(size.kind == "plain" and type(size.number) is int for size in sizes):
        raise BadFile(NO_ARRAY)
    kind, length = source.take_head()
    if kind != "text":
        raise BadFile(NO_ARRAY)
    name = source.take_text(length)
    if name not in DTYPES:
        raise BadFile(f"has an array of the unknown type {shown(name)}")
    kind, size = source.take_head()
    if kind != "bytes":
        raise BadFile(NO_ARRAY)
    extent = Extent(source.position, size)
    source.skip(size)
    shape, dtype = [size.number for size in sizes], DTYPES[name]
    span = checked_span(extent, dtype, 0, shape, contiguous_strides(shape))
    if math.prod(shape) * dtype.itemsize != size:
        raise BadFile(f"has {size} bytes for an array of shape {span.shape}")
    return span
