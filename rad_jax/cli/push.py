"""``rad-jax push``."""

import argparse

from rad_jax.cli.arguments import MODEL_HELP, Parser, model_place, path

HELP = "Upload a model to the Hugging Face Hub, with a card."


def add_flags(sub: Parser) -> None:
    """Adds the verb's flags."""
    sub.add_argument("--model", type=model_place, required=True, help=MODEL_HELP)
    sub.add_argument(
        "--repo", required=True, metavar="OWNER/NAME", help="made if there is none"
    )
    sub.add_argument(
        "--license",
        required=True,
        help="of the weights, as the Hub calls it: apache-2.0, cc-by-nc-4.0, other",
    )
    sub.add_argument(
        "--evaluations",
        type=path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="results of evaluate of this model, for the card",
    )
    sub.add_argument(
        "--private",
        action="store_true",
        help="make a repository that others cannot see",
    )
    sub.add_argument("--revision", help="branch; by default the main one")
    sub.add_argument(
        "--output",
        type=path,
        help="new folder: write there what would be uploaded, and upload nothing",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the verb; returns the exit code."""
    from rad_jax.sharing.push import push

    push(
        args.model,
        args.repo,
        license=args.license,
        evaluations=args.evaluations,
        private=args.private,
        revision=args.revision,
        output=args.output,
    )
    return 0
