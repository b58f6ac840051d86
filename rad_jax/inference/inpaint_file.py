"""One picture file to the files of its results."""

import os
import time
from pathlib import Path

from rad_jax.files.collect import is_many
from rad_jax.files.decode import picture_size
from rad_jax.files.destination import Destination
from rad_jax.files.mask_pattern import MaskPattern
from rad_jax.files.pairing import pair_files
from rad_jax.files.pictures import write_picture
from rad_jax.files.remarks import Remarks
from rad_jax.inference.fill_regions import fill_requests
from rad_jax.inference.picture_fill import (
    FillSettings,
    decode_pair,
    plan_picture,
    requests_of,
)
from rad_jax.inference.results import require_finite
from rad_jax.inference.scaling import paste_region
from rad_jax.runtime.batching import balanced_batch_size


def inpaint_file(
    image: Path,
    mask: Path | None,
    target: Destination,
    settings: FillSettings,
    remarks: Remarks,
) -> None:
    """Fills the hole of a picture, and prints where the results are.

    Known pixels and alpha are written back unchanged. What exists is replaced.

    Args:
        image: its file.
        mask: its mask's, or a folder or pattern that it is in; None as the options say.
        target: of the results.
        settings: how it is filled.
        remarks: what there is to say already.

    Raises:
        UserError: picture or mask cannot be read or do not fit; the model returns no
            numbers; a result cannot be written.
    """
    start = time.monotonic()
    # 1. What is to be filled.
    options = settings.options
    if mask is not None and not is_many(mask):
        picture_size(mask)
    pattern = MaskPattern(options.mask_pattern) if options.mask_pattern else None
    count = options.num_samples
    (pair, *_), _ = pair_files(image, mask, target, count, remarks, pattern=pattern)
    loaded = plan_picture(decode_pair(pair, options), settings)
    for path, remark in loaded.remarks:
        remarks.add(path, remark)
    # 2. Fill: all regions of all samples at once, as far as the batch goes.
    picture, whole = loaded.picture, loaded.regions[:1]
    length = None
    if whole and whole[0].strategy == "whole":
        length = balanced_batch_size(count, options.batch_size)
    samples = [picture.samples.copy() for _ in range(count)]
    filled = fill_requests(
        settings.fills,
        list(requests_of(pair, loaded, settings)),
        settings.sizes.native,
        options.batch_size,
        length,
    )
    for request, generated in filled:
        region = request.region
        require_finite(generated[region.part], image, settings.fills.non_finite)
        opaque = bool(options.opaque_hole)
        paste_region(picture, samples[request.owner], region, generated, opaque=opaque)
    # 3. Write, and say what was done.
    for path, array in zip(pair.outputs, samples, strict=True):
        write_picture(path, array, picture, settings.text, options.quality)
    for line in remarks.lines():
        print(line)
    if not loaded.regions:
        mask_name = pair.mask or "alpha"
        print(f"{pair.image}: its mask {mask_name} has no hole; written as it is")
    seconds = time.monotonic() - start
    if count == 1:
        print(f"{pair.outputs[0]}: {seconds:.3g} s")
    else:
        each = f"{count} images, {seconds / count:.3g} s per image"
        print(f"{target.folder}{os.sep}: {each}")
