"""Dataclasses from dictionaries; `config_test` has those of an experiment."""

import dataclasses
import re
from collections.abc import Sequence

import pytest

from rad_jax.errors import UserError
from rad_jax.files.from_dict import build


@dataclasses.dataclass(frozen=True)
class Inner:
    sizes: Sequence[int]
    rate: float = 0.5


@dataclasses.dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner
    pair: tuple[int, str] = (0, "")


def test_nested_values_are_those_of_the_fields_types():
    values = {"name": "a", "inner": {"sizes": [1, 2], "rate": 1}, "pair": [3, "b"]}
    built = build(Outer, values, prefix="")
    assert built == Outer("a", Inner((1, 2), 1.0), (3, "b"))
    assert type(built.inner.rate) is float and type(built.inner.sizes) is tuple
    assert build(Outer, {"name": "a", "inner": {"sizes": []}}, "") == Outer(
        "a", Inner(())
    )


@pytest.mark.parametrize(
    "inner, message",
    [
        ([1], "config x.inner: must be a block of keys"),
        ({}, "config lacks the key x.inner.sizes"),
        (
            {"sizes": [], "rat": 1},
            "config has no key x.inner.rat; did you mean x.inner.rate?",
        ),
        ({"sizes": [], "zzz": 1}, "config has no key x.inner.zzz"),
        (
            {"sizes": [1, "2"]},
            "config x.inner.sizes[1] is '2'; it must be of type int",
        ),
        (
            {"sizes": [True]},
            "config x.inner.sizes[0] is True; it must be of type int",
        ),
    ],
)
def test_values_that_do_not_fit_are_named(inner, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        build(Outer, {"name": "a", "inner": inner}, "x.")


def test_tuples_have_their_length():
    values = {"name": "a", "inner": {"sizes": []}, "pair": [1]}
    with pytest.raises(UserError, match=r"config pair is \[1\]; it must be of type "):
        build(Outer, values, "")
