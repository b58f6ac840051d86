"""Which mask goes with which picture, and where the result goes."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rad_jax.errors import UserError
from rad_jax.files.decode import SUFFIXES


class Pair(NamedTuple):
    """A picture, its mask, and the files of its results, one a sample."""

    image: Path
    mask: Path
    outputs: tuple[Path, ...]


def pair_by_stem(
    image: Path, mask: Path, output: Path, num_samples: int = 1
) -> list[Pair]:
    """Pairs pictures with masks of the same name, suffix aside.

    Args:
        image: a file, or a folder (its pictures; not its subfolders, nor hidden files).
        mask: a file, for all pictures; or a folder that holds one for each.
        output: ``FILE.png`` or a folder if there is one result; a folder if there are
            more. It need not exist. In a folder the results of ``x.jpg`` are ``x.png``
            or, of several samples, ``x_0.png``, ``x_1.png``, ...
        num_samples: results for each picture, >= 1.

    Returns:
        One pair for each picture, in order of name.

    Raises:
        UserError: a file or folder is missing; two files of a folder share a name; a
            picture has no mask or a mask no picture; the output is named for a format
            other than PNG, cannot be written, or would overwrite an input.
    """
    images = pictures_by_stem(image)
    if mask.is_dir():
        masks = pictures_by_stem(mask)
        _require_all(images, masks, "mask", mask)
        if image.is_dir():
            _require_all(masks, images, "picture", image)
    else:
        masks = dict.fromkeys(images, _existing(mask))
    one = not image.is_dir() and num_samples == 1
    folder = _output_folder(output, one)
    ends = [".png"] if num_samples == 1 else [f"_{i}.png" for i in range(num_samples)]
    pairs = []
    for stem, file in images.items():
        names = tuple(folder / f"{stem}{end}" for end in ends) if folder else (output,)
        pairs.append(Pair(file, masks[stem], names))
    _require_apart(pairs)
    return pairs


def _existing(path: Path) -> Path:
    if not os.path.lexists(path):
        raise UserError(f"{path}: no such file or folder; check the name")
    return path


def pictures_by_stem(path: Path) -> dict[str, Path]:
    """The picture files of a folder, or one file, by name without suffix.

    Raises:
        UserError: there is nothing there, or no picture, or two share a name.
    """
    if not path.is_dir():
        return {_existing(path).stem: path}
    try:
        files = sorted(
            file
            for file in path.iterdir()
            if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
        )
    except OSError as error:
        raise UserError(f"{path}: cannot be listed ({error.strerror})") from error
    if not files:
        raise UserError(f"{path}: holds no picture ({', '.join(SUFFIXES)})")
    stems: dict[str, Path] = {}
    for file in files:
        if file.stem in stems:
            raise UserError(
                f"{path}: {stems[file.stem].name} and {file.name} have the same name "
                "but for the suffix; rename one"
            )
        stems[file.stem] = file
    return stems


def _require_all(
    files: dict[str, Path], partners: dict[str, Path], kind: str, folder: Path
) -> None:
    """Refuses files that lack a partner of the same stem."""
    lone = [str(file) for stem, file in files.items() if stem not in partners]
    if lone:
        raise UserError(
            f"{folder}: no {kind} for {_some(lone)}; add it under the same name, or "
            "take the other out"
        )


def _some(names: Sequence[str], most: int = 5) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def _output_folder(output: Path, one: bool) -> Path | None:
    """The folder of the results; None if ``output`` is the file of the one."""
    in_folder = output.is_dir() or not output.suffix
    if not one and not output.is_dir() and output.suffix.lower() in SUFFIXES:
        raise UserError(
            f"{output}: several results need a folder; give a folder's name"
        )
    if one and not in_folder and output.suffix != ".png":
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
