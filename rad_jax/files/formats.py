"""Formats of results; importable without NumPy."""

from pathlib import Path

from rad_jax.errors import UserError

SUFFIXES_OF = {
    "png": (".png",),
    "webp": (".webp",),
    "tiff": (".tif", ".tiff"),
    "jpeg": (".jpg", ".jpeg"),
}
"""By format, the suffixes of its files; the first one is ours. JPEG loses, as it packs:
known pixels may change. The others keep every sample."""

FORMATS = tuple(SUFFIXES_OF)
QUALITY = 95
"""Of JPEG, where nothing else is chosen."""

MOST_SIDE = {"webp": 16_383, "jpeg": 65_500}
"""Pixels; libjpeg stops a little short of 65,535."""


def format_of(path: Path) -> str | None:
    """The format of results that a file's suffix names."""
    suffix = path.suffix.lower()
    return next((x for x, known in SUFFIXES_OF.items() if suffix in known), None)


def require_quality(quality: int | None, form: str) -> None:
    """Refuses a quality where it would mean nothing.

    Raises:
        UserError: it is given, and the format is not JPEG.
    """
    if quality is not None and form != "jpeg":
        raise UserError(
            f"quality is {quality}, and {form} has none; leave it out, or choose jpeg"
        )


def why_not(form: str, bits: int, alpha: bool, side: int) -> str:
    """Why a format cannot hold a picture; "" if it can.

    Args:
        form: of `FORMATS`.
        bits: of a sample.
        alpha: whether it has alpha.
        side: pixels of the longer one.
    """
    if form in ("webp", "jpeg") and bits > 8:
        return f"has {bits} bits"
    if form == "jpeg" and alpha:
        return "has alpha"
    most = MOST_SIDE.get(form, side)
    return f"has more than {most} pixels on a side" if side > most else ""
