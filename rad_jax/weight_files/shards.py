"""Weights in several files: which ones, from the index or from the name of one."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from rad_jax.errors import UserError
from rad_jax.weight_files.bad_file import BadFile, shown

INDEX = re.compile(r".+\.index(\.\w{1,20})?\.json")
MAX_INDEX_BYTES = 2**24
MAX_SHARDS = 1000
MAX_NAME = 200
"""Longest name of a file; those of file systems are not much longer."""

SHARD = re.compile(r"(.+)-([0-9]{5})-of-([0-9]{5})((?:\.\w{1,20}){1,2})")


class Shards(NamedTuple):
    """The files that weights lie in.

    Attributes:
      paths: the files, in their order.
      keys: names of the arrays that each has to have, by the file; empty if there is
        no index that says so.
    """

    paths: list[Path]
    keys: Mapping[Path, list[str]]


def shards_of(path: Path) -> Shards:
    """The files that belong to this one, which is an index, a shard or whole.

    Raises:
      UserError: one is missing, or the index is damaged.
    """
    try:
        if INDEX.fullmatch(path.name):
            return _indexed(path)
        match = SHARD.fullmatch(path.name)
        return _numbered(path, match) if match else Shards([path], {})
    except BadFile as error:
        raise UserError(f"{path}: {error}") from error


def _numbered(path: Path, match: re.Match[str]) -> Shards:
    name, number, count, suffix = match.groups()
    total = int(count)
    if not 1 <= int(number) <= total <= MAX_SHARDS:
        raise BadFile(f"is called shard {int(number)} of {total}; correct its name")
    names = [f"{name}-{i:05}-of-{count}{suffix}" for i in range(1, total + 1)]
    for each in names:
        if not (path.parent / each).is_file():
            raise BadFile(
                f"is shard {int(number)} of {total}; {shown(each)} is not beside it"
            )
    return Shards([path.parent / each for each in names], {})


def _indexed(path: Path) -> Shards:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_INDEX_BYTES + 1)
        if len(data) > MAX_INDEX_BYTES:
            raise BadFile("is too large for an index of weights")
        index = json.loads(data)
    except OSError as error:
        raise BadFile(f"cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise BadFile("is no index of weights; get the file again") from error
    weight_map = index.get("weight_map") if type(index) is dict else None
    if type(weight_map) is not dict or not weight_map:
        raise BadFile("is no index of weights: it has no weight_map")
    keys: dict[str, list[str]] = {}
    for key, name in weight_map.items():
        # Files elsewhere are none of its business.
        if type(name) is not str or Path(name).name != name or "\\" in name:
            raise BadFile(f"names {shown(name)}, which is no file beside it")
        keys.setdefault(name, []).append(key)
    if len(keys) > MAX_SHARDS:
        raise BadFile(f"names {len(keys)} files, more than weights have")
    for name in keys:
        usable = len(name.encode(errors="replace")) <= MAX_NAME and name.isprintable()
        if not usable or not (path.parent / name).is_file():
            raise BadFile(f"names {shown(name)}, which is not beside it")
    return Shards(
        [path.parent / name for name in keys],
        {path.parent / name: each for name, each in keys.items()},
    )
