"""Sets of evaluation masks as files."""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from rad_jax.errors import UserError
from rad_jax.files.contact_sheet import contact_sheet
from rad_jax.files.pictures import save_png
from rad_jax.masks.evaluation import check_settings, evaluation_mask
from rad_jax.masks.kinds import MAX_COVERAGE
from rad_jax.progress import progress

_MAX_COUNT = 1_000_000
_SHEET_TILES = 64
_TILE_PIXELS = 128


def write_masks(
    kind: str,
    size: int,
    count: int,
    seed: int,
    output: str | os.PathLike[str],
    max_coverage: float | None = MAX_COVERAGE,
) -> None:
    """Writes masks 0 to ``count - 1`` of a seed, and what they look like.

    ``output`` gets 0000.png, 0001.png, ... (8-bit grey, 255 in the hole, 0 elsewhere);
    contact_sheet.png with the first 64; and, last, coverage.json with the share of the
    image that the holes cover and the settings.

    Args:
      kind: one of `rad_jax.masks.evaluation.KINDS`.
      size: height and width.
      count: how many, 1 to 1,000,000.
      seed: of the set, >= 0.
      output: a folder to be made, or an empty one.
      max_coverage: as in `rad_jax.masks.evaluation.evaluation_mask`.

    Raises:
      UserError: a setting has no sense, ``output`` holds files already, or it cannot be
        written.
    """
    check_settings(kind, size, seed=seed, max_coverage=max_coverage)
    if not 1 <= count <= _MAX_COUNT:
        raise UserError(
            f"the count of masks is {count}; it must be from 1 to {_MAX_COUNT}"
        )
    folder = _empty_folder(Path(output))
    digits = max(4, len(str(count - 1)))
    coverage, shown = [], []
    for index in progress(range(count), desc="masks", unit="mask"):
        hole = evaluation_mask(
            kind, size, seed=seed, index=index, max_coverage=max_coverage
        )
        save_png(_grey(hole), folder / f"{index:0{digits}d}.png")
        coverage.append(float(hole.mean()))
        if index < _SHEET_TILES:
            shown.append(hole)
    save_png(_sheet(shown), folder / "contact_sheet.png")
    settings = {
        "kind": kind,
        "size": size,
        "count": count,
        "seed": seed,
        "max_coverage": max_coverage,
    }
    _write_json(folder / "coverage.json", {**_summary(coverage), "settings": settings})


def _empty_folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        holds_files = any(folder.iterdir())
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"{folder}: cannot be made a folder for masks ({reason}); choose another"
        ) from error
    if holds_files:
        raise UserError(f"{folder}: holds files already; choose a new folder")
    return folder


def _grey(hole: Bool[np.ndarray, "h w"]) -> np.ndarray:
    return hole.astype(np.uint8) * np.uint8(255)


def _sheet(holes: Sequence[Bool[np.ndarray, "h w"]]) -> np.ndarray:
    """Lays masks out in a square, each with at most 128 pixels a side."""
    step = math.ceil(len(holes[0]) / _TILE_PIXELS)
    tiles = [_grey(hole[::step, ::step]) for hole in holes]
    columns = math.ceil(math.sqrt(len(tiles)))
    rows = [tiles[at : at + columns] for at in range(0, len(tiles), columns)]
    # White holes would run into the sheet's white; a grey frame keeps them apart.
    framed = [[np.pad(tile, 1, constant_values=128) for tile in row] for row in rows]
    return contact_sheet(framed)


def _summary(coverage: Sequence[float]) -> dict[str, float | list[float]]:
    """Statistics of the holes' share of the image; deciles from lowest to highest."""
    shares = np.asarray(coverage)
    return {
        "mean": float(shares.mean()),
        "std": float(shares.std()),
        "min": float(shares.min()),
        "max": float(shares.max()),
        "deciles": [float(d) for d in np.quantile(shares, np.linspace(0, 1, 11))],
    }


def _write_json(path: Path, content: dict) -> None:
    try:
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"{path}: cannot be written ({reason}); free some space and start again "
            "in an empty folder"
        ) from error
