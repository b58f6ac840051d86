"""The pictures of a tar or a zip and their masks, read in place."""

import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from rad_jax.data.archives import ArchiveImages, is_archive, members
from rad_jax.data.image_file import Others
from rad_jax.errors import UserError
from rad_jax.files.file_bytes import AnyFile, FileBytes
from rad_jax.jobs.shard_entry import Entry, Files, Masks
from rad_jax.jobs.shard_kinds import TAR, ZIP, kind_of
from rad_jax.jobs.shard_names import Names, require_inside, stem_of, the_one


def read_archive(path: Path, name: str, masks: Masks) -> Iterator[Entry]:
    """The pictures of an archive, in its order.

    Args:
        path: of this machine.
        name: what it is called.
        masks: where they are.

    Raises:
        UserError: it is damaged, cut short or compressed as a whole.
    """
    if masks.pattern and not masks.pattern.is_plain:
        raise UserError(f"{name}: in an archive mask_pattern may have no *, ? or [")
    images = _Archive(path, name)
    find = _mask_finder(images, masks)

    def read(member: str, source: str) -> Files:
        require_inside(member, source)
        return images.read(member), find(member, source)

    for member in _pictures(images, masks):
        source = f"{name}/{member}"
        yield Entry(stem_of(member), source, functools.partial(read, member, source))


class _Archive:
    """A tar or a zip: its members by name."""

    def __init__(self, path: Path, name: str):
        if not is_archive(path):
            raise UserError(
                f"{name}: neither a zip nor a tar, or damaged; fetch it again"
            )
        self._images = ArchiveImages(members(path, Others()))
        self._rows = {each: i for i, each in enumerate(self._images.names)}
        self._name = name
        self.names = Names(self._images.names)
        self.listed = self._images.names

    def read(self, member: str) -> FileBytes:
        data = self._images.read(self._rows[member])
        return FileBytes(f"{self._name}/{member}", data)


def _mask_finder(
    images: _Archive, masks: Masks
) -> Callable[[str, str], AnyFile | None]:
    """``find(member, source)``: the mask of a member."""
    if isinstance(masks.file, Path) and kind_of(masks.file.name) in (TAR, ZIP):
        apart = _Archive(masks.file, str(masks.file))
        return lambda member, source: apart.read(
            the_one(apart.names.masks_of(stem_of(member), apart=True), source)
        )
    if masks.file is not None or not masks.own:
        return lambda member, source: masks.file
    if (pattern := masks.pattern) is not None:
        return lambda member, source: images.read(
            the_one(images.names.by_pattern(pattern, member), source)
        )
    return lambda member, source: images.read(
        the_one(images.names.masks_of(stem_of(member), apart=False), source)
    )


def _pictures(images: _Archive, masks: Masks) -> Iterable[str]:
    """Members that are no masks of others."""
    if masks.file is not None or not masks.own:
        return images.listed
    if (pattern := masks.pattern) is None:
        return images.names.pictures()
    used = {x for y in images.listed for x in images.names.by_pattern(pattern, y)}
    return [member for member in images.listed if member not in used]
