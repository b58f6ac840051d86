"""PyTorch's files, read without PyTorch.

Two containers: a zip archive (`data.pkl` and a member for each storage), and the legacy
one before PyTorch 1.6, five pickles followed by the storages. In both a pickle says of
each tensor which storage it lies in, and where; it is read by `unpickle`, which runs
nothing. TorchScript's archives hold a module and its code as well; of these, too, the
arrays are read and nothing else.
"""

import io
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

from rad_jax.weight_files.bad_file import BadFile, shown
from rad_jax.weight_files.lazy_array import Extent, Span, checked_span
from rad_jax.weight_files.pickle_machine import Function, fill
from rad_jax.weight_files.placeholder import Placeholder, ScriptObject
from rad_jax.weight_files.safe_unpickle import MAX_BYTES, Unpickled, unpickle
from rad_jax.weight_files.script_arrays import script_arrays

STORAGES = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
"""What the first pickle of a legacy file says."""


class _Storage(NamedTuple):
    extent: Extent
    dtype: np.dtype


def read_zip(file: BinaryIO, members: Mapping[str, Extent]) -> Unpickled:
    """What `torch.save` or `torch.jit.save` put into a zip archive.

    Each tensor is a `Span`; of a module of TorchScript there is a state dict.

    Raises:
      BadFile: it is damaged, or wants to run something.
    """
    pickles = [name for name in members if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise BadFile("is a zip archive, but not one of weights")
    folder = pickles[0].removesuffix("data.pkl")
    order = members.get(f"{folder}byteorder")
    if order and _bytes(file, order).strip() != b"little":
        raise BadFile("was saved on a big-endian machine; save it again on another")

    place = f"{folder}data/"
    storages = {
        name.removeprefix(place): extent
        for name, extent in members.items()
        if name.startswith(place)
    }

    def find(dtype: np.dtype, key: str, count: int) -> Extent:
        extent = storages.get(key)
        if extent is None or extent.size < count * dtype.itemsize:
            raise BadFile(f"lacks the storage {shown(key)}, or a part of it")
        return Extent(extent.start, count * dtype.itemsize)

    data = io.BytesIO(_bytes(file, members[pickles[0]]))
    found = unpickle(data, TABLE, lambda pid: _persistent(pid, 5, find))
    if type(found.value) is ScriptObject:
        return found._replace(value=script_arrays(found.value))
    return found


def read_legacy(file: BinaryIO) -> Unpickled:
    """What `torch.save` wrote before PyTorch 1.6, a `Span` for each tensor.

    Raises:
      BadFile: it is damaged, or wants to run something.
    """
    size = file.seek(0, 2)
    head = io.BytesIO(_bytes(file, Extent(0, min(size, MAX_BYTES))))
    if _plain(head) != LEGACY_MAGIC:
        raise BadFile("is a pickle, but not one that torch.save wrote")
    _plain(head)  # the version
    system = _plain(head)
    if type(system) is not dict or system.get("little_endian") is not True:
        raise BadFile("was saved on a big-endian machine; save it again on another")

    # The storages come last: a first reading of the pickle tells how large they are,
    # the second one where they are.
    sizes: dict[str, tuple[int, int]] = {}

    def note(dtype: np.dtype, key: str, count: int) -> Extent:
        sizes[key] = count, dtype.itemsize
        return Extent(0, count * dtype.itemsize)

    tensors = head.tell()
    unpickle(head, TABLE, lambda pid: _persistent(pid, 6, note))
    keys = _plain(head)
    extents = _legacy_extents(file, keys, sizes, head.tell())

    def find(dtype: np.dtype, key: str, count: int) -> Extent:
        if key not in extents or extents[key].size != count * dtype.itemsize:
            raise BadFile(f"lacks the storage {shown(key)}, or a part of it")
        return extents[key]

    head.seek(tensors)
    return unpickle(head, TABLE, lambda pid: _persistent(pid, 6, find))


def _legacy_extents(
    file: BinaryIO, keys: Any, sizes: Mapping[str, tuple[int, int]], start: int
) -> dict[str, Extent]:
    """Where storages are: one after the other, each behind its number of elements."""
    if type(keys) is not list or not all(type(key) is str for key in keys):
        raise BadFile("is damaged: it has no list of storages")
    end = file.seek(0, 2)
    extents = {}
    for key in keys:
        count, itemsize = sizes.get(key, (-1, 0))
        extent = extents[key] = Extent(start + 8, count * itemsize)
        file.seek(start)
        if int.from_bytes(file.read(8), "little") != count:
            raise BadFile("is damaged or cut short; get the file again")
        start = extent.start + extent.size
        if start > end:
            raise BadFile("is cut short; get the file again")
    return extents


def _plain(head: io.BytesIO) -> Any:
    """The next pickle of a legacy file, one without tensors."""
    return unpickle(head, {}, lambda pid: _persistent(pid, -1, None)).value


def _bytes(file: BinaryIO, extent: Extent) -> bytes:
    if extent.size > MAX_BYTES:
        raise BadFile("has a pickle that is too large for weights")
    file.seek(extent.start)
    return file.read(extent.size)


def _persistent(pid: Any, length: int, find: Any) -> _Storage | Placeholder:
    """A storage: ("storage", type, key, device, elements), legacy ones with a view.

    Legacy files also have ("module", class, file, source code) for a part of a model.
    """
    if length == 6 and _is_module(pid):
        return pid[1]
    if type(pid) is not tuple or len(pid) != length or pid[0] != "storage":
        raise BadFile("has a storage of an unknown kind")
    _, dtype, key, _, count, *view = pid
    if type(dtype) is Placeholder and not view:
        return dtype
    if not isinstance(dtype, np.dtype) or type(key) is not str:
        raise BadFile("has a storage of an unknown kind")
    if view not in ([], [None]):
        raise BadFile("has views of storages, as before PyTorch 0.4; save it again")
    return _Storage(find(dtype, key, _count(count)), dtype)


def _is_module(pid: Any) -> bool:
    named = type(pid) is tuple and len(pid) == 4 and pid[0] == "module"
    return named and type(pid[1]) is Placeholder


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**48:
        raise BadFile("has a storage whose size makes no sense")
    return value


def _rebuild_tensor(arguments: tuple) -> Span | Placeholder:
    """torch._utils._rebuild_tensor_v2(storage, offset, shape, strides, ...)."""
    if arguments and type(arguments[0]) is Placeholder:
        return arguments[0]
    if len(arguments) < 4 or type(arguments[0]) is not _Storage:
        raise BadFile("has a tensor that is not made of a storage")
    storage, offset, shape, strides = arguments[:4]
    return checked_span(storage.extent, storage.dtype, offset, shape, strides)


def _rebuild_parameter(arguments: tuple) -> Any:
    """torch._utils._rebuild_parameter(tensor, requires_grad, hooks)."""
    if not arguments:
        raise BadFile("has a parameter without a tensor")
    return arguments[0]


def _ordered_dict(arguments: tuple) -> dict:
    """collections.OrderedDict(), or of a list of pairs."""
    result: dict = {}
    pairs = arguments[0] if arguments else []
    if type(pairs) is not list or not all(
        type(pair) in (list, tuple) and len(pair) == 2 for pair in pairs
    ):
        raise BadFile("has a dictionary that is not made of pairs")
    fill(result, pairs)
    return result


def _size(arguments: tuple) -> Any:
    """torch.Size(sequence)."""
    return arguments[0] if arguments else ()


TABLE = {
    ("collections", "OrderedDict"): Function(_ordered_dict),
    ("torch", "Size"): Function(_size),
    ("torch._utils", "_rebuild_tensor"): Function(_rebuild_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): Function(_rebuild_tensor),
    ("torch._utils", "_rebuild_parameter"): Function(_rebuild_parameter),
    ("torch._utils", "_rebuild_parameter_with_state"): Function(_rebuild_parameter),
    **{("torch", name): dtype for name, dtype in STORAGES.items()},
    # Files from before storages were tagged with their device.
    **{("torch.cuda", name): dtype for name, dtype in STORAGES.items()},
}
"""All that a file may name."""
