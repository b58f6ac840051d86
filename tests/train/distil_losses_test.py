"""Losses of few evaluations, by students and teachers whose answers are known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.core import Tracer

from rad_jax.diffusion.options import SamplerConfig
from rad_jax.train.distil_losses import HUBER, make_batch_loss, pseudo_huber
from rad_jax.train.distil_task import Holes, Task

SIZE = 8
X0 = SamplerConfig("dpm++", parametrisation="x0")


@pytest.fixture
def experiment(tiny_experiment):
    """``experiment(kind, ...)``: with the losses of a kind."""

    def of(kind, *changes):
        student = ("loss.parametrisation=v", "loss.vlb_weight=0.0")
        taught = ("distil.teacher=teacher",)
        return tiny_experiment(f"distil.kind={kind}", *student, *taught, *changes)

    return of


def says(value):
    """A network that predicts this of every pixel."""
    return lambda holes: lambda x, step: jnp.full_like(x, value)


def make_holes(key, count=8, spread=1.0):
    image_key, key = jax.random.split(key)
    images = spread * jax.random.normal(image_key, (count, SIZE, SIZE, 1))
    weight = jnp.zeros((count, SIZE, SIZE, 1)).at[:, 2:, 3:].set(1.0)
    return Holes(images, weight, jax.random.split(key, count))


def test_huber_is_a_square_and_then_a_distance():
    np.testing.assert_allclose(pseudo_huber(jnp.float32([0.0]))[0], 0)
    small, large = (pseudo_huber(jnp.float32([x]))[0] for x in (1e-3, 3.0))
    np.testing.assert_allclose(small, 1e-6 / (2 * HUBER), rtol=1e-2)
    np.testing.assert_allclose(large, 3.0 - HUBER, rtol=1e-3)


@pytest.mark.parametrize("kind", ["trajectory", "consistency"])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_student_that_says_what_its_teacher_does_has_no_loss(
    experiment, key, kind, share
):
    """A teacher of one image for all leads every path there."""
    loss = make_batch_loss(experiment(kind, f"distil.start_share={share}"))
    holes = make_holes(key)
    same = loss(Task(says(0.25), says(0.25), X0, X0), holes)
    np.testing.assert_allclose(same, 0, atol=1e-6)
    assert same.shape == ((2,) if kind == "trajectory" else (8,))


def test_student_is_held_against_the_ends_of_paths(experiment, key):
    loss = make_batch_loss(experiment("trajectory"))
    apart = loss(Task(says(0.35), says(0.25), X0, X0), make_holes(key))
    np.testing.assert_allclose(apart, pseudo_huber(jnp.full(2, 0.1)), rtol=1e-4)


def test_last_step_of_consistency_is_the_teachers(experiment, key):
    """There the student's own answer is the image that the teacher gave."""
    loss = make_batch_loss(experiment("consistency", "distil.teacher_steps=1"))
    apart = loss(Task(says(0.35), says(0.25), X0, X0), make_holes(key))
    np.testing.assert_allclose(apart, pseudo_huber(jnp.full(8, 0.1)), rtol=1e-4)


@pytest.mark.parametrize("kind", ["trajectory", "consistency", "energy"])
@pytest.mark.parametrize("sampler", ["v", "eps_as_v", "x0"])
def test_networks_are_asked_at_the_levels_of_their_images(
    experiment, key, kind, sampler
):
    """Known pixels are given as they are, and come back so, whatever is predicted."""
    seen = []
    holes = make_holes(key)

    def network(of):
        def ask(x, step):
            known = of.weight == 0
            seen.append(jnp.where(known, x - of.images, 0.0))
            assert of.weight.shape == x.shape and step.timesteps.shape[-1] == 2
            return x + 3.0

        return ask

    student = SamplerConfig(parametrisation=sampler)
    task = Task(network, network, student, X0)
    losses = make_batch_loss(experiment(kind))(task, holes)
    assert np.all(np.isfinite(losses))
    # Within the scan over a path there are no numbers to look at.
    looked = [x for x in seen if isinstance(x, jax.Array) and not isinstance(x, Tracer)]
    assert looked and not any(np.any(x) for x in looked)
    x = holes.images
    step = jax.tree.map(lambda x: jnp.asarray(x)[None].repeat(8, 0), _step())
    found = task.predict(x, step, holes)
    outside = np.asarray(holes.weight) == 0
    np.testing.assert_array_equal(found[outside], x[outside])


def _step():
    from rad_jax.config.file import load_config
    from rad_jax.diffusion.schedule import make_schedule, steps

    schedule = make_schedule(load_config("configs/digits.py", []).schedule)
    return jax.tree.map(lambda x: x[0], steps(schedule, np.array([600]), np.array([0])))


@pytest.mark.parametrize("times", ["(1000,)", "(1000,160)", "(1000,640,360,160)"])
def test_energy_is_least_for_samples_of_the_truth(experiment, key, times):
    """Pixels of deviation 0.25, and a student that gives a share of its noise.

    At T1 that is a sample of the truth if the share is 0.25; of the second evaluation
    all noise is given too, by a student that adds it to nothing.
    """
    changes = (f"distil.times={times}",)
    loss = jax.jit(
        lambda share, holes: make_batch_loss(experiment("energy", *changes))(
            Task(student(share), says(0.0), X0, X0), holes
        )
    )

    def student(share):
        def network(of):
            def ask(x, step):
                noise = jax.random.normal(of.keys[0], x.shape)
                return share * noise

            return ask

        return network

    holes = make_holes(key, 400, 0.25)
    found = {share: loss(share, holes) for share in (0.15, 0.25, 0.35)}
    for share in (0.15, 0.35):
        difference = np.asarray(found[share] - found[0.25])
        assert difference.mean() > 5 * difference.std() / np.sqrt(400)


def test_second_evaluation_begins_with_the_first_ones_image(experiment, key):
    """Noised to one of the times that it will be asked at."""
    asked = []

    def network(of):
        def ask(x, step):
            asked.append((np.asarray(x), np.asarray(step.time)))
            return jnp.full_like(x, 0.5)

        return ask

    changes = ("distil.start_share=0.0", "distil.times=(1000,400,160)")
    task = Task(network, says(0.0), X0, X0)
    make_batch_loss(experiment("energy", *changes))(task, make_holes(key, 200))
    (first, start), (second, later) = asked
    assert set(start) == {1000} and set(later) == {400, 160}
    assert np.array_equal(later[::2], later[1::2])  # of both samples
    hole = first[:, 2:, 3:]
    np.testing.assert_allclose([hole.mean(), hole.std()], [0, 1], atol=0.03)
    # Half of the first prediction's signal and the noise of these times.
    assert 0.2 < second[:, 2:, 3:].mean() < 0.5
    assert not np.allclose(second[0], second[1])
    # Its noise is new.
    again = second[:, 2:, 3:] - second[:, 2:, 3:].mean((1, 2, 3), keepdims=True)
    assert abs(np.mean(hole * again)) < 0.05
    # A share of one leaves it out.
    asked.clear()
    changes = ("distil.start_share=1.0",)
    make_batch_loss(experiment("energy", *changes))(task, make_holes(key, 4))
    assert len(asked) == 1


def test_share_of_the_start(experiment, key):
    """Points of a path are the start that often; the others are as likely."""
    from rad_jax.train.distil_losses import _choices

    draw = functools.partial(_choices, jax.random.split(key, 4000))
    shares = np.bincount(draw(10, 0.35), minlength=10) / 4000
    np.testing.assert_allclose(shares[0], 0.35, atol=0.03)
    np.testing.assert_allclose(shares[1:], 0.65 / 9, atol=0.02)
    assert not np.any(draw(1, 0.35))
