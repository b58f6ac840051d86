"""Pictures of a folder one by one, and the mask of each: for folders of millions.

`pairing` knows all names before it pairs any. Here a folder is read as its file system
gives it, and a mask is looked for by the names that it may have.
"""

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from rad_jax.errors import UserError
from rad_jax.files.collect import name_of
from rad_jax.files.decode import SUFFIXES
from rad_jax.files.destination import Destination
from rad_jax.files.mask_pattern import MaskPattern
from rad_jax.files.pairing import MASK_NAME, Pair
from rad_jax.files.remarks import some

MASK_ENDS = ("", "_mask", "-mask", "_mask000", "_mask001")
"""What a mask's name may have after its picture's."""


def walk(folder: Path, *, recursive: bool, skip: Collection[Path] = ()) -> Iterator:
    """Paths of the pictures of a folder, in no order, none hidden.

    Args:
        folder: of this machine.
        recursive: look into folders, but not into those that are links.
        skip: folders to pass over, resolved.

    Raises:
        UserError: a folder cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if not entry.is_dir():
                    if entry.name.lower().endswith(SUFFIXES):
                        yield Path(entry.path)
                elif recursive and not entry.is_symlink():
                    inner = Path(entry.path)
                    if not skip or inner.resolve() not in skip:
                        yield from walk(inner, recursive=True, skip=skip)
    except OSError as error:
        raise UserError(f"{folder}: cannot be listed ({error.strerror})") from error


class MaskFinder(NamedTuple):
    """Finds the mask of a picture by its name.

    Attributes:
        root: the folder of all pictures.
        mask: a folder, one file for all, or None for alpha and borders.
        pattern: of names, which begins at ``mask`` or at the picture's folder.
        target: of the results.
        num_samples: results for each picture.
    """

    root: Path
    mask: Path | None
    pattern: MaskPattern | None
    target: Destination
    num_samples: int

    def is_mask(self, file: Path) -> bool:
        """Whether a file among the pictures is the mask of another one."""
        if self.pattern:
            return self.pattern.names(file.relative_to(self.root).as_posix())
        found = MASK_NAME.fullmatch(file.stem)
        return bool(found and _existing(file.with_name(found[1])))

    def pair(self, file: Path) -> Pair:
        """A picture with its mask.

        Raises:
            UserError: it has none, or several.
        """
        relative = file.relative_to(self.root)
        outputs = self.target.files(relative, self.num_samples)
        return Pair(name_of(file, self.root), file, self._mask(file), outputs)

    def _mask(self, file: Path) -> Path | None:
        relative = file.relative_to(self.root)
        if self.pattern:
            folder = (self.mask / relative).parent if self.mask else file.parent
            found = self.pattern.masks_of(file, folder)
            rule = f"by mask_pattern {self.pattern.text!r}"
        elif self.mask is None or not self.mask.is_dir():
            return self.mask
        else:
            stem = (self.mask / relative).with_suffix("")
            for end in MASK_ENDS:
                found = _existing(stem.with_name(stem.name + end))
                found = [x for x in found if not x.samefile(file)]
                if found:
                    break
            rule = f"in {self.mask}; add it under the same name"
        if len(found) == 1:
            return found[0]
        if found:
            names = some(x.name for x in found)
            raise UserError(f"{file}: has several masks, {names}; keep one of them")
        raise UserError(f"{file}: no mask {rule}")


def _existing(stem: Path) -> list[Path]:
    """Files of this name with any suffix of a picture, each once.

    Where x.png is x.PNG too, as on many a Mac, both names are one file.
    """
    names = [stem.name + x for suffix in SUFFIXES for x in (suffix, suffix.upper())]
    found = [path for x in names if os.path.exists(path := stem.with_name(x))]
    return [x for i, x in enumerate(found) if not any(map(x.samefile, found[:i]))]
