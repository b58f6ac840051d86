"""Shards of small pictures and masks, of every kind."""

import io
import tarfile
import zipfile

import numpy as np
import pyarrow
import pyarrow.parquet
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from PIL import Image

from rad_jax.data.records import parse_example
from rad_jax.prepare.tf_example import encode_example

SIZE = 16


def png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "png")
    return file.getvalue()


def picture(seed):
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (SIZE, SIZE, 3), np.uint8)


def hole(seed):
    found = np.zeros((SIZE, SIZE), bool)
    found[2 : 4 + seed % 9] = True
    return found


def members(numbers, mask="{}.mask.png"):
    """Files of an archive by name: a picture and its mask each."""
    files = {}
    for i in numbers:
        files[f"{i}.png"] = png(picture(i))
        if mask:
            files[mask.format(i)] = png(hole(i))
    return files


def write_tar(path, files):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def write_zip(path, files):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)


def write_parquet(path, rows, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, **options)


def rows(numbers):
    return [
        {"id": str(i), "image": png(picture(i)), "mask": png(hole(i))} for i in numbers
    ]


def write_array_record(path, examples):
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = ArrayRecordWriter(str(path), "group_size:1")
    for example in examples:
        features = {
            name: value.encode() if isinstance(value, str) else value
            for name, value in example.items()
        }
        writer.write(encode_example(features))
    writer.close()


def read_shard(path):
    """Results of a shard by name, in order."""
    if path.name.endswith(".tar"):
        with tarfile.open(path) as archive:
            files = {x.name: archive.extractfile(x) for x in archive}
            return {name: file.read() for name, file in files.items() if file}
    if path.name.endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    if path.name.endswith(".parquet"):
        found = pyarrow.parquet.read_table(path).to_pylist()
        return {row["id"] + ".png": row["image"] for row in found}
    reader = ArrayRecordReader(str(path))
    found = map(parse_example, reader.read_all())
    return {
        x["id"].bytes_list.value[0].decode() + ".png": x["image"].bytes_list.value[0]
        for x in found
    }


def write(kind, path, numbers):
    """A shard of any kind; its path."""
    if kind == "tar":
        path = path.with_suffix(".tar")
        write_tar(path, members(numbers))
    elif kind == "zip":
        path = path.with_suffix(".zip")
        write_zip(path, members(numbers, mask="{}_mask.png"))
    elif kind == "parquet":
        path = path.with_suffix(".parquet")
        write_parquet(path, rows(numbers))
    else:
        path = path.with_name(f"{path.name}.array_record-00000-of-00001")
        write_array_record(path, rows(numbers))
    return path


def decoded(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)
