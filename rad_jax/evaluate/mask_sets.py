"""The masks of an evaluation: drawn by kind, or files that someone else has drawn."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from rad_jax.errors import UserError
from rad_jax.evaluate.protocol import Protocol
from rad_jax.files.mask_file import read_mask
from rad_jax.files.paths import local_path
from rad_jax.files.remarks import Remarks
from rad_jax.masks.evaluation import check_settings, evaluation_mask
from rad_jax.masks.kinds import KINDS
from rad_jax.runtime.distributed import say

SUFFIX = ".png"


def name_of(masks: str) -> str:
    """What results call these masks: the kind, or the folder's name."""
    return masks if masks in KINDS else local_path(masks).resolve().name


def check_masks(every: Sequence[str], protocol: Protocol) -> None:
    """Refuses masks that there are not, before any work.

    Args:
      every: kinds, or folders with a PNG file for each image, in the order of names.
      protocol: of the evaluation.

    Raises:
      UserError: saying which there are, or that they are not as many as the images.
    """
    names = [name_of(masks) for masks in every]
    if not names:
        raise UserError("masks: name one kind or more, e.g. box,extreme,wide")
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"masks: {name!r} is named twice; leave one out, or rename")
    for masks in every:
        if masks in KINDS or not local_path(masks).is_dir():
            check_settings(
                masks,
                protocol.image_size,
                seed=protocol.seed,
                max_coverage=protocol.max_coverage,
            )
        elif (count := len(_files(masks))) != protocol.num_images:
            raise UserError(
                f"{masks}: holds {count} masks ({SUFFIX}) for "
                f"{protocol.num_images} images; give as many, or another --num_images"
            )


def mask_set(protocol: Protocol, masks: str) -> Bool[np.ndarray, "n h w"]:
    """The masks of all images, True in the hole.

    What is drawn depends on seed, kind and index alone.

    Raises:
      UserError: a file cannot be read, or has another size than the images.
    """
    size = protocol.image_size
    if masks not in KINDS:
        return _read_all(_files(masks), size)
    options = {"seed": protocol.seed, "max_coverage": protocol.max_coverage}
    indices = range(protocol.num_images)
    return np.stack([evaluation_mask(masks, size, index=i, **options) for i in indices])


def _read_all(files: Sequence[Path], size: int) -> Bool[np.ndarray, "n h w"]:
    remarks, holes = Remarks(), []
    for file in files:
        mask = read_mask(file, (size, size))
        remarks.add(file, mask.remark)
        holes.append(mask.hole)
    for line in remarks.lines():
        say(line)
    return np.stack(holes)


def _files(folder: str) -> list[Path]:
    """Those of a set that ``rad-jax masks`` wrote are masks but for its picture."""
    return sorted(
        path
        for path in local_path(folder).glob(f"*{SUFFIX}")
        if path.name != "contact_sheet.png"
    )
