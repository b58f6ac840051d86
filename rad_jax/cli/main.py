"""``rad-jax VERB``: parses, calls one library function, exits.

Exit codes: 0 done, 1 done but for files that are named, 2 a mistake that one line on
stderr explains, 130 stopped by Ctrl-C, 141 nobody reads the output any more (`| head`).
"""

import argparse
import dataclasses
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import rad_jax
from rad_jax.cli.arguments import (
    Parser,
    add_convert_flags,
    add_evaluate_flags,
    add_inpaint_flags,
    add_masks_flags,
    add_overrides,
    add_preflight_flags,
    add_prepare_flags,
    add_reference_flags,
    add_sample_flags,
    add_train_flags,
    folder,
)
from rad_jax.errors import UserError

# Verbs import what they need when they run: `rad-jax --help` answers at once.


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a verb; returns the exit code."""
    parser = _parser()
    args, rest = parser.parse_known_args(argv)
    unknown = [x for x in rest if not (x.startswith("--config.") and "=" in x)]
    if unknown or (rest and not hasattr(args, "overrides")):
        parser.error(f"unrecognized arguments: {' '.join(unknown or rest)}")
    args.overrides = rest
    try:
        code = args.run(args)
        sys.stdout.flush()
        return code
    except UserError as error:
        if args.debug:
            traceback.print_exc()
        print(f"rad-jax: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("rad-jax: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # What is left to print has nowhere to go, when Python exits too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _demo(args: argparse.Namespace) -> int:
    from rad_jax.demo import demo
    from rad_jax.runtime.compilation_cache import enable_compilation_cache
    from rad_jax.runtime.sharding import use_cpu_cores

    use_cpu_cores()
    enable_compilation_cache()
    return demo(args.output, args.overrides)


def _prepare(args: argparse.Namespace) -> int:
    from rad_jax.prepare.command import prepare

    prepare(
        args.name,
        args.data_dir,
        args.source,
        size=args.size,
        num_workers=args.num_workers,
        num_train=args.num_train,
        labels=args.labels,
    )
    return 0


def _train(args: argparse.Namespace) -> int:
    from rad_jax.config import load_config
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
    use_cpu_cores(experiment.train.batch_size // experiment.train.microbatches)
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
            "the same command goes on from there"
        )
    if finished:
        return 0
    return 130 if stop.signal == signal.SIGINT else distributed.stopped_exit_code()


def _preflight(args: argparse.Namespace) -> int:
    from rad_jax.config import load_config
    from rad_jax.runtime import distributed
    from rad_jax.runtime.sharding import use_cpu_cores

    experiment = load_config(args.config, args.overrides) if args.config else None
    settings = experiment and experiment.train
    use_cpu_cores(settings.batch_size // settings.microbatches if settings else 0)
    with distributed.joined():
        from rad_jax.train.preflight import preflight

        preflight(experiment, args.workdir)
    return 0


def _inpaint(args: argparse.Namespace) -> int:
    from rad_jax.checkpoints.load import load
    from rad_jax.inference.inpaint import fill_files
    from rad_jax.runtime.compilation_cache import enable_compilation_cache
    from rad_jax.runtime.sharding import use_cpu_cores

    use_cpu_cores()
    enable_compilation_cache()
    return fill_files(
        load(args.model, dtype=args.dtype),
        args.image,
        args.mask,
        args.output,
        steps=args.steps,
        sampler=args.sampler,
        num_samples=args.num_samples,
        seed=args.seed,
        batch_size=args.batch_size,
        invert_mask=args.invert_mask,
        label=args.label,
        grid=args.grid,
    )


def _evaluate(args: argparse.Namespace) -> int:
    from rad_jax.runtime import distributed
    from rad_jax.runtime.compilation_cache import enable_compilation_cache
    from rad_jax.runtime.sharding import use_cpu_cores

    use_cpu_cores()
    with distributed.joined():
        from rad_jax.checkpoints.load import load
        from rad_jax.evaluate.evaluate import Evaluation, evaluate, report_lines

        enable_compilation_cache()
        held_out = "test" if args.data in ("digits", "photos") else "validation"
        settings = Evaluation(
            data=args.data,
            data_dir=args.data_dir,
            split=args.split or held_out,
            masks=args.masks,
            num_images=args.num_images,
            metrics=args.metrics,
            weights=args.weights,
            reference=args.reference,
            batch_size=args.batch_size,
        )
        record = evaluate(
            load(args.model, dtype=args.dtype, noise_embedding=args.noise_embedding),
            settings,
            args.output,
            name=args.name,
            seed=args.seed,
            method=args.method,
            steps=args.steps,
            sampler=args.sampler,
            grid=args.grid,
            num_samples=args.num_samples,
            max_coverage=None if args.any_coverage else 0.5,
        )
        if distributed.is_main():
            print(report_lines(record, args.output))
    return 0


def _report(args: argparse.Namespace) -> int:
    from rad_jax.evaluate.report import report

    written = report(args.results, args.output)
    print((args.output / "report.md").read_text())
    print("\n".join(str(path) for path in written))
    return 0


def _reference(args: argparse.Namespace) -> int:
    from rad_jax.evaluate.reference import make_reference
    from rad_jax.runtime.compilation_cache import enable_compilation_cache
    from rad_jax.runtime.sharding import use_cpu_cores

    use_cpu_cores()
    enable_compilation_cache()
    found = make_reference(
        args.output,
        args.data,
        args.data_dir,
        args.split or ("train+validation" if args.data == "folder" else "train"),
        image_size=args.image_size,
        num_images=args.num_images,
        weights=args.weights,
    )
    print(f"{args.output}: statistics of {found.count} images")
    return 0


def _sample(args: argparse.Namespace) -> int:
    from rad_jax.checkpoints.load import load
    from rad_jax.inference.sample_files import sample_files
    from rad_jax.runtime.compilation_cache import enable_compilation_cache
    from rad_jax.runtime.sharding import use_cpu_cores

    use_cpu_cores()
    enable_compilation_cache()
    sample_files(
        load(args.model, dtype=args.dtype),
        args.output,
        num_samples=args.num_samples,
        respacing=args.respacing,
        sampler=args.sampler,
        eta=args.eta,
        classes=args.classes,
        low_res=args.low_res,
        seed=args.seed,
        batch_size=args.batch_size,
        overwrite=args.overwrite,
    )
    return 0


def _convert(args: argparse.Namespace) -> int:
    from rad_jax.convert.command import convert
    from rad_jax.convert.presets import Choices

    names = [field.name for field in dataclasses.fields(Choices)]
    convert(
        args.input,
        args.output,
        preset=args.preset,
        choices=Choices(**{name: getattr(args, name) for name in names}),
        to=args.to,
        base=args.base,
        overwrite=args.overwrite,
    )
    return 0


def _masks(args: argparse.Namespace) -> int:
    from rad_jax.evaluate.mask_files import write_masks

    write_masks(
        args.kind,
        args.size,
        args.count,
        args.seed,
        args.output,
        max_coverage=None if args.any_coverage else 0.5,
    )
    return 0


def _info(args: argparse.Namespace) -> int:
    from rad_jax.checkpoints.describe import describe
    from rad_jax.runtime.machine import machine

    print(machine() if args.folder is None else describe(args.folder))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="rad-jax", description=rad_jax.__doc__, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=rad_jax.__version__)
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    def verb(name: str, run, text: str) -> Parser:
        sub = verbs.add_parser(name, help=text, description=text, allow_abbrev=False)
        sub.add_argument("--debug", action="store_true", help="show the traceback")
        sub.set_defaults(run=run)
        return sub

    sub = verb("demo", _demo, "Prepare digits, train, inpaint held-out ones, measure.")
    sub.add_argument("--output", type=Path, default=Path("demo"), help="folder")
    add_overrides(sub)

    add_prepare_flags(
        verb("prepare", _prepare, "Write a data set as TFDS ArrayRecord files.")
    )

    add_train_flags(verb("train", _train, "Train a model; the same command resumes."))

    add_preflight_flags(
        verb("preflight", _preflight, "Check devices, data and workdir of a run.")
    )

    add_inpaint_flags(
        verb("inpaint", _inpaint, "Fill the holes of an image or a folder of images.")
    )

    add_evaluate_flags(
        verb("evaluate", _evaluate, "Fill held-out images, and score the fillings.")
    )

    add_reference_flags(
        verb("reference", _reference, "Make the statistics that FID is measured by.")
    )

    sub = verb("report", _report, "Make tables and plots of results of evaluate.")
    sub.add_argument("results", type=Path, nargs="+", help="files, or folders of them")
    sub.add_argument("--output", type=Path, required=True, help="folder")

    add_sample_flags(
        verb("sample", _sample, "Draw whole images from a model, e.g. a converted one.")
    )

    add_convert_flags(
        verb("convert", _convert, "Make a model folder of an ADM checkpoint, and back.")
    )

    add_masks_flags(
        verb("masks", _masks, "Draw a set of masks, seeded, and its statistics.")
    )

    sub = verb("info", _info, "Say what a model is, or what this machine has.")
    sub.add_argument("folder", type=folder, nargs="?", help="folder of a model")
    return parser


if __name__ == "__main__":
    sys.exit(main())
