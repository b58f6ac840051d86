"""The data set ``photos``: crops of photographs that come with scikit-image.

Small enough to train on within the hour, and there without a network: only files of the
installed package are read. Of those we take the photographs that scikit-image says are
free to use (`TRAIN` and `TEST`, with what it says of each), and leave out

* what is no photograph: charts, drawings, a logo, text and scanned pages, a phantom;
* pictures taken through a microscope or of a retina, and thumbnails of faces (25x25);
* ``clock``, blurred on purpose, and ``moon`` and ``stereo_motorcycle``, of which
  scikit-image names no licence.
"""

import importlib.util
import io
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from rad_jax.data.image_file import BadImage, decode_rgb
from rad_jax.data.resize import center_crop
from rad_jax.errors import UserError
from rad_jax.progress import progress

SIZE = 64  # pixels per side, of a crop when it is stored

TRAIN = (
    "astronaut.png",  # Eileen Collins; NASA, public domain
    "brick.png",  # grey; CC0Textures, CC0
    "chelsea.png",  # a cat; Stefan van der Walt, CC0
    "coins.png",  # grey; Brooklyn Museum, no known copyright restrictions
    "grass.png",  # grey; linolafett on DeviantArt, CC0
    "gravel.png",  # grey; CC0Textures, CC0
    "hubble_deep_field.jpg",  # NASA, public domain
    "rocket.jpg",  # launch of a Falcon 9; SpaceX, public domain
)
TEST = (
    "camera.png",  # grey, a man with a camera; Lav Varshney, CC0
    "coffee.png",  # a cup on a table; Rachel Michetti, Pikolo Espresso Bar, CC0
)

# Pixels per side of what is cut out, and at how many places along either axis. The
# same for all photographs, so that each has the same weight.
PLACES = {64: 16, 128: 12, 256: 8}

ORDER_SEED = 0

Box = tuple[int, int, int]
"""Of a crop in its photograph, pixels: side, top, left."""


class Photos(tfds.core.GeneratorBasedBuilder):
    """Crops of photographs, 64x64 RGB; ``test`` has crops of photographs of its own."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}  # noqa: RUF012 (tfds's own attribute)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Crops of photographs that come with scikit-image, 64x64.",
            homepage="https://scikit-image.org/docs/stable/api/skimage.data.html",
            license="CC0 and public domain",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(
                        shape=(SIZE, SIZE, 3), encoding_format="png"
                    ),
                    "id": tfds.features.Text(),  # photograph, side, top, left
                }
            ),
            # The order is random already; this keeps it as it is.
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        del dl_manager  # nothing to download
        folder = photograph_folder()
        splits = {"train": TRAIN, "test": TEST}
        # All are opened before the first crop is written.
        photographs = {
            split: {name: open_photograph(folder / name) for name in names}
            for split, names in splits.items()
        }
        return {
            split: self._generate_examples(split, found)
            for split, found in photographs.items()
        }

    def _generate_examples(
        self, split: str, photographs: Mapping[str, Image.Image]
    ) -> Iterator:
        crops = [(name, x) for name in photographs for x in boxes(photographs[name])]
        # NumPy promises this old generator's stream for good, the new one's not.
        order = np.random.RandomState(ORDER_SEED).permutation(len(crops))
        for key, i in enumerate(progress(order, desc=f"photos {split}", unit="img")):
            name, box = crops[i]
            file = io.BytesIO()
            cut(photographs[name], box).save(file, "PNG")
            where = "/".join(map(str, (Path(name).stem, *box)))
            # Bytes, not an array: tfds encodes arrays with TensorFlow.
            yield key, {"image": file.getvalue(), "id": where}


def photograph_folder() -> Path:
    """Where scikit-image keeps its pictures; it is not imported.

    Raises:
        UserError: scikit-image is not installed.
    """
    spec = importlib.util.find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            "The data set photos comes with scikit-image: pip install 'rad-jax[photos]'"
        )
    return Path(spec.submodule_search_locations[0]) / "data"


def open_photograph(path: Path) -> Image.Image:
    """One photograph in RGB; grey becomes three equal channels.

    Raises:
        UserError: it is not there, or damaged.
    """
    try:
        return decode_rgb(str(path), path.read_bytes())
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); scikit-image 0.25 and 0.26 "
            "have it"
        ) from error
    except BadImage as error:
        raise UserError(f"{error}; install scikit-image again") from error


def boxes(photograph: Image.Image) -> list[Box]:
    """Where its crops lie: of each side evenly spread, from edge to edge."""
    found = []
    for side, places in PLACES.items():
        tops, lefts = (
            np.rint(np.linspace(0, length - side, places)).astype(int).tolist()
            for length in (photograph.height, photograph.width)
        )
        found += [(side, *place) for place in itertools.product(tops, lefts)]
    return found


def cut(photograph: Image.Image, box: Box) -> Image.Image:
    """One crop, scaled to `SIZE` as image files are; one of `SIZE` is not touched."""
    side, top, left = box
    crop = photograph.crop((left, top, left + side, top + side))
    return center_crop(crop, SIZE)
