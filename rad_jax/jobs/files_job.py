"""Many picture files to as many files: divided among workers, and resumed."""

import functools
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from rad_jax.errors import UserError, refuse
from rad_jax.files.atomic import atomic_write
from rad_jax.files.collect import existing, is_many, name_of, root_of
from rad_jax.files.decode import picture_size
from rad_jax.files.destination import Destination
from rad_jax.files.mask_pattern import MaskPattern
from rad_jax.files.pairing import Pair, pair_files
from rad_jax.files.remarks import Remarks
from rad_jax.files.streamed import MaskFinder, walk
from rad_jax.inference.canvas import Item
from rad_jax.inference.file_options import FileOptions
from rad_jax.jobs.seen import Seen

MOST_LISTED = 10_000
"""Pictures that are listed and paired before the first is filled; of more, each when
it is its turn."""


class Found(NamedTuple):
    """The pictures of a job.

    Attributes:
        items: all of them; the tag is the file's path below the folder of all.
        count: pictures with masks; None of so many that they are not counted.
        left: items that will be left out, as their names say already.
    """

    items: Iterator[Item]
    count: int | None
    left: int = 0


def find(
    image: Path,
    mask: Path | None,
    target: Destination,
    options: FileOptions,
    remarks: Remarks,
) -> Found:
    """The pictures of a folder or a pattern.

    Args:
        image: a folder or a pattern.
        mask: a file, a folder or a pattern; None as the options say.
        target: of results.
        options: samples, and how masks are found.
        remarks: gets what is worth knowing.

    Raises:
        UserError: as `pair_files`; or of a large folder, masks that can be found by
            looking through all of them alone.
    """
    text = options.mask_pattern
    pattern = None if text is None else MaskPattern(text)
    if mask is not None and not is_many(mask):
        picture_size(existing(mask))  # one broken mask is one error, not one a picture
    if image.is_dir() and _is_large(image, options.recursive, target.folder):
        _require_quick(image, mask, pattern)
        remarks.add(image, f"has more than {MOST_LISTED} pictures; not listed first")
        finder = MaskFinder(image, mask, pattern, target, options.num_samples)
        return Found(_streamed(finder, options.recursive), None)
    pairs, left = pair_files(
        image,
        mask,
        target,
        options.num_samples,
        remarks,
        pattern=pattern,
        recursive=options.recursive,
    )
    root = root_of(image)
    items = [
        _item(Path(str(pair.image)), root, functools.partial(_given, pair))
        for pair in pairs
    ]
    items += [_item(x, root, functools.partial(refuse, e)) for x, e in left.items()]
    return Found(iter(items), len(pairs), len(left))


def write_files(scratch: Path, item: Item, pair: Pair, encoded: list[bytes]) -> None:
    """Writes the results of a picture, each whole or not at all.

    Args:
        scratch: see `atomic_write`.
        item: the picture.
        pair: says where they go.
        encoded: their bytes.

    Raises:
        UserError: one cannot be written.
    """
    for path, data in zip(pair.outputs, encoded, strict=True):
        with atomic_write(path, scratch) as part:
            part.write_bytes(data)


def _item(file: Path, root: Path, open_it: Callable[[], Pair]) -> Item:
    tag = file.relative_to(root) if file.is_relative_to(root) else file.name
    return Item(open_it, file.name, Path(tag).as_posix())


def _given(pair: Pair) -> Pair:
    return pair


def _is_large(image: Path, recursive: bool, output: Path) -> bool:
    files = walk(image, recursive=recursive, skip={output.resolve()})
    return sum(1 for _ in itertools.islice(files, MOST_LISTED + 1)) > MOST_LISTED


def _require_quick(image: Path, mask: Path | None, pattern: MaskPattern | None) -> None:
    """Refuses what would look through a folder of masks for every picture."""
    many = f"{image}: has more than {MOST_LISTED} pictures"
    if pattern and not pattern.is_plain:
        raise UserError(f"{many}; then mask_pattern may have no *, ? or [")
    if mask is not None and is_many(mask) and not mask.is_dir():
        raise UserError(f"{many}; then --mask must be a folder or one file, no pattern")


def _streamed(finder: MaskFinder, recursive: bool) -> Iterator[Item]:
    skip = {finder.target.folder.resolve()}
    among = finder.pattern is not None and finder.mask is None
    if finder.mask is not None and finder.mask.is_dir():
        among = among or finder.mask.samefile(finder.root)
        skip.add(finder.mask.resolve())
    skip.discard(finder.root.resolve())
    names = Seen()
    for file in walk(finder.root, recursive=recursive, skip=skip):
        if among and finder.is_mask(file):
            continue
        if finder.mask is not None and file == finder.mask:
            continue
        open_it = functools.partial(finder.pair, file)
        if not names.add(name_of(file, finder.root)):
            open_it = functools.partial(refuse, same_name(file))
        yield _item(file, finder.root, open_it)


def same_name(file: object) -> UserError:
    """Of a picture whose result would be another one's, too."""
    return UserError(
        f"{file}: another picture has the same name but for the suffix; rename one"
    )
