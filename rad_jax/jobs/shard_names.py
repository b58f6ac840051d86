"""Which member of an archive is the mask of which, by their names."""

import posixpath
import re
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from rad_jax.errors import UserError
from rad_jax.files.mask_pattern import MaskPattern
from rad_jax.files.remarks import some

_MASK = re.compile(r"(.+)[._-]mask\d*", re.IGNORECASE)
"""As in a folder, and WebDataset's ``key.mask.png``."""


class Names:
    """Members of an archive by their names without suffix."""

    def __init__(self, names: Iterable[str]):
        """Of these, with slashes."""
        self._by_stem: dict[str, list[str]] = {}
        self._masks: dict[str, list[str]] = {}
        for name in names:
            stem = stem_of(name)
            self._by_stem.setdefault(stem, []).append(name)
            if found := _MASK.fullmatch(stem):
                self._masks.setdefault(found[1], []).append(name)

    def pictures(self) -> Iterator[str]:
        """Names that are no mask of another one here."""
        for stem, names in self._by_stem.items():
            found = _MASK.fullmatch(stem)
            if not (found and found[1] in self._by_stem):
                yield from names

    def masks_of(self, stem: str, *, apart: bool) -> list[str]:
        """Names of the masks of a picture.

        Args:
            stem: the picture's name without suffix.
            apart: this archive has masks alone, which may have the pictures' names.
        """
        own = self._by_stem.get(stem, []) if apart else []
        return own or self._masks.get(stem, [])

    def by_pattern(self, pattern: MaskPattern, picture: str) -> list[str]:
        """The same by a pattern, which begins at the picture's folder."""
        wanted = posixpath.normpath(
            posixpath.join(posixpath.dirname(picture), pattern.of(picture))
        )
        names = self._by_stem.get(stem_of(wanted), [])
        return [name for name in names if name == wanted and name != picture]


def stem_of(name: str) -> str:
    """A member's path without suffix, which is its id."""
    path = PurePosixPath(name)
    return (path.parent / path.stem).as_posix()


def require_inside(name: str, source: str) -> None:
    """Refuses names that lead out of a folder, when somebody unpacks the results.

    Raises:
        UserError: this one does.
    """
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if ".." in parts or name.startswith(("/", "\\")) or not name or "\0" in name:
        raise UserError(f"{source}: its name leads out of the archive; rename it")


def the_one(masks: list[str], source: str) -> str:
    """The only mask.

    Raises:
        UserError: there is none, or there are several.
    """
    if len(masks) == 1:
        return masks[0]
    if masks:
        raise UserError(f"{source}: has several masks, {some(masks)}; keep one of them")
    raise UserError(f"{source}: has no mask; add one, such as x_mask.png of x.png")
