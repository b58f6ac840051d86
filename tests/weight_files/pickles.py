"""PyTorch's files made by hand, opcode by opcode."""

import struct
import zipfile

import numpy as np


def text(value):
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def number(value):
    return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)


def numbers(*values):
    return b"(" + b"".join(map(number, values)) + b"t"


def storage(key="0", count=4, kind="torch\nFloatStorage", extra=b""):
    return (
        b"(" + text("storage") + b"c" + kind.encode() + b"\n" + text(key)
        + text("cuda:0") + number(count) + extra + b"tQ"
    )  # fmt: skip


def tensor(offset=None, shape=None, strides=None, where=None):
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + (storage() if where is None else where)
        + (number(0) if offset is None else offset)
        + (numbers(2, 2) if shape is None else shape)
        + (numbers(2, 1) if strides is None else strides)
        + b"\x89}tR"
    )


def named(value, key="w"):
    return b"\x80\x02}" + text(key) + value + b"s."


DATA = np.arange(4, dtype=np.float32)


def zipped(path, program, **members):
    """A .pt file whose pickle is `program`."""
    files = {"data.pkl": program, "data/0": DATA.tobytes(), **members}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(f"x/{name}", data)
    return path


def legacy(path, program, *, order=b"\x88", keys=("0",), data=None):
    """A file as before PyTorch 1.6 whose third pickle is `program`."""
    magic = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
    system = b"\x80\x02}" + text("little_endian") + order + b"s."
    names = b"\x80\x02](" + b"".join(map(text, keys)) + b"e."
    data = struct.pack("<q", 4) + DATA.tobytes() if data is None else data
    path.write_bytes(magic + b"\x80\x02M\xe9\x03." + system + program + names + data)
    return path


def legacy_tensor(view=b"N", **options):
    return tensor(where=storage(extra=view), **options)


class Raw(bytes):
    """Opcodes that stand for themselves."""


def saved(path, tree):
    """A .pt file of nested dictionaries, lists, arrays, numbers, text and `Raw`."""
    storages = []
    data = b"\x80\x02" + program(tree, storages) + b"."
    members = {f"data/{i}": array.tobytes() for i, array in enumerate(storages)}
    return zipped(path, data, **members)


KINDS = {
    "<f4": "FloatStorage",
    "<f8": "DoubleStorage",
    "<f2": "HalfStorage",
    "<i8": "LongStorage",
}


def program(tree, storages):
    if isinstance(tree, Raw):
        return tree
    if isinstance(tree, dict):
        pairs = [part for pair in tree.items() for part in pair]
        return b"}(" + b"".join(program(x, storages) for x in pairs) + b"u"
    if isinstance(tree, list):
        return b"](" + b"".join(program(x, storages) for x in tree) + b"e"
    if isinstance(tree, np.ndarray):
        array = np.ascontiguousarray(tree)
        storages.append(array)
        steps = [step // array.itemsize for step in array.strides]
        where = storage(
            str(len(storages) - 1), array.size, f"torch\n{KINDS[array.dtype.str]}"
        )
        return tensor(number(0), numbers(*array.shape), numbers(*steps), where)
    return text(tree) if isinstance(tree, str) else number(tree)
