"""The training program compiled for a slice that this machine does not have."""

from rad_jax.chips.compiled import Needs, TooLarge, compile_for
from rad_jax.chips.report import lines
from rad_jax.chips.slices import Slice
from rad_jax.config.experiment import Experiment
from rad_jax.errors import UserError
from rad_jax.runtime.sharding import abstract_mesh, make_mesh
from rad_jax.train.fitting import what_fits
from rad_jax.train.plan import step_flops, step_shapes
from rad_jax.train.step import check_batch, make_train_step


def check_division(experiment: Experiment, where: Slice) -> None:
    """Refuses a slice whose devices cannot share the batch or the parameters.

    Raises:
      UserError: naming both numbers.
    """
    abstract_mesh(where.devices, experiment.train.fsdp)
    check_batch(experiment, where.devices)


def compile_step(experiment: Experiment, where: Slice) -> tuple[str, Needs]:
    """Compiles a step, which is what a run repeats.

    Returns:
      The program's text, and what it needs of each device.

    Raises:
      UserError: the devices cannot share a step, or it is too large for them.
    """
    check_division(experiment, where)

    def build(devices):
        mesh = make_mesh(experiment.train.fsdp, devices)
        return make_train_step(experiment, mesh), step_shapes(experiment, mesh)

    try:
        compiled, needs = compile_for(where, build)
    except TooLarge as error:
        there = error.there or where.chip.memory / where.chip.devices
        fits = what_fits(experiment, where.devices, error.need, there)
        raise UserError(f"{error}; {fits}") from error
    return compiled.as_text() or "", needs


def report(experiment: Experiment, where: Slice) -> str:
    """What a step needs of each device, in lines; it compiles, for minutes."""
    settings, devices = experiment.train, where.devices
    _, needs = compile_step(experiment, where)
    mesh = abstract_mesh(devices, settings.fsdp)
    flops = step_flops(experiment, mesh) / devices
    parts = f" in {settings.microbatches} parts" if settings.microbatches > 1 else ""
    several = "s" if devices > 1 else ""
    head = (
        f"a training step of {settings.batch_size} images{parts} on {where.name}: "
        f"{devices} device{several} (data {mesh.shape['data']}, fsdp "
        f"{mesh.shape['fsdp']}), compiled in {needs.seconds:.0f} s"
    )
    below = "of each device, by the compiler's counts; nothing ran on such a chip:"
    return "\n".join([head, below, *lines(where, needs, flops, experiment.model.dtype)])
