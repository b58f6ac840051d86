"""Networks whose arrays stand in dictionaries within dictionaries, as Flax has them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rad_jax.weight_files.bad_file import BadFile, shown
from rad_jax.weight_files.lazy_array import Span
from rad_jax.weight_files.read import MAX_NAME

SEPARATOR = "/"
"""Between the names that lead to an array, in its key."""


def is_nested(node: Mapping[Any, Any], markers: Sequence[Sequence[str]]) -> bool:
    """Whether the arrays of a network's markers are where their names lead from here.

    Args:
      node: a dictionary.
      markers: of each kind of network; those whose keys have no separator are of
        networks that are not nested.
    """
    return any(
        all(SEPARATOR in key and type(_at(node, key)) is Span for key in keys)
        for keys in markers
    )


def _at(node: Any, key: str) -> Any:
    for name in key.split(SEPARATOR):
        if type(node) is not dict:
            return None
        node = node.get(name)
    return node


def flattened(root: dict[Any, Any], seen: set[int], letters: int) -> dict[str, Span]:
    """The arrays by the names that lead to them, joined by separators.

    Args:
      root: a dictionary, which may contain itself.
      seen: identities of the objects that were gone through, each of them once; those
        below the root are added.
      letters: how many all keys may have: a long name before many short ones could
        cost a hundred times its size.

    Raises:
      BadFile: two have the same key, or the keys are longer than those of any network.
    """
    spans: dict[str, Span] = {}
    for key, value in _leaves(root, seen):
        letters -= len(key)
        if letters < 0:
            raise BadFile("has longer names than any network")
        if key in spans:
            raise BadFile(f"has the array {shown(key)} twice")
        spans[key] = value
    return spans


def _leaves(root: dict[Any, Any], seen: set[int]) -> Iterator[tuple[str, Span]]:
    """In the file's order."""
    waiting = [("", iter(root.items()))]
    while waiting:
        prefix, items = waiting[-1]
        for name, value in items:
            if type(name) is not str or not name or not name.isprintable():
                continue
            key = prefix + name
            if len(key) > MAX_NAME:
                continue
            if type(value) is Span:
                yield key, value
            elif type(value) is dict and id(value) not in seen:
                seen.add(id(value))
                waiting.append((key + SEPARATOR, iter(value.items())))
                break
        else:
            waiting.pop()
