"""Many pictures on a cluster that grows and shrinks, by Ray Data (extra ``ray``).

Tasks on CPUs decode, an actor for each GPU fills and encodes, and Ray writes. Ray also
restarts what is lost; a result depends on its picture, its id and the seed alone, so
that what is done a second time is the same.

It is not in `inference`, for it makes what the jobs of this folder make.
"""

import functools
import importlib
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow

from rad_jax.errors import UserError
from rad_jax.files.file_bytes import AnyFile, FileBytes
from rad_jax.files.formats import SUFFIXES_OF, require_quality
from rad_jax.files.pairing import Pair
from rad_jax.inference.canvas import Item, Outcome
from rad_jax.inference.device import Device
from rad_jax.inference.file_options import FileOptions
from rad_jax.inference.picture_fill import Decoded, decode_pair, sample_seed
from rad_jax.inference.pipeline import fill_items
from rad_jax.jobs import manifest
from rad_jax.jobs.inpaint_command import Prepared
from rad_jax.jobs.shard_entry import Entry, Masks, pair_of
from rad_jax.jobs.shard_kinds import Columns
from rad_jax.jobs.table_shard import row_files, row_id

Dataset = Any
"""``ray.data.Dataset``; Ray is not there for whoever has not asked for it."""

ROWS = 16
"""Of the dataset that a task decodes at once."""

BATCHES = 2
"""Batches of pictures that an actor is given at once."""

CALLS = 2
"""Of an actor at once: one encodes while the device works for the other."""

_FIELDS = [x for x in manifest.SCHEMA if x.name not in ("id", "source")]
SCHEMA = pyarrow.schema(
    [
        ("id", pyarrow.string()),
        ("sample", pyarrow.int32()),
        ("image", pyarrow.binary()),
        *_FIELDS,
    ]
)
"""Of results: a row for each, and one for each picture that has none. ``image`` is a
file's bytes, ``seed`` the result's own; the others are those of `manifest.Row`."""


def fill_dataset(
    dataset: Dataset,
    prepare: Callable[[FileOptions], Prepared],
    options: FileOptions,
    *,
    columns: Columns = Columns(),  # noqa: B008
    actors: int | tuple[int, int] = 1,
    **resources: Any,
) -> Dataset:
    """Fills the holes of a dataset's pictures; nothing is done before it is asked for.

    Bytes are those of ``rad-jax inpaint`` on the same pictures under the same ids.
    Rows come in any order. A picture that cannot be filled is a row with status
    "error" and no image.

    Args:
        dataset: with a picture, a mask and an id in each row. Ids say which noise a
            picture gets and are not compared: they should differ.
        prepare: loads the model, once in each actor, and calls `prepare_files`.
        options: how pictures are filled, as ``prepare`` gets them. ``batch_size`` is
            the length of batches, always the same.
        columns: where the dataset has what. The mask's may lack where options say what
            is filled.
        actors: how many; (least, most) for as many as the cluster has room for.
        resources: of each actor, as of ``map_batches``, such as ``num_gpus=1``.

    Returns:
        A dataset of `SCHEMA`.

    Raises:
        UserError: Ray or a column is missing, or the options do not fit.
    """
    compute = _actor_pool(actors)
    require_quality(options.quality, options.format or "png")
    needed = [columns.image, columns.id] + [columns.mask] * _masks(options).own
    there = dataset.columns() or []
    for column in needed:
        if column not in there:
            raise UserError(
                f"the dataset has no column {column!r}, but {', '.join(there[:20])}; "
                "say which by columns=Columns(image=..., mask=..., id=...)"
            )
    decode = functools.partial(decode_rows, options=options, columns=columns)
    rows = BATCHES * options.batch_size
    decoded = dataset.select_columns(needed).map_batches(
        decode, batch_size=ROWS, batch_format="pyarrow"
    )
    # Exactly as many in each call: no batch but the very last is filled up.
    return decoded.repartition(target_num_rows_per_block=rows, strict=True).map_batches(
        Filler,
        fn_constructor_args=(prepare, options),
        batch_size=rows,
        batch_format="pyarrow",
        compute=compute,
        udf_modifying_row_count=options.num_samples > 1,
        **resources,
    )


def _actor_pool(actors: int | tuple[int, int]) -> Any:
    try:
        data = importlib.import_module("ray.data")
    except ImportError as error:
        raise UserError(
            "filling a Ray dataset needs Ray Data: pip install 'rad-jax[ray]'"
        ) from error
    least, most = (actors, actors) if isinstance(actors, int) else actors
    if not 1 <= least <= most:
        raise UserError(f"actors is {actors}; give a number >= 1, or (least, most)")
    return data.ActorPoolStrategy(
        min_size=least,
        max_size=most,
        max_concurrent_calls_per_actor=CALLS,
        enable_true_multi_threading=True,
    )


def _masks(options: FileOptions) -> Masks:
    """Where they are: in a column, or nowhere."""
    if options.mask_pattern is not None:
        raise UserError("mask_pattern is for files; give columns=Columns(mask=...)")
    return Masks(own=not options.alpha_hole and not any(options.extend))


_DECODED = pyarrow.schema([("id", pyarrow.string()), ("read", pyarrow.large_binary())])


def decode_rows(
    table: pyarrow.Table, options: FileOptions, columns: Columns
) -> Iterator[pyarrow.Table]:
    """Decodes pictures and their masks: a row for each, pickled, or why it is none."""
    masks, suffix = _masks(options), SUFFIXES_OF[options.format or "png"][0]
    for row in table.to_pylist():
        own = row[columns.id]
        name = "" if own is None else row_id(own, "", 0)
        read: Decoded | UserError
        try:
            if own is None:
                raise UserError("a row has no id; give each one of its own")
            files = functools.partial(
                row_files, row[columns.image], row.get(columns.mask), name, masks, None
            )
            pair = pair_of(Entry(name, name, files), options.num_samples, suffix)
            read = _without_files(decode_pair(pair, options))
        except UserError as error:
            read = error
        pickled = pickle.dumps(read, pickle.HIGHEST_PROTOCOL)
        yield pyarrow.Table.from_pylist([{"id": name, "read": pickled}], _DECODED)


def _without_files(decoded: Decoded) -> Decoded:
    """The same, with the names of its files alone: they need not travel on."""
    pair = decoded.pair

    def named(file: AnyFile) -> AnyFile:
        return FileBytes(str(file), b"")

    mask = None if pair.mask is None else named(pair.mask)
    return decoded._replace(pair=pair._replace(image=named(pair.image), mask=mask))


def _unpickled(buffer: pyarrow.Buffer) -> Decoded:
    read = pickle.loads(buffer)
    if isinstance(read, UserError):
        raise read
    return read


class Filler:
    """An actor: a model on its device."""

    def __init__(
        self, prepare: Callable[[FileOptions], Prepared], options: FileOptions
    ):
        """Loads the model."""
        self._prepared = prepare(options)
        if self._prepared.settings.options != options:
            raise UserError("prepare made other options of those that it was given")
        self._device = Device(self._prepared.settings.fills)

    def __call__(self, table: pyarrow.Table) -> Iterator[pyarrow.Table]:
        """Results of pictures, in their order: a lost call is repeated alike."""
        settings = self._prepared.settings
        files: dict[int, list[bytes]] = {}
        outcomes: dict[int, Outcome] = {}

        def keep(item: Item, pair: Pair, encoded: list[bytes]) -> None:
            files[item.tag] = encoded

        names = table["id"].to_pylist()
        items = (
            Item(functools.partial(_unpickled, read.as_buffer()), names[i], i)
            for i, read in enumerate(table["read"])
        )
        length = settings.options.batch_size
        for outcome in fill_items(items, settings, keep, self._device, length=length):
            outcomes[outcome.item.tag] = outcome
        for i, name in enumerate(names):
            rows = self._rows(outcomes[i], name, files.get(i, [None]))
            yield pyarrow.Table.from_pylist(rows, SCHEMA)

    def _rows(
        self, outcome: Outcome, name: str, images: list[bytes] | list[None]
    ) -> list[dict[str, Any]]:
        seed = self._prepared.settings.options.seed
        row = manifest.row_of(outcome, name, "", seed, self._prepared.model())._asdict()
        return [
            row | {"sample": i, "image": image, "seed": sample_seed(seed, name, i)}
            for i, image in enumerate(images)
        ]
