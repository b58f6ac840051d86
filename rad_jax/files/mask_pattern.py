"""Patterns of masks' names, such as ``{stem}_mask.png``."""

import dataclasses
import fnmatch
import glob
import os
import re
import string
from pathlib import Path

from rad_jax.errors import UserError

FIELDS = ("stem", "name", "suffix")
"""Of the picture's file ``x.jpg``: ``x``, ``x.jpg`` and ``.jpg``."""


@dataclasses.dataclass(frozen=True)
class MaskPattern:
    """Where the mask of a picture lies, from a folder on; may have ``*``, ``?``, ``[``.

    Attributes:
        text: with `FIELDS` in braces; ``{{`` and ``}}`` are braces themselves.

    Raises:
        UserError: there are other fields, neither ``{stem}`` nor ``{name}``, or it is
            an absolute path.
    """

    text: str

    def __post_init__(self):
        """Refuses what is no pattern."""
        named = f"mask_pattern is {self.text!r}"
        try:
            parts = list(string.Formatter().parse(self.text))
        except ValueError as error:
            raise UserError(f"{named}: {error}; write {{{{ for a brace") from error
        fields = [field for _, field, *_ in parts if field is not None]
        odd = [
            x for x in parts if x[1] is not None and (x[1] not in FIELDS or any(x[2:]))
        ]
        if odd:
            known = ", ".join(f"{{{field}}}" for field in FIELDS)
            raise UserError(f"{named}; in braces it may have {known} alone")
        if not {"stem", "name"} & {*fields}:
            raise UserError(
                f"{named}, one mask for all pictures; write {{stem}} or {{name}} for "
                "the picture's name, or give that mask by --mask"
            )
        if os.path.isabs(self.text):
            raise UserError(f"{named}, an absolute path; give its folder by --mask")

    def masks_of(self, picture: Path, folder: Path) -> list[Path]:
        """The masks of a picture that exist below a folder, but for itself."""
        values = picture.stem, picture.name, picture.suffix
        named = self._format(*map(glob.escape, values))
        found = sorted(glob.glob(os.path.join(glob.escape(str(folder)), named)))
        own = [x for x in found if os.path.exists(x) and os.path.samefile(x, picture)]
        return [Path(x) for x in found if x not in own]

    def of(self, picture: str) -> str:
        """What the pattern is for a picture's path, relative to its folder."""
        path = Path(picture)
        return self._format(path.stem, path.name, path.suffix)

    @property
    def is_plain(self) -> bool:
        """Whether it names one file for each picture."""
        return not any(x in self.text for x in "*?[")

    def names(self, path: str) -> bool:
        """Whether a path, relative and with slashes, may be that of a mask."""
        named = re.sub(r"^(\.{1,2}/)+", "", self._format("?*", "?*", ".?*"))
        return any(fnmatch.fnmatchcase(path, x) for x in (named, f"*/{named}"))

    def _format(self, *values: str) -> str:
        return self.text.format(**dict(zip(FIELDS, values, strict=True)))
