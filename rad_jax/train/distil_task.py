"""What the losses of `distil_losses` have in common: holes, a student, a teacher."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rad_jax.diffusion import gaussian
from rad_jax.diffusion.options import SamplerConfig
from rad_jax.diffusion.reverse import clean_image
from rad_jax.diffusion.sampling import Denoiser, image_noise, initial_image
from rad_jax.diffusion.schedule import Step, levels_at
from rad_jax.typing import Images, LogLevels, Outputs, PRNGKeys


class Holes(NamedTuple):
    """A batch of images and what is to be filled in them.

    Attributes:
      images: whole.
      weight: hole weights, (b, h, w, 1).
      keys: of each image's noise.
    """

    images: Images
    weight: LogLevels
    keys: PRNGKeys

    @property
    def inside(self) -> LogLevels:
        """1 where there is any noise, else 0."""
        return (self.weight > 0).astype(jnp.float32)

    def samples(self, count: int) -> "Holes":
        """Each so many times, one after the other, with keys of their own."""
        keys = jax.vmap(functools.partial(jax.random.split, num=count))(self.keys)
        images, weight = (
            jnp.repeat(x, count, axis=0) for x in (self.images, self.weight)
        )
        return Holes(images, weight, keys.reshape(-1))

    def noise(self, number: int) -> Images:
        """Of each image; another for every number."""
        return image_noise(self.keys, number, self.images.shape[1:])

    def begun(self, step: Step) -> Images:
        """Where the sampler starts; a hole's own content is not in it."""
        begin = jax.vmap(initial_image, (0, 0, None, 0))
        return begin(self.images, self.weight, step.t, self.noise(0))

    def noised(self, x0: Images, step: Step, noise: Images) -> Images:
        """Images at a step for each."""
        levels = levels_at(step, self.weight)
        return jax.vmap(gaussian.forward_marginal)(x0, levels, noise)


Network = Callable[[Holes], Denoiser]
"""A network, conditioned on holes."""


class Task(NamedTuple):
    """A student and its teacher.

    Attributes:
      student: what is trained.
      teacher: what is not.
      student_sampler: says what the student predicts.
      teacher_sampler: the same of the teacher, and how it takes its steps.
    """

    student: Network
    teacher: Network
    student_sampler: SamplerConfig
    teacher_sampler: SamplerConfig

    def predict(
        self, x: Images, step: Step, holes: Holes, *, clip: bool = False
    ) -> Images:
        """The student's clean images of noisy ones, a step for each."""
        output = self.student(holes)(x, step)
        config = dataclasses.replace(self.student_sampler, clip=clip)
        return _clean(config, output, x, step, holes)

    def teach(self, x: Images, step: Step, holes: Holes) -> Images:
        """The teacher's, clipped as it is sampled from."""
        output = self.teacher(holes)(x, step)
        return _clean(self.teacher_sampler, output, x, step, holes)


def _clean(
    config: SamplerConfig, output: Outputs, x: Images, step: Step, holes: Holes
) -> Images:
    of_one = functools.partial(clean_image, config)
    return jax.vmap(of_one)(levels_at(step, holes.weight), x, output)
