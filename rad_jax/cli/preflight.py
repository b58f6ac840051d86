"""``rad-jax preflight``."""

import argparse

from rad_jax.cli.arguments import Parser, add_overrides, config_file, folder

HELP = "Check devices, data and workdir of a run."


def add_flags(sub: Parser) -> None:
    """Adds the verb's flags."""
    sub.add_argument(
        "--config", type=config_file, help="of the run; checks its data, too"
    )
    sub.add_argument("--workdir", type=folder, help="checks that it can be written")
    add_overrides(sub)


def run(args: argparse.Namespace) -> int:
    """Runs the verb; returns the exit code."""
    from rad_jax.config.file import load_config
    from rad_jax.runtime import distributed
    from rad_jax.runtime.sharding import use_cpu_cores

    experiment = load_config(args.config, args.overrides) if args.config else None
    use_cpu_cores(experiment.train.images_per_pass if experiment else 0)
    with distributed.joined():
        from rad_jax.train.preflight import preflight

        preflight(experiment, args.workdir)
    return 0
