"""Random squares of scikit-learn's two sample photographs."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image
from sklearn import datasets


def squares(count: int, size: int, rng: np.random.Generator) -> Iterator[Image.Image]:
    """So many, of so many pixels per side; each is drawn when it is asked for."""
    sample: Any = datasets.load_sample_images()
    photographs = [Image.fromarray(pixels) for pixels in sample.images]
    for i in range(count):
        photograph = photographs[i % 2]
        side = int(rng.integers(160, photograph.height))
        left = int(rng.integers(photograph.width - side))
        top = int(rng.integers(photograph.height - side))
        square = photograph.crop((left, top, left + side, top + side))
        yield square.resize((size, size), Image.Resampling.BICUBIC)
