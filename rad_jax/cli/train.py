"""``rad-jax train``."""

import argparse
import signal

from rad_jax.cli.arguments import Parser, add_overrides, config_file, folder
from rad_jax.cli.chips import add_topology_flag, chips_of
from rad_jax.errors import UserError

HELP = "Train a model; rerun the same command to resume."


def add_flags(sub: Parser) -> None:
    """Adds the verb's flags."""
    sub.add_argument(
        "--config",
        type=config_file,
        required=True,
        help="e.g. configs/digits.py, or FILE:ARGUMENT",
    )
    sub.add_argument("--workdir", type=folder, help="folder of the run; also gs://...")
    sub.add_argument(
        "--dry_run",
        action="store_true",
        help="print what a run needs on 1, 8 and 64 devices; train nothing",
    )
    add_topology_flag(sub, "a step needs of them")
    sub.add_argument(
        "--profile", action="store_true", help="trace a few steps, for XProf"
    )
    add_overrides(sub)


def run(args: argparse.Namespace) -> int:
    """Runs the verb; returns the exit code."""
    where = chips_of(args, "trains nothing")
    from rad_jax.config.file import load_config

    if where is not None:
        from rad_jax.train.for_chips import report

        print(report(load_config(args.config, args.overrides), where))
        return 0
    from rad_jax.runtime import distributed
    from rad_jax.runtime.compilation_cache import enable_compilation_cache
    from rad_jax.runtime.sharding import use_cpu_cores
    from rad_jax.train.stop import stop_on_signals

    experiment = load_config(args.config, args.overrides)
    if args.dry_run:
        from rad_jax.train.plan import dry_run

        print(dry_run(experiment))
        return 0
    if args.workdir is None:
        raise UserError("train needs --workdir, the folder of the run (or --dry_run)")
    use_cpu_cores(experiment.train.images_per_pass)
    with distributed.joined(), stop_on_signals() as stop:
        from rad_jax.train.loop import train

        enable_compilation_cache()
        state = train(experiment, args.workdir, stop, profile=args.profile)
        step, main = int(state.step), distributed.is_main()
    finished = step >= experiment.train.num_steps
    if main:
        print(
            f"rad-jax: trained {step} steps; the model is {args.workdir}"
            if finished
            else f"rad-jax: stopped at step {step}, checkpoint written; "
            "rerun the same command to resume"
        )
    if finished:
        return 0
    return 130 if stop.signal == signal.SIGINT else distributed.stopped_exit_code()
