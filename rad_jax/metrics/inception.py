"""Features of the Inception network that FID and KID are defined by.

It is TensorFlow's InceptionV3 of 2015-12-05 as pytorch-fid ported it. It differs from
the usual InceptionV3: average pooling leaves out what lies beyond the border, and the
last block pools by the maximum.
"""

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from rad_jax.metrics.image import to_rgb
from rad_jax.metrics.inception_blocks import BLOCKS, BranchSpec, Pool, UnitSpec
from rad_jax.metrics.layers import Activation, Conv, FrozenBatchNorm
from rad_jax.metrics.weights import FILES, WeightFile, read_arrays, to_params
from rad_jax.typing import Images
from rad_jax.weight_files.name_table import CONV, SAME, Entry, norm

SIDE = 299
"""Height and width that every image is resized to."""

Params = Mapping[str, Any]


class Unit(nnx.Module):
    """See `UnitSpec`."""

    def __init__(self, inputs: int, spec: UnitSpec):
        """Builds the layers."""
        self.conv = Conv(
            inputs,
            spec.channels,
            spec.size,
            stride=spec.stride,
            padding=spec.padding,
            bias=False,
        )
        self.norm = FrozenBatchNorm(spec.channels)

    def __call__(self, x: Activation) -> Activation:
        """Applies the layers."""
        return nnx.relu(self.norm(self.conv(x)))


class Branch(nnx.Module):
    """See `BranchSpec`."""

    def __init__(self, inputs: int, spec: BranchSpec):
        """Builds the units."""
        self.pool: Pool | None = spec.pool
        self.units, self.ends = nnx.List([]), nnx.List([])
        for unit in spec.units:
            self.units.append(Unit(inputs, unit))
            inputs = unit.channels
        for unit in spec.ends:
            self.ends.append(Unit(inputs, unit))
        self.channels = sum(end.channels for end in spec.ends) or inputs

    def __call__(self, x: Activation) -> Activation:
        """Applies pooling and units."""
        if self.pool is not None:
            x = _pool(x, self.pool)
        for unit in self.units:
            x = unit(x)
        return jnp.concatenate([end(x) for end in self.ends] or [x], axis=-1)


def _pool(x: Activation, kind: Pool) -> Activation:
    """Over 3 x 3 pixels, those beyond the border left out."""
    if kind == "halve":
        return nnx.max_pool(x, (3, 3), strides=(2, 2))
    if kind == "max":
        return nnx.max_pool(x, (3, 3), strides=(1, 1), padding="SAME")
    return nnx.avg_pool(
        x, (3, 3), strides=(1, 1), padding="SAME", count_include_pad=False
    )


class Inception(nnx.Module):
    """The network up to its last pooling."""

    def __init__(self):
        """Builds the blocks; their weights are to be read from a file."""
        self.blocks = nnx.List([])
        channels = 3
        for block in BLOCKS:
            branches = [Branch(channels, spec) for spec in block.branches]
            self.blocks.append(nnx.List(branches))
            channels = sum(branch.channels for branch in branches)

    def __call__(self, x: Float[Array, "b 299 299 3"]) -> Float[Array, "b 2048"]:
        """Features of images in [-1, 1]."""
        for branches in self.blocks:
            x = jnp.concatenate([branch(x) for branch in branches], axis=-1)
        return x.mean(axis=(1, 2))


def inception_features(params: Params, images: Images) -> Float[Array, "b 2048"]:
    """Pool features of images of any size, which are resized.

    Args:
      params: of `read_params`.
      images: float32 in [-1, 1], 1 or 3 channels. FID is defined on 8-bit pictures:
        round to their levels first.

    Raises:
      UserError: they have neither 1 channel nor 3.
    """
    graphdef, _ = abstract()
    return nnx.merge(graphdef, params, copy=True)(resize(to_rgb(images)))


def resize(images: Images) -> Float[Array, "b 299 299 c"]:
    """Images of `SIDE` x `SIDE` pixels, as pytorch-fid makes them.

    Between the four nearest pixels, whose centres lie at halves; a picture that becomes
    smaller is not smoothed before.
    """
    b, _, _, c = images.shape
    return jax.image.resize(
        images,
        (b, SIDE, SIDE, c),
        "linear",
        antialias=False,
        precision=jax.lax.Precision.HIGHEST,
    )


def read_params(
    folder: Path | None = None, files: Mapping[str, WeightFile] = FILES
) -> dict[str, Any]:
    """Parameters from the published file, a pure dict of float32 arrays.

    Args:
      folder: see `weights`.
      files: the network's under "inception".

    Raises:
      UserError: the file is missing, is not the published one, or does not fit.
    """
    path, state = read_arrays(files["inception"], folder)
    return params_from_state(path, state)


def params_from_state(path: Path, state: Mapping[str, Any]) -> dict[str, Any]:
    """The same from the file's arrays by key; `path` is for the error."""

    def ignored(key: str) -> bool:
        """The classifier, and a count of training steps."""
        return key.startswith("fc.") or key.endswith(".num_batches_tracked")

    return to_params(path, state, list(entries()), abstract()[1], ignored)


def entries() -> Iterator[Entry]:
    """What becomes of each array of pytorch-fid's file."""
    for i, block in enumerate(BLOCKS):
        prefix = f"{block.name}." if block.name else ""
        for j, branch in enumerate(block.branches):
            for kind, units in ("units", branch.units), ("ends", branch.ends):
                for k, unit in enumerate(units):
                    key, path = prefix + unit.name, ("blocks", i, j, kind, k)
                    yield Entry(
                        (f"{key}.conv.weight",), (*path, "conv", "kernel"), CONV
                    )
                    inner = (*path, "norm")
                    yield from norm(f"{key}.bn", inner)
                    yield Entry((f"{key}.bn.running_mean",), (*inner, "mean"), SAME)
                    yield Entry((f"{key}.bn.running_var",), (*inner, "variance"), SAME)


@functools.cache
def abstract() -> tuple[Any, dict[str, Any]]:
    """The module's structure, and its arrays' shapes; no weight is made."""
    model = nnx.eval_shape(Inception)
    graphdef, state = nnx.split(model, nnx.Param)
    return graphdef, nnx.to_pure_dict(state)
