"""Sheets of many pictures, to be looked at."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

HOLE_GREY = 128


def contact_sheet(
    rows: Sequence[Sequence[np.ndarray]], *, scale: int = 1, pad: int = 2
) -> UInt8[np.ndarray, "sheet_h sheet_w 3"]:
    """Lays tiles out in rows, on white; columns line up across rows.

    Args:
        rows: rows of uint8 tiles, (h, w), (h, w, 1) or (h, w, 3), of any sizes.
        scale: nearest-neighbour enlargement of every tile, >= 1.
        pad: white pixels around every tile.

    Returns:
        The sheet, uint8.

    Raises:
        ValueError: no tile at all, or a tile that is not such an array.
    """
    tiles = [[_rgb_tile(tile, scale) for tile in row] for row in rows]
    if not any(tiles):
        raise ValueError("a contact sheet needs at least one tile")
    columns = max(len(row) for row in tiles)
    heights = [max((t.shape[0] for t in row), default=0) for row in tiles]
    widths = [
        max(row[column].shape[1] for row in tiles if column < len(row))
        for column in range(columns)
    ]
    tops = np.cumsum([pad, *(height + pad for height in heights)])
    lefts = np.cumsum([pad, *(width + pad for width in widths)])
    sheet = np.full((tops[-1], lefts[-1], 3), 255, np.uint8)
    for top, row in zip(tops, tiles, strict=False):
        for left, tile in zip(lefts, row, strict=False):
            h, w, _ = tile.shape
            sheet[top : top + h, left : left + w] = tile
    return sheet


def grey_holes(
    images: UInt8[np.ndarray, "b h w c"], masks: np.ndarray
) -> UInt8[np.ndarray, "b h w c"]:
    """Images as a model is given them, to be looked at: their holes are grey.

    Args:
        images: a batch.
        masks: (b, h, w), 0 where the image is known.
    """
    return np.where(masks[..., None] > 0, np.uint8(HOLE_GREY), images)


def _rgb_tile(tile: np.ndarray, scale: int) -> UInt8[np.ndarray, "h w 3"]:
    if tile.ndim == 2:
        tile = tile[..., None]
    if tile.dtype != np.uint8 or tile.ndim != 3 or tile.shape[2] not in (1, 3):
        raise ValueError(f"a tile must be uint8 grey or RGB: {tile.dtype} {tile.shape}")
    tile = np.broadcast_to(tile, (*tile.shape[:2], 3))
    return tile.repeat(scale, axis=0).repeat(scale, axis=1)
