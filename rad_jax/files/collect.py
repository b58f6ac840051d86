"""The picture files of a path: a file, a folder, a tree of folders, or a pattern."""

import os
import re
import unicodedata
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from rad_jax.errors import UserError
from rad_jax.files.decode import SUFFIXES
from rad_jax.files.remarks import Remarks, some

_MAGIC = re.compile(r"[*?[]")


class Listing(NamedTuple):
    """What there is: files, and folders that were not looked into."""

    files: list[Path]
    folders: list[Path]


def is_pattern(path: Path) -> bool:
    """Whether a path has ``*``, ``?`` or ``[`` and is not simply named so."""
    return bool(_MAGIC.search(str(path))) and not os.path.lexists(path)


def is_many(path: Path) -> bool:
    """Whether a path stands for any number of files: a folder or a pattern."""
    return path.is_dir() or is_pattern(path)


def root_of(path: Path) -> Path:
    """The folder that the names of files are relative to.

    A folder itself, what a pattern has before its first ``*``, else a file's folder.
    """
    if path.is_dir():
        return path
    if not is_pattern(path):
        return path.parent
    first = next(i for i, part in enumerate(path.parts) if _MAGIC.search(part))
    return Path(*path.parts[:first])


def name_of(file: Path, root: Path) -> str:
    """A file's path below a folder with slashes, without suffix, in Unicode's NFC."""
    relative = file.relative_to(root)
    return unicodedata.normalize("NFC", (relative.parent / relative.stem).as_posix())


def existing(path: Path) -> Path:
    """The path itself.

    Raises:
        UserError: there is nothing there.
    """
    if not os.path.lexists(path):
        raise UserError(f"{path}: no such file or folder; check the name")
    if not path.exists():
        raise UserError(f"{path}: is a broken symlink; check what it leads to")
    return path


def listed(path: Path, *, recursive: bool, skip: Collection[Path] = ()) -> Listing:
    """What a folder holds, or what a pattern matches; nothing that is hidden.

    Args:
        path: of the folder, or the pattern; its ``**`` stands for any folders.
        recursive: look into folders, but not into those that are links.
        skip: folders to pass over, resolved.

    Raises:
        UserError: a folder cannot be listed; nothing matches the pattern.
    """
    found = Listing([], [])
    if not is_pattern(path):
        _walk(path, recursive, skip, found)
        return found
    root = root_of(path)
    try:
        matches = sorted(root.glob(str(path.relative_to(root))))
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: cannot be searched for ({error})") from error
    for match in matches:
        inner = [match, *match.parents]
        inner = inner[: len(match.relative_to(root).parts)]
        if any(x.name.startswith(".") or x.resolve() in skip for x in inner):
            continue
        if not match.is_dir():
            found.files.append(match)
        elif recursive:
            _walk(match, recursive, skip, found)
        else:
            found.folders.append(match)
    if not (found.files or found.folders):
        raise UserError(f"{path}: matches no file; check the pattern")
    return found


def _walk(
    folder: Path, recursive: bool, skip: Collection[Path], found: Listing
) -> None:
    def stop(error: OSError) -> None:
        raise UserError(f"{error.filename}: cannot be listed ({error.strerror})")

    for place, inner, names in os.walk(folder, onerror=stop):
        here = Path(place)
        found.files.extend(here / x for x in names if not x.startswith("."))
        folders = [here / x for x in sorted(inner) if not x.startswith(".")]
        folders = [x for x in folders if x.resolve() not in skip]
        # A link may lead anywhere, or around in a circle.
        inner[:] = [x.name for x in folders if recursive and not x.is_symlink()]
        found.folders.extend(x for x in folders if x.name not in inner)


def files_by_name(
    path: Path, remarks: Remarks, skip: Sequence[Path] = (), *, recursive: bool = False
) -> dict[str, list[Path]]:
    """The picture files of a path, by their `name_of`, in order.

    Args:
        path: a file, whatever its suffix; a folder; or a pattern.
        remarks: gets how many files are no pictures, and why.
        skip: folders to pass over, if they lie within.
        recursive: take folders within folders.

    Raises:
        UserError: there is nothing there, or no picture, or as `listed`.
    """
    if not is_many(path):
        return {name_of(existing(path), path.parent): [path]}
    apart = {x.resolve() for x in skip} - {root_of(path).resolve()}
    found = listed(path, recursive=recursive, skip=apart)
    pictures = [x for x in found.files if x.suffix.lower() in SUFFIXES]
    others = [x for x in found.files if x.suffix.lower() not in SUFFIXES]
    if found.folders:
        kind = "link to a folder" if recursive else "folder"
        count = len(found.folders)
        remarks.add(path, f"left out {count} {kind}{'s' * (count > 1)} in it")
    if others:
        kinds = some(sorted({file.suffix or "no suffix" for file in others}))
        count = f"{len(others)} file{'s' * (len(others) > 1)}"
        remarks.add(path, f"left out {count}, no pictures by their suffix ({kinds})")
    if not pictures:
        raise UserError(f"{path}: holds no picture ({', '.join(SUFFIXES)})")
    names: dict[str, list[Path]] = {}
    for file in sorted(pictures):
        names.setdefault(name_of(file, root_of(path)), []).append(file)
    return names


def one_each(files: dict[str, list[Path]], path: Path) -> dict[str, Path]:
    """The only file of each name.

    Raises:
        UserError: two share a name.
    """
    for first, *others in files.values():
        if others:
            raise UserError(
                f"{path}: {first.name} and {others[0].name} have the same name "
                "but for the suffix; rename one"
            )
    return {name: file for name, (file,) in files.items()}
