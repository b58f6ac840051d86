"""The shards that an image's path names, and where the masks of each are."""

import fnmatch
from collections.abc import Iterator

from etils import epath

from rad_jax.errors import UserError
from rad_jax.files.bucket import AnyPath, in_bucket, listed_objects
from rad_jax.files.collect import existing, is_pattern, listed, root_of
from rad_jax.files.decode import SUFFIXES
from rad_jax.files.mask_pattern import MaskPattern
from rad_jax.files.streamed import walk
from rad_jax.inference.file_options import FileOptions
from rad_jax.jobs.shard_entry import Masks, Shard
from rad_jax.jobs.shard_kinds import ARRAY_RECORD, PARQUET, TAR, ZIP, kind_of


def find_shards(
    image: AnyPath, mask: AnyPath | None, options: FileOptions
) -> list[Shard] | None:
    """The shards of a path, in order of name.

    Args:
        image: a shard, a folder of shards, or a pattern of them; in a bucket too.
        mask: a picture for all; a shard, or a folder with one of the same name for
            each; None for masks in the shards themselves, or as the options say.
        options: how masks are found.

    Returns:
        None if these are pictures: a folder that holds any is one of pictures.

    Raises:
        UserError: there is nothing there, or the masks do not fit.
    """
    paths = dict(_paths(image, options.recursive))
    if not paths:
        return None
    pattern = (
        None if options.mask_pattern is None else MaskPattern(options.mask_pattern)
    )
    if pattern and mask is not None:
        raise UserError(
            f"{mask}: of shards, mask_pattern looks for masks in the shard itself; "
            "leave --mask out"
        )
    own = not options.alpha_hole and (pattern is not None or not any(options.extend))
    shards = []
    for name, path in sorted(paths.items()):
        kind = kind_of(path.name)
        assert kind is not None
        alone = len(paths) == 1
        its = None if mask is None else _mask_of(name, kind, mask, alone=alone)
        shards.append(Shard(path, name, kind, its, Masks(None, pattern, own)))
    return shards


def _paths(image: AnyPath, recursive: bool) -> Iterator[tuple[str, AnyPath]]:
    """Shards by their path below the folder of all."""
    if in_bucket(image):
        yield from _in_bucket(image, recursive)
    elif image.is_dir():
        if next(walk(image, recursive=recursive), None) is None:
            for path in listed(image, recursive=recursive).files:
                if kind_of(path.name):
                    yield path.relative_to(image).as_posix(), path
    elif image.name.lower().endswith(SUFFIXES):
        return  # pictures, or a pattern of such, which need not be listed for this
    elif is_pattern(image):
        root = root_of(image)
        for path in listed(image, recursive=recursive).files:
            if kind_of(path.name):
                yield path.relative_to(root).as_posix(), path
    elif kind_of(image.name):
        yield image.name, existing(image)


def _in_bucket(image: epath.Path, recursive: bool) -> Iterator[tuple[str, AnyPath]]:
    some = any(x in image.name for x in "*?[")
    if kind_of(image.name) and not some:
        yield image.name, image
        return
    folder = image.parent if some else image
    for name in listed_objects(folder, recursive=recursive):
        if kind_of(name) and (not some or fnmatch.fnmatchcase(name, image.name)):
            yield name, folder / name


def _mask_of(name: str, kind: str, mask: AnyPath, *, alone: bool) -> AnyPath:
    """The file with the masks of a shard.

    Raises:
        UserError: there is none, or it cannot be one.
    """
    if not in_bucket(mask):
        existing(mask)
    if mask.name.lower().endswith(SUFFIXES):
        return mask
    if kind not in (TAR, ZIP):
        table = {PARQUET: "Parquet", ARRAY_RECORD: "ArrayRecord"}[kind]
        raise UserError(
            f"{mask}: masks of {table} files are a column of theirs, --columns mask=X; "
            "or give one picture for all"
        )
    own = mask if alone and kind_of(mask.name) else mask / name
    if not own.is_file():
        raise UserError(f"{own}: no such file, with the masks of {name}; add it")
    return own


def require_pictures(
    image: AnyPath, mask: AnyPath | None, options: FileOptions
) -> None:
    """Refuses what cannot be filled picture by picture.

    Raises:
        UserError: masks are elsewhere, or nothing says what is to be filled.
    """
    if mask is not None and in_bucket(mask) and not in_bucket(image):
        raise UserError(f"{mask}: masks of this machine's pictures lie here, too")
    said = mask is not None or options.mask_pattern is not None or options.alpha_hole
    if not said and not any(options.extend):
        raise UserError("inpaint needs --mask, --mask_pattern or --extend")
