"""The weights of a network, out of a file of whatever form or of several."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rad_jax.errors import UserError
from rad_jax.files.remarks import some
from rad_jax.weight_files import compvis, score_sde
from rad_jax.weight_files.bad_file import BadFile, shown
from rad_jax.weight_files.find import Chosen, Markers, choose, find, left_notes
from rad_jax.weight_files.lazy_array import MappedArrays, Span, check_sizes
from rad_jax.weight_files.read import (
    check_names,
    check_no_model,
    read_file,
    state_dict,
)
from rad_jax.weight_files.safe_unpickle import Unpickled
from rad_jax.weight_files.shards import Shards, shards_of

MOST_SKIPPED = 3


class Network(NamedTuple):
    """Weights of a network.

    Attributes:
      arrays: by the network's own keys.
      files: that were read, in their order.
      notes: what was taken and what was not, a line each.
    """

    arrays: MappedArrays
    files: list[Path]
    notes: list[str]


class Networks(NamedTuple):
    """Several networks of a file.

    Attributes:
      found: those that it holds, by the name that they are asked for by.
      beside: arrays of the file that are of none of them, by their key in the file.
    """

    found: dict[str, Network]
    beside: MappedArrays


def read_network(path: Path, markers: Markers, name: str | None = None) -> Network:
    """Finds the weights of a network in a file, or in the shards that it is one of.

    Args:
      path: a file as `read_state_dict` reads it, a shard, or the index of shards.
      markers: keys that such a network has.
      name: where the weights are, if it is not to be chosen; see `find.choose`.

    Returns:
      Weights that have the markers; where none have, the file's state dict.

    Raises:
      UserError: naming the file, and what is wrong with it.
    """
    return read_networks(path, {"": markers}, name).found[""]


def read_networks(
    path: Path, kinds: Mapping[str, Markers], name: str | None = None
) -> Networks:
    """Finds networks of several kinds in a file, as `read_network` the one.

    Args:
      path: the same.
      kinds: the markers of each; the first kind is in the result in any case.
      name: where the weights of the first kind are.

    Raises:
      UserError: the same.
    """
    shards = shards_of(path)
    files = {each: read_file(each) for each in shards.paths}
    main, *others = kinds
    try:
        whole, owners = _joined(shards, files)
        chosen = {main: _chosen(whole, kinds[main], name)}
        for kind in others:
            if weights := find(whole.value, kinds[kind]):
                chosen[kind] = choose(weights, None)
        size = sum(each.stat().st_size for each in shards.paths)
        for each in chosen.values():
            check_names(each.keys)
            check_sizes(each.spans.values(), size)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except BadFile as error:
        raise UserError(f"{path}: {error}") from error
    used = {key for each in chosen.values() for key in each.keys.values()}
    left = {key: x for key, x in chosen[main].left.items() if key not in used}
    found = {}
    for kind, each in chosen.items():
        paths = {key: owners.get(x, path) for key, x in each.keys.items()}
        arrays = MappedArrays(each.spans, paths)
        found[kind] = Network(arrays, shards.paths, list(each.notes))
    found[main].notes.extend([*left_notes(left), *_skipped_note(whole.skipped)])
    beside = MappedArrays(left, {key: owners.get(key, path) for key in left})
    return Networks(found, beside)


def _chosen(whole: Unpickled, markers: Markers, name: str | None) -> Chosen:
    weights = find(whole.value, markers)
    if weights:
        weights = score_sde.with_averages(whole.value, weights, name)
        weights = compvis.with_averages(weights, name)
        return score_sde.without_sigmas(choose(weights, name))
    check_no_model(whole)
    # Of another network, which is for the caller to say.
    spans = state_dict(whole)
    return Chosen(dict(zip(spans, spans, strict=True)), spans, [])


def _joined(
    shards: Shards, found: Mapping[Path, Unpickled]
) -> tuple[Unpickled, dict[str, Path]]:
    """What the shards hold together, and the file of each array."""
    if len(found) == 1 and not shards.keys:
        return found[shards.paths[0]], {}
    spans: dict[str, Span] = {}
    owners: dict[str, Path] = {}
    for path, each in found.items():
        tree: Any = each.value
        if type(tree) is not dict:
            raise BadFile(f"holds no state dict in {shown(path.name)}")
        for key in shards.keys.get(
            path, [k for k, x in tree.items() if type(x) is Span]
        ):
            if type(tree.get(key)) is not Span:
                raise BadFile(f"{shown(path.name)} has no array {shown(key)}")
            if key in spans:
                raise BadFile(f"has the array {shown(key)} in two files")
            spans[key] = tree[key]
            owners[key] = path
    skipped = dict.fromkeys(name for each in found.values() for name in each.skipped)
    return Unpickled(spans, tuple(skipped)), owners


def _skipped_note(names: tuple[str, ...]) -> list[str]:
    if not names:
        return []
    text = some(map(shown, names), MOST_SKIPPED)
    return [f"skipped, nothing of it was run: {text}"]
