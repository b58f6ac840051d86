"""The losses of `DistilConfig.kind`, each of a batch (docs/fewsteps.md)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from rad_jax.config.experiment import Experiment
from rad_jax.diffusion import gaussian
from rad_jax.diffusion.reverse import at_arrival
from rad_jax.diffusion.sampling import Carry, advance, grid_steps, time_grid
from rad_jax.diffusion.schedule import Step, make_schedule, unit_steps
from rad_jax.train.distances import Distance, Distances, make_distance, pixels
from rad_jax.train.distil_task import Holes, Task
from rad_jax.typing import Images, LogLevels, PRNGKeys

HUBER = 0.02
"""Where `pseudo_huber` turns from a square into a distance, in pixel values."""

CHOICES = 2**31 - 1
"""Folded into a key for choices: no number of `Holes.noise`."""

BatchLoss = Callable[[Task, Holes], Distances]
"""The loss of each image."""


def make_batch_loss(experiment: Experiment) -> BatchLoss:
    """That of `DistilConfig.kind`.

    Raises:
      UserError: the files of its features are not there.
    """
    kinds: dict[str, Callable[[Experiment], BatchLoss]] = {
        "trajectory": trajectory_loss,
        "consistency": consistency_loss,
        "energy": energy_loss,
    }
    return kinds[experiment.distil.kind](experiment)


def pseudo_huber(distance: Distances) -> Distances:
    """A square below `HUBER`, a distance above it (Song & Dhariwal 2023, sec. 3.3)."""
    return jnp.sqrt(jnp.square(distance) + HUBER**2) - HUBER


def energy_score(
    distance: Distance, a: Images, b: Images, truth: Images, hole: LogLevels
) -> Distances:
    """The energy score by two independent samples (Gneiting & Raftery 2007, sec. 4.3).

    Its mean is least where the samples are distributed as the truth is.
    """
    to_truth = (distance(a, truth, hole) + distance(b, truth, hole)) / 2
    return to_truth - distance(a, b, hole) / 2


def trajectory_loss(experiment: Experiment) -> BatchLoss:
    """The ends of the teacher's deterministic paths, from any point of them."""
    config, stack = experiment.distil, _teacher_steps(experiment)
    first = jax.tree.map(lambda x: x[0], stack)

    def loss(task: Task, holes: Holes) -> Distances:
        # 1. Whole paths of some images, of which nothing is differentiated.
        holes = jax.tree.map(lambda x: x[:: config.points], holes)
        teacher = task.teacher(holes)

        def onwards(carry: Carry, step: Step):
            one = jax.tree.map(lambda x: x[None], step)
            after = advance(
                teacher, task.teacher_sampler, one, carry, holes.weight, holes.keys
            )
            return after, carry.x

        x = holes.begun(first)
        end, paths = jax.lax.scan(onwards, Carry(x, jnp.zeros_like(x)), stack)
        end, paths = jax.lax.stop_gradient((end.x, paths))
        # 2. The student at some points of each.
        several = holes.samples(config.points)
        chosen = _choices(several.keys, config.teacher_steps, config.start_share)
        path = jnp.repeat(jnp.arange(len(x)), config.points)
        step = jax.tree.map(lambda x: x[chosen], stack)
        found = task.predict(paths[chosen, path], step, several)
        losses = pseudo_huber(pixels(found, end[path], several.inside))
        return losses.reshape(-1, config.points).mean(1)

    return loss


def consistency_loss(experiment: Experiment) -> BatchLoss:
    """What the student itself says a step of the teacher later (Song et al. 2023).

    Its own parameters are the target's, not differentiated (Song & Dhariwal 2023,
    sec. 3.2); the teacher's step is DDIM's.
    """
    config, stack = experiment.distil, _teacher_steps(experiment)

    def loss(task: Task, holes: Holes) -> Distances:
        chosen = _choices(holes.keys, config.teacher_steps, config.start_share)
        step = jax.tree.map(lambda x: x[chosen], stack)
        x_t = holes.noised(holes.images, step, holes.noise(0))
        x0 = task.teach(x_t, step, holes)
        levels = jax.vmap(gaussian.pixel_levels)(step, holes.weight)
        ddim = jax.vmap(gaussian.ddim_step, in_axes=(0, 0, 0, None, 0))
        x_s = ddim(x_t, x0, levels, 0.0, x_t)  # its noise is not used
        target = task.predict(jax.lax.stop_gradient(x_s), at_arrival(step), holes)
        found = task.predict(x_t, step, holes)
        apart = pixels(found, jax.lax.stop_gradient(target), holes.inside)
        return pseudo_huber(apart)

    return loss


def energy_loss(experiment: Experiment) -> BatchLoss:
    """The energy score of two samples against the real image.

    They are of one evaluation, or of a second one after that, at a later time. The
    first has no gradient then: each alone is to sample the truth, from whatever the one
    before has given.
    """
    config = experiment.distil
    distance, times, share = make_distance(config), config.times, config.start_share
    table = unit_steps(make_schedule(experiment.schedule))
    first = jax.tree.map(lambda x: x[times[0] - 1], table)

    def draw(key) -> tuple[Any, Any]:
        share_key, time_key = jax.random.split(jax.random.fold_in(key, CHOICES))
        again = jax.random.uniform(share_key) >= share
        return again, jax.random.choice(time_key, jnp.array(times[1:]))

    def loss(task: Task, holes: Holes) -> Distances:
        # 1. Two samples of each image, from noise.
        pairs = holes.samples(2)
        x, count = pairs.begun(first), len(pairs.images)
        step = jax.tree.map(lambda x: jnp.repeat(x[None], count, axis=0), first)
        if len(times) > 1 and share < 1:
            # 2. Some of them from what that gives, noised again: both of a pair, to the
            # same time.
            drawn = jax.vmap(draw)(holes.keys)
            again, time = (jnp.repeat(each, 2) for each in drawn)
            x0 = task.predict(x, step, pairs, clip=True)
            later = jax.tree.map(lambda x: x[time - 1], table)
            x_t = pairs.noised(jax.lax.stop_gradient(x0), later, pairs.noise(1))
            x, step = jax.tree.map(
                lambda b, a: _where(again, b, a), (x_t, later), (x, step)
            )
        # 3. Their score.
        found = task.predict(x, step, pairs).reshape(-1, 2, *x.shape[1:])
        a, b = found[:, 0], found[:, 1]
        return energy_score(distance, a, b, holes.images, holes.inside)

    return loss


def _teacher_steps(experiment: Experiment) -> Step:
    """From T1 to the image, denser near it."""
    schedule = make_schedule(experiment.schedule)
    grid = time_grid(schedule, experiment.distil.teacher_steps, "quadratic")
    return jax.tree.map(jnp.asarray, grid_steps(schedule, grid))


def _choices(keys: PRNGKeys, count: int, start_share: float) -> Int[Array, " b"]:
    """One of so many steps for each image: the first by its share, the others alike."""

    def draw(key):
        share_key, step_key = jax.random.split(jax.random.fold_in(key, CHOICES))
        later = jax.random.uniform(share_key) >= start_share
        step = jax.random.randint(step_key, (), 1, max(count, 2))
        return jnp.where(later & (count > 1), step, 0)

    return jax.vmap(draw)(keys)


def _where(condition: Array, a: Array, b: Array) -> Array:
    """A choice for each image."""
    return jnp.where(condition.reshape(-1, *[1] * (a.ndim - 1)), a, b)
