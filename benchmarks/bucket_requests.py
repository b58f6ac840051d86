"""Requests to a bucket of a job of many pictures, counted by a stand-in of it.

For each picture of a folder and for each shard, and for each worker however little it
does; a network is not needed. Pictures are 256x256 squares of photographs.
  python benchmarks/bucket_requests.py
"""

import argparse
import collections
import io
import os
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.batch_inpainting import make_files
from benchmarks.measured import measured, store
from benchmarks.stand_in_command import stand_in
from rad_jax.checkpoints.load import load
from rad_jax.diffusion.options import SamplingOptions
from rad_jax.files.bucket import folder_at
from rad_jax.inference.file_options import FileOptions
from rad_jax.jobs import inpaint_command
from rad_jax.jobs.find_shards import find_shards
from rad_jax.jobs.shard_kinds import Columns
from tests.files.fake_bucket import FakeBucket, fake_bucket

PICTURES = 1000
"""Of a shard."""

FILES = 60
"""One by one, and three times as many."""

KINDS = {"GET": "read", "POST": "write", "DELETE": "delete"}


def archive(folder: Path, first: int) -> bytes:
    """A tar of pictures and their masks."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for i in range(first, first + PICTURES):
            tar.add(folder / "images" / f"{i}.png", f"{i}.png")
            tar.add(folder / "masks" / f"{i}.png", f"{i}.mask.png")
    return data.getvalue()


def requests_of(
    bucket: FakeBucket, prepared: inpaint_command.Prepared, name: str
) -> collections.Counter[str]:
    """What one worker asks for, by kind."""
    image, output = folder_at(f"gs://bucket/{name}"), folder_at(f"gs://bucket/o{name}")
    before = collections.Counter(bucket.requests)
    mask = None
    if shards := find_shards(image, None, prepared.settings.options):
        code = inpaint_command.inpaint_shards(
            prepared, shards, image, mask, output, Columns()
        )
    else:
        mask = folder_at(f"gs://bucket/masks_{name}")
        code = inpaint_command.inpaint_files(prepared, image, mask, output)
    assert code == 0
    counted = bucket.requests - before
    return collections.Counter({KINDS[verb]: n for verb, n in counted.items()})


def main() -> None:
    """Counts, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--output", type=Path, default=Path("docs/results/bucket_requests.json")
    )
    args = parser.parse_args()
    record: dict[str, Any] = {"measured": measured(), "pictures_of_a_shard": PICTURES}
    inpaint_command._fills = lambda *_: stand_in(0)
    with tempfile.TemporaryDirectory() as temporary, fake_bucket() as bucket:
        os.environ.update(bucket.environment)
        folder = Path(temporary)
        make_files(folder, 3 * PICTURES)
        prepared = inpaint_command.prepare_files(
            load(folder / "model"), SamplingOptions(steps=1), FileOptions(batch_size=16)
        )
        data = [archive(folder, PICTURES * i) for i in range(3)]
        record["mb_of_a_shard"] = len(data[0]) / 1e6
        for count in (1, 3):
            for i in range(count):
                bucket.objects[f"shards{count}/{i}.tar"] = data[i], 1
            for i in range(count * FILES):
                for kind, place in (("images", ""), ("masks", "masks_")):
                    content = (folder / kind / f"{i}.png").read_bytes()
                    bucket.objects[f"{place}files{count}/{i}.png"] = content, 1
        for kind, units in (("shards", 2), ("files", 2 * FILES)):
            few, many = (
                requests_of(bucket, prepared, f"{kind}{count}") for count in (1, 3)
            )
            each = {x: (many[x] - few[x]) / units for x in KINDS.values()}
            own = {x: few[x] - each[x] * units / 2 for x in KINDS.values()}
            record[kind] = {"each": each, "of_a_worker": own}
    print(record)
    store(args.output, record)


if __name__ == "__main__":
    main()
