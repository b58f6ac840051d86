"""``rad-jax info``."""

import argparse

from rad_jax.cli.arguments import MODEL_HELP, Parser, model_place
from rad_jax.errors import UserError

HELP = "Print what a model is, or what this machine has."


def add_flags(sub: Parser) -> None:
    """Adds the verb's flags."""
    sub.add_argument("folder", type=model_place, nargs="?", help=MODEL_HELP)
    sub.add_argument(
        "--card",
        action="store_true",
        help="print the model card alone, and a draft of it where there is none",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the verb; returns the exit code."""
    from rad_jax.checkpoints.describe import describe
    from rad_jax.checkpoints.hub import pinned
    from rad_jax.runtime.machine import machine
    from rad_jax.sharing.stage import card_of, stored_card

    if args.folder is None:
        if args.card:
            raise UserError("--card is of a model; give its folder")
        print(machine())
        return 0
    place = pinned(args.folder)
    if args.card:
        print(card_of(place), end="")
        return 0
    print(describe(place))
    if (stored := stored_card(place)) is not None:
        print(f"\n{stored}", end="")
    return 0
