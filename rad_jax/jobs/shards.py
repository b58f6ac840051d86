"""Many shards of pictures to as many shards of results: divided, and resumed.

A shard is the unit of work: its results and then its manifest appear whole, or not at
all, and a worker that is lost costs the shards that it was at.
"""

import collections
import contextlib
import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rad_jax.errors import UserError
from rad_jax.files.bucket import AnyPath
from rad_jax.files.formats import SUFFIXES_OF
from rad_jax.files.pairing import Pair
from rad_jax.files.remarks import Remarks
from rad_jax.inference.canvas import Item, Outcome
from rad_jax.inference.device import Device
from rad_jax.inference.picture_fill import FillSettings
from rad_jax.inference.pipeline import fill_items
from rad_jax.jobs.division import Division
from rad_jax.jobs.manifest import FOLDER, Row, failures, row_of, write_rows
from rad_jax.jobs.record import Job, claim
from rad_jax.jobs.shard_entry import Entry, Masks, Shard, pair_of
from rad_jax.jobs.shard_inputs import read_shard
from rad_jax.jobs.shard_kinds import Columns
from rad_jax.jobs.shard_output import ShardOutput
from rad_jax.jobs.told import Told
from rad_jax.jobs.transfer import Scratch, publish, published
from rad_jax.progress import progress


class _Work:
    """A shard that is being filled."""

    def __init__(self, shard: Shard, output: AnyPath):
        self.shard, self._path = shard, output / shard.name
        self._scratch = Scratch()
        self._local = self._scratch.place(self._path)
        self.results = ShardOutput(self._local)
        self.rows: dict[int, Row] = {}
        self.count: int | None = None  # not known before all of it is read

    def fetch(self) -> tuple[Path, Masks]:
        """The shard and its masks on this machine."""
        shard, fetch = self.shard, self._scratch.fetch
        mask = None if shard.mask is None else fetch(shard.mask)
        return fetch(shard.path), shard.masks._replace(file=mask)

    @property
    def complete(self) -> bool:
        return self.count == len(self.rows)

    def finish(self, manifest: AnyPath, *, samples: bool) -> None:
        """Writes the results, and then that they are whole."""
        self.results.finish(self.shard.kind, samples=samples)
        if self._local != self._path:
            publish(self._local, self._path)
        rows = [self.rows[i] for i in range(len(self.rows))]
        with published(manifest) as path:
            write_rows(path, rows)
        self.close()

    def close(self) -> None:
        self.results.close()
        self._scratch.close()


class _Tag(NamedTuple):
    work: _Work
    position: int
    entry: Entry


def fill_shards(
    shards: Sequence[Shard],
    output: AnyPath,
    form: str,
    settings: FillSettings,
    job: Job,
    division: Division,
    columns: Columns,
    remarks: Remarks,
) -> int:
    """Fills the pictures of shards, and writes a shard of results for each.

    Args:
        shards: all of them, in the same order for every worker.
        output: the folder of results, maybe in a bucket.
        form: of their pictures, one of `formats.FORMATS`.
        settings: how pictures are filled.
        job: what the results are of.
        division: which shards are this worker's.
        columns: where tables have what.
        remarks: what there is to say already.

    Returns:
        The exit code: 0, or 1 if pictures or shards have no results.

    Raises:
        UserError: none has; the output holds results of another job; a result cannot
            be written.
    """
    job = claim(output, job)
    manifests = output / FOLDER
    mine = [x for i, x in enumerate(shards) if i % division.count == division.index]
    finished = [x for x in mine if _manifest(manifests, x).is_file()]
    names = {shard.name for shard in finished}
    todo = [shard for shard in mine if shard.name not in names]
    told, device = Told(remarks), Device(settings.fills)
    open_works: collections.deque[_Work] = collections.deque()
    suffix = SUFFIXES_OF[form][0]
    items = _items(todo, output, settings, suffix, columns, open_works, told)
    written = 0
    try:
        outcomes = fill_items(items, settings, _write, device, length=job.length)
        for outcome in progress(outcomes, desc="inpaint", unit="image"):
            told.add(outcome)
            _note(outcome, settings, job)
            written += _finish(open_works, manifests, settings)
        written += _finish(open_works, manifests, settings)
    finally:
        device.close()
        for work in open_works:
            work.close()
        files = told.done * settings.options.num_samples
        kept = f"{len(finished)} shards were there already" if finished else ""
        told.say(f"{output}{os.sep}", files, device.idle_share, kept)
        if written:
            print(f"{output}{os.sep}: {written} of {len(mine)} shards written")
    before = failures(_manifest(manifests, x) for x in finished)
    if before:
        print(f"{output}{os.sep}: {before} images of those that were there failed")
    alone = division.count == 1  # else others may have had more luck
    if alone and told.failed and not (told.done or finished):
        raise UserError(f"{output}: nothing could be filled, as the lines above say")
    return 1 if told.failed or before else 0


def _manifest(folder: AnyPath, shard: Shard) -> AnyPath:
    return folder / f"{shard.name}.parquet"


def _items(
    shards: Sequence[Shard],
    output: AnyPath,
    settings: FillSettings,
    suffix: str,
    columns: Columns,
    open_works: "collections.deque[_Work]",
    told: Told,
) -> Iterator[Item]:
    """Pictures of one shard after the other; a bad one is left out."""
    for shard in shards:
        work, position = _Work(shard, output), 0
        open_works.append(work)
        try:
            path, masks = work.fetch()
            for entry in read_shard(path, shard.name, shard.kind, masks, columns):
                tag = _Tag(work, position, entry)
                count = settings.options.num_samples
                opened = functools.partial(pair_of, entry, count, suffix)
                yield Item(opened, entry.source, tag)
                position += 1
            work.count = position
        except UserError as error:
            told.leave_out(shard.name, error)
            open_works.remove(work)
            work.close()


def _write(item: Item, pair: Pair, encoded: list[bytes]) -> None:
    work, position, entry = item.tag
    with contextlib.suppress(ValueError):  # closed, for the shard is damaged further on
        names = [path.as_posix() for path in pair.outputs]
        work.results.add(position, entry.id, names, encoded)


def _note(outcome: Outcome, settings: FillSettings, job: Job) -> None:
    work, position, entry = outcome.item.tag
    seed = settings.options.seed
    work.rows[position] = row_of(outcome, entry.id, entry.source, seed, job.model)


def _finish(
    open_works: "collections.deque[_Work]", manifests: AnyPath, settings: FillSettings
) -> int:
    """Writes the shards that are complete; how many they are."""
    done = [work for work in open_works if work.complete]
    for work in done:
        open_works.remove(work)
        several = settings.options.num_samples > 1
        work.finish(_manifest(manifests, work.shard), samples=several)
    return len(done)
