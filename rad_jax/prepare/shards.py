"""Writes one ArrayRecord file of a data set: the work of one process at a time.

Processes that are started for it import this module, so it imports little.
"""

import io
import json
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image

from rad_jax.data.image_file import BadImage, decode_rgb
from rad_jax.data.resize import center_crop
from rad_jax.data.sources import Images
from rad_jax.errors import UserError
from rad_jax.prepare.tf_example import encode_example

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")  # names may have line breaks


class Shard(NamedTuple):
    """What one file of a data set holds.

    Attributes:
        path: of the file.
        record: of the JSON file that says that it is done, and how it went.
        images: the images, in order.
        labels: their classes, or None.
        size: pixels per side to scale and crop them to.
    """

    path: Path
    record: Path
    images: Images
    labels: Sequence[int] | None
    size: int


class Written(NamedTuple):
    """How it went.

    Attributes:
        examples: how many the file has.
        num_bytes: of the examples, as TFDS counts them.
        skipped: a line for each image that could not be used.
    """

    examples: int
    num_bytes: int
    skipped: list[str]


def write_shard(shard: Shard) -> Iterator[None]:
    """Writes a file and, once it is there as a whole, its record.

    Yields:
        After each image.

    Raises:
        UserError: the disk is full, or the source is gone.
    """
    part = shard.path.with_name(f".{shard.path.name}.part")
    skipped: list[str] = []
    examples = num_bytes = 0
    try:
        # tfds's own setting: any example can be read alone.
        writer = ArrayRecordWriter(str(part), "group_size:1")
        for i in range(len(shard.images.names)):
            try:
                example = _example(shard, i)
                writer.write(example)
                examples, num_bytes = examples + 1, num_bytes + len(example)
            except BadImage as error:
                skipped.append(_CONTROL.sub("?", str(error)))
            yield
        writer.close()
        _to_disk(part)
        part.replace(shard.path)
        written = Written(examples, num_bytes, skipped)
        part.write_text(json.dumps(written._asdict()))
        _to_disk(part)
        part.replace(shard.record)
    except (OSError, RuntimeError) as error:
        raise unwritable(shard.path.parent, error) from error
    finally:
        part.unlink(missing_ok=True)


def read_written(record: Path) -> Written:
    """What a record says."""
    return Written(**json.loads(record.read_text(encoding="utf-8")))


def unwritable(
    folder: str | os.PathLike[str], error: OSError | RuntimeError
) -> UserError:
    """One line about a file that could not be written.

    Raises:
        RuntimeError: it is not about that.
    """
    reason = getattr(error, "strerror", None) or str(error)
    if isinstance(error, RuntimeError):
        # ArrayRecord's: "write() failed: No space left on device; writing ..."
        match = re.search(r"\(\) failed: ([^;]+)", reason)
        if match is None:
            raise error
        reason = match[1]
    return UserError(
        f"{os.fspath(folder)}: cannot be written ({reason}); free some space and rerun "
        "the same command to resume, or choose another --data_dir"
    )


def _example(shard: Shard, i: int) -> bytes:
    """One example, serialised."""
    name = shard.images.names[i]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about odd files
        png = _to_png(name, shard.images.read(i), shard.size)
    label = {} if shard.labels is None else {"label": shard.labels[i]}
    return encode_example({"image": png, "id": os.fsencode(name), **label})


def _to_png(name: str, data: bytes, size: int) -> bytes:
    image = decode_rgb(name, data)
    try:
        image = center_crop(image, size)
    except ValueError as error:  # long and thin
        raise BadImage(f"{name}: {error}") from error
    # Not frombytes of the pixels: without what the file said beside them.
    plain = Image.frombytes("RGB", image.size, image.tobytes())
    file = io.BytesIO()
    plain.save(file, "PNG")
    return file.getvalue()


def _to_disk(path: Path) -> None:
    """A machine may be switched off, too: what has a name must have its contents."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
