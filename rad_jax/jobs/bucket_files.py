"""Pictures of a bucket one by one, and results that become objects of one."""

import fnmatch
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

from etils import epath

from rad_jax.errors import UserError, refuse
from rad_jax.files.bucket import AnyPath, in_bucket, listed_objects
from rad_jax.files.collect import existing, name_of
from rad_jax.files.decode import SUFFIXES
from rad_jax.files.destination import Destination
from rad_jax.files.file_bytes import AnyFile
from rad_jax.files.mask_pattern import MaskPattern
from rad_jax.files.pairing import Pair
from rad_jax.inference.canvas import Item
from rad_jax.inference.file_options import FileOptions
from rad_jax.jobs.files_job import Found, same_name
from rad_jax.jobs.shard_names import Names, stem_of, the_one
from rad_jax.jobs.transfer import fetched, publish_bytes

_Find = Callable[[str, str], AnyFile | None]
"""``find(name, source)``: the mask of a picture, read; may raise UserError."""


def find_in_bucket(
    image: epath.Path,
    mask: AnyPath | None,
    target: Destination,
    options: FileOptions,
    output: AnyPath,
) -> Found:
    """The pictures of a bucket's folder; each is read when it is its turn.

    All names are listed first: a bucket tells them by the thousand.

    Args:
        image: a folder, a pattern of names in one, or one picture.
        mask: a picture for all, or a folder of a bucket; None for masks beside the
            pictures by ``options.mask_pattern``, for alpha and borders.
        target: names of results.
        options: samples, and how masks are found.
        output: where they go, which may lie among the pictures.

    Raises:
        UserError: there are no pictures, or the bucket cannot be listed.
    """
    text = options.mask_pattern
    pattern = None if text is None else MaskPattern(text)
    if pattern and (mask is not None or not pattern.is_plain):
        raise UserError(
            f"{image}: in a bucket mask_pattern begins at the pictures' folder, "
            "without --mask, and may have no *, ? or ["
        )
    for folder in (image, mask):
        if folder is not None and str(folder) == str(output):
            raise UserError(f"{output}: holds the inputs; choose another output")
    # 1. All names.
    root = image.parent if _is_one(image) else image
    there = _names(root, output, recursive=options.recursive)
    names = there
    if _is_one(image):
        names = [x for x in there if fnmatch.fnmatchcase(x, image.name)]
    if not names:
        raise UserError(
            f"{image}: holds no picture ({', '.join(SUFFIXES)}) and no shard of them"
        )
    # 2. Which are pictures, and where the masks of each are.
    pictures, find = _masks(root, there, mask, pattern, output)
    pictures = [name for name in names if name in pictures]
    # 3. Two of one name would be one result.
    stems: dict[str, int] = {}
    for name in pictures:
        stems[stem_of(name)] = stems.get(stem_of(name), 0) + 1

    def items() -> Iterator[Item]:
        for name in pictures:
            open_it = functools.partial(_open, root, name, find, target, options)
            if stems[stem_of(name)] > 1:
                open_it = functools.partial(refuse, same_name(f"{root}/{name}"))
            yield Item(open_it, name, name)

    return Found(items(), len(pictures))


def upload(
    output: epath.Path, folder: Path, item: Item, pair: Pair, encoded: list[bytes]
) -> None:
    """Writes the results of a picture into a bucket, each whole or not at all.

    Args:
        output: the bucket's folder.
        folder: that the pair's files have the names of.
        item: the picture.
        pair: says where they go.
        encoded: their bytes.

    Raises:
        UserError: one cannot be written.
    """
    for path, data in zip(pair.outputs, encoded, strict=True):
        publish_bytes(data, output / path.relative_to(folder).as_posix())


def _is_one(image: AnyPath) -> bool:
    """Whether it is no folder: a pattern, or a picture by its suffix."""
    return any(x in image.name for x in "*?[") or _is_picture(image.name)


def _is_picture(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _names(root: epath.Path, output: AnyPath, *, recursive: bool) -> list[str]:
    """Pictures below a folder, none hidden and none of the results, in order."""
    results = f"{output}/".removeprefix(f"{root}/")
    return [
        name
        for name in listed_objects(root, recursive=recursive)
        if _is_picture(name)
        and not any(part.startswith(".") for part in name.split("/"))
        and not name.startswith(results)
    ]


def _masks(
    root: epath.Path,
    names: list[str],
    mask: AnyPath | None,
    pattern: MaskPattern | None,
    output: AnyPath,
) -> tuple[set[str], _Find]:
    """Names that are no masks of others, and how a picture's mask is found."""
    own = Names(names)
    if pattern is not None:
        used = {x for name in names for x in own.by_pattern(pattern, name)}
        return {*names} - used, (
            lambda name, source: fetched(
                root / the_one(own.by_pattern(pattern, name), source)
            )
        )
    if mask is None:
        return {*names}, lambda name, source: None
    if _is_picture(mask.name):
        if not in_bucket(mask):
            existing(mask)
        # Fetched once; what is wrong with it ends everything.
        one = fetched(mask)
        others = {name for name in names if str(root / name) != str(mask)}
        return others, lambda name, source: one
    if not in_bucket(mask):
        raise UserError(
            f"{mask}: masks of a bucket's pictures lie in a bucket, too; or give one "
            "picture for all"
        )
    if str(mask) == str(root):
        return {*own.pictures()}, (
            lambda name, source: fetched(
                root / the_one(own.masks_of(stem_of(name), apart=False), source)
            )
        )
    apart = Names(_names(mask, output, recursive=True))
    below = f"{mask}/".removeprefix(f"{root}/")
    return {name for name in names if not name.startswith(below)}, (
        lambda name, source: fetched(
            mask / the_one(apart.masks_of(stem_of(name), apart=True), source)
        )
    )


def _open(
    root: epath.Path, name: str, find: _Find, target: Destination, options: FileOptions
) -> Pair:
    mask = find(name, f"{root}/{name}")
    image = fetched(root / name)
    outputs = target.files(Path(name), options.num_samples)
    return Pair(name_of(Path(name), Path()), image, mask, outputs)
