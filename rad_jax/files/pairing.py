"""Which mask goes with which picture, and where the result goes."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from rad_jax.errors import UserError
from rad_jax.files.collect import (
    existing,
    files_by_name,
    is_many,
    listed,
    one_each,
    root_of,
)
from rad_jax.files.decode import SUFFIXES
from rad_jax.files.destination import Destination, require_apart
from rad_jax.files.file_bytes import AnyFile
from rad_jax.files.mask_pattern import MaskPattern
from rad_jax.files.remarks import Remarks, some

MASK_NAME = re.compile(r"(.+)[_-]mask\d*", re.IGNORECASE)
"""Names that people give to the mask of a picture; the group is the picture's."""


class Pair(NamedTuple):
    """A picture, its mask, and the files of its results, one a sample.

    Attributes:
        name: the picture's path below the folder of all, without suffix, in NFC.
        image: its file, or the bytes of one.
        mask: its mask's, or None if the hole is its own transparent part.
        outputs: files of results.
    """

    name: str
    image: AnyFile
    mask: AnyFile | None
    outputs: tuple[Path, ...]


class Pairing(NamedTuple):
    """Pairs, and the files that are left out because they belong to none."""

    pairs: list[Pair]
    left: dict[Path, UserError]


_Files = dict[str, list[Path]]
"""Files by name; what must be one may be several."""


class _Found(NamedTuple):
    """Pictures by name, masks of some of these, and what is left out."""

    images: dict[str, Path]
    masks: dict[str, Path | None]
    left: dict[Path, UserError]


def pair_files(
    image: Path,
    mask: Path | None,
    target: Destination,
    num_samples: int,
    remarks: Remarks,
    *,
    pattern: MaskPattern | None = None,
    recursive: bool = False,
) -> Pairing:
    """Pairs pictures with masks by their names, suffix aside.

    The mask of ``x.jpg`` is ``x.png``, or else ``x_mask.png``, ``x-mask.png`` or, as
    LaMa names it, ``x_mask001.png``. A picture is never its own mask, and masks that
    lie among the pictures are not filled.

    Args:
        image: a file, a folder (its pictures; no hidden files), or a pattern of files.
        mask: a file, for all pictures; a folder or a pattern of files, one for each,
            which may be the pictures' own; or, with a pattern of names, the folder that
            it begins at, None for that of each picture. None without a pattern: the
            hole is the picture's own transparent part.
        target: of the results.
        num_samples: results for each picture, >= 1.
        remarks: gets what was left out, and which rule paired them.
        pattern: of the masks' names.
        recursive: take folders within folders.

    Returns:
        One pair for each picture that has one mask, in order of name; and the others,
        and the masks of a folder that have no picture.

    Raises:
        UserError: a file or folder is missing; two pictures share a name; no picture
            has a mask; the one picture has none, or several; a result would overwrite
            an input.
    """
    # 1. Pictures; results of an earlier run and masks may lie below them.
    skip = [target.folder] + ([mask] if mask and mask.is_dir() else [])
    images = files_by_name(image, remarks, skip, recursive=recursive)
    # 2. Masks.
    if pattern:
        found = _by_pattern(images, image, mask, pattern, remarks, recursive)
    elif mask is None:
        pictures = one_each(images, image)
        found = _Found(pictures, dict.fromkeys(pictures), {})
    elif is_many(mask):
        deep = recursive or any("/" in name for name in images)
        skip = [target.folder] + ([image] if image.is_dir() else [])
        same = image.is_dir() and mask.is_dir() and image.samefile(mask)
        masks = images
        if not same:
            masks = files_by_name(mask, remarks, skip, recursive=deep)
        found = _by_name(images, masks, image, mask, remarks)
    else:
        found = _one_for_all(images, image, mask, remarks)
    # 3. What is left.
    if not found.masks:
        first = next(iter(found.left.values()))
        if len(found.left) == 1 or not is_many(image):
            raise first
        raise UserError(f"{first}; nothing is left of {some(found.left)}")
    root = root_of(image)
    pairs = []
    for name, its_mask in found.masks.items():
        file = found.images[name]
        outputs = target.files(file.relative_to(root), num_samples)
        pairs.append(Pair(name, file, its_mask, outputs))
    inputs = [x.image for x in pairs] + [x.mask for x in pairs if x.mask]
    inputs += found.left
    require_apart([path for pair in pairs for path in pair.outputs], inputs)
    return Pairing(pairs, found.left)


def _one_for_all(images: _Files, image: Path, mask: Path, remarks: Remarks) -> _Found:
    """Pictures of one mask."""
    existing(mask)
    among = [x for files in images.values() for x in files if x.samefile(mask)]
    if among and not is_many(image):
        raise UserError(f"{mask}: is the picture itself; give its mask")
    among += [x for name in images if _is_mask(name, images) for x in images[name]]
    pictures = one_each(_without(images, among, image, remarks), image)
    if not pictures:
        raise UserError(f"{mask}: is the only picture in {image}; give its mask")
    return _Found(pictures, dict.fromkeys(pictures, mask), {})


def _by_name(
    images: _Files, masks: _Files, image: Path, mask: Path, remarks: Remarks
) -> _Found:
    """Pictures, and the mask of each, of two folders or of one."""
    named: _Files = {}  # masks by the picture that their names name
    for name, files in masks.items():
        if found := MASK_NAME.fullmatch(name):
            named.setdefault(found[1], []).extend(files)

    def own(name: str) -> list[Path]:
        its = images[name]
        return [x for x in masks.get(name, []) if not any(map(x.samefile, its))]

    among = [x for x in images if _is_mask(x, images) and not own(x)]
    among = [file for name in among for file in images[name]]
    rest = _without(images, among, image, remarks) if is_many(image) else images
    pictures = one_each(rest, image)
    found = {name: own(name) or named.get(name, []) for name in pictures}

    def why_none(name: str) -> str:
        file = pictures[name]
        if any(map(file.samefile, masks.get(name, []))):
            return (
                f"{file}: would be its own mask; name the mask {file.stem}_mask.png, "
                "or give masks in a folder of their own"
            )
        return f"{mask}: no mask for {file}; add it under the same name"

    partners, left = _partners(pictures, found, why_none)
    if is_many(image):
        alike = sum(x in masks.get(name, []) for name, x in partners.items())
        _count(alike, "the pictures' names", mask, remarks)
        _count(len(partners) - alike, "names like x_mask", mask, remarks)
    if image.is_dir():
        used = {*among, *pictures.values(), *(x for y in found.values() for x in y)}
        every = [file for files in masks.values() for file in files]
        left |= _lone([x for x in every if x not in used], image)
    return _Found(pictures, partners, left)


def _by_pattern(
    images: _Files,
    image: Path,
    mask: Path | None,
    pattern: MaskPattern,
    remarks: Remarks,
    recursive: bool,
) -> _Found:
    """Pictures, and the mask of each whose name the pattern gives."""
    if mask is not None and not existing(mask).is_dir():
        raise UserError(f"{mask}: is no folder; mask_pattern looks for masks in one")
    root = root_of(image)

    def matching(files: Iterable[Path], folder: Path) -> list[Path]:
        return [x for x in files if pattern.names(x.relative_to(folder).as_posix())]

    among: list[Path] = []
    if is_many(image) and (mask is None or mask.resolve() == root.resolve()):
        among = matching((x for files in images.values() for x in files), root)
        images = _without(images, among, image, remarks)
        if not images:
            raise UserError(
                f"{image}: every picture in it is a mask by mask_pattern "
                f"{pattern.text!r}; check it"
            )
    pictures = one_each(images, image)
    found = {
        name: pattern.masks_of(
            file, file.parent if mask is None else (mask / name).parent
        )
        for name, file in pictures.items()
    }

    def why_none(name: str) -> str:
        where = f"in {mask}" if mask else "beside it"
        return f"{pictures[name]}: no mask {where} by mask_pattern {pattern.text!r}"

    partners, left = _partners(pictures, found, why_none)
    if is_many(image):
        _count(len(partners), pattern.text, image, remarks)
    if image.is_dir():
        used = {x.resolve() for files in found.values() for x in files}
        if mask is not None and not among:
            every = listed(mask, recursive=recursive).files
            among = matching((x for x in every if x.suffix.lower() in SUFFIXES), mask)
        left |= _lone([x for x in among if x.resolve() not in used], image)
    return _Found(pictures, partners, left)


def _partners(
    pictures: dict[str, Path], found: _Files, why_none: Callable[[str], str]
) -> tuple[dict[str, Path | None], dict[Path, UserError]]:
    """The one mask of each picture, and the pictures that have none or several."""
    partners: dict[str, Path | None] = {}
    left: dict[Path, UserError] = {}
    for name, file in pictures.items():
        if len(found[name]) == 1:
            partners[name] = found[name][0]
        elif found[name]:
            names = some(x.name for x in found[name])
            text = f"{file}: has several masks, {names}; keep one of them"
            left[file] = UserError(text)
        else:
            left[file] = UserError(why_none(name))
    return partners, left


def _lone(masks: list[Path], image: Path) -> dict[Path, UserError]:
    """What is said of masks without a picture."""
    text = "{}: no picture for {}; add it, or take the mask out"
    return {file: UserError(text.format(image, file)) for file in masks}


def _count(count: int, rule: str, path: Path, remarks: Remarks) -> None:
    if count:
        text = "1 mask" if count == 1 else f"{count} masks"
        remarks.add(path, f"{text} paired by {rule}")


def _is_mask(name: str, images: _Files) -> bool:
    """Whether a name is that of the mask of another picture."""
    found = MASK_NAME.fullmatch(name)
    return found is not None and found[1] in images


def _without(
    images: _Files, among: list[Path], image: Path, remarks: Remarks
) -> _Files:
    """Pictures without the masks that lie among them."""
    if among:
        text = f"not filled, for they are masks: {some(x.name for x in among)}"
        remarks.add(image, text)
    masks = {*among}
    rest = {x: [y for y in files if y not in masks] for x, files in images.items()}
    return {name: files for name, files in rest.items() if files}
