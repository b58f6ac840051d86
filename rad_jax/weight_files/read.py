"""What files of other programs hold: .pt and .pth, .safetensors, .npz, Flax's msgpack.

Files are recognised by their content, not by their name. None is trusted: what is wrong
with one is said in a line, nothing in it is run, and nothing of a size that it merely
claims is made.
"""

import codecs
import json
import re
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np
import safetensors

from rad_jax.errors import UserError
from rad_jax.weight_files import msgpack_file, torch_file
from rad_jax.weight_files.bad_file import BadFile, shown
from rad_jax.weight_files.lazy_array import (
    Extent,
    MappedArrays,
    Span,
    check_sizes,
    checked_span,
    contiguous_strides,
    stored_members,
)
from rad_jax.weight_files.placeholder import Placeholder
from rad_jax.weight_files.safe_unpickle import Unpickled

# The format is little-endian, whatever the machine is.
SAFETENSORS = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}

NESTINGS = ("ema", "state_dict", "model")
"""Names under which programs keep the weights; the first that there is, is read."""

MAX_NESTING = 4
MAX_NAME = 500
MAX_HEADER = 2**25
"""Longest header of a safetensors file; a checkpoint's has a hundred bytes an array."""

# As NumPy writes it; its own reader evaluates what stands there.
NPY_HEADER = re.compile(
    rb"\x93NUMPY(?:\x01\x00..|\x02\x00....)\{'descr': '([<>|]\w{1,9})', "
    rb"'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,15}, ?){0,32}\d{0,15})\), \} *\n",
    re.DOTALL,
)
NPY_BYTES = 2**12


def read_state_dict(path: Path) -> MappedArrays:
    """Opens a file of weights: PyTorch's of any age, safetensors or npz.

    Weights that stand under "ema", "state_dict" or "model" are found there, and the
    prefix "module." that data-parallel training puts before every key is taken off.

    Returns:
      The arrays by key, in the file's order, mapped when they are asked for.

    Raises:
      UserError: naming the file, and what it is instead or what is wrong with it.
    """
    found = read_file(path)
    try:
        spans = state_dict(found)
        check_sizes(spans.values(), path.stat().st_size)
    except BadFile as error:
        raise UserError(f"{path}: {error}") from error
    return MappedArrays(spans, dict.fromkeys(spans, path))


def read_file(path: Path) -> Unpickled:
    """All that a file holds, a `Span` for each array.

    Raises:
      UserError: as `read_state_dict`.
    """
    try:
        with path.open("rb") as file:
            return _read(file, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except BadFile as error:
        raise UserError(f"{path}: {error}") from error


def _read(file: BinaryIO, path: Path) -> Unpickled:
    head = file.read(512)
    if head.startswith(b"PK\3\4"):
        members = stored_members(file)
        if any(name.endswith(".npy") for name in members):
            arrays = {
                name.removesuffix(".npy"): _npy_span(file, extent)
                for name, extent in members.items()
            }
            return Unpickled(arrays)
        return torch_file.read_zip(file, members)
    # Behind the header's length, which may begin like a pickle. In a pickle of PyTorch
    # this byte is of its magic number.
    if head[8:9] == b"{" and b"\0" in head[:8]:
        return Unpickled(_safetensors_spans(file, path))
    if head.startswith(b"\x80"):  # a pickle
        return torch_file.read_legacy(file)
    if msgpack_file.is_msgpack(head):
        return msgpack_file.read_msgpack(file)
    raise BadFile(_what_else(head))


def _what_else(head: bytes) -> str:
    """What a file is that holds no weights."""
    start = head.removeprefix(codecs.BOM_UTF8).lstrip().lower()
    if not head:
        return "is empty; get the file again"
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "is a web page, not the weights; open its address in a browser"
    if start.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the weights; run `git lfs pull`"
    if all(byte in b"\t\n\r\f\b\x1b" or byte >= 32 for byte in head):
        return "is a text file, not weights"
    return "is of an unknown kind; give a .pt, .pth, .safetensors or .npz file"


def state_dict(found: Unpickled) -> dict[str, Span]:
    """The arrays by key, out of what a file holds.

    Raises:
      BadFile: there are none, or their keys are unusable.
    """
    tree = _without_nesting(found.value)
    if type(tree) is Placeholder:
        check_no_model(found)
        raise BadFile(
            f"is an object of class {shown(tree.name)}, not weights; save its "
            "state_dict() instead"
        )
    if type(tree) is Span:
        raise BadFile("holds a single array, not a state dict")
    if type(tree) is not dict:
        raise BadFile("holds no state dict")
    spans = {key: span for key, span in tree.items() if type(span) is Span}
    if not spans:
        check_no_model(found)
    if not spans and {"state", "param_groups"} <= tree.keys():
        raise BadFile(
            "holds the state of an optimiser, not a model; guided-diffusion calls "
            "those opt*.pt, and the model ema_*.pt or model*.pt"
        )
    if not spans:
        raise BadFile("holds no arrays by name")
    check_names(spans)
    if all(key.startswith("module.") for key in spans):
        return {key.removeprefix("module."): span for key, span in spans.items()}
    return spans


def _without_nesting(tree: Any) -> Any:
    """What stands under the names under which programs keep the weights."""
    # Bounded: a hostile pickle can hold a dictionary that holds itself.
    for _ in range(MAX_NESTING):
        nested = [tree.get(name) for name in NESTINGS] if type(tree) is dict else []
        inner = next((found for found in nested if type(found) is dict), None)
        if inner is None:
            break
        tree = inner
    return tree


def check_no_model(found: Unpickled) -> None:
    """Refuses a file whose weights went with the object that they were in.

    Raises:
      BadFile: it holds a whole model, which is not read.
    """
    if found.model is not None:
        raise BadFile(
            f"is a whole model object of class {shown(found.model)}, saved with its "
            "code; save its state_dict() instead"
        )


def check_names(spans: Iterable[Any]) -> None:
    """Refuses keys that are no text, or none that a line of output can show.

    Raises:
      BadFile: showing the first of them.
    """
    for key in spans:
        if type(key) is not str or len(key) > MAX_NAME or not key.isprintable():
            raise BadFile(f"has an array with the unusable name {shown(key)}")


def _safetensors_spans(file: BinaryIO, path: Path) -> dict[str, Span]:
    file.seek(0)
    (length,) = struct.unpack("<Q", file.read(8))
    if length > MAX_HEADER:
        raise BadFile(f"is damaged or cut short (a header of {length} bytes)")
    try:
        # The library checks the header: sizes, and that arrays do not overlap.
        with safetensors.safe_open(path, framework="np"):
            pass
    except safetensors.SafetensorError as error:
        raise BadFile(f"is damaged or cut short ({shown(str(error))})") from error
    header: Mapping[str, Any] = json.loads(file.read(length))
    spans = {}
    # Its numbers are safe: the library has just compared them with the file.
    for key, entry in header.items():
        if key == "__metadata__":
            continue
        if entry["dtype"] not in SAFETENSORS:
            raise BadFile(f"has an array of the unknown type {shown(entry['dtype'])}")
        start, end = entry["data_offsets"]
        extent = Extent(8 + length + start, end - start)
        strides = contiguous_strides(entry["shape"])
        dtype = SAFETENSORS[entry["dtype"]]
        spans[key] = checked_span(extent, dtype, 0, entry["shape"], strides)
    return spans


def _npy_span(file: BinaryIO, extent: Extent) -> Span:
    """The array of an .npy file that lies in this one."""
    file.seek(extent.start)
    header = NPY_HEADER.match(file.read(min(extent.size, NPY_BYTES)))
    if header is None:
        raise BadFile("is a zip archive, but not one of arrays of numbers")
    name, order, sizes = (group.decode() for group in header.groups())
    dtype = {dtype.str: dtype for dtype in SAFETENSORS.values()}.get(name)
    if dtype is None or dtype.kind == "V":
        raise BadFile(f"has an array of the unusable type {name}")
    shape = tuple(int(size) for size in sizes.split(",") if size.strip())
    strides = contiguous_strides(shape)
    if order == "True":
        # Fortran's order is C's of the reversed axes.
        strides = contiguous_strides(shape[::-1])[::-1]
    # A member's size counts its header, too.
    data = Extent(extent.start + header.end(), extent.size - header.end())
    return checked_span(data, dtype, 0, shape, strides)
