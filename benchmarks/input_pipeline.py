"""Images per second of the training pipeline, beside a loop that only decodes.

Both read the same 256x256 PNG files on the same cores. The loop has their bytes in
memory and decodes them by Pillow, in as many threads or processes as there are cores:
the better of the two is what the cores can do. The pipeline reads the files from an
ArrayRecord data set in random order, mirrors every other one and makes batches.
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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from measured import measured, store
from PIL import Image
from sklearn import datasets

from rad_jax.data import pipeline

SIZE = 256
PART = 16  # images that a thread or process of the loop gets at a time
WARM_UP = 16  # batches, more than the pipeline reads ahead
TURN = 480  # images
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
        sample: Any = datasets.load_sample_images()
        photographs = [Image.fromarray(pixels) for pixels in sample.images]
        rng = np.random.default_rng(0)
        for i in range(self._count):
            photograph = photographs[i % 2]
            side = int(rng.integers(160, photograph.height))
            left = int(rng.integers(photograph.width - side))
            top = int(rng.integers(photograph.height - side))
            square = photograph.crop((left, top, left + side, top + side))
            file = io.BytesIO()
            square.resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(file, "PNG")
            yield i, {"image": file.getvalue()}


def decode(data: bytes) -> np.ndarray:
    """What the pipeline is held against."""
    with Image.open(io.BytesIO(data)) as file:
        return np.asarray(file.convert("RGB"))


def decode_all(files: list[bytes]) -> None:
    """In one process; the pixels are thrown away."""
    for data in files:
        decode(data)


def raw(pool: concurrent.futures.Executor, files: list[bytes]) -> float:
    """Images per second of the loop."""
    # Shared out as a pool does best: no thread waits for another but at the end.
    parts = [files[i : i + PART] for i in range(0, len(files), PART)]
    start = time.perf_counter()
    for done in [pool.submit(decode_all, part) for part in parts]:
        done.result()
    return len(files) / (time.perf_counter() - start)


def ours(batches: pipeline.Batches, count: int) -> float:
    """Images per second of the pipeline.

    While the others had their turn, it read ahead and then slept. That must not count:
    the first batches are taken until it has no more than it makes at its own speed.
    """
    for _ in range(WARM_UP):
        next(batches)
    images, start = 0, time.perf_counter()
    while images < count:
        images += len(next(batches)["image"])
    return images / (time.perf_counter() - start)


def measure(count: int, batch_size: int, rounds: int) -> dict[str, list[float]]:
    """Images per second by each way, in short turns: what slows one slows all."""
    spawn = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        with contextlib.redirect_stdout(io.StringIO()):
            tfds.disable_progress_bar()
            builder = Crops(count, data_dir=folder, file_format="array_record")
            builder.download_and_prepare()
        records = pipeline.source("crops", folder, "train")
        files = [records[i]["image"] for i in range(count)]
        print(f"{count} files of {statistics.mean(map(len, files)) / 1000:.0f} kB")
        threads = concurrent.futures.ThreadPoolExecutor(CORES)
        processes = concurrent.futures.ProcessPoolExecutor(CORES, spawn)
        options = {"seed": 0, "channels": 3, "image_size": SIZE, "random_flip": True}
        in_threads, in_workers = (
            pipeline.batches(records, batch_size=batch_size, num_workers=n, **options)
            for n in (0, CORES)
        )
        for each in (threads, processes):
            stack.enter_context(each)
        for each in (in_threads, in_workers):
            stack.enter_context(contextlib.closing(each))
        ways: dict[str, Callable[[list[bytes]], float]] = {
            "raw_threads": lambda part: raw(threads, part),
            "raw_processes": lambda part: raw(processes, part),
            "pipeline_threads": lambda part: ours(in_threads, len(part)),
            "pipeline_workers": lambda part: ours(in_workers, len(part)),
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for i in range(rounds + 1):
            at = i * TURN % (count - TURN)
            for name, way in ways.items():
                rate = way(files[at : at + TURN])
                if i:  # the first round warms up
                    rates[name].append(rate)
    return rates


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=25)
    args = parser.parse_args()
    where = measured()
    taken = measure(args.images, args.batch, args.rounds)
    rates = {
        name: {"median": statistics.median(x), "min": min(x), "max": max(x)}
        for name, x in taken.items()
    }
    for name, rate in rates.items():
        print(f"{name}: {rate['median']:.0f} images/s", end=" ")
        print(f"({rate['min']:.0f} to {rate['max']:.0f})")
    best = max("raw_threads", "raw_processes", key=lambda name: rates[name]["median"])
    ratios = {
        name: statistics.median(
            a / b for a, b in zip(taken[name], taken[best], strict=True)
        )
        for name in ("pipeline_threads", "pipeline_workers")
    }
    for name, ratio in ratios.items():
        print(f"{name} by {best}: {ratio:.2f}")
    result = {
        "measured": where,
        "load_average_1min_after": os.getloadavg()[0],
        "images_per_second": rates,
        "better_loop": best,
        "median_ratio_to_the_better_loop": ratios,
        "cores": CORES,
        "images": args.images,
        "batch": args.batch,
        "rounds": args.rounds,
    }
    store(args.output, result)


if __name__ == "__main__":
    main()
