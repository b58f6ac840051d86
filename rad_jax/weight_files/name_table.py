"""Weights of other programs' files to ours and back, by a table of names.

A table has one entry per array of ours. Reading it is a bijection or an error: every
key of the file is used, every array of ours is set, every shape is checked.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from rad_jax.errors import UserError

Path = tuple[str | int, ...]
"""Where an array of ours stands in the pure dict of the parameters."""


class Layout(NamedTuple):
    """How an array of ours is made of arrays of a file, and the way back."""

    to_ours: Callable[..., np.ndarray]
    to_theirs: Callable[[np.ndarray], tuple[np.ndarray, ...]]


@dataclasses.dataclass(frozen=True)
class Entry:
    """An array of ours and the keys of the file that it is made of."""

    keys: tuple[str, ...]
    path: Path
    layout: Layout


SAME = Layout(lambda x: x, lambda x: (x,))
CONV = Layout(lambda x: x.transpose(2, 3, 1, 0), lambda x: (x.transpose(3, 2, 0, 1),))
"""(out, in, h, w) to (h, w, in, out)."""
LINEAR = Layout(lambda x: x.T, lambda x: (x.T,))
"""(out, in) to (in, out)."""
POINTWISE_1D = Layout(lambda x: x[..., 0].T, lambda x: (x.T[..., None],))
"""(out, in, 1), a convolution over a sequence, to (in, out)."""
POINTWISE_2D = Layout(lambda x: x[..., 0, 0].T, lambda x: (x.T[..., None, None],))
"""(out, in, 1, 1) to (in, out)."""


def joined(layout: Layout, count: int) -> Layout:
    """So many layers of the file as one of ours: their outputs one after the other."""

    def to_ours(*parts: np.ndarray) -> np.ndarray:
        return np.concatenate([layout.to_ours(part) for part in parts], axis=-1)

    def to_theirs(ours: np.ndarray) -> tuple[np.ndarray, ...]:
        parts = np.split(ours, count, axis=-1)
        return tuple(array for part in parts for array in layout.to_theirs(part))

    return Layout(to_ours, to_theirs)


def layer(key: str, path: Path, weight: Layout, *, bias: bool = True) -> list[Entry]:
    """Weight and bias of a convolution or a dense layer."""
    found = [Entry((f"{key}.weight",), (*path, "kernel"), weight)]
    if bias:
        found.append(Entry((f"{key}.bias",), (*path, "bias"), SAME))
    return found


def norm(key: str, path: Path) -> list[Entry]:
    """Scale and bias of a normalisation."""
    return [
        Entry((f"{key}.weight",), (*path, "scale"), SAME),
        Entry((f"{key}.bias",), (*path, "bias"), SAME),
    ]


def res_block(
    key: str, path: Path, names: Mapping[str, str], *, shortcut: bool
) -> list[Entry]:
    """A `ResBlock`, whose layers the file calls by `names`.

    Without a name for `time_embed`, a block that is told no time.
    """
    told = names.get("time_embed")
    embed = f"{key}.{told}", (*path, "time_embed"), LINEAR
    entries = [
        *norm(f"{key}.{names['norm1']}", (*path, "norm1")),
        *layer(f"{key}.{names['conv1']}", (*path, "conv1"), CONV),
        *(layer(*embed) if told else ()),
        *norm(f"{key}.{names['norm2']}", (*path, "norm2")),
        *layer(f"{key}.{names['conv2']}", (*path, "conv2"), CONV),
    ]
    if shortcut:
        name = f"{key}.{names['shortcut']}"
        entries += layer(name, (*path, "shortcut"), POINTWISE_2D)
    return entries


def file_shapes(
    entries: Sequence[Entry], abstract: Mapping[str, Any]
) -> dict[str, tuple[int, ...]]:
    """Keys and shapes that a file of this architecture has, in the table's order."""
    leaves = _flat(abstract)
    shapes = {}
    for entry in entries:
        # Zeros that take no memory.
        blank = np.broadcast_to(np.float32(0), leaves[entry.path].shape)
        arrays = entry.layout.to_theirs(blank)
        shapes.update(zip(entry.keys, (x.shape for x in arrays), strict=True))
    return shapes


def read(
    entries: Sequence[Entry],
    abstract: Mapping[str, Any],
    state: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    """Our parameters from the arrays of a file.

    Args:
      entries: the table.
      abstract: pure dict of our parameters' shapes.
      state: the file's arrays by key, of any float type.

    Returns:
      A pure dict of float32 arrays.

    Raises:
      UserError: listing every missing, left-over and misshapen key.
    """
    given = {key: tuple(array.shape) for key, array in state.items()}
    _compare(file_shapes(entries, abstract), given)
    params = {}
    for entry in entries:
        array = entry.layout.to_ours(*(state[key] for key in entry.keys))
        with np.errstate(over="ignore"):  # of float64: infinite, as it should be
            params[entry.path] = np.ascontiguousarray(array, dtype=np.float32)
    return unflatten_dict(params)


@dataclasses.dataclass(frozen=True, eq=False)
class Written(Mapping[str, np.ndarray]):
    """The arrays of a file by key, float32, each made of ours when it is asked for.

    Views of ours where they can be: a file of gigabytes is written with one copy of an
    array at a time.

    Attributes:
      params: our arrays by path.
      places: the entry of each key, and the key's number in it.
    """

    params: Mapping[Path, Any]
    places: Mapping[str, tuple[Entry, int]]

    def __getitem__(self, key: str) -> np.ndarray:
        """The array."""
        entry, number = self.places[key]
        arrays = entry.layout.to_theirs(np.asarray(self.params[entry.path]))
        return np.asarray(arrays[number], np.float32)

    def __iter__(self) -> Iterator[str]:
        """The keys, in the table's order."""
        return iter(self.places)

    def __len__(self) -> int:
        """How many."""
        return len(self.places)


def write(
    entries: Sequence[Entry], abstract: Mapping[str, Any], params: Mapping[str, Any]
) -> Written:
    """The inverse of `read`, of parameters of any float type.

    Raises:
      UserError: listing every missing, left-over and misshapen array of ours.
    """
    expected, given = _flat(abstract), _flat(params)
    _compare(
        {_name(path): tuple(x.shape) for path, x in expected.items()},
        {_name(path): tuple(np.shape(x)) for path, x in given.items()},
    )
    places = {key: (each, i) for each in entries for i, key in enumerate(each.keys)}
    return Written(given, places)


def _flat(tree: Mapping[str, Any]) -> dict[Path, Any]:
    return cast(dict[Path, Any], flatten_dict(tree))


def _name(path: Path) -> str:
    return ".".join(map(str, path))


def _compare(
    expected: Mapping[str, tuple[int, ...]], given: Mapping[str, tuple[int, ...]]
) -> None:
    lines = [f"missing: {key}" for key in expected if key not in given]
    lines += [f"left over: {key}" for key in given if key not in expected]
    lines += [
        f"wrong shape: {key} is {given[key]}, the architecture has {shape}"
        for key, shape in expected.items()
        if key in given and given[key] != shape
    ]
    if lines:
        raise UserError(
            "the weights do not fit the architecture; check its flags:\n  "
            + "\n  ".join(lines)
        )
