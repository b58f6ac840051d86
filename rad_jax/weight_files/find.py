"""Where in a file the weights of a network are, and which of them are taken.

Programs save weights beside much else: under a name, or several, or with a prefix
before every key. They are found by keys that the network always has, its markers: what
stands before those is the prefix. Markers with a "/" are of networks whose arrays
stand in dictionaries within each other (`nested`).
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from rad_jax.files.remarks import some
from rad_jax.weight_files.bad_file import BadFile, shown
from rad_jax.weight_files.lazy_array import Span
from rad_jax.weight_files.nested import flattened, is_nested
from rad_jax.weight_files.read import MAX_NAME
from rad_jax.weight_files.script_arrays import MAX_LETTERS

Markers = Sequence[Sequence[str]]
"""Of each kind of network, keys that every one of its kind has."""

MAX_DEPTH = 8
"""Dictionaries within each other that are looked through."""

MAX_FOUND = 100

MOST_SHOWN = 8

AVERAGED = re.compile(r"(?<![a-z])ema(?![a-z])|averag|shadow", re.IGNORECASE)
"""In the names that programs give to averaged weights."""

WRAPPERS = re.compile(
    r"(?:(?<=\.)|^)"
    r"(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\."
)
"""What torch.compile, FSDP and others put into the middle of a key."""

ROOT = "."


class Weights(NamedTuple):
    """Weights of a network in a file.

    Attributes:
      path: names under which their dictionary stands.
      prefix: what stands before every key of them in it, with its last dot.
      keys: all keys of the dictionary as they are in the file, by the key without
        wrappers.
      spans: the dictionary, by key as it is in the file.
    """

    path: tuple[str, ...]
    prefix: str
    keys: Mapping[str, str]
    spans: Mapping[str, Span]

    @property
    def name(self) -> str:
        """What chooses them, and says where they are."""
        return ".".join(filter(None, (*self.path, self.prefix.rstrip(".")))) or ROOT

    @property
    def averaged(self) -> bool:
        """Whether they are called averaged ones."""
        return AVERAGED.search(self.name) is not None


class Chosen(NamedTuple):
    """Weights that are taken.

    Attributes:
      keys: in the file, by the key of the network.
      spans: by the key of the network.
      notes: what is to be said, a line each.
      left: the other arrays of their dictionary, by key in the file.
    """

    keys: dict[str, str]
    spans: dict[str, Span]
    notes: list[str]
    left: Mapping[str, Span] = MappingProxyType({})


def find(tree: Any, markers: Markers) -> list[Weights]:
    """All weights of such networks in what a file holds; the outermost ones first.

    Raises:
      BadFile: there are more than anybody would save.
    """
    found = []
    for path, spans in _dictionaries(tree, markers):
        keys: dict[str, str] = {}
        for key in spans:
            keys.setdefault(WRAPPERS.sub("", key), key)
        found += [Weights(path, x, keys, spans) for x in _prefixes(keys, markers)]
        if len(found) > MAX_FOUND:
            raise BadFile(f"has the weights of more than {MAX_FOUND} networks")
    return found


def _dictionaries(
    tree: Any, markers: Markers
) -> Iterator[tuple[tuple[str, ...], dict[Any, Span]]]:
    """The dictionaries that have arrays, and their names; each object is visited once.

    What a file holds may contain itself, and may be shared without end.
    """
    outer = [tree] if type(tree) in (dict, list, tuple) else []
    waiting: deque[tuple[tuple[str, ...], Any]] = deque(((), each) for each in outer)
    seen: set[int] = set()
    letters = MAX_LETTERS
    while waiting:
        path, node = waiting.popleft()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if type(node) is dict and is_nested(node, markers):
            inner = flattened(node, seen, letters)
            letters -= sum(map(len, inner))
            yield path, inner
            continue  # its parts are no networks of their own
        named = node if type(node) is dict else dict(enumerate(node))
        spans = {k: x for k, x in named.items() if type(x) is Span and _is_usable(k)}
        if spans:
            yield path, spans
        if len(path) < MAX_DEPTH:
            waiting.extend(
                ((*path, str(key)), inner)
                for key, inner in named.items()
                if type(inner) in (dict, list, tuple) and _is_usable(str(key))
            )


def _is_usable(key: Any) -> bool:
    return type(key) is str and len(key) <= MAX_NAME and key.isprintable()


def _prefixes(keys: Mapping[str, str], markers: Markers) -> list[str]:
    """What stands before the markers among keys."""
    found = []
    for first, *others in markers:
        for key in keys:
            prefix = key.removesuffix(first)
            whole = all(prefix + other in keys for other in others)
            if key != prefix and prefix[-1:] in ("", ".") and whole:
                found.append(prefix)
    return found


def choose(found: Sequence[Weights], name: str | None) -> Chosen:
    """Takes weights: those that are named, else averaged ones, else the first.

    Args:
      found: all that there are, one at least.
      name: of `Weights.name`, or what it begins with; None chooses none.

    Raises:
      BadFile: there are none of this name, or a key is there twice.
    """
    fitting = list(found)
    if name is not None:
        name = name.rstrip(".") or ROOT
        fitting = [each for each in found if each.name == name] or [
            each for each in found if each.name.startswith(f"{name}.")
        ]
    names = [each.name for each in found]
    if not fitting:
        raise BadFile(
            f"has no weights at --key {shown(name)}; it has them at {_listed(names)}"
        )
    taken = min(fitting, key=lambda each: not each.averaged)  # the first of these
    return _take(taken, [each for each in found if each is not taken])


def _take(taken: Weights, others: Sequence[Weights]) -> Chosen:
    """The weights without their prefix."""
    prefix = taken.prefix
    # Networks within this one's prefix that are of their own.
    inner = tuple(
        each.prefix
        for each in others
        if each.spans is taken.spans and len(each.prefix) > len(prefix)
    )
    if len(taken.keys) != len(taken.spans):
        raise BadFile(f"has keys of {taken.name} twice, with and without a wrapper")
    keys = {
        key.removeprefix(prefix): original
        for key, original in taken.keys.items()
        if key.startswith(prefix) and not (inner and key.startswith(inner))
    }
    notes = []
    if taken.name != ROOT or others:
        notes.append(_taken_note(taken, [each.name for each in others]))
    wrappers = {name for x in keys.values() for name in WRAPPERS.findall(x)}
    if wrappers:
        notes.append(f"taken out of the keys: {', '.join(sorted(wrappers))}")
    used = set(keys.values())
    left = {key: span for key, span in taken.spans.items() if key not in used}
    spans = {key: taken.spans[x] for key, x in keys.items()}
    return Chosen(keys, spans, notes, left)


def left_notes(left: Iterable[str]) -> list[str]:
    """What is to be said of keys that are not taken."""
    keys = list(left)
    if not keys:
        return []
    roots = dict.fromkeys(key.partition(".")[0] for key in keys)
    return [f"left out: {len(keys)} arrays of {_listed(list(roots))}"]


def _taken_note(taken: Weights, others: list[str]) -> str:
    averaged = ", averaged ones" if taken.averaged else ""
    text = f"weights: {shown(taken.name)}{averaged}"
    if taken.prefix:
        text += f", without the prefix {shown(taken.prefix)}"
    if others:
        text += f"; --key takes others: {_listed(others)}"
    return text


def _listed(names: Sequence[str]) -> str:
    return some(map(shown, names), MOST_SHOWN)
