"""Makes a TFDS data set of image files: by many processes, and in several goes.

While it is made, it lies beside the place where TFDS will look for it, in the folder
``.incomplete``, one file of a thousand images or so after the other. A killed
preparation leaves the finished files there, and the same command, run again, makes
the others.
What comes out depends on the images and the settings only.
"""

import contextlib
import fcntl
import itertools
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.core.dataset_info import DatasetIdentity
from tensorflow_datasets.core.splits import SplitDict

from rad_jax.data.records import open_data_set
from rad_jax.data.sources import fingerprint, split_indices
from rad_jax.errors import UserError
from rad_jax.files.remarks import some
from rad_jax.prepare.image_sets import IMAGE_SETS, class_names, find_images
from rad_jax.prepare.plan import Plan, chunks, shard_of, template
from rad_jax.prepare.shards import read_written, unwritable, write_shard
from rad_jax.prepare.workers import run_in_processes
from rad_jax.progress import progress

VERSION = "1.0.0"


def prepare_images(
    name: str,
    data_dir: Path,
    source: Path,
    *,
    size: int,
    num_workers: int,
    num_train: int | None,
    labels: bool,
) -> Path:
    """Makes the data set and prints what was skipped; see `command.prepare`.

    Returns:
        The folder of the data set.
    """
    folder = data_dir / name / VERSION
    incomplete = folder.with_name(".incomplete")
    print(f"{name}: looking through {source}", flush=True)
    images = find_images(name, source)
    if images.others:
        kinds = some(f"{kind} {count}" for kind, count in images.others.most_common())
        print(f"{name}: left out files that are no images: {kinds}")
    count = len(images.names)
    if count < 2:
        raise UserError(f"{source}: holds 1 image; a data set takes 2 or more")
    about = IMAGE_SETS.get(name)
    if num_train is None and about is not None:
        num_train = about.num_train
    labels = labels or (about is not None and about.num_classes > 0)
    plan = Plan(
        name=name,
        images=images,
        splits=split_indices(count, num_train),
        classes=class_names(images, source) if labels else None,
        size=size,
    )
    try:
        with _locked(incomplete):
            if folder.exists():  # another process has finished it since we looked
                shutil.rmtree(incomplete)
                return folder
            _same_plan(plan, incomplete)
            _write(plan, incomplete, num_workers)
            return _finish(plan, incomplete, source)
    except OSError as error:
        raise unwritable(data_dir, error) from error


def check_size(name: str, data_dir: Path, size: int) -> None:
    """Refuses another size than a prepared data set has.

    Raises:
        UserError: it has another.
    """
    features: Any = open_data_set(name, data_dir).info.features
    there, _, _ = features["image"].shape  # None: of several, by another program
    if there not in (size, None):
        raise UserError(
            f"{data_dir / name / VERSION}: has images of {there}x{there} pixels, not "
            f"{size}x{size}; give --size {there} or another --data_dir"
        )


@contextlib.contextmanager
def _locked(incomplete: Path) -> Iterator[None]:
    """Sees to it that nobody else writes there."""
    incomplete.mkdir(parents=True, exist_ok=True)
    with (incomplete / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{incomplete}: another preparation is at work there; wait for it, or "
                "stop it"
            ) from None
        yield


def _same_plan(plan: Plan, incomplete: Path) -> None:
    """Refuses to resume what was begun otherwise."""
    facts = {
        "version": VERSION,
        "size": plan.size,
        "images": len(plan.images.names),
        "train": len(plan.splits["train"]),
        "classes": plan.classes and len(plan.classes),
        "files": fingerprint(plan.images),
    }
    manifest = incomplete / "manifest.json"
    if not manifest.exists():
        part = manifest.with_suffix(".part")
        part.write_text(json.dumps(facts))
        part.replace(manifest)
    begun = json.loads(manifest.read_text())
    for key, value in facts.items():
        if begun[key] != value:
            differs = f"{key} {begun[key]}, now {value}"
            if key == "files":
                differs = "other names or sizes of files"
            raise UserError(
                f"{incomplete}: was begun with {differs}; go on as it was begun, or "
                "prepare into another --data_dir"
            )


def _write(plan: Plan, incomplete: Path, num_workers: int) -> None:
    """Writes the files that are not there yet."""
    for name in ("data", "records"):
        (incomplete / name).mkdir(exist_ok=True)
    for part in incomplete.glob("data/.*.part"):  # of a killed process
        part.unlink()
    every = list(chunks(plan, incomplete))
    missing = [
        chunk for chunk in every if not (chunk.path.exists() and chunk.record.exists())
    ]
    if not missing:
        return
    total, left = (sum(len(x.ids) for x in some) for some in (every, missing))
    images = run_in_processes(
        write_shard,
        (shard_of(plan, chunk) for chunk in missing),
        min(num_workers, len(missing)),
    )
    with contextlib.closing(images):
        for _ in progress(
            images, total=total, initial=total - left, desc=plan.name, unit="img"
        ):
            pass


def _finish(plan: Plan, incomplete: Path, source: Path) -> Path:
    """Writes what TFDS wants to know of the files, and puts them where it looks."""
    data = incomplete / "data"
    splits, skipped = [], []
    for split, files in itertools.groupby(
        chunks(plan, incomplete), lambda chunk: chunk.split
    ):
        written = [read_written(chunk.record) for chunk in files]
        skipped += [line for x in written for line in x.skipped]
        lengths = [x.examples for x in written]
        if not sum(lengths):
            shutil.rmtree(incomplete)
            raise UserError(
                f"{source}: not one image for the split {split!r} can be used, e.g. "
                f"{skipped[-1]}"
            )
        splits.append(
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=lengths,
                num_bytes=sum(x.num_bytes for x in written),
                filename_template=template(plan, split, data),
            )
        )
    _write_info(plan, splits, data)
    folder = incomplete.with_name(VERSION)
    if skipped:
        text = "".join(f"{line}\n" for line in skipped)
        (data / "skipped.txt").write_text(text, "utf-8", errors="surrogateescape")
        print(f"{plan.name}: {len(skipped)} images skipped, see {folder}/skipped.txt")
    print(f"{plan.name}: " + ", ".join(f"{x.num_examples} {x.name}" for x in splits))
    data.rename(folder)
    shutil.rmtree(incomplete)
    return folder


def _write_info(
    plan: Plan, splits: Sequence[tfds.core.SplitInfo], folder: Path
) -> None:
    about = IMAGE_SETS.get(plan.name)
    features: dict[str, Any] = {
        "image": tfds.features.Image(
            shape=(plan.size, plan.size, 3), encoding_format="png"
        ),
        "id": tfds.features.Text(),  # name within the source
    }
    if plan.classes is not None:
        features["label"] = tfds.features.ClassLabel(names=list(plan.classes))
    info = tfds.core.DatasetInfo(
        builder=DatasetIdentity(
            name=plan.name,
            version=tfds.core.Version(VERSION),
            data_dir=str(folder),
            module_name="",
        ),
        description="Made by rad-jax prepare: images scaled and cropped as ADM does.",
        homepage=about and about.homepage,
        features=tfds.features.FeaturesDict(features),
    )
    info.set_file_format(tfds.core.FileFormat.ARRAY_RECORD)
    info.set_splits(SplitDict(splits))
    info.write_to_directory(folder)
