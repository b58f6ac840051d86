"""Weight files of the networks that metrics look through: where they are, and what.

They are the published ones, byte for byte, read without PyTorch; nothing is downloaded.
A folder that is given comes first, then the one that the environment variable
RAD_JAX_METRICS names, then ``$XDG_CACHE_HOME/rad_jax/metrics`` (``~/.cache`` without
that variable).
"""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rad_jax.errors import UserError
from rad_jax.files.paths import cache_home, local_path
from rad_jax.weight_files import name_table
from rad_jax.weight_files.name_table import Entry
from rad_jax.weight_files.read import read_state_dict

VARIABLE = "RAD_JAX_METRICS"


@dataclasses.dataclass(frozen=True)
class WeightFile:
    """A file that is published.

    Attributes:
      name: what it is called, also in our folder.
      sha256: how its checksum begins, in hexadecimal: all 64 digits, or the 8 that its
        publisher puts into the name.
      url: where it is published.
    """

    name: str
    sha256: str
    url: str


_LPIPS = (
    "https://github.com/richzhang/PerceptualSimilarity/raw/master/lpips/weights/v0.1/"
)

FILES = {
    "alex": WeightFile(
        "alexnet-owt-7be5be79.pth",
        "7be5be79",
        "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    ),
    "alex_heads": WeightFile(
        "alex.pth",
        "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
        f"{_LPIPS}alex.pth",
    ),
    "vgg": WeightFile(
        "vgg16-397923af.pth",
        "397923af",
        "https://download.pytorch.org/models/vgg16-397923af.pth",
    ),
    "vgg_heads": WeightFile(
        "vgg.pth",
        "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
        f"{_LPIPS}vgg.pth",
    ),
    "inception": WeightFile(
        "pt_inception-2015-12-05-6726825d.pth",
        "6726825d",
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
        "pt_inception-2015-12-05-6726825d.pth",
    ),
}
"""Backbones of torchvision, heads of LPIPS v0.1, and the Inception of pytorch-fid."""


def metrics_folder(folder: Path | None = None) -> Path:
    """Where weight files are looked for.

    Raises:
      UserError: no folder is given or named, and there is no home folder.
    """
    if folder is not None:
        return folder
    if os.environ.get(VARIABLE):
        return local_path(os.environ[VARIABLE])
    try:
        return cache_home() / "metrics"
    except RuntimeError as error:
        raise UserError(
            f"there is no home folder; name that of the metrics' weights in {VARIABLE}"
        ) from error


def read_arrays(
    file: WeightFile, folder: Path | None = None
) -> tuple[Path, Mapping[str, np.ndarray]]:
    """A weight file's path and its arrays by key, if it is the published one.

    Raises:
      UserError: it is not there, is another one, or cannot be read; one line that names
        it, where it is published and its checksum.
    """
    path = metrics_folder(folder) / file.name
    if not path.is_file():
        raise UserError(
            f"{path}: not found; get it from {file.url} (its sha256 begins with "
            f"{file.sha256}) and put it there, or name its folder in {VARIABLE}"
        )
    try:
        with path.open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if not found.startswith(file.sha256):
        raise UserError(
            f"{path}: is not the published file: its sha256 begins with "
            f"{found[: len(file.sha256)]}, not {file.sha256}; get it from {file.url}"
        )
    return path, read_state_dict(path)


def to_params(
    path: Path,
    state: Mapping[str, np.ndarray],
    entries: Sequence[Entry],
    abstract: Mapping[str, Any],
    ignored: Callable[[str], bool] = lambda key: False,
) -> dict[str, Any]:
    """Our parameters from the arrays of a weight file.

    Args:
      path: the file, for the error.
      state: its arrays by key.
      entries: what becomes of each.
      abstract: pure dict of our parameters' shapes.
      ignored: which keys of the file may be there and are not read.

    Returns:
      A pure dict of float32 arrays.

    Raises:
      UserError: keys are missing or left over, or have another shape; one line.
    """
    state = {key: state[key] for key in state if not ignored(key)}
    shapes = name_table.file_shapes(entries, abstract)
    faults = {
        "lacks": [key for key in shapes if key not in state],
        "has the unknown": [key for key in state if key not in shapes],
        "has another shape of": [
            key for key in shapes if key in state and state[key].shape != shapes[key]
        ],
    }
    said = [
        f"{fault} {keys[0]}" + (f" and {len(keys) - 1} more" if keys[1:] else "")
        for fault, keys in faults.items()
        if keys
    ]
    if said:
        raise UserError(f"{path}: is of another network: it {', '.join(said)}")
    return name_table.read(entries, abstract, state)
