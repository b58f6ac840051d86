"""Where results go, and in what format."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rad_jax.errors import UserError
from rad_jax.files.decode import SUFFIXES
from rad_jax.files.formats import SUFFIXES_OF, format_of


class Destination(NamedTuple):
    """Files of results.

    Attributes:
        folder: that they lie in.
        name: of the file of the one picture, without suffix; None if each has its own.
        suffix: of all.
        form: their format, of `formats.FORMATS`.
    """

    folder: Path
    name: str | None
    suffix: str
    form: str

    def files(self, relative: Path, num_samples: int) -> tuple[Path, ...]:
        """``x.png`` of a picture ``x.jpg``, or of several samples ``x_0.png``, ...

        Args:
            relative: the picture's path below the folder of all pictures.
            num_samples: results for each picture.
        """
        stem = self.name or relative.parent / relative.stem
        ends = [""] if num_samples == 1 else [f"_{i}" for i in range(num_samples)]
        return tuple(self.folder / f"{stem}{end}{self.suffix}" for end in ends)


def destination(output: Path, form: str | None, *, alone: bool) -> Destination:
    """What an output names: a file by its suffix, of one picture, or else a folder.

    Args:
        output: it need not exist.
        form: of `formats.FORMATS`; None for the one that the suffix names, or PNG.
        alone: there is one picture only.

    Raises:
        UserError: it is a file of a format that we do not write, or not the one that
            was chosen; a file for several pictures; it cannot be written.
    """
    named = format_of(output)
    if output.is_dir() or (named is None and output.suffix.lower() not in SUFFIXES):
        require_writable(output)
        form = form or "png"
        return Destination(output, None, SUFFIXES_OF[form][0], form)
    if not alone:
        raise UserError(
            f"{output}: several results need a folder; give a folder's name"
        )
    if named is None:
        known = ", ".join(suffixes[0] for suffixes in SUFFIXES_OF.values())
        raise UserError(
            f"{output}: results are {known} files; name it "
            f"{output.with_suffix('.png').name}"
        )
    if form not in (None, named):
        right = output.with_suffix(SUFFIXES_OF[form][0]).name
        raise UserError(f"{output}: is no name for the format {form}; name it {right}")
    require_writable(output.parent)
    return Destination(output.parent, output.stem, output.suffix, named)


def require_writable(folder: Path) -> None:
    """Refuses a folder that cannot be made or written to.

    Better now than after an hour's work.
    """
    found = next(path for path in (folder, *folder.parents) if path.exists())
    if not found.is_dir() or not os.access(found, os.W_OK):
        raise UserError(f"{found}: cannot be written to; choose another output")


def require_apart(outputs: Sequence[Path], inputs: Sequence[Path]) -> None:
    """Refuses results that would replace a picture or a mask."""
    resolved = {file.resolve() for file in inputs}
    for output in outputs:
        if output.resolve() in resolved:
            raise UserError(
                f"{output}: would overwrite an input; choose another output"
            )
