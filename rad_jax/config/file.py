"""Config files (``configs/*.py``, ml_collections), and changes of their keys.

A config file is Python and is executed: run only those you trust.
"""

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import ml_collections
from absl import flags
from ml_collections import config_flags

from rad_jax.config.experiment import Experiment, from_dict
from rad_jax.errors import UserError
from rad_jax.files.paths import split_argument


def load_config(path: str | os.PathLike[str], overrides: Sequence[str]) -> Experiment:
    """Executes a config file and applies overrides.

    Args:
      path: a Python file with ``get_config()``; a path as given, or one below the
        package if there is none (``configs/digits.py`` of an installed rad_jax).
        ``FILE:ARGUMENT`` calls ``get_config("ARGUMENT")``.
      overrides: like ``--config.train.batch_size=8``; of a key that is true or false
        also ``--config.KEY`` and ``--noconfig.KEY``.

    Raises:
      UserError: the file is missing or fails, or a key, a value or the argument does
        not fit.
    """
    name, argument = split_argument(os.fspath(path))
    file = _find(Path(name)).resolve()
    if ":" in str(file):  # ml_collections would take the rest for the argument
        raise UserError(f"{file}: a config's path must have no colon; move the file")
    call = f"{file}:{argument}" if argument is not None else str(file)
    argv = ["rad-jax", f"--config={call}", *overrides]
    values = flags.FlagValues()
    config_flags.DEFINE_config_file(
        "config", flag_values=values, sys_argv=argv, lock_config=True
    )
    try:
        with _importable(file.parent.parent):
            values(argv)  # executes the file
            config = values["config"].value
    except Exception as error:  # whatever the file's own code raises
        raise UserError(f"{file.name}: {_reason(error, file.name)}") from error
    if not isinstance(config, ml_collections.ConfigDict):
        raise UserError(f"{file.name}: get_config() must return a ConfigDict")
    return from_dict(config.to_dict())


def _reason(error: Exception, name: str) -> str:
    """Why a config file cannot be used."""
    text = _one_line(error)
    # ml_collections gives the traceback; one place in it is its own call.
    if text.count('File "') == 1:
        if "get_config() takes 0 positional arguments" in text:
            return f"get_config() takes no argument; give {name} without :ARGUMENT"
        if "get_config() missing 1 required positional argument" in text:
            return f"get_config() needs an argument; give {name}:ARGUMENT"
    return text


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Lets a config file import its neighbours as ``configs.base``."""
    # First: some installed package may be called configs as well.
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _find(path: Path) -> Path:
    """The path as given, or that of a config that comes with the package."""
    package = Path(__file__).parents[1]  # configs/ is in it when installed, or beside
    for folder in (Path(), package, package.parent):
        if (folder / path).is_file():
            return folder / path
    raise UserError(f"{path}: no such config file; give one such as configs/digits.py")


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error.args[0] if error.args else error).split())
    return text.replace("\\n", " ")
