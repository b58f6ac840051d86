"""Writes state dicts: PyTorch's zip files and safetensors, an array at a time."""

import json
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rad_jax.errors import UserError
from rad_jax.files.atomic import atomic_write
from rad_jax.progress import progress
from rad_jax.weight_files.lazy_array import contiguous_strides
from rad_jax.weight_files.read import SAFETENSORS
from rad_jax.weight_files.torch_file import STORAGES

ALIGNMENT = 64
"""Of storages in a zip archive, in bytes; what maps them gets aligned arrays."""


def write_torch(path: Path, state_dict: Mapping[str, np.ndarray]) -> None:
    """Writes a file that `torch.load(path, weights_only=True)` reads.

    Whole or not at all. Arrays are asked for one at a time, once for their shapes and
    once for their content, and each is made contiguous then.

    Args:
      path: the file; one that exists is replaced.
      state_dict: arrays of types that PyTorch has, bfloat16 included.

    Raises:
      UserError: the file cannot be written, or an array's type is not PyTorch's.
    """
    stored = _stored(path, state_dict, {x: name for name, x in STORAGES.items()})
    with atomic_write(path) as part, zipfile.ZipFile(part, "w") as archive:
        _write_member(archive, "data.pkl", _pickle(stored))
        _write_member(archive, "byteorder", b"little")
        arrays = progress(state_dict.values(), desc="write", unit="array")
        for i, array in enumerate(arrays):
            _write_member(archive, f"data/{i}", _raw(array))
        _write_member(archive, "version", b"3\n")


def write_safetensors(path: Path, state_dict: Mapping[str, np.ndarray]) -> None:
    """Writes a .safetensors file, as `write_torch` does.

    The library's writer would hold all arrays a second time.

    Raises:
      UserError: the file cannot be written, or an array's type is not the format's.
    """
    stored = _stored(path, state_dict, {x: name for name, x in SAFETENSORS.items()})
    # Readers of PyTorch models look for this entry.
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for key, array in stored.items():
        header[key] = {
            "dtype": array.type,
            "shape": array.shape,
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with atomic_write(path) as part, part.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in progress(state_dict.values(), desc="write", unit="array"):
            file.write(_raw(array))


class _Stored(NamedTuple):
    """An array as a file describes it; `type` is the format's name of its dtype."""

    type: str
    shape: tuple[int, ...]
    nbytes: int


def _stored(
    path: Path, state_dict: Mapping[str, np.ndarray], names: Mapping[np.dtype, str]
) -> dict[str, _Stored]:
    """What is to be said of each array."""
    stored = {}
    for key, array in state_dict.items():
        if array.dtype not in names:
            raise UserError(f"{path}: cannot hold {key}, which is {array.dtype}")
        stored[key] = _Stored(names[array.dtype], array.shape, array.nbytes)
    return stored


def _raw(array: np.ndarray) -> memoryview:
    """The elements in C order."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _write_member(
    archive: zipfile.ZipFile, name: str, data: bytes | memoryview
) -> None:
    """Adds a stored member that starts at a multiple of the alignment."""
    info = zipfile.ZipInfo(f"archive/{name}")
    info.file_size = len(data)
    assert archive.fp is not None  # open until the archive is closed
    start = archive.fp.tell() + 30 + len(info.filename) + 4
    padding = -start % ALIGNMENT
    # An extra field is an identifier, a size and as many bytes.
    info.extra = b"FB" + padding.to_bytes(2, "little") + bytes(padding)
    with archive.open(info, "w") as member:
        member.write(data)


def _pickle(stored: Mapping[str, _Stored]) -> bytes:
    """A pickle (protocol 2) of an OrderedDict of tensors, as `torch.save` makes it."""
    items = b"".join(
        _text(key)
        + b"ctorch._utils\n_rebuild_tensor_v2\n"
        + b"(("
        + _text("storage")
        + f"ctorch\n{array.type}\n".encode()
        + _text(str(i))
        + _text("cpu")
        + _integer(math.prod(array.shape))
        + b"tQ"  # a tuple, which is a persistent identifier
        + _integer(0)
        + _tuple(array.shape)
        + _tuple(contiguous_strides(array.shape))
        + b"\x89"  # requires no gradient
        + b"ccollections\nOrderedDict\n)R"  # has no hooks
        + b"tR"
        for i, (key, array) in enumerate(stored.items())
    )
    return b"\x80\x02ccollections\nOrderedDict\n)R(" + items + b"u."


def _tuple(numbers: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(_integer, numbers)) + b"t"


def _text(text: str) -> bytes:
    encoded = text.encode()
    return b"X" + len(encoded).to_bytes(4, "little") + encoded


def _integer(number: int) -> bytes:
    if number < 2**31:
        return b"J" + number.to_bytes(4, "little")
    return b"\x8a\x08" + number.to_bytes(8, "little")
