"""Which mask goes with which picture, and where the result goes."""

import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rad_jax.errors import UserError
from rad_jax.files.decode import SUFFIXES
from rad_jax.files.remarks import Remarks, some

MASK_NAME = re.compile(r"(.+)[_-]mask\d*", re.IGNORECASE)
"""Names that people give to the mask of a picture; the group is the picture's."""


class Pair(NamedTuple):
    """A picture, its mask, and the files of its results, one a sample."""

    image: Path
    mask: Path
    outputs: tuple[Path, ...]


def pair_by_stem(
    image: Path, mask: Path, output: Path, num_samples: int, remarks: Remarks
) -> list[Pair]:
    """Pairs pictures with masks of their names, suffix aside.

    The mask of ``x.jpg`` is ``x.png``, or else ``x_mask.png``, ``x-mask.png`` or, as
    LaMa names it, ``x_mask001.png``. A picture is never its own mask, and masks that
    lie among the pictures are not filled.

    Args:
        image: a file, or a folder (its pictures; not its subfolders, nor hidden files).
        mask: a file, for all pictures; or a folder that holds one for each, which may
            be the pictures' own.
        output: ``FILE.png`` or a folder if there is one result; a folder if there are
            more. It need not exist. In a folder the results of ``x.jpg`` are ``x.png``
            or, of several samples, ``x_0.png``, ``x_1.png``, ...
        num_samples: results for each picture, >= 1.
        remarks: gets what was left out, and which rule paired them.

    Returns:
        One pair for each picture, in order of name.

    Raises:
        UserError: a file or folder is missing; two files of a folder share a name; a
            picture has no mask, or several; a mask has no picture; the output is named
            for a format other than PNG, cannot be written, or would overwrite an input.
    """
    images = pictures_by_stem(image, remarks, output)
    if mask.is_dir():
        same = image.is_dir() and image.samefile(mask)
        masks = images if same else pictures_by_stem(mask, remarks, output)
        images, masks = _partners(images, masks, image, mask, remarks)
    else:
        _existing(mask)
        among = {x: file for x, file in images.items() if file.samefile(mask)}
        if among and not image.is_dir():
            raise UserError(f"{mask}: is the picture itself; give its mask")
        among |= {x: file for x, file in images.items() if _is_mask(x, images)}
        images = _without_masks(images, among, image, remarks)
        masks = dict.fromkeys(images, mask)
    one = not image.is_dir() and num_samples == 1
    folder = _output_folder(output, one)
    ends = [".png"] if num_samples == 1 else [f"_{i}.png" for i in range(num_samples)]
    pairs = []
    for stem, file in images.items():
        results = [folder / f"{file.stem}{x}" for x in ends] if folder else [output]
        pairs.append(Pair(file, masks[stem], tuple(results)))
    _require_apart(pairs)
    return pairs


def _existing(path: Path) -> Path:
    if not os.path.lexists(path):
        raise UserError(f"{path}: no such file or folder; check the name")
    if not path.exists():
        raise UserError(f"{path}: is a broken symlink; check what it leads to")
    return path


def pictures_by_stem(path: Path, remarks: Remarks, output: Path) -> dict[str, Path]:
    """The picture files of a folder, or one file, by name without suffix.

    Args:
        path: of the folder or file.
        remarks: gets how many files of the folder are none, and why.
        output: a folder of results, which is not counted.

    Returns:
        The files; names are in Unicode's form NFC, as macOS and Linux differ.

    Raises:
        UserError: there is nothing there, or no picture, or two share a name.
    """
    if not path.is_dir():
        return {stem_of(_existing(path)): path}
    try:
        files = sorted(x for x in path.iterdir() if not x.name.startswith("."))
        folders = {file for file in files if file.is_dir()}
    except OSError as error:
        raise UserError(f"{path}: cannot be listed ({error.strerror})") from error
    pictures = [x for x in files if x.suffix.lower() in SUFFIXES and x not in folders]
    others = [file for file in files if file not in folders and file not in pictures]
    count = len(folders - {path / output.name})
    if count:
        remarks.add(path, f"left out {_plural(count, 'folder')} in it")
    if others:
        kinds = some(sorted({file.suffix or "no suffix" for file in others}))
        count = _plural(len(others), "file")
        remarks.add(path, f"left out {count}, no pictures by their suffix ({kinds})")
    if not pictures:
        raise UserError(f"{path}: holds no picture ({', '.join(SUFFIXES)})")
    stems: dict[str, Path] = {}
    for file in pictures:
        if (stem := stem_of(file)) in stems:
            raise UserError(
                f"{path}: {stems[stem].name} and {file.name} have the same name "
                "but for the suffix; rename one"
            )
        stems[stem] = file
    return stems


def stem_of(path: Path) -> str:
    """A file's name without suffix, in Unicode's form NFC."""
    return unicodedata.normalize("NFC", path.stem)


def _partners(
    images: dict[str, Path],
    masks: dict[str, Path],
    image: Path,
    mask: Path,
    remarks: Remarks,
) -> tuple[dict[str, Path], dict[str, Path]]:
    """Pictures, and the mask of each, of two folders or of one."""
    named: dict[str, list[str]] = {}  # masks by the picture that their names name
    for stem in masks:
        if found := MASK_NAME.fullmatch(stem):
            named.setdefault(found[1], []).append(stem)

    def own(stem: str) -> bool:
        return stem in masks and not masks[stem].samefile(images[stem])

    among = {x: file for x, file in images.items() if _is_mask(x, images)}
    among = {x: file for x, file in among.items() if not own(x)}
    if image.is_dir():
        images = _without_masks(images, among, image, remarks)
    partners: dict[str, str] = {}
    for stem, file in images.items():
        others = named.get(stem, [])
        if own(stem):
            partners[stem] = stem
        elif len(others) > 1:
            names = some(masks[other].name for other in others)
            raise UserError(f"{file}: has several masks, {names}; keep one of them")
        elif others:
            partners[stem] = others[0]
    lone = [file for stem, file in images.items() if stem not in partners]
    if lone and any(masks.get(stem_of(file)) == file for file in lone):
        raise UserError(
            f"{some(lone)}: would be its own mask; name the mask "
            f"{lone[0].stem}_mask.png, or give masks in a folder of their own"
        )
    _require_none(lone, "mask", mask)
    if image.is_dir():
        used = {*partners.values(), *(x for x in masks if masks[x] in images.values())}
        _require_none([masks[x] for x in masks if x not in used], "picture", image)
        alike = sum(stem == partner for stem, partner in partners.items())
        rules = {"the pictures' names": alike}
        rules["names like x_mask"] = len(partners) - alike
        for rule, count in rules.items():
            if count:
                remarks.add(mask, f"{_plural(count, 'mask')} paired by {rule}")
    return images, {stem: masks[partner] for stem, partner in partners.items()}


def _is_mask(stem: str, images: dict[str, Path]) -> bool:
    """Whether a name is that of the mask of another picture."""
    found = MASK_NAME.fullmatch(stem)
    return found is not None and found[1] in images


def _without_masks(
    images: dict[str, Path], among: dict[str, Path], folder: Path, remarks: Remarks
) -> dict[str, Path]:
    """Pictures without the masks that lie among them."""
    if among:
        text = f"not filled, for they are masks: {some(x.name for x in among.values())}"
        remarks.add(folder, text)
    return {stem: file for stem, file in images.items() if stem not in among}


def _require_none(lone: Sequence[Path], kind: str, folder: Path) -> None:
    """Refuses files that lack a partner."""
    if lone:
        raise UserError(
            f"{folder}: no {kind} for {some(lone)}; add it under the same name, or "
            "take the other out"
        )


def _plural(count: int, name: str) -> str:
    return f"{count} {name}" if count == 1 else f"{count} {name}s"


def _output_folder(output: Path, one: bool) -> Path | None:
    """The folder of the results; None if ``output`` is the file of the one."""
    in_folder = output.is_dir() or output.suffix.lower() not in SUFFIXES
    if not one and not output.is_dir() and output.suffix.lower() in SUFFIXES:
        raise UserError(
            f"{output}: several results need a folder; give a folder's name"
        )
    if one and not in_folder and output.suffix.lower() != ".png":
        raise UserError(
            f"{output}: results are .png files, for other formats could change known "
            f"pixels; name it {output.with_suffix('.png').name}"
        )
    folder = output.parent if one and not in_folder else output
    require_writable(folder)
    return None if one and not in_folder else output


def require_writable(folder: Path) -> None:
    """Refuses a folder that cannot be made or written to.

    Better now than after an hour's work.
    """
    found = next(path for path in (folder, *folder.parents) if path.exists())
    if not found.is_dir() or not os.access(found, os.W_OK):
        raise UserError(f"{found}: cannot be written to; choose another output")


def _require_apart(pairs: Sequence[Pair]) -> None:
    """Refuses results that would replace a picture or a mask."""
    inputs = {file.resolve() for pair in pairs for file in (pair.image, pair.mask)}
    for pair in pairs:
        for output in pair.outputs:
            if output.resolve() in inputs:
                raise UserError(
                    f"{output}: would overwrite an input; choose another output"
                )
