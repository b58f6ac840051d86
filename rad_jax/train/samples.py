"""Sample grids: held-out images, their masks, and what the model makes of them."""

import jax
import jax.numpy as jnp
import numpy as np

from rad_jax.checkpoints.load import model_of
from rad_jax.config.experiment import Experiment
from rad_jax.data.splits import load_split
from rad_jax.files.contact_sheet import contact_sheet, grey_holes
from rad_jax.files.pixel_ranges import to_bytes, to_float
from rad_jax.inference.inpaint import fill
from rad_jax.masks.evaluation import evaluation_mask
from rad_jax.models.apply import Params

KINDS = ("box", "extreme", "perlin")
IMAGES_PER_KIND = 8


class SampleGrid:
    """Always the same held-out images, masks and noise, so that grids compare."""

    def __init__(self, experiment: Experiment):
        """Reads the images if the experiment wants grids at all."""
        self._experiment = experiment
        if not experiment.train.sample_every:
            return
        config = experiment.data
        size, count = experiment.image_size, IMAGES_PER_KIND * len(KINDS)
        images, _ = load_split(
            config.name,
            config.data_dir,
            config.eval_split,
            experiment.channels,
            image_size=size,
            most=count,
        )
        self._images = np.resize(images, (count, *images.shape[1:]))
        self._masks = np.stack(
            [
                evaluation_mask(kind, size, seed=0, index=i).astype(np.float32)
                for kind in KINDS
                for i in range(IMAGES_PER_KIND)
            ]
        )

    def draw(self, params: Params, codec: Params | None = None) -> np.ndarray:
        """One picture, uint8 (h, w, 3): rows of given, filled, truth for each kind.

        Args:
          params: of the network.
          codec: of its autoencoder, if it has one.
        """
        experiment = self._experiment
        model = model_of(experiment, params, codec)
        keys = jax.random.split(jax.random.key(0), len(self._images))
        filled = fill(
            model,
            jnp.asarray(to_float(self._images)),
            jnp.asarray(self._masks),
            keys,
            steps=None if model.few_steps else experiment.train.sample_steps,
        )
        given = grey_holes(self._images, self._masks)
        rows = []
        for i in range(0, len(self._images), IMAGES_PER_KIND):
            part = slice(i, i + IMAGES_PER_KIND)
            filled_bytes = to_bytes(np.asarray(filled[part]))
            rows += [given[part], filled_bytes, self._images[part]]
        return contact_sheet(
            [list(row) for row in rows], scale=max(1, 64 // model.image_size)
        )
