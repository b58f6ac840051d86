"""Files of weights: PyTorch's, safetensors and npz; intact, damaged and hostile."""

import io
import os
import pathlib
import pickle
import pickletools
import random
import resource
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from rad_jax.errors import UserError
from rad_jax.weight_files import torch_file, write
from rad_jax.weight_files.read import SAFETENSORS, read_state_dict
from rad_jax.weight_files.torch_file import STORAGES
from rad_jax.weight_files.write import write_safetensors, write_torch
from tests.weight_files.pickles import (
    DATA,
    legacy,
    legacy_tensor,
    named,
    number,
    numbers,
    storage,
    tensor,
    text,
    zipped,
)

FOLDER = pathlib.Path(__file__).parents[1] / "golden" / "torch_files"


def refused(path, match):
    with pytest.raises(UserError, match=match) as error:
        read_state_dict(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


# Files that are read.


@pytest.mark.parametrize("name", ["zip", "legacy", "nested"])
def test_files_that_torch_wrote(name):
    """All types, views and shared storages, an empty array and a scalar."""
    state = read_state_dict(FOLDER / f"{name}.pt")
    with np.load(FOLDER / "expected.npz") as expected:
        assert set(state) == set(expected)
        for key, array in expected.items():
            kind = ml_dtypes.bfloat16 if key == "bf16.weight" else array.dtype
            assert state[key].dtype == kind
            np.testing.assert_array_equal(state[key].astype(array.dtype), array)


def test_a_parameter_is_its_array():
    with np.load(FOLDER / "expected.npz") as expected:
        array = read_state_dict(FOLDER / "parameter.pt")["p"]
        np.testing.assert_array_equal(array, expected["conv.weight"])


@pytest.mark.parametrize("name", ["zip", "legacy"])
def test_arrays_are_mapped_and_cannot_be_changed(name):
    array = read_state_dict(FOLDER / f"{name}.pt")["conv.weight"]
    assert isinstance(array.base, np.memmap)
    assert not array.flags.writeable


@pytest.mark.parametrize("wrap", ["ema", "state_dict", "model", "model/state_dict"])
def test_weights_are_found_in_a_checkpoint(tmp_path, wrap):
    program = named(tensor(), "module.w")[2:-1]
    for name in reversed(wrap.split("/")):
        program = b"}" + text(name) + program + b"s" + text("step") + b"K\x07s"
    state = read_state_dict(zipped(tmp_path / "a.pt", b"\x80\x02" + program + b"."))
    assert list(state) == ["w"]
    np.testing.assert_array_equal(state["w"], DATA.reshape(2, 2))


def test_the_average_goes_before_other_weights(tmp_path):
    both = b"}" + b"".join(
        text(name) + named(tensor(), name)[2:-1] + b"s" for name in ("model", "ema")
    )
    state = read_state_dict(zipped(tmp_path / "a.pt", b"\x80\x02" + both + b"."))
    assert list(state) == ["ema"]


def test_a_prefix_of_some_keys_stays(tmp_path):
    two = named(tensor(), "module.w")[:-1] + text("b") + tensor() + b"s."
    assert list(read_state_dict(zipped(tmp_path / "a.pt", two))) == ["module.w", "b"]


def test_attributes_of_a_state_dict_are_passed_over(tmp_path):
    """`_metadata`, which every state_dict() has; also a hostile one."""
    program = (
        b"\x80\x02ccollections\nOrderedDict\n)R" + text("w") + tensor() + b"s}"
        + text("_metadata") + b"}s" + text("__class__") + b"Ns" + b"b."
    )  # fmt: skip
    assert list(read_state_dict(zipped(tmp_path / "a.pt", program))) == ["w"]


def test_dictionaries_of_pairs_and_sizes_and_cuda_storages(tmp_path):
    size = b"ctorch\nSize\n(" + numbers(2, 2) + b"tR"
    where = storage(kind="torch.cuda\nFloatStorage")
    pair = b"](" + text("w") + tensor(shape=size, where=where) + b"e"
    program = b"\x80\x02ccollections\nOrderedDict\n(](" + pair + b"etR."
    state = read_state_dict(zipped(tmp_path / "a.pt", program))
    np.testing.assert_array_equal(state["w"], DATA.reshape(2, 2))


def test_legacy_files_by_hand(tmp_path):
    state = read_state_dict(legacy(tmp_path / "a.pth", named(legacy_tensor())))
    np.testing.assert_array_equal(state["w"], DATA.reshape(2, 2))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_legacy_files_of_every_protocol(tmp_path, protocol):
    """What they begin with, a number, looks different in each."""
    path = legacy(tmp_path / "a.pth", named(legacy_tensor()))
    magic, rest = path.read_bytes().split(b".\x80\x02", 1)
    magic = pickle.dumps(pickle.loads(magic + b"."), protocol)
    path.write_bytes(magic + b"\x80\x02" + rest)
    assert list(read_state_dict(path)) == ["w"]


def test_safetensors(tmp_path):
    arrays = {
        "b": np.arange(6, dtype=np.float32).reshape(2, 3),
        "a": np.ones(3, ml_dtypes.bfloat16),
        "none": np.zeros((0, 2), np.float16),
        "none of three": np.zeros((3, 0), np.float32),
    }
    safetensors.numpy.save_file(arrays, tmp_path / "a.safetensors", {"by": "test"})
    state = read_state_dict(tmp_path / "a.safetensors")
    assert set(state) == set(arrays)
    for key, array in arrays.items():
        assert state[key].dtype == array.dtype
        np.testing.assert_array_equal(state[key], array)
    assert isinstance(state["b"].base, np.memmap)


def test_safetensors_that_begin_like_a_pickle(tmp_path):
    """Their first byte is that of the header's length, here 128."""
    array = np.arange(6, dtype=np.float32)
    path = tmp_path / "a.safetensors"
    safetensors.numpy.save_file({"a": array}, path, {"by": "x" * 48})
    assert path.read_bytes()[0] == 0x80
    np.testing.assert_array_equal(read_state_dict(path)["a"], array)


def test_npz(tmp_path):
    arrays = {
        "a.weight": np.arange(6, dtype=np.float64).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3)),
        "scalar": np.float32(3),
    }
    np.savez(tmp_path / "a.npz", **arrays)
    state = read_state_dict(tmp_path / "a.npz")
    assert list(state) == list(arrays)
    for key, array in arrays.items():
        np.testing.assert_array_equal(state[key], array)


# Files that are something else.


@pytest.mark.parametrize(
    "content, match",
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf\n <!DOCTYPE html><html>", "is a web page"),
        (b"<html>" + b" " * 1000, "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "is a Git LFS pointer"),
        (b"1234567 {not safetensors}", "is a text file"),
        (b"\x80\x02}.", "is a pickle, but not one that torch.save wrote"),
        (b"\x80\x04\x95" + b"\0" * 8 + b"cos\nsystem\n", "wants to run os.system"),
        (b"\x80", "has a pickle that is damaged or cut short"),
        (bytes(range(256)), "is of an unknown kind"),
        (b"PK\3\4" + b"\0" * 100, "is a damaged zip archive, perhaps cut short"),
        (b"\x10\0\0\0\0\0\0\0{", "is damaged or cut short"),
        (b"\xff" * 7 + b"\0{", "is damaged or cut short"),
    ],
)
def test_files_that_are_something_else(tmp_path, content, match):
    (tmp_path / "a.pt").write_bytes(content)
    refused(tmp_path / "a.pt", match)


def test_files_of_the_golden_folder_that_are_not_read():
    refused(FOLDER / "malicious.pt", "wants to run posix.system: refused")
    refused(FOLDER / "truncated.pt", "cut short")
    refused(FOLDER / "not_a_checkpoint.pt", "is a text file")


def test_what_is_no_file(tmp_path):
    refused(tmp_path / "none.pt", "cannot be read .No such file")
    refused(tmp_path, "cannot be read .Is a directory")


@pytest.mark.parametrize(
    "program, match",
    [
        (b"\x80\x02}" + text("state") + b"}s" + text("param_groups") + b"]s.", "opt"),
        (b"\x80\x02" + tensor() + b".", "holds a single array"),
        (b"\x80\x02]" + tensor() + b"a.", "holds no state dict"),
        (b"\x80\x02}" + text("epoch") + b"K\x07s.", "holds no arrays by name"),
        (named(tensor(), "\x1b[2J"), r"unusable name \\x1b\[2J"),
        (named(tensor(), "w" * 501), "unusable name w"),
        (b"\x80\x02}K\x01" + tensor() + b"s.", "unusable name"),
    ],
)
def test_pickles_of_something_else(tmp_path, program, match):
    refused(zipped(tmp_path / "a.pt", program), match)


def test_zip_archives_of_something_else(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("photo.jpg", b"1")
    refused(path, "is a zip archive, but not one of weights")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("photo.npy", b"1")
    refused(path, "is a zip archive, but not one of arrays")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"\0" * 10**7)
    refused(path, "compressed or encrypted members")
    np.savez_compressed(path.with_suffix(".npz"), a=np.zeros(10**6))
    refused(path.with_suffix(".npz"), "compressed or encrypted members")


def test_arrays_of_objects_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.array([{}]))
    refused(tmp_path / "a.npz", "unusable type .O")
    np.savez(tmp_path / "a.npz", a=np.zeros(2, ">f4"))
    refused(tmp_path / "a.npz", "unusable type >f4")


def test_an_npy_file_that_claims_more_than_it_has(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999,), }\n"
        size = struct.pack("<H", len(header))
        archive.writestr("a.npy", b"\x93NUMPY\x01\0" + size + header + b"\0" * 8)
    refused(tmp_path / "a.npz", "reaches beyond its storage")


def test_safetensors_of_an_unknown_type(tmp_path):
    header = b'{"a":{"dtype":"U16","shape":[1],"data_offsets":[0,2]}}  '
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0\0")
    refused(path, "unknown type U16")


# Hostile files. Each tries to make a file, in a way of its own.

RUN = text("touch pwned")
HOSTILE = {
    "GLOBAL": (b"cos\nsystem\n(" + RUN + b"tR", "wants to run os.system: refused"),
    "STACK_GLOBAL": (
        b"\x8c\x05posix\x8c\x06system\x93(" + RUN + b"tR",
        "wants to run posix.system: refused",
    ),
    "INST": (b"(" + RUN + b"ios\nsystem\n", "wants to run os.system: refused"),
    "OBJ": (b"(cos\nsystem\n" + RUN + b"o", "wants to run os.system: refused"),
    "REDUCE on eval": (
        b"c__builtin__\neval\n(" + text("open('pwned', 'w')") + b"tR",
        "wants to run __builtin__.eval: refused",
    ),
    "an attribute of what is allowed": (
        b"ccollections\nOrderedDict.__init__\n",
        "wants to run collections.OrderedDict.__init__: refused",
    ),
    "NEWOBJ": (b"ccollections\nOrderedDict\n)\x81", "opcode NEWOBJ: refused"),
    "OBJ of what is allowed": (b"(ccollections\nOrderedDict\no", "opcode OBJ: refus"),
    "NEWOBJ_EX": (b"ccollections\nOrderedDict\n)}\x92", "opcode NEWOBJ_EX: refused"),
    "EXT1": (b"\x82\x01", "opcode EXT1: refused"),
    "PERSID": (b"Pstorage\n", "opcode PERSID: refused"),
    "an attribute by way of a module": (
        b"\x8c\x05torch\x8c\x12serialization.os.x\x93",
        "wants to run torch.serialization.os.x: refused",
    ),
    "a class of code": (b"ctypes\nCodeType\n", "wants to run types.CodeType: refused"),
    "getattr": (b"cbuiltins\ngetattr\n", "wants to run builtins.getattr: refused"),
    "a private function": (b"cx\n__y\n", "wants to run x.__y: refused"),
    "OBJ of nothing": (b"(o", "damaged or cut short"),
    "protocol 0": (b"I01\n", "opcode INT: refused"),
    "BUILD with __setstate__": (
        b"ctorch\nFloatStorage\n}" + text("__setstate__") + b"cos\nsystem\nsb",
        "wants to run os.system: refused",
    ),
    "BUILD of a type": (b"ctorch\nFloatStorage\n}b", "wants to set attributes"),
    "BUILD of a function": (b"ctorch\nSize\n}b", "wants to set attributes"),
    "REDUCE of a type": (b"ctorch\nFloatStorage\n)R", "wants to call what is no"),
    "REDUCE with a list": (b"ccollections\nOrderedDict\n]R", "wants to call what is"),
    "SETITEM of a type": (b"ctorch\nFloatStorage\nNNs", "wants to change an object"),
    "APPEND to a type": (b"ctorch\nFloatStorage\nNa", "wants to change an object"),
    "an escape sequence": (b"c\x1b[2J\nx\n", r"wants to run \\x1b\[2J.x: refused"),
    "a long name": (b"cos\n" + b"x" * 9999 + b"\n", r"os\.x{77}\.\.\.: refused"),
    "a global that is no text": (b"K\x01K\x02\x93", "damaged or cut short"),
    # Persistent identifiers.
    "a number": (b"K\x01Q", "storage of an unknown kind"),
    "a short one": (b"(" + text("storage") + b"tQ", "storage of an unknown kind"),
    "of a module": (storage().replace(b"storage", b"modules"), "an unknown kind"),
    "no type": (storage(kind="torch\nSize"), "storage of an unknown kind"),
    "a view": (storage(extra=b"N"), "storage of an unknown kind"),
    "missing": (storage(key="../0"), r"lacks the storage \.\./0"),
    "too large": (storage(count=5), "lacks the storage 0, or a part of it"),
    "huge": (storage(count=2**60), "storage whose size makes no sense"),
    "negative": (storage(count=-1), "storage whose size makes no sense"),
    # Calls of what is allowed.
    "no storage": (tensor(where=b"N"), "not made of a storage"),
    "no arguments": (b"ctorch._utils\n_rebuild_tensor_v2\n)R", "not made of a stor"),
    "no parameter": (b"ctorch._utils\n_rebuild_parameter\n)R", "without a tensor"),
    "no pairs": (b"ccollections\nOrderedDict\n(](NetR", "not made of pairs"),
    "no list": (b"ccollections\nOrderedDict\n(K\x01tR", "not made of pairs"),
    # Resources.
    "a deep key": (b"}" + b")" + b"\x85" * 200_000 + b"Ns", "keys are not names"),
    "a number as key": (b"}" + number(2**61 - 1) + b"Ns", "keys are not names"),
    "gigabytes claimed": (b"\x8e" + struct.pack("<Q", 2**40), "cut short"),
    "more than can be": (b"\x8e" + struct.pack("<Q", 2**63), "cut short"),
    "a long integer": (b"\x8b\xff\xff\xff\x7f", "cut short"),
    "no memo": (b"j\xff\xff\xff\xff", "damaged or cut short"),
    "an empty stack": (b"00000", "damaged or cut short"),
    "no mark": (b"t", "damaged or cut short"),
    "half a pair": (
        b"}(" + text("a") + b"N" + text("b") + b"u",
        "damaged or cut short",
    ),
    "no text": (b"X\x01\0\0\0\xff", "damaged or cut short"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    program, match = HOSTILE[name]
    refused(zipped(tmp_path / "a.pt", named(program)), match)
    assert os.listdir(tmp_path) == ["a.pt"]


@pytest.mark.parametrize("name", ["GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "a number"])
@pytest.mark.parametrize("place", range(4))
def test_hostile_pickles_anywhere_in_legacy_files(tmp_path, monkeypatch, name, place):
    monkeypatch.chdir(tmp_path)
    program, match = HOSTILE[name]
    path = legacy(tmp_path / "a.pt", named(legacy_tensor()))
    intact = path.read_bytes()
    # Behind the magic number, the version, the system's record and the tensors.
    pickles = intact.split(b".\x80\x02")
    pickles.insert(place + 1, program)
    path.write_bytes(b".\x80\x02".join(pickles))
    refused(path, match)
    assert os.listdir(tmp_path) == ["a.pt"]


def test_memo_indices_cost_nothing(tmp_path):
    """C Python's unpickler would make room for 2**32 entries."""
    program = named(tensor() + b"r\xff\xff\xff\xff")
    assert list(read_state_dict(zipped(tmp_path / "a.pt", program))) == ["w"]


def test_depth_and_recursion_are_harmless(tmp_path):
    deep = named(tensor())[:-1] + text("d") + b"]" * 100_000 + b"a" * 99_999 + b"s."
    assert list(read_state_dict(zipped(tmp_path / "a.pt", deep))) == ["w"]
    itself = b"\x80\x02}q\x00" + text("model") + b"h\x00s."
    refused(zipped(tmp_path / "b.pt", itself), "holds no arrays by name")


def test_long_pickles_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(torch_file, "MAX_BYTES", 1000)
    program = b"\x80\x02" + b"N0" * 500 + b"N."
    refused(zipped(tmp_path / "a.pt", program), "pickle that is too large")
    refused(legacy(tmp_path / "b.pt", program), "damaged or cut short")


SHAPES = {
    "beyond the end": (number(1), None, None, "reaches beyond its storage"),
    "beyond by strides": (None, None, numbers(3, 1), "reaches beyond its storage"),
    "far beyond": (number(2**47), None, None, "reaches beyond its storage"),
    "a negative offset": (number(-1), None, None, "makes no sense"),
    "a negative stride": (number(3), None, numbers(-2, 1), "makes no sense"),
    "a negative size": (None, numbers(-2, 2), None, "makes no sense"),
    "an immense size": (None, numbers(2**70, 2), None, "makes no sense"),
    "a true size": (None, b"\x88K\x02\x86", None, "makes no sense"),
    "a size of text": (None, text("22"), None, "makes no sense"),
    "no size": (None, b"N", None, "makes no sense"),
    "other strides": (None, None, numbers(1), "makes no sense"),
    "too many axes": (None, numbers(*[1] * 33), numbers(*[1] * 33), "makes no sense"),
    "terabytes of one": (None, numbers(2**40, 1), numbers(0, 1), "overlaps itself"),
    "overlapping rows": (None, numbers(2, 2), numbers(1, 1), "overlaps itself"),
    "larger than memory": (None, numbers(2**30, 2**30), None, "larger than any"),
    "an empty giant": (None, numbers(0, *[2**40] * 9), numbers(*[1] * 10), "larger"),
}


@pytest.mark.parametrize("name", SHAPES)
def test_arrays_that_do_not_fit_their_storage(tmp_path, name):
    offset, shape, strides, match = SHAPES[name]
    program = named(tensor(offset, shape, strides))
    refused(zipped(tmp_path / "a.pt", program), match)


def test_big_endian_files_are_refused(tmp_path):
    path = zipped(tmp_path / "a.pt", named(tensor()), byteorder=b"big")
    refused(path, "saved on a big-endian machine")
    path = legacy(tmp_path / "b.pt", named(legacy_tensor()), order=b"\x89")
    refused(path, "saved on a big-endian machine")


@pytest.mark.parametrize(
    "options, match",
    [
        ({"data": b""}, "damaged or cut short"),
        ({"data": struct.pack("<q", 5) + bytes(20)}, "damaged or cut short"),
        ({"data": struct.pack("<q", 4) + bytes(15)}, "is cut short"),
        ({"keys": ()}, "lacks the storage 0"),
        ({"keys": ("1",)}, "damaged or cut short"),
    ],
)
def test_damaged_storages_of_legacy_files(tmp_path, options, match):
    path = legacy(tmp_path / "a.pt", named(legacy_tensor()), **options)
    refused(path, match)


def test_views_of_storages_are_refused(tmp_path):
    program = named(legacy_tensor(view=numbers(0, 0, 4)))
    refused(legacy(tmp_path / "a.pt", program), "as before PyTorch 0.4")


def test_members_twice_or_encrypted(tmp_path):
    path = zipped(tmp_path / "a.pt", named(tensor()))
    with (
        pytest.warns(UserWarning, match="Duplicate name"),
        zipfile.ZipFile(path, "a") as archive,
    ):
        archive.writestr("x/data.pkl", b"\x80\x02}.")
    refused(path, "is a damaged zip archive")


def test_a_member_that_claims_more_than_the_file_has(tmp_path):
    path = zipped(tmp_path / "a.pt", named(tensor(shape=numbers(2**20, 2**20))))
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\1\2")  # of data/0 in the directory: both of its sizes
    data[entry + 20 : entry + 28] = struct.pack("<II", 2**31, 2**31)
    path.write_bytes(data)
    match = "perhaps cut short; get the file again .a member lies outside of the file"
    refused(path, match)


def test_a_file_that_shrinks_while_it_is_read(tmp_path):
    path = zipped(tmp_path / "a.pt", named(tensor()))
    state = read_state_dict(path)
    path.write_bytes(b"")
    with pytest.raises(UserError, match=r"a\.pt: has changed while it was read"):
        _ = state["w"]


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    """A small file of each kind."""
    folder = tmp_path_factory.mktemp("valid")
    state = {
        "a.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
        "b": np.ones(3, np.float16),
    }
    write_torch(folder / "ours", state)
    write_safetensors(folder / "safetensors", state)
    np.savez(folder / "npz", **state)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    names = ("zip", "legacy")
    return files | {name: (FOLDER / f"{name}.pt").read_bytes() for name in names}


@pytest.mark.parametrize("kind", ["zip", "legacy", "ours", "safetensors", "npz.npz"])
def test_damage_is_told_or_harmless(tmp_path, valid, kind):
    """Bytes changed, cut off or doubled: an error in one line, or arrays."""
    data, draw = valid[kind], random.Random(0)
    path = tmp_path / "a.pt"
    told = 0
    for trial in range(300):
        at = draw.randrange(len(data))
        if trial % 4 == 0:
            damaged = data[:at]
        elif trial % 4 == 1:
            damaged = data[:at] + data[draw.randrange(len(data)) :]
        else:
            changed = bytes([draw.randrange(256) for _ in range(trial % 3)])
            damaged = data[:at] + changed + data[at + len(changed) :]
        path.write_bytes(damaged)
        try:
            for array in read_state_dict(path).values():
                assert array.nbytes <= len(data)
                array.tobytes()
        except UserError as error:
            assert str(error).isprintable()
            told += 1
    assert told > 100


# Writing.

EXAMPLE = {
    "view": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "scalar": np.full((), 2.5, np.float32),
    "empty": np.zeros((0, 3), np.float64),
    "широкий": np.ones((2, 1), np.float32),
    **{str(kind): np.ones(3, kind) for kind in STORAGES.values()},
}


@pytest.mark.parametrize("write", [write_torch, write_safetensors])
def test_what_is_written_is_read(tmp_path, write):
    """Of all types; views and empty arrays, in their order."""
    write(tmp_path / "new" / "a", EXAMPLE)
    state = read_state_dict(tmp_path / "new" / "a")
    assert list(state) == list(EXAMPLE)
    for key, array in EXAMPLE.items():
        assert state[key].dtype == array.dtype
        np.testing.assert_array_equal(state[key], array)
    assert os.listdir(tmp_path / "new") == ["a"]


def test_the_library_reads_our_safetensors(tmp_path):
    assert set(SAFETENSORS.values()) == set(STORAGES.values())
    write_safetensors(tmp_path / "a", EXAMPLE)
    state = safetensors.numpy.load_file(tmp_path / "a")
    for key, array in EXAMPLE.items():
        np.testing.assert_array_equal(state[key], array)


def test_the_pickle_is_one_of_pythons(tmp_path):
    """Python's own unpickler finds the calls that PyTorch's files make."""

    class Unpickler(pickle.Unpickler):
        def find_class(self, module, name):
            return lambda *args: (f"{module}.{name}", *args)

        def persistent_load(self, pid):
            kind, make, key, device, count = pid
            return kind, make()[0], key, device, count

    write_torch(tmp_path / "a.pt", {"w": np.ones((70000, 2), np.float32)})
    with zipfile.ZipFile(tmp_path / "a.pt") as archive:
        assert archive.testzip() is None
        with archive.open("archive/data.pkl") as file:
            program = file.read()
    # What the tensors are put into is made by a call as well.
    items = program.split(b")R(", 1)[1]
    place = "storage", "torch.FloatStorage", "0", "cpu", 140000
    hooks = ("collections.OrderedDict",)
    found = Unpickler(io.BytesIO(b"\x80\x02}(" + items)).load()
    assert found == {
        "w": (
            "torch._utils._rebuild_tensor_v2",
            place, 0, (70000, 2), (2, 1), False, hooks,
        )
    }  # fmt: skip


def test_numbers_beyond_32_bits():
    """Of arrays of many gigabytes; this one takes no memory."""
    giant = write._Stored("CharStorage", (2, 2**31), 2**32)
    program = write._pickle({"w": giant})
    numbers = [argument for _, argument, _ in pickletools.genops(program)]
    assert {2**32, 2**31} <= set(numbers)


def test_storages_are_aligned(tmp_path):
    write_torch(tmp_path / "a.pt", {str(n): np.ones(n, np.int8) for n in range(9)})
    spans = read_state_dict(tmp_path / "a.pt").spans.values()
    assert {span.offset % 64 for span in spans} == {0}


@pytest.mark.parametrize("write", [write_torch, write_safetensors])
def test_types_that_a_file_cannot_hold(tmp_path, write):
    with pytest.raises(UserError, match=r"a: cannot hold x, which is complex64"):
        write(tmp_path / "a", {"x": np.zeros(2, np.complex64)})
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("write", [write_torch, write_safetensors])
def test_a_full_disk_harms_nothing(tmp_path, write):
    """A limit on file size fails like a full disk, with EFBIG instead of ENOSPC."""
    path = tmp_path / "a"
    path.write_bytes(b"before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(UserError, match=r"a: cannot be written .File too large"):
            write(path, {"x": np.zeros(10**5), "y": np.zeros(10**5)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["a"]
