"""TorchScript files: their arrays by name; nothing of their code is looked at."""

import zipfile

import numpy as np
import pytest

from rad_jax.errors import UserError
from rad_jax.weight_files import script_arrays
from rad_jax.weight_files.read import read_state_dict
from tests.weight_files.pickles import DATA, named, number, tensor, text, zipped
from tests.weight_files.torch_file_test import FOLDER, HOSTILE


def made(*attributes, name="__torch__.x.___torch_mangle_3\nY"):
    """An object of a class of the file's own code."""
    return b"c" + name.encode() + b"\n)\x81}(" + b"".join(attributes) + b"ub"


def script(path, *attributes, **members):
    return zipped(path, b"\x80\x02" + made(*attributes) + b".", **members)


def test_a_file_that_torch_traced():
    """torch.jit.trace(...).save, PyTorch 2.13: array i counts up from 100 i."""
    with zipfile.ZipFile(FOLDER / "script.pt") as archive:  # this it must pass over
        assert any(x.compress_type for x in archive.infolist())
    state = read_state_dict(FOLDER / "script.pt")
    shapes = {
        **{"model.0.conv.weight": (3, 2, 3, 3), "model.0.conv.bias": (3,)},
        **{f"model.0.norm.{name}": (3,) for name in ("weight", "bias")},
        **{f"model.0.norm.running_{name}": (3,) for name in ("mean", "var")},
        "model.0.norm.num_batches_tracked": (),
    }
    assert {key: array.shape for key, array in state.items()} == shapes
    for i, (key, shape) in enumerate(shapes.items()):
        if shape:
            expected = np.arange(np.prod(shape)).reshape(shape) + 100 * i
            np.testing.assert_array_equal(state[key], expected)


def test_names_are_those_of_attributes(tmp_path):
    inner = made(text("w"), tensor(), text("training"), b"\x89")
    other = text("what"), b"ctorch.jit\nZ\n)R", text("c"), b"]"
    path = script(tmp_path / "a.pt", text("0"), inner, text("v"), tensor(), *other)
    state = read_state_dict(path)
    assert list(state) == ["v", "0.w"]
    np.testing.assert_array_equal(state["0.w"], DATA.reshape(2, 2))


def test_objects_within_a_state_dict_are_passed_over(tmp_path):
    program = named(made(text("w"), tensor()), "a")[:-1] + text("b") + tensor() + b"s."
    assert list(read_state_dict(zipped(tmp_path / "a.pt", program))) == ["b"]


def test_a_state_that_is_no_dictionary_is_passed_over(tmp_path):
    packed = b"c__torch__\nPacked\n)\x81(" + tensor() + b"K\x01tb"
    path = script(tmp_path / "a.pt", text("p"), packed, text("w"), tensor())
    assert list(read_state_dict(path)) == ["w"]


def test_objects_that_hold_themselves_or_each_other(tmp_path):
    """Sixty objects, each twice an attribute of the next: 2**60 names."""
    many = b"c__torch__\nY\nq\x00)\x81}(" + text("w") + tensor() + b"ubq\x01"
    for _ in range(60):
        many += b"0h\x00)\x81}(" + text("a") + b"h\x01" + text("b") + b"h\x01ubq\x01"
    many += b"0h\x00)\x81q\x02}(" + text("a") + b"h\x01" + text("b") + b"h\x02ub"
    state = read_state_dict(zipped(tmp_path / "a.pt", b"\x80\x02" + many + b"."))
    assert list(state) == ["a." * 61 + "w"]


def test_many_objects_with_the_same_attributes(tmp_path):
    same = b"c__torch__\nY\nq\x00}(" + b"".join(
        text(f"k{i}") + tensor() for i in range(50)
    ) + b"uq\x01"  # fmt: skip
    objects = b"".join(text(f"o{i}") + b"h\x00)\x81h\x01b" for i in range(2000))
    program = b"\x80\x02" + same + b"00c__torch__\nX\n)\x81}(" + objects + b"ub."
    assert len(read_state_dict(zipped(tmp_path / "a.pt", program))) == 50


def test_names_without_end_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(script_arrays, "MAX_LETTERS", 1000)
    deep = made(*[part for i in range(30) for part in (text(f"k{i}"), tensor())])
    path = script(tmp_path / "a.pt", text("x" * 400), deep)
    with pytest.raises(UserError, match="longer names than any network"):
        read_state_dict(path)


@pytest.mark.parametrize(
    ("name", "match"),
    [("os\nsystem", "wants to run os.system"), ("collections\nOrderedDict", "NEWOBJ")],
)
def test_only_classes_of_the_file_make_objects(tmp_path, name, match):
    path = zipped(tmp_path / "a.pt", b"\x80\x02" + made(number(1), name=name) + b".")
    with pytest.raises(UserError, match=match):
        read_state_dict(path)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_within_an_object(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    program, match = HOSTILE[name]
    script(tmp_path / "a.pt", text("w"), tensor(), text("x"), program)
    with pytest.raises(UserError, match=match):
        read_state_dict(tmp_path / "a.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


@pytest.mark.parametrize(
    ("opcodes", "match"),
    [
        (b"c__torch__\nY\n)R", "wants to call what is no function"),
        (b"(c__torch__\nY\no", "opcode OBJ"),
        (b"c__torch__\nY\n)\x81Na", "wants to change an object"),
        (b"c__torch__\nY\n}b", "wants to set attributes"),
    ],
)
def test_objects_are_inert(tmp_path, opcodes, match):
    path = zipped(tmp_path / "a.pt", named(opcodes))
    with pytest.raises(UserError, match=match):
        read_state_dict(path)


def test_code_alone_may_be_compressed(tmp_path):
    path = script(tmp_path / "a.pt", text("w"), tensor())
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/code/__torch__.py", "raise SystemExit")
    assert list(read_state_dict(path)) == ["w"]
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/code/data", b"")
    with pytest.raises(UserError, match="compressed or encrypted members"):
        read_state_dict(path)
