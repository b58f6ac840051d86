"""LPIPS v0.1 (Zhang et al. 2018): how far apart two images look.

Activations of a classifier (torchvision's AlexNet or VGG16) are normalised over
channels at each pixel, subtracted, squared, weighed per channel by learned heads, then
averaged over pixels and added over five layers.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from rad_jax.errors import UserError
from rad_jax.metrics.image import to_rgb
from rad_jax.metrics.layers import Conv
from rad_jax.metrics.weights import FILES, WeightFile, read_arrays, to_params
from rad_jax.typing import Images
from rad_jax.weight_files.name_table import CONV, Entry, Layout, layer

Net = Literal["alex", "vgg"]
"""AlexNet, which the paper's tables are of, or VGG16."""

Convention = Literal["standard", "unscaled"]
"""What the network is given: images in [-1, 1] as it was trained, or in [0, 1] all the
same. The latter is what RAD's evaluation does, and is on no standard scale."""

Features = tuple[Float[Array, "*b _ _ _"], ...]
"""Normalised activations of the five layers."""

Params = Mapping[str, Any]


class _Conv(NamedTuple):
    """A convolution and its ReLU.

    Attributes:
      index: its number in torchvision's `features`.
      channels: of its output.
      size: of its kernel.
      stride: in pixels.
      pool: side of the max pooling before it, of stride 2; 0 for none.
      tap: its output is one of the five that are compared.
    """

    index: int
    channels: int
    size: int = 3
    stride: int = 1
    pool: int = 0
    tap: bool = True


CONVS = {
    "alex": (
        _Conv(0, 64, size=11, stride=4),
        _Conv(3, 192, size=5, pool=3),
        _Conv(6, 384, pool=3),
        _Conv(8, 256),
        _Conv(10, 256),
    ),
    "vgg": (
        _Conv(0, 64, tap=False),
        _Conv(2, 64),
        _Conv(5, 128, pool=2, tap=False),
        _Conv(7, 128),
        _Conv(10, 256, pool=2, tap=False),
        _Conv(12, 256, tap=False),
        _Conv(14, 256),
        _Conv(17, 512, pool=2, tap=False),
        _Conv(19, 512, tap=False),
        _Conv(21, 512),
        _Conv(24, 512, pool=2, tap=False),
        _Conv(26, 512, tap=False),
        _Conv(28, 512),
    ),
}

SMALLEST = {"alex": 31, "vgg": 16}
"""Height and width of an image of which the last layer sees something."""

# Of ImageNet's pixels in [-1, 1], as LPIPS has them.
MEAN = np.array([-0.030, -0.088, -0.188], np.float32).reshape(1, 1, 1, 3)
DEVIATION = np.array([0.458, 0.448, 0.450], np.float32).reshape(1, 1, 1, 3)


class LPIPS(nnx.Module):
    """Backbone and heads."""

    def __init__(self, net: Net):
        """Builds the layers; their weights are to be read from files."""
        self.specs = CONVS[net]
        self.convs, self.heads = nnx.List([]), nnx.List([])
        channels = 3
        for spec in self.specs:
            # AlexNet's first is the one that is not as large as its input.
            pad = 2 if spec.stride > 1 else spec.size // 2
            size = (spec.size, spec.size)
            conv = Conv(channels, spec.channels, size, stride=spec.stride, padding=pad)
            self.convs.append(conv)
            channels = spec.channels
            if spec.tap:
                self.heads.append(nnx.Param(jnp.zeros(channels)))

    def __call__(self, x: Float[Array, "b h w 3"]) -> Features:
        """Normalised activations of images as the network is given them."""
        x = (x - MEAN) / DEVIATION
        taps = []
        for spec, conv in zip(self.specs, self.convs, strict=True):
            if spec.pool:
                x = nnx.max_pool(x, (spec.pool, spec.pool), strides=(2, 2))
            x = nnx.relu(conv(x))
            if spec.tap:
                square = jnp.square(x).sum(axis=-1, keepdims=True)
                # Its gradient is finite where no channel is on.
                some = square > 0
                length = jnp.where(some, jnp.sqrt(jnp.where(some, square, 1.0)), 0.0)
                taps.append(x / (length + 1e-10))
        return tuple(taps)


def lpips(
    params: Params,
    a: Images,
    b: Images,
    *,
    net: Net,
    convention: Convention = "standard",
) -> Float[Array, " b"]:
    """Distance of each pair of images, 0 of equal ones; symmetric.

    Args:
      params: of `read_params`.
      a: float32 in [-1, 1], 1 or 3 channels.
      b: the same.
      net: of which the parameters are.
      convention: name it with every number.

    Raises:
      UserError: images are too small for the network.
    """
    # Pairs side by side: images of one device stay on it, and one network is compiled.
    pairs = jnp.stack([a, b], axis=1).reshape(-1, *a.shape[1:])
    found = features(params, pairs, net=net, convention=convention)
    found = [x.reshape(-1, 2, *x.shape[1:]) for x in found]
    return distance(
        params, tuple(x[:, 0] for x in found), tuple(x[:, 1] for x in found)
    )


def features(
    params: Params, images: Images, *, net: Net, convention: Convention = "standard"
) -> Features:
    """What `distance` compares, to be computed once of images in many pairs.

    Args:
      params: of `read_params`.
      images: float32 in [-1, 1], 1 or 3 channels.
      net: of which the parameters are.
      convention: see there.

    Raises:
      UserError: images are too small for the network.
    """
    (height, width), least = images.shape[1:3], SMALLEST[net]
    if min(height, width) < least:
        raise UserError(
            f"LPIPS of {net} is of images of {least} x {least} pixels or more; these "
            f"have {width} x {height}"
        )
    images = to_rgb(images)
    if convention == "unscaled":
        images = (images + 1) / 2
    graphdef, _ = abstract(net)
    return nnx.merge(graphdef, params, copy=True)(images)


def distance(params: Params, a: Features, b: Features) -> Float[Array, "*b"]:
    """LPIPS from features, of one image or a batch."""
    total = jnp.zeros(a[0].shape[:-3])
    for i, (x, y) in enumerate(zip(a, b, strict=True)):
        weighed = jnp.matmul(jnp.square(x - y), params["heads"][i], precision="highest")
        total += weighed.mean(axis=(-2, -1))
    return total


def read_params(
    net: Net, folder: Path | None = None, files: Mapping[str, WeightFile] = FILES
) -> dict[str, Any]:
    """Parameters from the published files, a pure dict of float32 arrays.

    Args:
      net: the backbone.
      folder: see `weights`.
      files: the backbone's under `net`, its heads' under f"{net}_heads".

    Raises:
      UserError: a file is missing, is not the published one, or does not fit.
    """
    _, shapes = abstract(net)
    path, state = read_arrays(files[net], folder)
    params = to_params(
        path,
        state,
        _backbone_entries(net),
        {"convs": shapes["convs"]},
        # The layers after those that are compared.
        lambda key: key.startswith("classifier."),
    )
    path, state = read_arrays(files[f"{net}_heads"], folder)
    heads = to_params(path, state, _head_entries(), {"heads": shapes["heads"]})
    return params | heads


_HEAD = Layout(lambda x: x[0, :, 0, 0], lambda x: (x[None, :, None, None],))
"""(1, in, 1, 1) to (in,)."""


def _backbone_entries(net: Net) -> list[Entry]:
    return [
        entry
        for i, spec in enumerate(CONVS[net])
        for entry in layer(f"features.{spec.index}", ("convs", i), CONV)
    ]


def _head_entries() -> list[Entry]:
    return [Entry((f"lin{i}.model.1.weight",), ("heads", i), _HEAD) for i in range(5)]


@functools.cache
def abstract(net: Net) -> tuple[Any, dict[str, Any]]:
    """The module's structure, and its parameters' shapes; no weight is made."""
    model = nnx.eval_shape(lambda: LPIPS(net))
    graphdef, state = nnx.split(model, nnx.Param)
    return graphdef, nnx.to_pure_dict(state)
