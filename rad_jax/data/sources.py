"""Image files wherever they are: a folder, a zip, a tar or an LMDB, by index."""

import hashlib
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from rad_jax.data.archives import ArchiveImages, Member, is_archive, members
from rad_jax.data.image_file import BadImage, Others, check_bytes, is_image_name
from rad_jax.data.lmdb_images import open_lmdb
from rad_jax.errors import UserError
from rad_jax.files.paths import local_path

NUM_HELD_OUT = 1000  # at most
SPLIT_SEED = 0


@runtime_checkable
class Images(Protocol):
    """Image files that any thread or process can read; it can be pickled.

    Attributes:
        names: paths with "/", or keys of an LMDB; unique.
        others: what else is there; of all images, not of some.
    """

    names: Sequence[str]
    others: Others

    def read(self, i: int) -> bytes:
        """The bytes of the file ``names[i]``.

        Raises:
            BadImage: this one cannot be read.
            UserError: the source itself cannot be read (any more).
        """
        ...

    def take(self, ids: Sequence[int]) -> "Images":
        """The images of these indices, in this order; small to send to a process."""
        ...

    def sizes(self) -> Iterator[int]:
        """Numbers that change when the contents do, but for rare cases."""
        ...


class FolderImages:
    """The image files of a folder and of the folders in it; see ``Images``."""

    def __init__(
        self, folder: Path, names: Sequence[str], others: Others | None = None
    ):
        """Wraps paths that are there, and counts of what is no image."""
        self._folder = folder
        self.names = names
        self.others = Others() if others is None else others

    def read(self, i: int) -> bytes:
        """The bytes of an image file."""
        path = self._folder / self.names[i]
        try:
            with path.open("rb") as file:
                check_bytes(self.names[i], os.fstat(file.fileno()).st_size)
                return file.read()
        except PermissionError as error:
            raise BadImage(f"{self.names[i]}: {error.strerror}") from error
        except OSError as error:
            if path.is_symlink():
                raise BadImage(f"{self.names[i]}: broken symlink") from error
            raise UserError(
                f"{path}: cannot be read ({error.strerror}); is it still there?"
            ) from error

    def take(self, ids: Sequence[int]) -> "FolderImages":
        """Some of the images."""
        return FolderImages(self._folder, [self.names[i] for i in ids])

    def sizes(self) -> Iterator[int]:
        """Of the files, in bytes."""
        for name in self.names:
            path = self._folder / name
            yield path.stat().st_size if path.exists() else -1


def open_images(path: str | os.PathLike[str]) -> Images:
    """Looks through a source of image files.

    Args:
        path: a folder, where every image file counts, however deep, or, where there is
            none, those in its zips and tars; one zip or tar; a folder with the
            ``data.mdb`` of an LMDB.

    Returns:
        The images, sorted by name.

    Raises:
        UserError: there is nothing, no image, something damaged, or two images of the
            same name.
    """
    path = local_path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; check the name")
    try:
        images = _open_folder(path) if path.is_dir() else _open_archives([path])
    except OSError as error:
        raise UserError(
            f"{error.filename or path}: cannot be read ({error.strerror}); check who "
            "may read it"
        ) from error
    if not images.names:
        raise UserError(f"{path}: holds no images; check the name")
    return images


def fingerprint(images: Images) -> str:
    """A hash of the names and sizes of images."""
    # No name has a zero byte, so no two lists of names give the same text.
    digest = hashlib.sha256()
    for name in images.names:
        digest.update(os.fsencode(name) + b"\0")
    for size in images.sizes():
        digest.update(b"%d\0" % size)
    return digest.hexdigest()


def split_indices(
    count: int, num_train: int | None = None
) -> dict[str, Int[np.ndarray, " n"]]:
    """Which images are held out, chosen at random, always the same ones.

    Args:
        count: how many there are, sorted by name.
        num_train: how many to train on at most, chosen at random, too.

    Returns:
        Indices. ``validation``: a tenth, rounded up, 1000 at most, none of a single
        image, in random order, so that the first few are a fair sample. ``train``: of
        the others, in order, since that is how disks are read best.
    """
    # NumPy promises this old generator's stream for good, the new one's not.
    order = np.random.RandomState(SPLIT_SEED).permutation(count)
    held_out = min(NUM_HELD_OUT, -(-count // 10)) if count > 1 else 0
    train = order[held_out:][:num_train]
    return {"train": np.sort(train), "validation": order[:held_out]}


def _open_folder(folder: Path) -> Images:
    if (folder / "data.mdb").is_file():
        return open_lmdb(folder)
    others = Others()
    names = list(_walk(folder, "", set(), others))
    images = [name for name in names if is_image_name(name)]
    if images:
        for name in set(names) - set(images):
            others.add(name)
        return FolderImages(folder, sorted(images), others)
    archives = [folder / name for name in names if not is_image_name(name)]
    return _open_archives(sorted(archives), folder)


def _open_archives(paths: Sequence[Path], folder: Path | None = None) -> ArchiveImages:
    """One archive, or all of those in a folder, each as if it were a folder itself."""
    found: list[Member] = []
    others = Others()
    for path in paths:
        if not is_archive(path):
            raise UserError(
                f"{path}: neither a zip nor a tar; give one, or a folder of images"
            )
        prefix = ""
        if folder is not None and len(paths) > 1:
            prefix = path.relative_to(folder).with_suffix("").as_posix() + "/"
        found += [x._replace(name=prefix + x.name) for x in members(path, others)]
    found.sort()
    for before, member in itertools.pairwise(found):
        if before.name == member.name:
            raise UserError(
                f"{member.archive}: holds {member.name!r} twice; unpack it, or pack "
                "the files again"
            )
    return ArchiveImages(found, others)


def _walk(
    folder: Path, prefix: str, seen: set[tuple[int, int]], others: Others
) -> Iterator[str]:
    """Names of images, zips and tars in a folder; links are followed, circles not."""
    about = folder.stat()
    if (about.st_dev, about.st_ino) in seen:
        return
    seen.add((about.st_dev, about.st_ino))
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        name = prefix + entry.name
        if entry.is_dir():
            if not entry.name.startswith("."):
                yield from _walk(folder / entry.name, name + "/", seen, others)
        # A broken symlink is listed, so that it is reported. To open a pipe would be to
        # wait for ever.
        elif entry.is_file() or not os.path.exists(entry.path):
            archive = entry.name.lower().endswith((".zip", ".tar"))
            if is_image_name(name) or (archive and not entry.name.startswith(".")):
                yield name
            else:
                others.add(name)
