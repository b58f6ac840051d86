"""Small images, and the kinds of places that people have them in."""

import io
import tarfile
import zipfile

import lmdb
import numpy as np
from PIL import Image

SIZE = 8  # that they are cut to


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def picture(i):
    """Larger than needed, not square, noisier with each."""
    noise = np.random.default_rng(i).integers(0, i % 200 + 20, (20, 28, 3))
    return Image.fromarray((noise + i % 37).astype(np.uint8))


FILES = {f"{i:03d}.png": encoded(picture(i)) for i in range(30)}


def write_folder(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def write_zip(path, files, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def tar_bytes(files, tar_format=tarfile.PAX_FORMAT):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tar_format) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def write_tar(path, files, **options):
    path.write_bytes(tar_bytes(files, **options))
    return path


def class_tars(files):
    """A tar for each folder of ``files``, as ImageNet has them."""
    folders = sorted({name.split("/")[0] for name in files})
    return {
        f"{folder}.tar": tar_bytes(
            {k.split("/")[1]: v for k, v in files.items() if k.startswith(folder)}
        )
        for folder in folders
    }


def write_lmdb(folder, files):
    with (
        lmdb.open(str(folder), map_size=1 << 24) as environment,
        environment.begin(write=True) as transaction,
    ):
        for name, data in files.items():
            transaction.put(name.encode(), data)
    return folder


def tree(folder):
    """The files of a folder and their bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
