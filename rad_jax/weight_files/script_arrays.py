"""The arrays of a TorchScript module, by the names that its state dict would have."""

from rad_jax.weight_files.bad_file import BadFile
from rad_jax.weight_files.lazy_array import Span
from rad_jax.weight_files.placeholder import ScriptObject

MAX_NAME = 500
"""Longest name, as in `read`; deeper attributes are passed over."""

MAX_LETTERS = 2**24
"""Of all names: a short attribute of a long one could cost a hundred times its size."""


def script_arrays(module: ScriptObject) -> dict[str, Span]:
    """Arrays by the names of the attributes that lead to them, joined by dots.

    An object that is an attribute of several, or of itself, is gone through once: the
    work is that of the pickle's size.

    Raises:
      BadFile: the names are longer than those of any network.
    """
    found: dict[str, Span] = {}
    letters = 0
    seen: set[int] = set()
    waiting: list[tuple[str, ScriptObject]] = [("", module)]
    while waiting:
        prefix, owner = waiting.pop()
        # By what it holds: many objects may be given the same attributes.
        if owner.state is None or id(owner.state) in seen:
            continue
        seen.add(id(owner.state))
        inner = []
        for name, value in owner.state.items():
            if type(name) is not str or len(prefix) + len(name) > MAX_NAME:
                continue
            letters += len(prefix) + len(name)
            if letters > MAX_LETTERS:
                raise BadFile("has longer names than any network")
            if type(value) is Span:
                found[prefix + name] = value
            elif type(value) is ScriptObject:
                inner.append((f"{prefix}{name}.", value))
        waiting.extend(reversed(inner))  # so that the file's order is kept
    return found
