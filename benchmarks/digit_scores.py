"""How good fillings of digits are, image by image, and how sure a difference is."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rad_jax.checkpoints.model import Model
from rad_jax.data.splits import load_split
from rad_jax.evaluate.demo import fill_samples, hole_masks
from rad_jax.files.pixel_ranges import to_float
from rad_jax.metrics import frechet
from rad_jax.metrics.bootstrap import mean_interval
from rad_jax.metrics.digits import Classifier

NUM_SAMPLES = 4

RESAMPLES = 200
"""Of the Frechet distance's interval."""


class Scores(NamedTuple):
    """Of fillings under one kind of mask: a number for each image, in [0, 1].

    Attributes:
      energy: the energy score by all pairs of samples, distances the hole's RMS.
      accuracy: share of samples read as the digit that was there.
      square: mean square of the differences to the truth, in the hole.
      diversity: mean distance of two samples.
      features: of the classifier, (s, n, d).
    """

    energy: np.ndarray
    accuracy: np.ndarray
    square: np.ndarray
    diversity: np.ndarray
    features: np.ndarray


class Digits(NamedTuple):
    """What students are held against.

    Attributes:
      images: held-out digits, bytes.
      labels: what they show.
      classifier: of real digits.
      training: those that were trained on, bytes.
    """

    images: np.ndarray
    labels: np.ndarray
    classifier: Classifier
    training: np.ndarray


def load_digits(data_dir: Path) -> Digits:
    """The splits, and a classifier of the one for training."""
    training, labels = load_split("digits", data_dir, "train", 1)
    classifier = Classifier(to_float(training), labels.astype(np.int32))
    images, labels = load_split("digits", data_dir, "test", 1)
    return Digits(images, labels, classifier, training)


def scores(
    model: Model, digits: Digits, kind: str, what: str, **options: Any
) -> Scores:
    """Fills the held-out digits under one kind of mask, and scores them."""
    masks = hole_masks(kind, digits.images)
    samples, _ = fill_samples(model, digits.images, masks, what, NUM_SAMPLES, **options)
    return score(samples, digits, masks)


def score(samples: np.ndarray, digits: Digits, masks: np.ndarray) -> Scores:
    """Of samples (s, n, h, w, 1), bytes."""
    hole = masks[..., None] > 0
    pixels = np.maximum(hole.sum((1, 2, 3)), 1)

    def apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        square = np.where(hole, (a.astype(float) - b) / 255.0, 0.0) ** 2
        return square.sum((1, 2, 3)) / pixels

    to_truth = np.stack([apart(each, digits.images) for each in samples])
    count = len(samples)
    pairs = [
        np.sqrt(apart(samples[i], samples[j]))
        for i in range(count)
        for j in range(i + 1, count)
    ]
    diversity = np.mean(pairs, axis=0)
    read = [digits.classifier.predict(to_float(each)) for each in samples]
    features = [digits.classifier.features(to_float(each)) for each in samples]
    return Scores(
        np.sqrt(to_truth).mean(0) - diversity / 2,
        np.mean([each == digits.labels for each in read], axis=0),
        to_truth.mean(0),
        diversity,
        np.stack(features),
    )


def distance(features: np.ndarray, real: np.ndarray) -> float:
    """Frechet, of the features of all samples to those of the images themselves."""
    filled = frechet.of_features(features.reshape(-1, features.shape[-1]))
    return frechet.frechet_distance(filled, frechet.of_features(real))


def summary(found: Scores, real: np.ndarray, against: Scores | None) -> dict[str, Any]:
    """Means, and intervals of the differences to others under the same masks."""
    values = found._asdict()
    features = values.pop("features")
    record = {name: float(np.mean(each)) for name, each in values.items()}
    record["rms"] = float(np.sqrt(record.pop("square")))
    record["frechet"] = distance(features, real)
    if against is None:
        return record
    others = against._asdict()
    differences: dict[str, Any] = {}
    for name, each in values.items():
        differences[name] = mean_interval(each - others[name], seed=0)._asdict()
    draws, ours, theirs = np.random.RandomState(0), features, against.features
    drawn = []
    for _ in range(RESAMPLES):
        picked = draws.randint(0, len(real), len(real))
        a, b = (distance(x[:, picked], real[picked]) for x in (ours, theirs))
        drawn.append(a - b)
    low, high = np.percentile(drawn, [2.5, 97.5])
    mean = record["frechet"] - distance(theirs, real)
    differences["frechet"] = {"mean": mean, "low": float(low), "high": float(high)}
    return record | {"difference": differences}


def nearest(images: np.ndarray, training: np.ndarray) -> float:
    """Median over images of the RMS distance to the nearest of others."""
    a, b = (x.reshape(len(x), -1) / 255.0 for x in (images, training))
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    nearest = np.sqrt(np.maximum(squares.min(1), 0) / a.shape[1])
    return float(np.median(nearest))
