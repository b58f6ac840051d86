"""The weights of a network, out of a file of whatever form or of several."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rad_jax.errors import UserError
from rad_jax.files.remarks import some
from rad_jax.weight_files import compvis, score_sde
from rad_jax.weight_files.bad_file import BadFile, shown
from rad_jax.weight_files.find import Chosen, Markers, choose, find
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
    shards = shards_of(path)
    found = {each: read_file(each) for each in shards.paths}
    try:
        whole, owners = _joined(shards, found)
        chosen = _chosen(whole, markers, name)
        check_names(chosen.keys)
        size = sum(each.stat().st_size for each in shards.paths)
        check_sizes(chosen.spans.values(), size)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except BadFile as error:
        raise UserError(f"{path}: {error}") from error
    paths = {key: owners.get(original, path) for key, original in chosen.keys.items()}
    notes = [*chosen.notes, *_skipped_note(whole.skipped)]
    return Network(MappedArrays(chosen.spans, paths), shards.paths, notes)


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
