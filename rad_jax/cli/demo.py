"""``rad-jax demo``."""

import argparse
from pathlib import Path

from rad_jax.cli.arguments import Parser, add_overrides, path, set_up_jax

HELP = "Prepare digits, train, inpaint held-out ones, measure."


def add_flags(sub: Parser) -> None:
    """Adds the verb's flags."""
    sub.add_argument("--output", type=path, default=Path("demo"), help="folder")
    add_overrides(sub)


def run(args: argparse.Namespace) -> int:
    """Runs the verb; returns the exit code."""
    set_up_jax()
    from rad_jax.evaluate.demo import demo

    return demo(args.output, args.overrides)
