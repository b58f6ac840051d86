"""What counts as the hole in a mask file; docs/inpainting.md has the table.

A mask that can be read in two ways is refused: the wrong way would overwrite known
pixels, or fill nothing.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Num, Shaped

from rad_jax.errors import UserError
from rad_jax.files.decode import decode
from rad_jax.files.file_bytes import AnyFile
from rad_jax.files.pictures import Picture
from rad_jax.files.remarks import some

NEAR = 16  # of 255: lossy formats make of one colour several that are as near
SHOWN = 4
_LUMA = np.array([299, 587, 114])  # ITU-R BT.601, in thousandths


class Mask(NamedTuple):
    """The hole of a mask file.

    Attributes:
        hole: True where pixels are to be filled.
        turned: the mask was turned upright, as its EXIF says.
      remark: what was taken for the hole, where that is not simply white; else "".
    """

    hole: Bool[np.ndarray, "h w"]
    turned: bool
    remark: str


def read_mask(
    path: AnyFile, size: tuple[int, int], *, invert: bool = False, turned: bool = False
) -> Mask:
    """Reads a mask, of whatever kind the file is.

    Of two levels or colours the brighter one is the hole; of more levels of grey, what
    is lighter than mid-grey. Of strokes on a transparent ground the strokes are, of a
    picture that is partly transparent (erased) that part. Colour under alpha 0 means
    nothing.

    Args:
        path: any file that `decode` reads.
        size: height and width that it must have.
        invert: fill the rest instead.
        turned: its picture was turned upright, as the picture's EXIF says.

    Raises:
        UserError: as `decode`; another size; levels or colours that do not say what the
            hole is.
    """
    decoded = decode(path, as_mask=True)
    samples = np.asarray(decoded.image)
    h, w = samples.shape[:2]
    if (h, w) != size:
        turn = turned and (w, h) == size
        fix = "turn it like the picture, whose EXIF says how it is upright"
        raise UserError(
            f"{path}: the mask has {w}x{h} pixels and its picture {size[1]}x{size[0]}; "
            + (fix if turn else "scale one to the other's size")
        )
    hole, remark = find_hole(samples, path)
    return Mask(hole != invert, decoded.orientation > 1, remark)


def find_hole(
    samples: Shaped[np.ndarray, "h w *k"], name: object
) -> tuple[Bool[np.ndarray, "h w"], str]:
    """The hole of a mask, and `Mask.remark`; see `read_mask`.

    Args:
        samples: as Pillow has them, with 1, 3 or 4 channels or two of grey and alpha.
        name: what errors call it.

    Raises:
        UserError: levels or colours do not say what the hole is.
    """
    try:
        return _hole(samples)
    except _Unclear as error:
        raise UserError(
            f"{name}: the mask has {error}; paint the hole white on black"
        ) from error


def alpha_mask(picture: Picture, path: AnyFile, *, invert: bool = False) -> Mask:
    """The transparent part of a picture: alpha below the middle, or the lower of two.

    Args:
        picture: from `read_picture`.
        path: its file, for messages.
        invert: fill the rest instead.

    Raises:
        UserError: the picture has no alpha.
    """
    if not picture.has_alpha:
        raise UserError(
            f"{path}: has no alpha, which is to be its mask; give a mask, or erase the "
            "hole in a picture with alpha"
        )
    alpha = picture.samples[..., -1]
    levels = np.unique(alpha)
    middle = np.iinfo(alpha.dtype).max // 2
    hole = alpha == levels[0] if len(levels) == 2 else alpha <= middle
    usual = len(levels) != 2 or levels[0] <= middle < levels[1]
    remark = f"its {'opaque' if invert else 'transparent'} part is the hole"
    if not invert:
        remark += ", and becomes opaque"
    if not usual:
        remark += f"; of the alphas {_named(levels.tolist())} the lower is transparent"
    return Mask(hole != invert, True, remark if hole.any() else "")


class _Unclear(Exception):
    """What a mask has, so that the hole cannot be told."""


def _hole(samples: Shaped[np.ndarray, "h w *k"]) -> tuple[np.ndarray, str]:
    """The hole and the remark."""
    if samples.dtype == np.int32:  # Pillow's only kind of 32 bits; a mask has no sign
        samples = samples.view(np.uint32)
    if samples.ndim == 2:
        return _by_level(samples, "level", white=_white(samples))
    colour, alpha = samples[..., :3], None
    if samples.shape[2] in (2, 4):
        colour, alpha = samples[..., :-1], samples[..., -1]
    if alpha is None or (alpha.min() == alpha.max() and alpha.min()):
        return _by_colour(colour, np.ones(colour.shape[:2], bool))
    return _by_alpha(colour, alpha)


def _white(samples: Shaped[np.ndarray, "h w"]) -> float:
    """The level of white."""
    if samples.dtype == bool:
        return 1.0
    if np.issubdtype(samples.dtype, np.floating):
        if not np.isfinite(samples).all():
            raise _Unclear("values that are no numbers")
        return 1.0 if samples.min() >= 0 and samples.max() <= 1 else np.inf
    return float(np.iinfo(samples.dtype).max)


def _by_level(
    levels: Shaped[np.ndarray, "h w"], name: str, white: float
) -> tuple[np.ndarray, str]:
    """By levels of grey or of alpha: the brighter of two, or what is above the middle.

    Args:
        levels: of every pixel.
        name: what the levels are of.
        white: the highest level that there can be.
    """
    found = _levels(levels)
    named = _named(found.tolist())
    if len(found) == 1 and not 0 < float(found[0]) <= white / 2:
        return levels > white / 2, ""
    if len(found) == 1:
        raise _Unclear(f"the {name} {named} only, neither black nor white")
    if len(found) == 2:
        usual = (float(found[0]), float(found[1])) == (0, white)
        return levels == found[1], "" if usual else (
            f"has the {name}s {named}; the brighter is the hole"
        )
    if found[-1] <= white / 2 or white == np.inf:
        raise _Unclear(f"the {name}s {named}, none above mid-grey")
    return levels > white / 2, ""


def _levels(values: Shaped[np.ndarray, "h w"]) -> np.ndarray:
    """The different ones, sorted. Most masks have two, which is found out quickly."""
    low, high = values.min(), values.max()
    if ((values == low) | (values == high)).all():
        return np.unique([low, high])
    return np.unique(values)


def _by_colour(
    colour: Num[np.ndarray, "h w k"], shown: Bool[np.ndarray, "h w"]
) -> tuple[np.ndarray, str]:
    """The same of colours, where they are shown; the rest is known."""
    wide = colour.astype(np.int32)
    spread = (colour.max(axis=-1) - colour.min(axis=-1))[shown].max()
    if spread == 0:  # grey
        # What is not shown has the darkest level, which is no hole.
        levels = np.where(shown, colour[..., 0], colour[shown][:, 0].min())
        hole, remark = _by_level(levels, "level", white=255.0)
        return hole & shown, remark
    found = _distinct(wide[shown])
    if len(found) == 2:
        dark, bright = sorted(found, key=lambda each: int(each @ _LUMA))
        if dark @ _LUMA != bright @ _LUMA:
            hole = (colour == bright).all(axis=-1) & shown
            named = _named([tuple(each.tolist()) for each in (dark, bright)])
            return hole, f"has the colours {named}; the brighter is the hole"
    elif spread <= NEAR:
        return (wide @ _LUMA > 127_500) & shown, ""
    named = _named([tuple(each.tolist()) for each in found])
    raise _Unclear(f"the colours {named}: it is not clear which is the hole")


def _by_alpha(
    colour: Num[np.ndarray, "h w k"], alpha: Num[np.ndarray, "h w"]
) -> tuple[np.ndarray, str]:
    """By what is transparent."""
    shown = alpha > 0
    if not shown.any():
        return np.zeros_like(shown), ""
    few = _distinct(colour[shown].astype(np.int32))
    if len(few) == 2:
        return _by_colour(colour, shown)
    # The rims of strokes may have other colours; what is most opaque has the brush's.
    solid = colour[alpha == alpha.max()].astype(np.int32)
    if len(few) == 1 or np.ptp(solid, axis=0).max() <= NEAR:
        hole, _ = _by_level(alpha, "alpha", white=255.0)
        return hole, "is a layer: what is opaque is the hole"
    opaque, _ = _by_level(alpha, "alpha", white=255.0)
    return ~opaque, "is a picture: its transparent part is the hole"


def _distinct(colours: Num[np.ndarray, "n k"]) -> np.ndarray:
    """The different colours, (m, k), sorted."""
    weights = 256 ** np.arange(colours.shape[1])
    codes = np.unique(colours @ weights)
    return codes[:, None] // weights % 256


def _named(found: list) -> str:
    return some((f"{x:g}" if type(x) is float else x for x in found), SHOWN)
