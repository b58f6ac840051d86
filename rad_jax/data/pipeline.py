"""Reads prepared TFDS data sets: endless training batches, or a whole split.

Grain shuffles and batches, PIL decodes; TensorFlow is never imported.
"""

import functools
import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

import grain
import numpy as np
import tensorflow_datasets as tfds
from absl import flags
from google.protobuf import json_format
from jaxtyping import Int32, UInt8
from PIL import Image
from tensorflow_datasets.core import read_only_builder
from tensorflow_datasets.core.dataset_info import DatasetInfoFileError

from rad_jax.errors import UserError

Record = Mapping[str, Any]  # "image": encoded bytes, "label": class (may be absent)
Batch = dict[str, np.ndarray]  # "image": uint8 (b, h, w, c), "label": int32 (b,)

MODES = {1: "L", 3: "RGB"}  # Pillow's names, by number of channels

# Grain decodes one batch per thread and holds this many: its default, 500 batches,
# would fill the memory with images.
READ_OPTIONS = grain.ReadOptions(num_threads=8, prefetch_buffer_size=8)

Source = Sequence[Record] | grain.sources.RandomAccessDataSource[Record]
"""Random access to the records of a split."""

Batches = grain.DatasetIterator[Batch]
"""An endless iterator; ``get_state`` and ``set_state`` save and restore its position.

The state is ``{"global_next_index": N}``, the examples used by all shards together.
"""


def source(name: str, data_dir: str | os.PathLike[str], split: str) -> Source:
    """Opens a split of a prepared data set.

    Only the files are needed, not the program that wrote them: a data set which TFDS
    prepared elsewhere in ArrayRecord format works too.

    Args:
        name: TFDS name, e.g. ``"digits"`` or ``"lsun/bedroom"``.
        data_dir: the folder that holds TFDS data sets.
        split: e.g. ``"train"`` or ``"train[:90%]"``.

    Returns:
        Records ``{"image": encoded bytes, "label": int, ...}`` by index.

    Raises:
        UserError: the data set or split is not there, incomplete, or of another format.
    """
    return open_split(open_data_set(name, data_dir), split)


def open_data_set(
    name: str, data_dir: str | os.PathLike[str]
) -> tfds.core.DatasetBuilder:
    """The read-only builder of a prepared data set; see ``source``."""
    data_dir = os.fspath(data_dir)
    try:
        return read_only_builder.builder_from_files(name, data_dir=data_dir)
    except (json_format.ParseError, DatasetInfoFileError) as error:
        raise UserError(
            f"{data_dir}: holds a damaged {name!r}; delete it and prepare it again"
        ) from error
    except ValueError as error:
        raise UserError(
            f"{data_dir}: holds no data set {name!r}; "
            f"to make it: rad-jax prepare {name} --data_dir {data_dir}"
        ) from error


def open_split(builder: tfds.core.DatasetBuilder, split: str) -> Source:
    """The records of a split; see ``source``."""
    folder = os.fspath(builder.data_dir)
    try:
        records = builder.as_data_source(
            split=split,  # pyright: ignore[reportCallIssue] (tfds wraps the method)
            decoders={"image": tfds.decode.SkipDecoding()},
        )
        # A copy cut short loses the end. Opening does not notice, reading does.
        records[len(records) - 1]
    except NotImplementedError as error:
        raise UserError(
            f"{folder}: is not in ArrayRecord format; "
            "prepare it again with file_format='array_record'"
        ) from error
    except ValueError as error:
        raise UserError(
            f"{folder}: has no split {split!r}; it has {', '.join(builder.info.splits)}"
        ) from error
    except RuntimeError as error:  # ArrayRecord's, when a file is missing or cut short
        raise UserError(
            f"{folder}: is damaged ({error}); delete it and prepare it again"
        ) from error
    return records


def batches(
    source: Source,
    *,
    batch_size: int,
    seed: int,
    channels: int,
    shard_index: int = 0,
    shard_count: int = 1,
    num_workers: int = 0,
) -> Batches:
    """Shuffled batches without end; each epoch has every example once, in a new order.

    Batches depend on the arguments and the position only. Shard i of n gets examples
    i, i + n, i + 2n, ... of each global batch, so any number of shards that divides
    the batch sees the same stream, and a position saved by one number of shards
    serves any other.

    Args:
        source: the records.
        batch_size: examples per step, over all shards.
        seed: of the order, 0 to 2**32 - 1.
        channels: 1 for grey, 3 for RGB.
        shard_index: which shard this is (the process index).
        shard_count: how many there are.
        num_workers: processes that decode; 0 decodes in threads, enough up to 256x256
            pixels.

    Returns:
        An iterator over ``{"image": uint8 (b, h, w, c), "label": int32 (b,)}`` with
        ``b = batch_size / shard_count``. Labels are 0 in a data set without classes.

    Raises:
        UserError: the shards cannot share the batch equally, or ``channels`` is
            another number.
    """
    if batch_size % shard_count:
        raise UserError(
            f"batch_size={batch_size}: must be a multiple of the number of processes, "
            f"{shard_count}"
        )
    if not flags.FLAGS.is_parsed():  # Grain reads absl flags, also outside app.run
        flags.FLAGS.mark_as_parsed()
    dataset = (
        grain.MapDataset.source(source)
        .seed(seed)
        .shuffle()
        .repeat()
        .map(functools.partial(decode, mode=_mode(channels)))
    )
    workers = grain.MultiprocessingOptions(num_workers) if num_workers else None
    return iter(
        grain.experimental.ElasticIterator(
            dataset,
            batch_size,
            grain.sharding.ShardOptions(
                shard_index=shard_index, shard_count=shard_count
            ),
            read_options=READ_OPTIONS,
            multiprocessing_options=workers,
        )
    )


def load_split(
    name: str, data_dir: str | os.PathLike[str], split: str, channels: int
) -> tuple[UInt8[np.ndarray, "n h w c"], Int32[np.ndarray, " n"]]:
    """A whole split in memory, in index order, for evaluation.

    Args:
        name: see ``source``, as for ``data_dir`` and ``split``.
        data_dir: folder of TFDS data sets.
        split: which part.
        channels: 1 for grey, 3 for RGB.

    Returns:
        Images (0 to 255) and labels.

    Raises:
        UserError: see ``source`` and ``batches``.
    """
    records = source(name, data_dir, split)
    mode = _mode(channels)
    examples = [decode(records[i], mode) for i in range(len(records))]
    images = np.stack([example["image"] for example in examples])
    labels = np.stack([example["label"] for example in examples])
    return images, labels


def decode(record: Record, mode: str) -> dict[str, Any]:
    """Decodes one record.

    Args:
        record: encoded ``image``, and ``label`` where the data set has classes.
        mode: one of ``MODES``; a file of another kind is converted.

    Returns:
        ``image``, uint8 (h, w, c), and ``label``, an int32.
    """
    with Image.open(io.BytesIO(record["image"])) as file:
        pixels = np.array(file.convert(mode))
    return {
        "image": pixels[..., None] if pixels.ndim == 2 else pixels,
        "label": np.int32(record.get("label", 0)),
    }


def _mode(channels: int) -> str:
    if channels not in MODES:
        raise UserError(f"channels={channels}: must be 1 (grey) or 3 (RGB)")
    return MODES[channels]
