"""Opens what a config names, a prepared TFDS data set or a folder of images.

Either way it becomes records of encoded bytes by index; nothing is decoded here, and
TensorFlow is never imported.
"""

import dataclasses
import os
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import grain
import numpy as np
import tensorflow_datasets as tfds
from google.protobuf import json_format
from google.protobuf.message import DecodeError
from tensorflow_datasets.core import file_adapters, read_only_builder
from tensorflow_datasets.core.dataset_info import DatasetInfoFileError
from tensorflow_datasets.proto import tf_example_generated_pb2 as tf_example

from rad_jax.data.image_file import BadImage
from rad_jax.data.sources import Images, open_images, split_indices
from rad_jax.errors import UserError
from rad_jax.files.paths import plain

FIX_HINT = "take it out, or put a good one in its place"
"""What to do about an image that cannot be read or decoded."""

AGAIN = "prepare it again, in another --data_dir"
"""What to do about a damaged data set: nothing is lost by it."""

_Example: Any = getattr(tf_example, "Example")  # noqa: B009 (generated at run time)

Record = Mapping[str, Any]
"""One example: ``image``, encoded bytes; ``name``, what errors call it; ``data_set``,
what they call all of them; and, as ints, what else the data set has of integers, such
as ``label``."""

FOLDER = "folder"
"""The name of what is no prepared data set, but image files as they are."""

Source = Sequence[Record] | grain.sources.RandomAccessDataSource[Record]
"""Random access to the records of a split, for several threads; can be pickled."""


def source(name: str, data_dir: str | os.PathLike[str], split: str) -> Source:
    """Opens a split of a prepared data set, or of a folder of images.

    Of a data set only the files are needed, not the program that wrote them: one which
    TFDS prepared elsewhere in ArrayRecord format works too.

    Args:
        name: TFDS name, e.g. ``"digits"`` or ``"lsun/bedroom"``, or ``"folder"``.
        data_dir: the folder that holds TFDS data sets; with ``"folder"``, what
            `open_images` reads. That has the splits ``train`` and ``validation``, which
            holds out the images that ``rad-jax prepare`` would.
        split: e.g. ``"train"`` or ``"train[:90%]"``.

    Returns:
        Its records.

    Raises:
        UserError: the data set or split is not there, incomplete, without images, or
            of another format.
    """
    if name == FOLDER:
        return _open_files(os.fspath(data_dir), split)
    return open_split(open_data_set(name, data_dir), split)


def open_data_set(
    name: str, data_dir: str | os.PathLike[str]
) -> tfds.core.DatasetBuilder:
    """The read-only builder of a prepared data set; see ``source``."""
    data_dir = plain(data_dir)
    try:
        return read_only_builder.builder_from_files(name, data_dir=data_dir)
    except (json_format.ParseError, DatasetInfoFileError) as error:
        raise UserError(f"{data_dir}: holds a damaged {name!r}; {AGAIN}") from error
    except ValueError as error:
        raise UserError(
            f"{data_dir}: holds no data set {name!r}; "
            f"to make it: rad-jax prepare {name} --data_dir {data_dir}"
        ) from error


def open_split(builder: tfds.core.DatasetBuilder, split: str) -> Source:
    """The records of a split; see ``source``."""
    folder = os.fspath(builder.data_dir)
    features: Any = builder.info.features
    if "image" not in features:
        raise UserError(f"{folder}: has no images; it has {', '.join(features)}")
    try:
        data = builder.as_data_source(
            split=split,  # pyright: ignore[reportCallIssue] (tfds wraps the method)
            deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES,
        )
    except NotImplementedError as error:
        raise _other_format(folder) from error
    except ValueError as error:
        raise _no_split(folder, split, builder.info.splits) from error
    if builder.info.file_format != file_adapters.FileFormat.ARRAY_RECORD:
        raise _other_format(folder)
    records = _Examples(data, builder.name, split, folder)
    records[len(records) - 1]  # a copy cut short loses the end; only reading notices
    return records


def _open_files(path: str, split: str) -> Source:
    """The records of a split of image files; see ``source``."""
    images = open_images(path)
    parts = split_indices(len(images.names))
    # Numbers are all that TFDS asks of a description of splits, to read a spec.
    infos = {
        name: types.SimpleNamespace(num_examples=len(ids))
        for name, ids in parts.items()
    }
    try:
        slices = tfds.core.ReadInstruction.from_spec(split).to_absolute(infos)
    except (ValueError, AttributeError) as error:  # there are no shards to name
        raise _no_split(path, split, parts) from error
    chosen = [parts[s.splitname][s.from_ : s.to] for s in slices]
    records = _Files(images.take(np.concatenate(chosen).tolist()), path)
    if not records:
        raise UserError(f"{path}: holds nothing in {split!r}; choose another part")
    return records


def _no_split(path: str, split: str, splits: Iterable[str]) -> UserError:
    return UserError(f"{path}: has no split {split!r}; it has {', '.join(splits)}")


def _other_format(folder: str) -> UserError:
    return UserError(
        f"{folder}: is not in ArrayRecord format; "
        "prepare it again with file_format='array_record'"
    )


def parse_example(data: bytes) -> Any:
    """The features of a ``tf.Example`` by name, as its message has them.

    Raises:
        ValueError: it is none.
    """
    try:
        return _Example.FromString(data).features.feature
    except DecodeError as error:
        raise ValueError(str(error)) from error


@dataclasses.dataclass(frozen=True)
class _Examples:
    """The examples of a TFDS split, parsed when they are asked for.

    Each is a ``tf.Example``: lists of bytes, ints or floats by name. TFDS's own parser
    takes three times as long over an image and decodes features that nobody reads.

    Attributes:
        data: the serialised examples, bytes.
        data_set: name of the data set.
        split: which part ``data`` is.
        folder: of the data set.
    """

    data: Sequence
    data_set: str
    split: str
    folder: str

    def __len__(self) -> int:
        """How many there are."""
        return len(self.data)

    def __getitem__(self, index: int) -> Record:
        """One record."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        try:
            features = parse_example(self.data[index])
        except (RuntimeError, ValueError) as error:  # ArrayRecord's, ours
            raise UserError(f"{self.folder}: is damaged ({error}); {AGAIN}") from error
        # Lists are boxes and the like, never a class.
        numbers = {
            name: feature.int64_list.value[0]
            for name, feature in features.items()
            if len(feature.int64_list.value) == 1
        }
        return {
            **numbers,
            "image": features["image"].bytes_list.value[0],
            "name": f"example {index} of {self.data_set} {self.split}",
            "data_set": self.data_set,
        }


@dataclasses.dataclass(frozen=True)
class _Files:
    """Image files, read when they are asked for.

    Attributes:
        images: the files.
        path: of the folder or archive that holds them.
    """

    images: Images
    path: str

    def __len__(self) -> int:
        """How many there are."""
        return len(self.images.names)

    def __getitem__(self, index: int) -> Record:
        """One record."""
        name = f"{self.path}/{self.images.names[index]}"
        try:
            data = self.images.read(index)
        except BadImage as error:
            raise UserError(f"{self.path}/{error}; {FIX_HINT}") from error
        return {"image": data, "name": name, "data_set": self.path}
