"""Holes made larger, and soft at their rim.

Distances are Euclidean, between centres of pixels: what grows, grows by a disc.
"""

import numpy as np
from jaxtyping import Bool, Float32


def dilated(hole: Bool[np.ndarray, "h w"], pixels: int) -> Bool[np.ndarray, "h w"]:
    """A hole and everything that is at most so many pixels from it.

    Args:
        hole: True in the hole.
        pixels: >= 0.
    """
    if not pixels or not hole.any():
        return hole
    grown = hole.copy()
    part = _around(hole, pixels)
    grown[part] = _distance_to(hole[part]) <= pixels
    return grown


def feathered(hole: Bool[np.ndarray, "h w"], pixels: int) -> Float32[np.ndarray, "h w"]:
    """The mask of a hole with a soft rim within it.

    It is 0 outside, 1 / (pixels + 1) beside the known pixels, rises with the distance
    from them, and is 1 from ``pixels + 1`` on. The picture's edges are no rim.

    Args:
        hole: True in the hole.
        pixels: >= 0.
    """
    mask = hole.astype(np.float32)
    if not pixels or hole.all() or not hole.any():
        return mask
    part = _around(hole, 1)
    # Of the known pixels outside of the part, none is nearer than one of its frame.
    mask[part] = np.minimum(_distance_to(~hole[part]) / (pixels + 1), 1)
    return mask


def _around(hole: Bool[np.ndarray, "h w"], pixels: int) -> tuple[slice, slice]:
    """The box of a hole, larger by some pixels: distances take much memory."""
    rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
    return (
        slice(max(0, rows[0] - pixels), rows[-1] + pixels + 1),
        slice(max(0, columns[0] - pixels), columns[-1] + pixels + 1),
    )


def _distance_to(there: Bool[np.ndarray, "h w"]) -> np.ndarray:
    """The distance of every pixel to the nearest that is True; there must be one."""
    from scipy import ndimage  # takes a while, and most holes are used as they are

    return np.asarray(ndimage.distance_transform_edt(~there))
