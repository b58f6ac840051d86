"""``rad-jax demo``: the whole story on a CPU in minutes.

Prepares scikit-learn's digits, trains RAD on the training split, inpaints digits it has
never seen, and asks a classifier of real digits what it reads in them.
"""

import json
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image, ImageDraw

from rad_jax.checkpoints.load import load_diffusion
from rad_jax.checkpoints.model import Model
from rad_jax.config.file import load_config
from rad_jax.data.splits import load_split
from rad_jax.errors import UserError
from rad_jax.files.atomic import atomic_write
from rad_jax.files.contact_sheet import contact_sheet, grey_holes
from rad_jax.files.pictures import save_png
from rad_jax.files.pixel_ranges import to_bytes, to_float
from rad_jax.inference.inpaint import fill
from rad_jax.masks.evaluation import evaluation_mask
from rad_jax.prepare.command import prepare
from rad_jax.progress import progress
from rad_jax.train.loop import train
from rad_jax.train.stop import stop_on_signals

KINDS = ("box", "extreme", "perlin")
NUM_SAMPLES = 4
STEPS = 25
BATCH_SIZE = 99  # of 297 held-out digits
SHOWN = 4  # digits of each kind in the picture
TILE = 64  # pixels

Pixels = UInt8[np.ndarray, "n h w 1"]
Holes = Float32[np.ndarray, "n h w"]
Rows = list[list[np.ndarray]]


def demo(output: Path, overrides: Sequence[str]) -> int:
    """Runs the demo, or resumes an interrupted one.

    Args:
      output: folder for the data set, the model, the picture and the numbers.
      overrides: of ``configs/digits.py``, like ``--config.train.num_steps=100``.

    Returns:
      The exit code.

    Raises:
      UserError: scikit-learn is missing, or what preparing and training raise.
    """
    began = time.monotonic()
    new_classifier()  # before the work, in case scikit-learn is missing
    data_dir = output / "data"
    prepare("digits", data_dir)
    experiment = load_config(
        "configs/digits.py", [f"--config.data.data_dir={data_dir}", *overrides]
    )
    workdir = output / "model"
    with stop_on_signals() as stop:
        train(experiment, workdir, stop)
    if stop:
        print("rad-jax: stopped, checkpoint written; rerun the same command to resume")
        return 130 if stop.signal == signal.SIGINT else 0
    trained = time.monotonic()

    results, rows = measure(
        load_diffusion(workdir), data_dir, steps=STEPS, num_samples=NUM_SAMPLES
    )
    picture = output / "inpainted.png"
    save_png(_labelled(rows), picture)
    metrics = output / "metrics.json"
    _write_metrics(metrics, results, trained - began, time.monotonic() - began)
    _report(results, picture, metrics, workdir)
    return 0


def measure(
    model: Model,
    data_dir: Path,
    *,
    steps: int = STEPS,
    num_samples: int = NUM_SAMPLES,
    num_images: int | None = None,
) -> tuple[dict[str, Any], Rows]:
    """Inpaints the held-out digits and asks a classifier what it reads in them.

    Args:
      model: trained on digits.
      data_dir: folder of the prepared data set.
      steps: of filling.
      num_samples: of each digit, 2 at least.
      num_images: the first of the held-out digits; None for all.

    Returns:
      The numbers of each kind of mask, and the rows of a picture.
    """
    train_images, train_labels = load_split("digits", data_dir, "train", 1)
    images, labels = load_split("digits", data_dir, "test", 1, most=num_images)
    classifier = new_classifier()
    classifier.fit(features(train_images), train_labels)

    def accuracy(pixels: Pixels) -> float:
        return float(np.mean(classifier.predict(features(pixels)) == labels))

    mean_image = np.round(train_images.mean(0)).astype(np.uint8)
    results: dict[str, Any] = {}
    rows: Rows = []
    for kind in KINDS:
        masks = hole_masks(kind, images)
        samples, seconds = fill_samples(
            model, images, masks, f"inpaint {kind}", num_samples, steps=steps
        )
        hole = masks[..., None] > 0
        results[kind] = {
            "accuracy_inpainted": float(np.mean([accuracy(s) for s in samples])),
            "accuracy_true": accuracy(images),
            "accuracy_mean_filled": accuracy(np.where(hole, mean_image, images)),
            "hole_rmse": rms(samples.astype(float) - images, hole),
            "hole_rmse_mean_filled": rms(mean_image - images.astype(float), hole),
            "diversity": diversity(samples, hole),
            "known_pixels_changed": int(np.sum((samples != images) & ~hole)),
            "seconds_per_image": seconds,
        }
        rows += _rows(images, masks, samples)
    return results, rows


def new_classifier() -> Any:
    """An SVM; scikit-learn comes with the extra ``demo``."""
    try:
        from sklearn.svm import SVC
    except ImportError as error:
        raise UserError(
            "the demo needs scikit-learn; pip install 'rad-jax[demo]'"
        ) from error
    return SVC(C=10.0, gamma="scale")


def features(pixels: Pixels) -> np.ndarray:
    """What the classifier reads."""
    return pixels.reshape(len(pixels), -1) / 255.0


def hole_masks(kind: str, images: Pixels) -> Holes:
    """A mask of this kind for each image, the same in every run."""
    size = images.shape[1]
    return np.stack(
        [
            evaluation_mask(kind, size, seed=0, index=i).astype(np.float32)
            for i in range(len(images))
        ]
    )


def fill_samples(
    model: Model,
    images: Pixels,
    masks: Holes,
    what: str,
    num_samples: int,
    **options: Any,
) -> tuple[UInt8[np.ndarray, "s n h w 1"], float]:
    """Several inpaintings of every image, and seconds per image.

    The first batch is made twice, so that compiling does not count. ``options`` are
    those of `fill`.
    """
    count, batch = len(images), min(BATCH_SIZE, len(images))
    pixels = np.tile(to_float(images), (num_samples, 1, 1, 1))
    holes = np.tile(masks, (num_samples, 1, 1))
    keys = jax.random.split(jax.random.key(1), num_samples * count)

    def run(start: int) -> np.ndarray:
        # The last batch overlaps the one before: all have one shape.
        part = slice(min(start, len(pixels) - batch), None)
        filled = fill(
            model,
            jnp.asarray(pixels[part][:batch]),
            jnp.asarray(holes[part][:batch]),
            keys[part][:batch],
            **options,
        )
        return to_bytes(np.asarray(filled))

    run(0)
    began = time.monotonic()
    out = np.empty(pixels.shape, np.uint8)
    for start in progress(range(0, len(pixels), batch), desc=what, unit="batch"):
        begin = min(start, len(pixels) - batch)
        out[begin : begin + batch] = run(start)
    seconds = (time.monotonic() - began) / len(pixels)
    return out.reshape(num_samples, count, *images.shape[1:]), seconds


def rms(difference: np.ndarray, hole: np.ndarray) -> float:
    """Root mean square over the holes' pixels, grey levels in [0, 1]."""
    squares = (difference / 255.0) ** 2
    return float(np.sqrt(np.mean(squares[np.broadcast_to(hole, squares.shape)])))


def diversity(samples: np.ndarray, hole: np.ndarray) -> float:
    """Root mean square difference in the hole between two samples of one input."""
    return rms(samples[1:].astype(float) - samples[:-1], hole)


def _rows(images: Pixels, masks: Holes, samples: np.ndarray) -> Rows:
    """Picture rows of the first digits: input, mask, samples, truth."""
    given = grey_holes(images, masks)
    drawn = np.uint8(255) * (masks > 0).astype(np.uint8)
    return [
        [given[i], drawn[i], *samples[:, i], images[i]]
        for i in range(min(SHOWN, len(images)))
    ]


def _labelled(rows: Rows) -> np.ndarray:
    """The contact sheet under a line that names its columns."""
    scale, pad, header = TILE // rows[0][0].shape[0], 2, 16
    sheet = contact_sheet(rows, scale=scale, pad=pad)
    canvas = Image.new("RGB", (sheet.shape[1], sheet.shape[0] + header), "white")
    canvas.paste(Image.fromarray(sheet), (0, header))
    draw = ImageDraw.Draw(canvas)
    names = ["input", "mask", *(f"sample {i + 1}" for i in range(NUM_SAMPLES)), "truth"]
    for column, name in enumerate(names):
        draw.text((pad + column * (TILE + pad) + 4, 2), name, fill="black")
    return np.asarray(canvas)


def _write_metrics(
    path: Path, results: dict[str, Any], trained: float, total: float
) -> None:
    device = jax.devices()[0]
    record = {
        "masks": results,
        "protocol": {
            "images": "held-out digits, 16x16",
            "samples_per_image": NUM_SAMPLES,
            "steps": STEPS,
            "classifier": "SVC(C=10), fitted on the real training digits",
            "units": "errors and diversity: RMS in the hole, grey levels in [0, 1]",
        },
        "device": f"{device.platform}, {device.device_kind}",
        "seconds_until_trained": trained,
        "seconds_in_all": total,
    }
    with atomic_write(path) as part:
        part.write_text(json.dumps(record, indent=2) + "\n")


def _report(
    results: dict[str, Any], picture: Path, metrics: Path, workdir: Path
) -> None:
    print(f"{'mask':8} {'accuracy':>8} {'true':>6} {'mean-filled':>11} {'s/image':>8}")
    for kind, row in results.items():
        print(
            f"{kind:8} {row['accuracy_inpainted']:8.3f} {row['accuracy_true']:6.3f} "
            f"{row['accuracy_mean_filled']:11.3f} {row['seconds_per_image']:8.3f}"
        )
    print(f"picture  {picture}\nmetrics  {metrics}\nmodel    {workdir}")
