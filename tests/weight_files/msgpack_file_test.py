"""Flax's msgpack files: intact, damaged and hostile."""

import random
import struct
import tracemalloc
from typing import Any

import jax.numpy as jnp
import ml_dtypes
import msgpack
import numpy as np
import pytest
from flax import serialization

from rad_jax.errors import UserError
from rad_jax.weight_files import msgpack_file
from rad_jax.weight_files.lazy_array import MappedArrays, Span
from rad_jax.weight_files.msgpack_file import is_msgpack
from rad_jax.weight_files.network import read_network
from rad_jax.weight_files.read import read_file
from rad_jax.weight_files.score_sde import MARKERS
from tests.weight_files.sde_samples import file_bytes

W = np.arange(6, dtype=np.float32).reshape(2, 3)


def read(path, data):
    path.write_bytes(data)
    return read_file(path).value


def refused(path, data, match):
    with pytest.raises(UserError, match=match) as error:
        read(path, data)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def mapped(path, spans):
    return MappedArrays(spans, {key: path for key in spans})


def packed(value) -> bytes:
    data = msgpack.packb(value)
    assert data is not None
    return data


def extension(shape: Any = (2, 3), dtype: Any = "float32", data: Any = None):
    """An array as Flax packs it."""
    return msgpack.ExtType(
        1, packed((shape, dtype, W.tobytes() if data is None else data))
    )


def params(value):
    """A file with a value."""
    return packed({"params": value})


BEGIN = b"\x81\xa6params"


# Files that are read.


def test_every_type_that_flax_writes(tmp_path):
    types = [
        *("float64", "float32", "float16", "bool", "int64", "int32", "int16", "int8"),
        *("uint64", "uint32", "uint16", "uint8", ml_dtypes.bfloat16),
    ]
    tree = {str(np.dtype(kind)): W.astype(kind) for kind in types}
    path = tmp_path / "a"
    found = read(path, serialization.to_bytes({"params": tree}))["params"]
    assert found.keys() == tree.keys()
    assert len(found) == len(msgpack_file.DTYPES)
    for key, array in mapped(path, found).items():
        assert array.dtype == tree[key].dtype
        np.testing.assert_array_equal(array, tree[key])


def test_shapes(tmp_path):
    tree = {"0": np.full((), 3, np.float32), "1": W[0], "4": W.reshape(1, 2, 1, 3)}
    tree |= {"none": np.zeros((0, 4)), "jax": jnp.ones((3, 2), jnp.bfloat16)}
    path = tmp_path / "a"
    found = read(path, serialization.to_bytes({"params": tree}))["params"]
    for key, array in mapped(path, found).items():
        assert array.shape == tree[key].shape
        np.testing.assert_array_equal(array, tree[key])


def test_arrays_are_mapped_and_cannot_be_changed(tmp_path):
    path = tmp_path / "a"
    found = read(path, serialization.to_bytes({"params": {"w": W}}))["params"]
    array = mapped(path, found)["w"]
    assert isinstance(array.base, np.memmap)
    assert not array.flags.writeable
    # They begin anywhere, which JAX must not mind.
    np.testing.assert_array_equal(jnp.asarray(array), W)


def test_plain_values(tmp_path):
    """Whole numbers of every length, and what else msgpack has."""
    plain = [*(sign * 2**i for i in range(63) for sign in (1, -1)), 2**64 - 1, -(2**63)]
    plain += [None, True, False, 0.5, "text", "x" * 40, "y" * 300, "z" * 70_000, "\xe4"]
    plain += [list(range(20)), {str(i): i for i in range(20)}]
    path = tmp_path / "a"
    assert read(path, params(plain))["params"] == plain


def test_forms_that_flax_needs_for_nothing_small(tmp_path):
    for value, expected in (
        (b"\xca" + struct.pack(">f", 0.5), 0.5),
        (b"\xdd\0\0\0\1\7", [7]),
        (b"\xdf\0\0\0\1\xdb\0\0\0\1a\7", {"a": 7}),
        (b"\xc9\0\0\0\1\2x", msgpack_file.OTHER),
    ):
        assert read(tmp_path / "a", BEGIN + value)["params"] == expected


def test_what_is_no_array_is_passed_over(tmp_path):
    other = [b"", b"x" * 300, b"x" * 70_000, np.float32(1), 1 + 2j]
    other += [msgpack.ExtType(9, b"x" * n) for n in (1, 2, 4, 8, 16, 3, 300, 70_000)]
    tree = {"params": [{"is": x, "w": W} for x in other]}
    path = tmp_path / "a"
    found = read(path, serialization.msgpack_serialize(tree))["params"]
    for each in found:
        assert each["is"] is msgpack_file.OTHER
        np.testing.assert_array_equal(mapped(path, {"w": each["w"]})["w"], W)


def test_the_sample(tmp_path):
    found = read(tmp_path / "a", file_bytes("flax_msgpack"))
    assert list(found) == [
        *("ema_rate", "lr", "model_state", "optimizer", "params_ema", "rng", "step")
    ]
    assert found["rng"].dtype == np.uint32
    rng = mapped(tmp_path / "a", {"rng": found["rng"]})["rng"]
    np.testing.assert_array_equal(rng, [0, 42])


# What is recognised.


@pytest.mark.parametrize(
    "head, expected",
    [
        (file_bytes("flax_msgpack")[:512], True),
        (b"\x82\xa4step\x07", True),
        (b"\xde\x00\x10\xaaparams_ema\x80", True),
        (b"\xdf\x00\x00\x00\x10\xd9\x0aparams_ema\x80", True),
        (b"\x81\xb6ResnetBlockBigGANpp_12\x80", True),
        (b"\x81\xa6Conv_0\x80", True),
        (b"\x80", False),  # an empty dictionary, and how pickles begin
        (b"\x80\x02}.", False),
        (b"\x80\xa4step", False),
        (b"\x81\xa5step", False),
        (b"\x81\xa4Step", False),
        (b"\x81\xa3the", False),
        (b"\x81", False),
        (b"\x81\xd9", False),
        (b"\x91\xa4step", False),
        (b"\xdf\x00\x00", False),
        (b"\x81\x07\xa4step", False),
        (b"", False),
    ],
)
def test_beginnings(head, expected):
    assert is_msgpack(head) is expected


def test_bytes_at_random_are_of_an_unknown_kind(tmp_path):
    generator = random.Random(0)
    for first in range(0x81, 0x100):
        data = bytes([first]) + generator.randbytes(200).replace(b"{", b"")
        refused(tmp_path / "a", data, "is of an unknown kind; give a .pt, .pth, .safet")


# Files that are damaged or hostile.


def test_files_that_are_cut_short(tmp_path):
    data = file_bytes("flax_msgpack")
    cuts = [*range(20, 200, 3), *range(200, len(data), 4999), len(data) - 1]
    for size in cuts:
        refused(tmp_path / "a", data[:size], "is damaged or cut short; get the file")


def test_bytes_behind_the_end(tmp_path):
    data = params({"w": extension()})
    assert type(read(tmp_path / "a", data)["params"]["w"]) is Span
    refused(tmp_path / "a", data + b"\0", "is damaged: 1 bytes follow its end")


@pytest.mark.parametrize(
    "value",
    [
        *(b"\xdb\xff\xff\xff\xff", b"\xda\xff\xff", b"\xd9\xff", b"\xbf"),
        *(b"\xc6\xff\xff\xff\xff", b"\xc5\xff\xff", b"\xc4\xff"),
        *(b"\xdd\xff\xff\xff\xff", b"\xdc\xff\xff", b"\x9f"),
        *(b"\xdf\xff\xff\xff\xff", b"\xde\xff\xff", b"\x8f"),
        *(b"\xc9\xff\xff\xff\xff\x02", b"\xc8\xff\xff\x02", b"\xc7\xff\x02"),
        *(b"\xc9\xff\xff\xff\xff\x01", b"\xd8\x01", b"\xd8\x02", b"\xd4", b"\xc9"),
        *(b"\xcf\0", b"\xcb\0", b"\xc1", b"\xa2\xff\xff", b"\xc9\0\0\0\5\1\x93\x90"),
    ],
)
def test_lengths_beyond_the_file(tmp_path, value):
    """Also a code that does not exist, and text that is none."""
    refused(tmp_path / "a", BEGIN + value, "is damaged or cut short|has more text")


def test_huge_counts_in_a_file_of_their_size(tmp_path):
    size = 2**18
    half, whole = size // 2, size + 1
    texts = packed({"params": ["x" * 2**20] * 9})
    for data, match in (
        (
            BEGIN + b"\xdd" + struct.pack(">I", whole) + b"\xc0" * whole,
            "has more than 2",
        ),
        (BEGIN + b"\xdf" + struct.pack(">I", half) + b"\xc0" * size, "has more than 2"),
        (texts, "has more text than weights have"),
    ):
        tracemalloc.start()
        refused(tmp_path / "a", data, match)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert most < 2**24


@pytest.mark.parametrize("opener", [b"\x91", b"\x81\xa1x"])
def test_deep_nesting(tmp_path, opener):
    match = "has more than 32 dictionaries within each other"
    refused(tmp_path / "a", BEGIN + opener * 100_000 + b"\xc0", match)
    read(tmp_path / "a", BEGIN + opener * 31 + b"\xc0")


NO_ARRAY = "has an array that is not made of a shape, a type and its elements"
SENSE = "whose shape makes no sense"
SIZE = "has 24 bytes for an array of shape"


@pytest.mark.parametrize(
    "value, match",
    [
        (extension((2, 4)), "reaches beyond its storage"),
        (extension((2**40,)), "reaches beyond its storage"),
        (extension((2**40, 2**40)), "larger than any computer's memory"),
        (extension((2, 2)), SIZE),
        (extension(()), SIZE),
        (extension((0, 3)), SIZE),
        (extension((2**40, 0)), SIZE),
        (extension((-2, -3)), SENSE),
        (extension((-1,)), SENSE),
        (extension((2**64 - 1,)), SENSE),
        (extension((6.0,)), NO_ARRAY),
        (extension((True, 6)), NO_ARRAY),
        (extension(("2", 3)), NO_ARRAY),
        (extension(((2, 3),)), NO_ARRAY),
        (extension((1,) * 33), NO_ARRAY),
        (extension(6), NO_ARRAY),
        (extension(dtype="object"), "has an array of the unknown type object"),
        (extension(dtype="complex64"), "has an array of the unknown type complex64"),
        (extension(dtype="<f4"), "has an array of the unknown type <f4"),
        (extension(dtype="\x1b[2J\n"), r"the unknown type \\x1b\[2J\\n"),
        (extension(dtype="x" * 9999), r"the unknown type x{80}\.\.\.$"),
        (extension(dtype=b"float32"), NO_ARRAY),
        (extension(dtype=4), NO_ARRAY),
        (extension(data="x" * 24), NO_ARRAY),
        (extension(data=24), NO_ARRAY),
        (msgpack.ExtType(1, b"\x93\x92\x02\x03" + b"\xa7float32\xc4\x01x"), "reaches"),
        (msgpack.ExtType(1, extension().data + b"\0"), NO_ARRAY),
        (msgpack.ExtType(1, extension().data[:-1]), "cut short|not made of"),
        (msgpack.ExtType(1, b"\x92\x90\xa7float32"), NO_ARRAY),
        (msgpack.ExtType(1, b"\xc0"), NO_ARRAY),
    ],
)
def test_arrays_that_make_no_sense(tmp_path, value, match):
    refused(tmp_path / "a", params({"w": value, "z": b"0" * 99}), match)


@pytest.mark.parametrize(
    "inner, match",
    [
        (b"\x82\xa1a\xc0\xa1a\xc0", "has the key a twice in a dictionary"),
        (b"\x82\xa1\n\xc0\xa1\n\xc0", r"has the key \\n twice"),
        (b"\x81\x07\xc0", "whose keys are not names"),
        (b"\x81\xc0\xc0", "whose keys are not names"),
        (b"\x81\xc4\x01a\xc0", "whose keys are not names"),
        (b"\x81\x90\xc0", "whose keys are not names"),
        (b"\x81\xd4\x01\xc0\xc0", "whose keys are not names"),
    ],
)
def test_keys(tmp_path, inner, match):
    refused(tmp_path / "a", BEGIN + inner, match)


def test_an_array_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", 8)
    data = serialization.msgpack_serialize({"params": {"w": W}})
    refused(
        tmp_path / "a", data, "has an array of more than 1 GB, which Flax stores in"
    )


def test_a_sample_that_is_changed_at_random(tmp_path):
    """It is read or refused in a line, and nothing large is made."""
    generator, path = random.Random(0), tmp_path / "a"
    small = params({f"Conv_{i}": {"kernel": extension(), "n": i} for i in range(4)})
    whole = file_bytes("flax_msgpack")
    patches = [b"\xff" * 4, b"\xdf", b"\xdd", b"\xc9", b"\x93", b"\xc1", b"\0", b"\x7f"]
    refusals = 0
    tracemalloc.start()
    for case in range(200):
        data = bytearray(whole if case % 50 == 0 else small)
        for _ in range(generator.randint(1, 3)):
            at = generator.randrange(8, len(data))
            patch = generator.choice([*patches, generator.randbytes(2)])
            data[at : at + len(patch) * generator.randint(0, 1)] = patch
        if generator.random() < 0.2:
            del data[generator.randrange(len(data)) :]
        path.write_bytes(data)
        try:
            for array in read_network(path, MARKERS).arrays.values():
                array.tobytes()
        except UserError as error:
            refusals += 1
            assert str(error).startswith(f"{path}: ") and str(error).isprintable()
            assert len(str(error)) < 2000
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2**24
    assert refusals > 30
