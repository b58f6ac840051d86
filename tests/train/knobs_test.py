"""What the ablation changes of a training step reaches the loss, for its own reason.

One program draws the same masks, times and noise under several configs; a stub that
predicts no noise stands in for the network, so its squared error is the noise itself.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rad_jax.masks.training import MaskConfig, training_mask
from rad_jax.train.objective import make_loss
from rad_jax.train.state import NOTHING_FROZEN, init_state
from rad_jax.train.totals import means
from tests.train.step_test import QUICKLY, drawn, start

pytestmark = pytest.mark.usefixtures("quickly")

COUNT, VALUE = 48, 0.25

KNOBS = {
    "default": (),
    "time": ("model.noise_embedding=time",),
    "all_pixels": ("loss.all_pixels=True",),
    "vlb": ("loss.vlb_weight=0.5",),
    "phase 1": ("schedule.known_steps=0",),
    "box": ("mask.kind=box",),
    "blur": ("mask.blur=1.5",),
}


@pytest.fixture(scope="module")
def seen(tiny_experiment):
    """What the network is given and what the loss is, under each of `KNOBS`.

    The variational bound is left out but where it is asked for: it takes long to
    compile.
    """
    images = jnp.full((COUNT, 16, 16, 1), VALUE)
    draws = {
        name: drawn(tiny_experiment("loss.vlb_weight=0.0", *changes), images)
        for name, changes in KNOBS.items()
    }

    def soft_mask(key):
        _, mask_key, _, _ = jax.random.split(key, 4)
        return training_mask(MaskConfig(blur=1.5), mask_key, 16, 16)

    def all_of_them(key):
        masks = jax.vmap(soft_mask)(jax.random.split(key, COUNT))
        return {name: draw(key) for name, draw in draws.items()} | {"soft mask": masks}

    key = jax.random.key(0)
    return jax.tree.map(
        np.asarray, jax.jit(all_of_them).lower(key).compile(QUICKLY)(key)
    )


def test_time_embedding_tells_one_timestep(seen):
    """t - 1 of the process, in both phases; all else is as it was."""
    spatial, time = seen["default"], seen["time"]
    np.testing.assert_array_equal(time["x"], spatial["x"])
    assert time["weights"] is None and time["timesteps"].shape == (COUNT, 1)
    known, hole = spatial["timesteps"].T
    first = known == -1
    told = time["timesteps"][:, 0]
    np.testing.assert_array_equal(told[first], hole[first])
    np.testing.assert_array_equal(told[~first], 1000 + known[~first])
    assert np.array_equal(told, np.rint(told)) and 0.3 < first.mean() < 0.7
    assert told.min() >= 0 and 1900 < told.max() < 2000


def test_all_pixels_averages_over_clean_ones_too(seen):
    noisy = seen["default"]["x"] != VALUE
    default, everything = (seen[name]["loss"] for name in ("default", "all_pixels"))
    np.testing.assert_allclose(default, noisy.mean(), rtol=0.05)
    np.testing.assert_allclose(everything, 1, rtol=0.05)
    assert default < 0.9


def test_weight_of_the_bound(seen):
    bound = seen["vlb"]["vlb"]
    assert seen["default"]["vlb"] == 0 and bound > 0
    added = seen["vlb"]["loss"] - seen["default"]["loss"]
    np.testing.assert_allclose(added, 0.5 * bound, rtol=1e-3)


def test_phase_1_alone_leaves_known_pixels_clean(seen):
    """T is T1: Perlin masks as before, and at no time noise outside of the hole."""
    found = seen["phase 1"]
    hole = found["weights"][0][..., 1] > 0
    np.testing.assert_array_equal(found["weights"][0], seen["default"]["weights"][0])
    assert 0.3 < hole.mean() < 0.7
    np.testing.assert_array_equal(found["x"][..., 0] != VALUE, hole)
    known, in_hole = found["timesteps"].T
    assert (known == -1).all()
    assert in_hole.min() < 60 and 940 < in_hole.max() <= 999
    assert seen["default"]["timesteps"][:, 0].max() > 900


def test_mask_kind_reaches_the_noise(seen):
    found = seen["box"]
    hole = found["weights"][0][..., 1] > 0
    assert (hole.sum((1, 2)) == 8 * 8).all()
    first = found["timesteps"][:, 0] == -1
    noisy = found["x"][..., 0] != VALUE
    np.testing.assert_array_equal(noisy[first], hole[first])
    assert found["loss"] != seen["default"]["loss"]


def test_soft_masks_take_a_map_of_levels(seen):
    """Each pixel has the level of (M1), is told it, and has its noise."""
    found, mask = seen["blur"], np.float64(seen["soft mask"])
    assert "weights" not in found and found["timesteps"].shape == mask.shape
    assert ((mask > 0.01) & (mask < 0.99)).mean() > 0.3
    t = np.rint(seen["time"]["timesteps"][:, 0]).astype(int) + 1
    log_signal = np.concatenate(
        [[0.0], np.cumsum(np.log1p(-np.linspace(1e-4, 0.02, 1000)))]
    )
    total = log_signal[-1]
    first, second = (
        log_signal[np.clip(x, 0, 1000)][:, None, None] / total for x in (t, t - 1000)
    )
    level = (first - second) * np.log1p(np.expm1(total) * mask) + second * total
    table, noisy = -np.expm1(log_signal), -np.expm1(level)
    timesteps = np.interp(noisy, table, np.arange(-1.0, 1000))
    np.testing.assert_allclose(found["timesteps"], timesteps, atol=0.05)
    noise = found["x"][..., 0] - np.exp(level / 2) * VALUE
    assert (noise[level == 0] == 0).all() and (noisy > 0.01).mean() > 0.4
    standard = noise[noisy > 0.01] / np.sqrt(noisy[noisy > 0.01])
    np.testing.assert_allclose([standard.mean(), standard.std()], [0, 1], atol=0.03)


def test_the_network_takes_a_map_of_levels(tiny_experiment):
    experiment = tiny_experiment(*KNOBS["blur"])
    state = jax.eval_shape(lambda: init_state(experiment))
    images = jax.ShapeDtypeStruct((2, 16, 16, 1), np.uint8)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 2))
    loss, _ = jax.eval_shape(
        make_loss(experiment), state.params, NOTHING_FROZEN, images, keys
    )
    assert loss.shape == ()


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        KNOBS["time"],
        KNOBS["blur"],
        ("mask.kind=mixed",),
        ("mask.kind=mixed", *KNOBS["blur"]),
    ],
)
def test_losses_go_down(tiny_experiment, changes):
    step, state, batch = start(tiny_experiment(*changes))
    losses = []
    for _ in range(40):
        state, signals = step(state, NOTHING_FROZEN, batch)
        assert signals.finite
        losses.append(means(jax.device_get(state.totals))["loss"])
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])
