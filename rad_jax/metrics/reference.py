"""Reference statistics of FID: .npz files with `mu` and `sigma`, as pytorch-fid's.

Ours have two entries more: `count`, how many images, and `network`. Files of others are
read without them, and are taken for untrustworthy: nothing in one is run, and nothing
is made larger than statistics are.
"""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from rad_jax.errors import UserError
from rad_jax.files.atomic import atomic_write
from rad_jax.metrics.frechet import Statistics
from rad_jax.metrics.inception_blocks import DIMENSION, NETWORK
from rad_jax.weight_files.bad_file import shown

MAX_COUNT = 2**48
HEADER_BYTES = 2**12
FIX_HINT = "make the statistics again"

# What NumPy and zipfile raise for files that are damaged, or are none of theirs.
_READ_ERRORS = (
    EOFError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)


def write_reference(path: Path, found: Statistics, *, network: str = NETWORK) -> None:
    """Writes statistics whole or not at all; a file that exists is replaced.

    Raises:
      UserError: the file cannot be written.
    """
    entries = {
        "mu": found.mean,
        "sigma": found.covariance,
        "network": np.array(network),
    }
    if found.count is not None:
        entries["count"] = np.array(found.count)
    with atomic_write(path) as part, part.open("wb") as file:
        np.savez(file, allow_pickle=False, **entries)


def read_reference(
    path: Path, *, network: str = NETWORK, dimension: int = DIMENSION
) -> Statistics:
    """Statistics from a file, float64.

    Args:
      path: a file of ours, or of pytorch-fid.
      network: that of the features they are compared with.
      dimension: of the features.

    Raises:
      UserError: naming the file: it cannot be read, holds no statistics, those of
        another network, or such as no set of features has.
    """
    arrays = _arrays(path, dimension)
    mean, covariance = arrays["mu"], arrays["sigma"]
    named = arrays.get("network", np.array(network))
    if named.shape != () or str(named) != network:
        raise UserError(f"{path}: is of the network {shown(str(named))}, not {network}")
    for name, array in ("mu", mean), ("sigma", covariance):
        expected = (dimension,) * (1 if name == "mu" else 2)
        if array.shape != expected or array.dtype.kind != "f":
            raise UserError(
                f"{path}: {name} is {array.dtype} of shape {array.shape}, not float of "
                f"{expected}; it is of another network"
            )
        if not np.isfinite(array).all():
            raise UserError(f"{path}: {name} is not finite; {FIX_HINT}")
    mean, covariance = mean.astype(np.float64), covariance.astype(np.float64)
    # Files of float32 are not symmetric to the last digit.
    asymmetry = np.abs(covariance - covariance.T).max()
    if asymmetry > 1e-5 * np.abs(covariance).max() or (covariance.diagonal() < 0).any():
        raise UserError(f"{path}: sigma is not a covariance; {FIX_HINT}")
    return Statistics(mean, (covariance + covariance.T) / 2, _count(path, arrays))


def _count(path: Path, arrays: dict[str, np.ndarray]) -> int | None:
    if "count" not in arrays:
        return None
    count = arrays["count"]
    if count.shape != () or count.dtype.kind not in "iu" or not 2 <= count < MAX_COUNT:
        raise UserError(f"{path}: count is no number of images; {FIX_HINT}")
    return int(count)


def _arrays(path: Path, dimension: int) -> dict[str, np.ndarray]:
    """The entries that we know, none of them larger than it can be."""
    limits = {
        "mu": 8 * dimension,
        "sigma": 8 * dimension**2,
        "count": 8,
        "network": 400,
    }
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {info.filename: info.file_size for info in archive.infolist()}
        found = [name for name in limits if f"{name}.npy" in sizes]
        if not {"mu", "sigma"} <= set(found):
            raise UserError(
                f"{path}: holds no mu and sigma; give statistics as pytorch-fid makes "
                "them"
            )
        for name in found:
            if sizes[f"{name}.npy"] > limits[name] + HEADER_BYTES:
                raise UserError(
                    f"{path}: {name} is too large for {dimension} features; it is of "
                    "another network"
                )
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in found}
    except _READ_ERRORS as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise UserError(
            f"{path}: cannot be read as an .npz file ({reason or 'damaged'}); "
            f"{FIX_HINT}"
        ) from error
