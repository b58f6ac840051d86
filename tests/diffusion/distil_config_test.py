"""What students can be taught by, and what they predict."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.config.experiment import from_dict, to_dict
from rad_jax.config.file import load_config
from rad_jax.diffusion import gaussian
from rad_jax.errors import UserError

STUDENT = ("distil.kind=trajectory", "distil.teacher=t", "loss.vlb_weight=0.0")


def config(*changes):
    return load_config("configs/digits.py", [f"--config.{x}" for x in changes])


@pytest.mark.parametrize(
    "changes, message",
    [
        (("distil.kind=fast",), "distil.kind is 'fast'; use one of trajectory, con"),
        (("distil.features=vgg",), "distil.features is 'vgg'; use one of pixels, "),
        (("distil.times=(1000,160,640)",), "distil.times are 1000, 160, 640; they "),
        (("distil.times=()",), "distil.times are ; they must fall, and end above 0"),
        (("distil.start_share=1.5",), "distil.start_share is 1.5; it must lie in "),
        (("distil.teacher_steps=0",), "distil.teacher_steps is 0; it must be >= 1"),
        (("distil.points=0",), "distil.points is 0; it must be >= 1"),
        (("distil.energy_steps=-1",), "distil.energy_steps is -1; it must be >= 0"),
        (("distil.energy_learning_rate=0.0",), "distil.energy_learning_rate must be"),
        (("distil.kind=trajectory",), "distil.kind=trajectory learns from a teacher"),
        (("distil.kind=consistency",), "distil.kind=consistency learns from a teac"),
        (("distil.kind=energy",), "distil.kind=energy goes on from a model; set pre"),
        (("distil.energy_steps=5",), "distil.energy_steps is 5, after steps of anot"),
        (("loss.parametrisation=eps_as_v",), "loss.parametrisation=eps_as_v is a st"),
        ((*STUDENT, "loss.parametrisation=eps"), "loss.parametrisation=eps gives no "),
        (
            (*STUDENT, "loss.parametrisation=score"),
            "loss.parametrisation=score gives no clean image where all is noise; for "
            "distil.kind set it to score_as_v",
        ),
        (STUDENT[:2], "loss.vlb_weight is of no use to distil.kind; set it to 0"),
        ((*STUDENT, "distil.times=(640,160)"), "distil.times begin at 640; they mus"),
        ((*STUDENT, "distil.teacher_steps=1001"), "distil.teacher_steps is 1001; it"),
        (
            (*STUDENT, "distil.energy_steps=2000"),
            "distil.energy_steps is 2000, of train.num_steps=2000 in all; leave some",
        ),
    ],
)
def test_what_cannot_be_is_one_line(changes, message):
    with pytest.raises(UserError) as error:
        config(*changes)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_config_comes_back_from_json_and_may_lack_the_block():
    experiment = config(*STUDENT)
    stored = to_dict(experiment)
    assert from_dict(stored) == experiment
    assert experiment.few_steps == (1000, 640, 360, 160)
    del stored["distil"]  # as it was before there was one
    assert from_dict(stored).few_steps == ()


def test_adapters_may_be_of_the_teacher():
    assert config(*STUDENT, "lora.rank=4").start_from == "t"
    assert config(*STUDENT, "pretrained=p").start_from == "p"


@pytest.mark.parametrize("teacher", ["eps", "score"])
def test_student_is_its_teacher_up_to_the_gain(teacher, key):
    """To the last digits where sqrt(abar) is 1 / MOST_GAIN or more; then v is less."""
    keys = jax.random.split(key)
    x, out = (jax.random.normal(each, (4, 4, 1)) for each in keys)

    def both(signal):
        level = jnp.full((4, 4, 1), 2 * np.log(signal))
        names = teacher, f"{teacher}_as_v"
        return [gaussian.predict_x0(x, out, level, name) for name in names]

    for signal in (0.9999, 0.9, 0.5, 1.01 / gaussian.MOST_GAIN):
        theirs, ours = both(signal)
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-5 / signal)
    theirs, ours = both(0.006)
    assert jnp.abs(theirs).max() > 100 and jnp.abs(ours).max() < 50
    # v of both by their definitions.
    noise = out if teacher == "eps" else -out
    deviation = np.sqrt(1 - 0.006**2)
    v = (noise - deviation * x) * gaussian.MOST_GAIN
    np.testing.assert_allclose(ours, 0.006 * x - deviation * v, rtol=1e-4, atol=1e-4)
    # And noise and image make x_t.
    level = jnp.full((4, 4, 1), 2 * np.log(0.006))
    eps = gaussian.predict_noise(x, out, level, f"{teacher}_as_v")
    np.testing.assert_allclose(0.006 * ours + deviation * eps, x, atol=1e-5)


@pytest.mark.parametrize("parametrisation", ["v", "x0", "eps_as_v", "score_as_v"])
def test_clean_pixel_is_its_own_prediction(parametrisation, key):
    x = jax.random.normal(key, (4, 4, 1))
    level = jnp.full((4, 4, 1), -9.0).at[1:3].set(0.0)
    found = gaussian.predict_x0(x, 2 * x + 1, level, parametrisation)
    np.testing.assert_array_equal(found[1:3], x[1:3])
    assert not np.any(found[0] == x[0])
