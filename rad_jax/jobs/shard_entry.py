"""What a shard of whatever kind holds: pictures, and where their masks are."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from rad_jax.errors import UserError
from rad_jax.files.bucket import AnyPath
from rad_jax.files.file_bytes import AnyFile
from rad_jax.files.mask_pattern import MaskPattern
from rad_jax.files.pairing import Pair

Files = tuple[AnyFile, AnyFile | None]
"""A picture and its mask; None for its own alpha."""


class Entry(NamedTuple):
    """A picture of a shard.

    Attributes:
        id: its name.
        source: the shard's and its own, for errors and the manifest.
        read: reads it and its mask, in a thread; may raise UserError.
    """

    id: str
    source: str
    read: Callable[[], Files]


class Masks(NamedTuple):
    """Where the masks of a shard are.

    Attributes:
        file: one for all pictures, or a shard of the same kind with a mask each.
        pattern: of names in the shard itself.
        own: in the shard itself, or beside the file; False for alpha and borders.
    """

    file: Path | None = None
    pattern: MaskPattern | None = None
    own: bool = True


class Shard(NamedTuple):
    """A file of many pictures.

    Attributes:
        path: where it is.
        name: of its results and its manifest: its path below the folder of all.
        kind: one of `KINDS`.
        mask: the file of its masks, where they have one.
        masks: where else they are.
    """

    path: AnyPath
    name: str
    kind: str
    mask: AnyPath | None
    masks: Masks


def pair_of(entry: Entry, num_samples: int, suffix: str) -> Pair:
    """Reads a picture and its mask, and names its results.

    Raises:
        UserError: they cannot be read.
    """
    image, mask = entry.read()
    ends = [""] if num_samples == 1 else [f"_{i}" for i in range(num_samples)]
    outputs = tuple(Path(f"{entry.id}{end}{suffix}") for end in ends)
    return Pair(entry.id, image, mask, outputs)


def damaged(name: str, reason: str) -> UserError:
    """What is said of a shard that cannot be read to its end."""
    return UserError(
        f"{name}: is damaged or cut short ({reason[:200]}); fetch it again"
    )
