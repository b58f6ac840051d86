"""What `rad-jax inpaint` is to fill, and where the results go."""

from pathlib import Path

from rad_jax.files.collect import is_many
from rad_jax.files.destination import destination
from rad_jax.files.formats import require_quality
from rad_jax.files.mask_pattern import MaskPattern
from rad_jax.files.pairing import Pairing, pair_files
from rad_jax.files.remarks import Remarks
from rad_jax.inference.file_options import FileOptions


def paired(
    image: Path,
    mask: Path | None,
    output: Path,
    options: FileOptions,
    remarks: Remarks,
) -> Pairing:
    """Pairs of pictures and masks, and where their results go.

    Args:
        image: a file, a folder or a pattern.
        mask: likewise, or None: see `pair_files`.
        output: see `destination`.
        options: samples, format, quality, and how masks are found.
        remarks: gets what is worth knowing.

    Raises:
        UserError: as `destination` and `pair_files`, or a quality without JPEG.
    """
    target = destination(output, options.format, alone=not is_many(image))
    require_quality(options.quality, target.form)
    if target.form == "jpeg":
        remarks.add(
            output, "known pixels may change in JPEG; in other formats they stay"
        )
    text = options.mask_pattern
    return pair_files(
        image,
        mask,
        target,
        options.num_samples,
        remarks,
        pattern=None if text is None else MaskPattern(text),
        recursive=options.recursive,
    )
