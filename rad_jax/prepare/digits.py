"""The data set ``digits``: small enough to ship, so that everything runs offline.

Scikit-learn bundles 1797 handwritten digits, 8x8 pixels of 17 grey levels: the test
part of Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine
Learning Repository, 1998, https://doi.org/10.24432/C50P49 (CC BY 4.0).
"""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Float, Int, UInt8
from PIL import Image

from rad_jax.errors import UserError
from rad_jax.progress import progress

SIZE = 16  # pixels per side, after enlarging
NUM_TRAIN = 1500  # the rest, 297, is held out
SPLIT_SEED = 0


class Digits(tfds.core.GeneratorBasedBuilder):
    """Handwritten digits, 16x16 grey, with their labels 0 to 9."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}  # noqa: RUF012 (tfds's own attribute)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Scikit-learn's bundled handwritten digits, enlarged to 16x16.",
            homepage="https://doi.org/10.24432/C50P49",
            license="CC BY 4.0",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(
                        shape=(SIZE, SIZE, 1), encoding_format="png"
                    ),
                    "label": tfds.features.ClassLabel(num_classes=10),
                    "id": tfds.features.Scalar(np.int64),  # index in scikit-learn's set
                }
            ),
            supervised_keys=("image", "label"),
            # The split is a random order already; this keeps it as it is.
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        del dl_manager  # nothing to download
        images, labels = load_digits()
        order = split_order(len(labels))
        parts = {"train": order[:NUM_TRAIN], "test": order[NUM_TRAIN:]}
        return {
            name: self._generate_examples(name, ids, images, labels)
            for name, ids in parts.items()
        }

    def _generate_examples(self, split, ids, images, labels) -> Iterator:
        for key, i in enumerate(progress(ids, desc=f"digits {split}", unit="img")):
            yield (
                key,
                {
                    # Bytes, not an array: tfds encodes arrays with TensorFlow.
                    "image": encode_png(enlarge(images[i])),
                    "label": int(labels[i]),
                    "id": int(i),
                },
            )


def load_digits() -> tuple[Float[np.ndarray, "n 8 8"], Int[np.ndarray, " n"]]:
    """Scikit-learn's digits: levels 0 to 16, and labels 0 to 9.

    Raises:
        UserError: scikit-learn is not installed.
    """
    try:
        from sklearn import datasets
    except ImportError as error:
        raise UserError(
            "The data set digits comes with scikit-learn: pip install 'rad-jax[demo]'"
        ) from error
    bunch: Any = datasets.load_digits()
    return bunch.images, bunch.target


def split_order(n: int) -> Int[np.ndarray, " n"]:
    """The fixed random order of n examples that the splits are cut from."""
    # NumPy promises this old generator's stream for good, the new one's not.
    return np.random.RandomState(SPLIT_SEED).permutation(n)


def enlarge(levels: Float[np.ndarray, "8 8"]) -> UInt8[np.ndarray, "16 16"]:
    """Levels 0 to 16 to bytes 0 to 255, enlarged by bicubic interpolation."""
    grey = np.round(levels * (255 / 16)).astype(np.uint8)
    bigger = Image.fromarray(grey).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    return np.asarray(bigger)


def encode_png(pixels: UInt8[np.ndarray, "h w"]) -> bytes:
    """One grey image as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
