"""What the verbs share: the parser, types of arguments, flags of several verbs."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from rad_jax.errors import UserError
from rad_jax.files.hub_address import is_hub, parse
from rad_jax.files.paths import local_path, split_argument
from rad_jax.inference.file_options import FileOptions

OVERRIDE = re.compile(r"--(no)?config\.\w")
"""How the flag of a key of a config begins; ``no`` is for one that is to be False."""


MODEL_HELP = "folder of a model, or hf://owner/name@revision"


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Names the default of every flag that has one, and breaks no lines of a table."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text, default = action.help or "", action.default
        if default is None or default is False or default in ("", argparse.SUPPRESS):
            return text
        return f"{text} (default: %(default)s)"


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong, where argparse would print all flags."""

    def error(self, message: str) -> NoReturn:
        """Exits."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def count(text: str) -> int:
    """A positive integer."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a count; give 1 or more")
    return int(text)


def times(text: str) -> tuple[int, ...]:
    """Numbers between commas."""
    return tuple(map(count, text.split(",")))


def path(text: str) -> Path:
    """A file or folder of this machine."""
    try:
        return local_path(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def folder(text: str, schemes: Sequence[str] = ("gs",)):
    """A folder, which may lie in a bucket: `bucket.AnyPath`, imported if needed."""
    if "://" not in text:
        return path(text)
    from rad_jax.files.bucket import folder_at

    try:
        return folder_at(text, schemes)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def model_place(text: str):
    """A folder of a model, or an address of the Hub, which is fetched when it is read.

    Returns:
      A `bucket.AnyPath`, or the address as a string.
    """
    if not is_hub(text):
        return folder(text)
    try:
        return str(parse(text))
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def config_file(text: str) -> str:
    """A config file, or ``FILE:ARGUMENT`` for its ``get_config``."""
    name, argument = split_argument(text)
    return str(path(name)) if argument is None else f"{path(name)}:{argument}"


def names(text: str) -> list[str]:
    """Names between commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def set_up_jax(devices: int = 0) -> None:
    """Makes the CPU's cores devices, before JAX is used, and keeps compiled programs.

    Args:
      devices: of these as many as divide it; 0 for all.
    """
    from rad_jax.runtime.compilation_cache import enable_compilation_cache
    from rad_jax.runtime.sharding import use_cpu_cores

    use_cpu_cores(devices)
    enable_compilation_cache()


def add_model_flags(sub: Parser) -> None:
    """Which model, how it is computed, and with what noise."""
    sub.add_argument("--model", type=model_place, required=True, help=MODEL_HELP)
    sub.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        help="what it computes in; by default as it was trained",
    )
    sub.add_argument("--seed", type=int, default=FileOptions.seed, help="of the noise")
    sub.add_argument(
        "--batch_size",
        type=count,
        default=FileOptions.batch_size,
        help="images at once, at most: fewer where the memory is too little",
    )


def add_data_flags(sub: Parser, *, required: bool = True) -> None:
    """Which images."""
    sub.add_argument(
        "--data", required=required, help="name of a prepared data set, or: folder"
    )
    sub.add_argument(
        "--data_dir", type=path, default=Path("data"), help="of data sets, or of images"
    )


def add_weights_flag(sub: Parser) -> None:
    """Where the metrics' networks lie."""
    sub.add_argument(
        "--weights",
        type=path,
        help="folder with the files of LPIPS' and FID's networks",
    )


def add_any_coverage_flag(sub: Parser) -> None:
    """Which strokes are kept."""
    sub.add_argument(
        "--any_coverage",
        action="store_true",
        help="keep strokes that cover more than half, which LaMa drops and the "
        "authors' generator keeps",
    )


def add_overrides(sub: Parser) -> None:
    """Those of a config."""
    sub.set_defaults(overrides=[])
    sub.epilog = (
        "--config.KEY=VALUE or --config.KEY VALUE changes a key of the config, e.g. "
        "train.batch_size."
    )


def with_values(argv: Sequence[str]) -> list[str]:
    """Writes ``--config.KEY VALUE`` as ``--config.KEY=VALUE``, which is one argument.

    A flag stays alone if another one or nothing follows it.
    """
    joined: list[str] = []
    for text in argv:
        last = joined[-1] if joined else ""
        key = last.startswith("--config.") and "=" not in last
        # A number may be negative; anything else with a dash is the next flag.
        if key and re.match(r"[^-]|-[\d.]|$", text):
            joined[-1] = f"{last}={text}"
        else:
            joined.append(text)
    return joined
