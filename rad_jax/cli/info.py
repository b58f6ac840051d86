"""``rad-jax info``."""

import argparse

from rad_jax.cli.arguments import Parser, folder

HELP = "Print what a model is, or what this machine has."


def add_flags(sub: Parser) -> None:
    """Adds the verb's flags."""
    sub.add_argument("folder", type=folder, nargs="?", help="folder of a model")


def run(args: argparse.Namespace) -> int:
    """Runs the verb; returns the exit code."""
    from rad_jax.checkpoints.describe import describe
    from rad_jax.runtime.machine import machine

    print(machine() if args.folder is None else describe(args.folder))
    return 0
