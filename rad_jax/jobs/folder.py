"""Many files through a model: what is finished stays, and the rest is filled."""

import dataclasses
import functools
import os
from collections.abc import Iterator
from pathlib import Path

from rad_jax.errors import UserError
from rad_jax.files.bucket import AnyPath, in_bucket
from rad_jax.files.collect import name_of
from rad_jax.files.destination import Destination
from rad_jax.files.remarks import Remarks
from rad_jax.inference.canvas import Item, Write
from rad_jax.inference.device import Device
from rad_jax.inference.picture_fill import FillSettings
from rad_jax.inference.pipeline import fill_items
from rad_jax.jobs.bucket_files import find_in_bucket, upload
from rad_jax.jobs.bucket_journal import BucketJournal
from rad_jax.jobs.division import Division
from rad_jax.jobs.files_job import find, write_files
from rad_jax.jobs.journal import Journal
from rad_jax.jobs.manifest import FOLDER, row_of
from rad_jax.jobs.record import Job, claim
from rad_jax.jobs.told import Told
from rad_jax.progress import progress


def fill_folder(
    image: AnyPath,
    mask: AnyPath | None,
    target: Destination,
    output: AnyPath,
    settings: FillSettings,
    job: Job,
    division: Division,
    remarks: Remarks,
) -> int:
    """Fills the holes of a folder of pictures, and writes as many files.

    Known pixels and alpha are written back unchanged. A result depends on its picture
    and its `sample_seed`, not on the rest of the folder, on the batch, or on which
    worker made it. Pictures that cannot be read, or have no mask, are left out and
    named on stderr. What is finished is not done again; what failed is.

    Args:
        image: a folder or a pattern, as ``mask``: see `pair_files`; or of a bucket,
            see `find_in_bucket`.
        mask: None for masks beside the pictures, or for alpha, as the options say.
        target: names of results.
        output: where they go: the target's folder, or one of a bucket.
        settings: how pictures are filled.
        job: what the results are of; its length is not known yet.
        division: which pictures are this worker's.
        remarks: what there is to say already.

    Returns:
        The exit code: 0, or 1 if pictures were left out.

    Raises:
        UserError: names do not pair; none could be filled; the output holds results of
            another job; a result cannot be written.
    """
    options = settings.options
    # 1. The pictures, and whether they may be filled into this folder.
    if in_bucket(image):
        found = find_in_bucket(image, mask, target, options, output)
    else:
        assert mask is None or not in_bucket(mask)  # `require_pictures`
        found = find(image, mask, target, options, remarks)
    count = options.num_samples * (found.count or options.batch_size)
    length = min(options.batch_size, count)
    job = claim(output, dataclasses.replace(job, length=length))
    journal, write = _results(output, target, division)
    # 2. This worker's, but for what is finished.
    told, device = Told(remarks), Device(settings.fills)
    items = _to_do(found.items, journal, division)
    total = None
    if found.count is not None and division.count == 1:
        total = found.count + found.left
    try:
        # 3. Fill and write; after each picture its row.
        outcomes = fill_items(items, settings, write, device, length=job.length)
        start = journal.kept if total else 0
        for outcome in progress(
            outcomes, desc="inpaint", unit="image", total=total, initial=start
        ):
            told.add(outcome)
            source = outcome.item.tag
            journal.add(row_of(outcome, _id(source), source, options.seed, job.model))
    finally:  # a full disk must not hide what is done and what was left out
        device.close()
        kept = f"{journal.kept} images were there already" if journal.kept else ""
        files = told.done * options.num_samples
        told.say(f"{output}{os.sep}", files, device.idle_share, kept)
        journal.close()
    alone = division.count == 1  # else others may have had more luck
    if alone and told.failed and not (told.done or journal.kept):
        raise UserError(f"{image}: nothing could be filled, as the lines above say")
    return 1 if told.failed else 0


def _results(
    output: AnyPath, target: Destination, division: Division
) -> tuple[Journal | BucketJournal, Write]:
    """What keeps the manifest, and what writes results."""
    if in_bucket(output):
        write = functools.partial(upload, output, target.folder)
        return BucketJournal(output / FOLDER, division), write
    journal = Journal(output / FOLDER, division)
    return journal, functools.partial(write_files, journal.scratch)


def _to_do(
    items: Iterator[Item], journal: Journal | BucketJournal, division: Division
) -> Iterator[Item]:
    for item in items:
        if division.has(_id(item.tag)) and item.tag not in journal.finished:
            yield item


def _id(source: str) -> str:
    return name_of(Path(source), Path())
