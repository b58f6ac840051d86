"""What a batch needs is said once; where it is too much, there are fewer at once."""

import dataclasses
import types
import weakref
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.errors import JaxRuntimeError

from rad_jax.errors import UserError
from rad_jax.runtime import memory
from rad_jax.runtime.memory import Call, RetryOnOOM
from tests.conftest import compiling

DOUBLE = jax.jit(lambda x: 2 * x)


@dataclasses.dataclass
class Limited:
    """A compiled function that has too little memory for more than so many images.

    It says so when it compiles, or when it is called; after so many calls it has too
    little for any.
    """

    function: Any
    most: int
    when: str = "call"
    calls: int = 99
    error: str = "RESOURCE_EXHAUSTED: Out of memory allocating 123 bytes."
    lengths: list[int] = dataclasses.field(default_factory=list)

    def lower(self, *arguments):
        if self.when == "compile":
            self._check(arguments)
        return self.function.lower(*arguments)

    def __call__(self, *arguments):
        if self.when == "call":
            self._check(arguments)
        return self.function(*arguments)

    def _check(self, arguments):
        self.lengths.append(count_of(arguments))
        if self.lengths[-1] > self.most or len(self.lengths) > self.calls:
            raise JaxRuntimeError(self.error)


@dataclasses.dataclass
class Late:
    """A result that is not there yet: what runs on a device fails when it is read."""

    call: Call

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.call.function(*self.call.arguments))


def count_of(arguments):
    """Images of a batch: all that is divided over the devices has as many."""
    return len(next(x for x in arguments[::-1] if isinstance(x, jax.Array)))


def sparing(function):
    return RetryOnOOM(lambda x: Call(function, (jnp.asarray(x),), len(x)))


def images(count):
    return np.arange(3.0 * count, dtype=np.float32).reshape(count, 3)


def test_the_need_is_the_compilers_count_and_compiles_once():
    function = jax.jit(lambda p, x: jnp.tanh(x @ p) @ p)
    p, x = jnp.ones((64, 64)), jnp.ones((8, 64))
    call = Call(function, (p, x), 7)
    with compiling() as names:
        need = call.need()
    assert names == ["jit(<lambda>)"]
    assert need is not None and 2**14 + 2 * 2**11 <= need < 2**16
    with compiling() as names:
        function(*call.arguments)
    assert names == []
    assert call().shape == (7, 64)


@pytest.mark.parametrize(
    "stats, said",
    [
        (None, "needs about 3.0 GiB per device"),  # a CPU's
        ({"bytes_in_use": 5}, "needs about 3.0 GiB per device"),
        ({"bytes_limit": 2**34}, "needs about 3.0 GiB per device of 16.0 GiB"),
        ({"bytes_limit": 2**31}, "needs about 3.0 GiB per device of 2.0 GiB: TOO LITT"),
    ],
)
def test_the_need_is_said_once_with_what_a_device_has(monkeypatch, capsys, stats, said):
    device = types.SimpleNamespace(memory_stats=lambda: stats)
    monkeypatch.setattr(Call, "need", lambda _: 3 * 2**30)
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    double = sparing(DOUBLE)
    for _ in range(2):
        double(images(2))
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"rad-jax: {said}")
    assert stats is not None or line.endswith("per device")


def test_nothing_is_said_where_the_compiler_does_not_count(monkeypatch, capsys):
    monkeypatch.setattr(Call, "need", lambda _: None)
    np.testing.assert_array_equal(sparing(DOUBLE)(images(2)), 2 * images(2))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("when", ["compile", "call", "read"])
def test_the_batch_is_halved_for_good(monkeypatch, capsys, when):
    limited = Limited(DOUBLE, most=4, when="compile" if when == "compile" else "call")
    if when == "read":
        monkeypatch.setattr(Call, "__call__", lambda call: Late(call))
    double = sparing(limited)
    for count in (16, 9, 3):
        np.testing.assert_array_equal(double(images(count)), 2 * images(count))
    lines = capsys.readouterr().err.splitlines()
    assert [x for x in lines if "memory" in x] == [
        "rad-jax: out of memory with 16 images at once, trying 8",
        "rad-jax: out of memory with 8 images at once, trying 4",
    ]
    if when == "compile":  # once it is known what a batch needs, it is not asked again
        assert limited.lengths == [16, 8, 4]
    else:
        assert limited.lengths == [16, 8, 4, 4, 4, 4, 3, 3, 3, 3]


def test_a_batch_that_failed_is_let_go_before_the_next():
    """Else there would be too little for the half, too."""
    arrays = []

    def prepare(x):
        assert all(array() is None for array in arrays)
        call = Call(Limited(DOUBLE, most=2), (jnp.asarray(x),), len(x))
        arrays.append(weakref.ref(call.arguments[0]))
        return call

    RetryOnOOM(prepare)(images(8))
    assert len(arrays) == 3 + 3


@pytest.mark.parametrize(
    "length, devices, most",
    [(16, 1, 8), (3, 1, 2), (2, 1, 1), (16, 8, 8), (9, 8, 8), (20, 8, 16), (3, 2, 2)],
)
def test_each_device_gets_half_as_many(monkeypatch, length, devices, most):
    monkeypatch.setattr(jax, "local_device_count", lambda: devices)
    assert memory._fewer(length, JaxRuntimeError()) == most


@pytest.mark.parametrize("length, devices", [(1, 1), (8, 8), (5, 8)])
def test_one_image_on_each_device_is_the_least(monkeypatch, length, devices):
    monkeypatch.setattr(jax, "local_device_count", lambda: devices)
    match = "^out of memory with one image on each device; use --dtype bfloat16, "
    with pytest.raises(UserError, match=match):
        memory._fewer(length, JaxRuntimeError())


def test_other_errors_of_the_device_are_not_taken_for_it():
    limited = Limited(DOUBLE, most=0, error="INTERNAL: RESOURCE_EXHAUSTED is not it")
    with pytest.raises(JaxRuntimeError, match="INTERNAL"):
        sparing(limited)(images(4))
    assert limited.lengths == [4]
