"""A small classifier of digits: what its accuracy and its features say of fillings.

On digits it stands in for the networks of LPIPS and FID, which have never seen any.
"""

import warnings
from typing import Any

import numpy as np
from jaxtyping import Float, Int32, Num

from rad_jax.errors import UserError

HIDDEN, EPOCHS = 64, 60

Images = Float[np.ndarray, "n h w 1"]


class Classifier:
    """A perceptron with one hidden layer, whose activations are the features.

    The same images and labels make the same classifier.
    """

    def __init__(self, images: Images, labels: Int32[np.ndarray, " n"]):
        """Fits it to real digits.

        Args:
          images: in [-1, 1].
          labels: 0 to 9.

        Raises:
          UserError: scikit-learn is missing.
        """
        try:
            from sklearn.exceptions import ConvergenceWarning
            from sklearn.neural_network import MLPClassifier
        except ImportError as error:
            raise UserError(
                "the classifier of digits needs scikit-learn; "
                "pip install 'rad-jax[demo]'"
            ) from error
        self._network: Any = MLPClassifier((HIDDEN,), random_state=0, max_iter=EPOCHS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # these epochs suffice
            self._network.fit(_flat(images), labels)

    def predict(self, images: Images) -> Num[np.ndarray, " n"]:
        """Which digit each shows."""
        return self._network.predict(_flat(images))

    def features(self, images: Images) -> Float[np.ndarray, "n d"]:
        """Activations of the hidden layer, float64."""
        weights, bias = self._network.coefs_[0], self._network.intercepts_[0]
        return np.maximum(_flat(images) @ weights + bias[None], 0)


def _flat(images: Images) -> Float[np.ndarray, "n d"]:
    return images.reshape(len(images), -1).astype(np.float64)
