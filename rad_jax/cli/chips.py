"""``--dry_run --topology``: the flags of verbs that compile for chips not here."""

import argparse

from rad_jax.chips.slices import Slice
from rad_jax.cli.arguments import Parser
from rad_jax.errors import UserError


def add_dry_run_flags(sub: Parser) -> None:
    """Those of verbs that fill holes."""
    sub.add_argument(
        "--dry_run",
        action="store_true",
        help="with --topology: compile, print what the program needs, fill nothing; no "
        "pictures, output or weights are needed, of the model only model.json",
    )
    add_topology_flag(sub, "the program needs of them")


def add_topology_flag(sub: Parser, what: str) -> None:
    """Which chips; ``what`` is printed."""
    sub.add_argument(
        "--topology",
        metavar="CHIPS",
        help="with --dry_run: compile for chips that need not be here, like v5e-256, "
        f"v5e:4x4, v4-32, 2xv5e-16 or h100x8, and print what {what}",
    )


def chips_of(args: argparse.Namespace, nothing: str) -> Slice | None:
    """What to compile for, None where nothing is said; before JAX is imported.

    Args:
      args: of a verb with both flags.
      nothing: what is not done, such as "trains nothing".

    Raises:
      UserError: there is no such slice, or it is no dry run.
    """
    if args.topology is None:
        return None
    if not args.dry_run:
        raise UserError(f"--topology compiles and {nothing}; add --dry_run")
    from rad_jax.chips.host import set_up
    from rad_jax.chips.slices import find_slice

    set_up()
    return find_slice(args.topology)


def chips_to_fill_on(args: argparse.Namespace, *needed: str) -> Slice | None:
    """`chips_of` a verb that fills holes, where else it needs these flags.

    Raises:
      UserError: as `chips_of`; or a dry run says not where; or flags are missing.
    """
    where = chips_of(args, "fills nothing")
    if where is None and args.dry_run:
        raise UserError("--dry_run needs --topology, the chips, such as h100 or v5e-1")
    missing = [f"--{name}" for name in needed if getattr(args, name) is None]
    if where is None and missing:
        raise UserError(
            f"{', '.join(missing)}: needed, but with --dry_run --topology CHIPS"
        )
    return where
