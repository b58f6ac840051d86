"""Images per second of the training pipeline, beside a loop that only decodes.

Both read the same 256x256 PNG files on the same cores. The loop has their bytes in
memory and decodes them by Pillow, in as many threads or processes as there are cores:
the better of the two is what the cores can do. The pipeline reads the files from an
ArrayRecord data set in random order, mirrors every other one and makes batches.

How many images a second either gets on a machine that has other work, too, depends on
that work. What it takes of a core's time for an image does not, or much less: that is
measured where all threads are of one process.
"""

import argparse
import concurrent.futures
import contextlib
import io
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from benchmarks.measured import measured, store
from benchmarks.photographs import squares
from rad_jax.data import pipeline
from rad_jax.data.examples import ToExample
from rad_jax.data.records import source

SIZE = 256
PART = 16  # images that a thread or process of the loop gets at a time
WARM_UP = 6 * pipeline.NUM_THREADS  # batches, more than the pipeline reads ahead
# Threads that start together finish together: another number than a multiple of theirs
# would leave some of their work out.
TURN = 48  # batches
CORES = len(os.sched_getaffinity(0))


class Crops(tfds.core.GeneratorBasedBuilder):
    """Random squares of scikit-learn's two sample photographs."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, count: int, **options):
        """How many to make."""
        self._count = count
        super().__init__(**options)

    def _info(self) -> tfds.core.DatasetInfo:
        image = tfds.features.Image(shape=(SIZE, SIZE, 3), encoding_format="png")
        features = tfds.features.FeaturesDict({"image": image})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        del dl_manager
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator:
        rng = np.random.default_rng(0)
        for i, square in enumerate(squares(self._count, SIZE, rng)):
            file = io.BytesIO()
            square.save(file, "PNG")
            yield i, {"image": file.getvalue()}


def decode(data: bytes) -> np.ndarray:
    """What the pipeline is held against."""
    with Image.open(io.BytesIO(data)) as file:
        return np.asarray(file.convert("RGB"))


def decode_all(files: list[bytes]) -> None:
    """In one process; the pixels are thrown away."""
    for data in files:
        decode(data)


class Turn(NamedTuple):
    """What one way did while it was its turn."""

    rate: float  # images per second
    cpu: float  # milliseconds of this process, for an image


@contextlib.contextmanager
def timed(turns: list[Turn], count: int) -> Iterator[None]:
    """Appends a turn, of so many images."""
    start, cpu = time.perf_counter(), time.process_time()
    yield
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    turns.append(Turn(count / seconds, 1000 * cpu / count))


def raw(
    turns: list[Turn], pool: concurrent.futures.Executor, files: list[bytes]
) -> None:
    """The loop, over some of the files."""
    # Shared out as a pool does best: no thread waits for another but at the end.
    parts = [files[i : i + PART] for i in range(0, len(files), PART)]
    with timed(turns, len(files)):
        for done in [pool.submit(decode_all, part) for part in parts]:
            done.result()


def ours(turns: list[Turn], batches: pipeline.Batches) -> None:
    """The pipeline, over as many.

    While the others had their turn, it read ahead and then slept. That must not count:
    the first batches are taken until it has no more than it makes at its own speed.
    """
    for _ in range(WARM_UP):
        size = len(next(batches)["image"])
    with timed(turns, TURN * size):
        for _ in range(TURN):
            next(batches)


def measure(count: int, batch_size: int, rounds: int) -> dict[str, list[Turn]]:
    """Each way in short turns: what slows one slows all."""
    spawn = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        with contextlib.redirect_stdout(io.StringIO()):
            tfds.disable_progress_bar()
            builder = Crops(count, data_dir=folder, file_format="array_record")
            builder.download_and_prepare()
        records = source("crops", folder, "train")
        files = [records[i]["image"] for i in range(count)]
        print(f"{count} files of {statistics.mean(map(len, files)) / 1000:.0f} kB")
        threads = concurrent.futures.ThreadPoolExecutor(CORES)
        processes = concurrent.futures.ProcessPoolExecutor(CORES, spawn)
        to_example = ToExample(channels=3, image_size=SIZE, random_flip=True)
        in_threads, in_workers = (
            pipeline.batches(
                records, to_example, batch_size=batch_size, seed=0, num_workers=n
            )
            for n in (0, CORES)
        )
        for each in (threads, processes):
            stack.enter_context(each)
        for each in (in_threads, in_workers):
            stack.enter_context(contextlib.closing(each))
        taken: dict[str, list[Turn]] = {
            "raw_threads": [],
            "raw_processes": [],
            "pipeline_threads": [],
            "pipeline_workers": [],
        }
        images = TURN * batch_size
        for i in range(rounds + 1):
            at = i * images % (count - images)
            raw(taken["raw_threads"], threads, files[at : at + images])
            raw(taken["raw_processes"], processes, files[at : at + images])
            ours(taken["pipeline_threads"], in_threads)
            ours(taken["pipeline_workers"], in_workers)
    # The first round warms up.
    return {name: turns[1:] for name, turns in taken.items()}


def median_ratio(above: list[float], below: list[float]) -> float:
    """Of what was measured in the same round."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def summary(values: list[float]) -> dict[str, float]:
    """Median and range."""
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
    }


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=13)
    args = parser.parse_args()
    where = measured()
    taken = measure(args.images, args.batch, args.rounds)
    rates = {name: [turn.rate for turn in turns] for name, turns in taken.items()}
    cpu = {
        name: [turn.cpu for turn in taken[name]]
        for name in ("raw_threads", "pipeline_threads")
    }
    for name, values in rates.items():
        middle, least, most = summary(values).values()
        print(f"{name}: {middle:.0f} images/s ({least:.0f} to {most:.0f})")
    best = max(
        ("raw_threads", "raw_processes"), key=lambda x: statistics.median(rates[x])
    )
    ratios = {
        name: median_ratio(rates[name], rates[best])
        for name in ("pipeline_threads", "pipeline_workers")
    }
    for name, ratio in ratios.items():
        print(f"{name} by {best}: {ratio:.2f}")
    cpu_ratio = median_ratio(cpu["raw_threads"], cpu["pipeline_threads"])
    print(f"share of the pipeline's CPU time that the loop needs: {cpu_ratio:.2f}")
    result = {
        "measured": where,
        "load_average_1min_after": os.getloadavg()[0],
        "images_per_second": {name: summary(x) for name, x in rates.items()},
        "better_loop": best,
        "median_ratio_to_the_better_loop": ratios,
        "cpu_milliseconds_per_image": {name: summary(x) for name, x in cpu.items()},
        "median_ratio_of_cpu_time": cpu_ratio,
        "cores": CORES,
        "images": args.images,
        "batch": args.batch,
        "rounds": args.rounds,
    }
    store(args.output, result)


if __name__ == "__main__":
    main()
