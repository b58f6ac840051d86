"""Dataclasses from nested dictionaries, as JSON stores them; types are checked."""

import dataclasses
import difflib
import reprlib
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from rad_jax.errors import UserError


def build(cls: type, values: Any, prefix: str) -> Any:
    """A dataclass from a dictionary, field by field.

    Args:
      cls: the dataclass; fields of it may be dataclasses, one of several
        dataclasses, a dataclass or None, tuples and plain values.
      values: the dictionary, as JSON stores it.
      prefix: what errors put before the name of a key, e.g. "model.".

    Raises:
      UserError: a key is unknown (naming the nearest), missing, or of the wrong type.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"config {prefix.rstrip('.')}: must be a block of keys")
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"; did you mean {prefix}{near[0]}?" if near else ""
            raise UserError(f"config has no key {prefix}{key}{hint}")
    missing = [
        name
        for name, field in fields.items()
        if name not in values
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise UserError(f"config lacks the key {prefix}{missing[0]}")
    types_of = typing.get_type_hints(cls)
    arguments = {
        name: _value(types_of[name], value, f"{prefix}{name}")
        for name, value in values.items()
    }
    return cls(**arguments)


def build_one_of(
    kinds: Sequence[Any], values: Any, prefix: str, tag: Any = None
) -> Any:
    """`build` of the one of several dataclasses that a block is of.

    They are told apart by ``architecture``, an attribute of each class.

    Args:
      kinds: the dataclasses.
      values: the block.
      prefix: as of `build`.
      tag: the architecture, if the block has no key that says it; a block of which
        nothing says it is of the first.

    Raises:
      UserError: as `build`, or none is of this architecture.
    """
    known = {kind.architecture: kind for kind in kinds}
    if not isinstance(values, Mapping):
        return build(kinds[0], values, prefix)
    tag = values.get("architecture", tag or kinds[0].architecture)
    if not isinstance(tag, str) or tag not in known:
        raise UserError(
            f"config {prefix}architecture is {reprlib.repr(tag)}; use one of "
            f"{', '.join(known)}"
        )
    others = {key: value for key, value in values.items() if key != "architecture"}
    return build(known[tag], others, prefix)


def _value(kind: Any, value: Any, name: str) -> Any:
    several = typing.get_args(kind) if isinstance(kind, types.UnionType) else ()
    if types.NoneType in several and any(map(dataclasses.is_dataclass, several)):
        # A block that may be left out, of one kind.
        [kind] = (x for x in several if x is not types.NoneType)
        if value is None:
            return None
    elif any(map(dataclasses.is_dataclass, several)):
        return build_one_of(several, value, f"{name}.")
    if dataclasses.is_dataclass(kind):
        return build(typing.cast(type, kind), value, f"{name}.")
    if typing.get_origin(kind) in (tuple, Sequence):
        kinds = typing.get_args(kind)
        if isinstance(value, (list, tuple)):
            if typing.get_origin(kind) is Sequence:
                kinds = kinds * len(value)
            if len(kinds) == len(value):
                pairs = enumerate(zip(kinds, value, strict=True))
                return tuple(_value(k, v, f"{name}[{i}]") for i, (k, v) in pairs)
    elif isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    elif kind is float and type(value) is int:
        return float(value)
    expected = kind.__name__ if isinstance(kind, type) else str(kind)
    # Of a file that is not trusted, a value may be of megabytes.
    shown = reprlib.repr(value)
    raise UserError(f"config {name} is {shown}; it must be of type {expected}")
