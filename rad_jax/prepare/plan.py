"""Which image of a data set goes into which of its files.

It depends on the images and the settings only, so any process finds the same files.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from etils import epath
from tensorflow_datasets.core import naming

from rad_jax.data.sources import Images
from rad_jax.prepare.image_sets import class_of
from rad_jax.prepare.shards import Shard

SHARD_PIXELS = 1 << 26  # of a file at most, some 100 MB
SHARD_IMAGES = 1024  # at most
FEW_IMAGES = 64  # of a file at least, where there are as many
FEW_FILES = 16  # where there are images for them: so many processes can work


class Plan(NamedTuple):
    """What is to be made.

    Attributes:
        name: of the data set.
        images: all there are.
        splits: indices of the images of each split.
        classes: their names, sorted, or None.
        size: pixels per side.
    """

    name: str
    images: Images
    splits: dict[str, np.ndarray]
    classes: Sequence[str] | None
    size: int


class Chunk(NamedTuple):
    """What goes into one file.

    Attributes:
        split: of which split.
        ids: indices of the images.
        path: of the file.
        record: of the JSON file that says that it is done.
    """

    split: str
    ids: np.ndarray
    path: Path
    record: Path


def chunks(plan: Plan, incomplete: Path) -> Iterator[Chunk]:
    """Divides the splits into files, all alike in size."""
    for split, ids in plan.splits.items():
        most = max(1, min(SHARD_IMAGES, SHARD_PIXELS // plan.size**2))
        per_file = min(most, max(FEW_IMAGES, math.ceil(len(ids) / FEW_FILES)))
        parts = np.array_split(ids, math.ceil(len(ids) / per_file))
        for i, part in enumerate(parts):
            path = template(plan, split, incomplete / "data").sharded_filepath(
                shard_index=i, num_shards=len(parts)
            )
            record = incomplete / "records" / f"{path.name}.json"
            yield Chunk(split, part, Path(path), record)


def template(plan: Plan, split: str, folder: Path) -> naming.ShardedFileTemplate:
    """TFDS's names of the files of a split."""
    return naming.ShardedFileTemplate(
        data_dir=epath.Path(folder),
        dataset_name=plan.name,
        split=split,
        filetype_suffix="array_record",
    )


def shard_of(plan: Plan, chunk: Chunk) -> Shard:
    """What the process that writes the file has to know."""
    images = plan.images.take(chunk.ids.tolist())
    labels = None
    if plan.classes is not None:
        number = {name: i for i, name in enumerate(plan.classes)}
        labels = [number[class_of(name)] for name in images.names]
    return Shard(chunk.path, chunk.record, images, labels, plan.size)
