"""One training step: what it draws, what it minimises, what it changes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rad_jax.config.blocks import OptimizerConfig
from rad_jax.errors import UserError
from rad_jax.runtime.sharding import abstract_mesh, make_mesh, place, place_batch
from rad_jax.train.objective import batch_loss
from rad_jax.train.state import NOTHING_FROZEN, init_state, make_optimizer
from rad_jax.train.step import (
    Batch,
    clip,
    make_train_step,
    state_shardings,
)
from rad_jax.train.totals import means
from tests.train import matrix

# Steps 1 and 2 of the tiny network on `PIXELS`. They change with everything that
# enters training: initialisation, masks, times, noise, network, loss, optimiser, the
# streams of random numbers. If you meant to change one of these, copy the numbers from
# the failure and say why in the commit; if not, you have found a bug.
PINNED = [(0.681873, 3.546929), (0.503825, 2.889491)]

QUICKLY: dict[str, Any] = {
    "xla_backend_optimization_level": 0
}  # compiles in half the time

PIXELS = np.random.RandomState(0).randint(0, 256, (4, 16, 16, 1)).astype(np.uint8)


def start(experiment):
    """The step, its state and a batch, placed as in training: one program for all."""
    mesh = make_mesh()
    state = place(init_state(experiment), state_shardings(experiment, mesh))
    flags = np.zeros(mesh.size, np.int32)
    batch = Batch(place_batch(PIXELS, mesh), place_batch(flags, mesh))
    return make_train_step(experiment, mesh), state, batch


@pytest.fixture(scope="module")
def run(tiny_experiment):
    """States (step 0 first, as NumPy) and metrics of 60 steps on the same images."""
    step, state, batch = start(tiny_experiment())
    states, metrics = [jax.tree.map(np.array, state)], []
    for _ in range(60):
        state, _ = step(state, NOTHING_FROZEN, batch)
        metrics.append(means(jax.device_get(state.totals)))
        if len(states) < 4:
            states.append(jax.tree.map(np.array, state))
    return states, metrics


def test_first_steps_are_pinned(run):
    _, metrics = run
    found = [(m["loss"], m["grad_norm"]) for m in metrics[:2]]
    # Other CPUs sum in another order.
    np.testing.assert_allclose(found, PINNED, rtol=1e-4, err_msg=f"{found}")


def test_loss_goes_down(run):
    _, metrics = run
    losses = [m["loss"] for m in metrics]
    assert np.mean(losses[-15:]) < 0.6 * np.mean(losses[:15])
    names = {"loss", "mse", "vlb", "grad_norm", "skipped"}
    assert all(names <= set(m) and m["skipped"] == 0 for m in metrics)


def test_average_follows_its_formula(run):
    """min(decay, (1 + n) / (10 + n)); the tiny experiment's decay is 0.2."""
    states, _ = run
    ema = states[0].params
    for n, decay in enumerate([1 / 10, 2 / 11, 0.2]):
        assert states[n].step == n
        ema = jax.tree.map(
            lambda e, p, d=decay: d * e + (1 - d) * p, ema, states[n + 1].params
        )
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8),
            states[n + 1].ema,
            ema,
        )


def test_all_parameters_train(run):
    """Some need the second step or the third: the first leaves zeros before them."""
    states, _ = run
    changed = jax.tree.map(
        lambda a, b: (a != b).any(), states[0].params, states[3].params
    )
    same = [path for path, any_ in jax.tree.leaves_with_path(changed) if not any_]
    assert not same


def test_state_is_donated(tiny_experiment):
    step, state, batch = start(tiny_experiment())
    step(state, NOTHING_FROZEN, batch)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))


def test_seed_enters_parameters_and_noise(tiny_experiment):
    """That the same seed gives the same run, tests/train/loop_test.py shows."""

    def program(experiment):
        step, state, batch = start(experiment)
        text = step.lower(state, NOTHING_FROZEN, batch).as_text()
        return state.params["conv_in"]["kernel"], text

    (one, one_text), (two, two_text) = (
        program(tiny_experiment(f"seed={seed}")) for seed in (1, 2)
    )
    assert (one != two).any() and one_text != two_text


@pytest.mark.slow
def test_other_losses_and_dropout_train(tiny_experiment):
    experiment = tiny_experiment(
        "loss.parametrisation=v",
        "loss.vlb_weight=0.0",
        "model.learn_sigma=False",
        "model.dropout=0.5",
        "optimizer.decay=cosine",
    )
    step, state, batch = start(experiment)
    before = np.array(state.params["conv_out"]["kernel"])
    step = step.lower(state, NOTHING_FROZEN, batch).compile(QUICKLY)
    for _ in range(2):
        state, _ = step(state, NOTHING_FROZEN, batch)
        metrics = means(jax.device_get(state.totals))
        assert all(np.isfinite(value) for value in metrics.values())
        assert metrics["vlb"] == 0 and metrics["loss"] == metrics["mse"] > 0
    assert (state.params["conv_out"]["kernel"] != before).any()


def drawn(experiment, images):
    """A function of a key: what the network is given, by a stub in its place."""

    def draw(key):
        seen = {}

        def denoise(params, x, level, noise, dropout_keys):
            seen.update(x=x, **noise._asdict())
            seen.update({} if dropout_keys is None else {"dropout_keys": dropout_keys})
            return jnp.zeros((*x.shape[:3], experiment.model.output_channels))

        keys = jax.random.split(key, len(images))
        blocks = {"model": experiment.model, "schedule": experiment.schedule}
        blocks |= {"mask": experiment.mask, "loss": experiment.loss}
        loss, totals = batch_loss(denoise, None, images, keys, **blocks)
        vlb = totals.sums["vlb"] / len(images)
        return seen | {"loss": loss, "vlb": vlb}

    return draw


def test_each_image_has_its_own_time_mask_and_noise(tiny_experiment):
    images = jnp.full((128, 16, 16, 1), 0.25)
    experiment = tiny_experiment("loss.vlb_weight=0.0")
    key = jax.random.key(0)
    seen = jax.jit(drawn(experiment, images)).lower(key).compile(QUICKLY)(key)
    known_k, hole_k = np.asarray(seen["timesteps"]).T
    hole = np.asarray(seen["weights"][0])[..., 1]
    noisy = np.asarray(seen["x"])[..., 0] != 0.25
    assert np.isin(hole, (0, 1)).all()
    assert len(np.unique(hole.reshape(128, -1), axis=0)) > 120
    assert len(np.unique(seen["x"].reshape(128, -1), axis=0)) == 128
    # Times are uniform over both phases: known pixels are clean in the first alone.
    first = known_k == -1
    assert 40 < first.sum() < 88
    assert (noisy[first] == (hole[first] > 0)).all()
    assert noisy[~first].all()
    np.testing.assert_allclose(hole_k[~first], 999, atol=1e-3)
    assert hole_k[first].min() < 60 and 940 < hole_k[first].max() <= 999
    # To predict no noise at all is as wrong as there is noise.
    np.testing.assert_allclose(seen["loss"], noisy.mean(), rtol=0.02)


def test_full_masks_in_phase_1_are_plain_ddpm(tiny_experiment):
    """One level for all pixels, at ADM's own integer timesteps (DDPM eq. 4)."""
    experiment = tiny_experiment(
        "mask.kind=full", "schedule.known_steps=0", "loss.vlb_weight=0.0"
    )
    images = jnp.full((64, 16, 16, 1), 0.5)
    key = jax.random.key(0)
    seen = jax.jit(drawn(experiment, images)).lower(key).compile(QUICKLY)(key)
    assert all(np.all(weights[..., 1] == 1) for weights in seen["weights"])
    k = np.asarray(seen["timesteps"])[:, 1]
    assert np.all(k == np.rint(k)) and k.min() < 60 and k.max() > 940
    signal = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[k.astype(int)]
    noise = np.asarray(seen["x"]) - np.sqrt(signal)[:, None, None, None] * 0.5
    deviation = noise.std(axis=(1, 2, 3)) / np.sqrt(1 - signal)
    # 256 pixels each: a standard deviation is known to 1 / sqrt(512) of itself.
    np.testing.assert_allclose(deviation, 1, atol=4.5 / np.sqrt(512))


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_dropout_gets_a_key_where_there_is_dropout(tiny_experiment, rate):
    draw = drawn(tiny_experiment(f"model.dropout={rate}"), jnp.zeros((2, 16, 16, 1)))
    seen = jax.eval_shape(draw, jax.random.key(0))
    assert ("dropout_keys" in seen) == (rate > 0)


def updates(config, gradient, params):
    """Updates and states of 20 steps with the same gradient."""
    optimizer = make_optimizer(config, 20)
    state: Any = optimizer.init(params)
    for _ in range(20):
        update: Any
        update, state = optimizer.update(gradient, state, params)
        yield update, state


@pytest.mark.parametrize("decay", ["constant", "cosine"])
@pytest.mark.parametrize("warmup", [0, 4])
def test_learning_rate_rises_and_falls(decay, warmup):
    """Adam's update under a constant gradient is the learning rate."""
    config = OptimizerConfig(learning_rate=0.5, warmup_steps=warmup, decay=decay)
    gradient = jnp.float32(0.3)
    rates = [-update for update, _ in updates(config, gradient, gradient)]
    expected = [0.5 * (n + 1) / warmup for n in range(warmup)]
    progress = np.arange(20 - warmup) / (20 - warmup)
    fall = (1 + np.cos(np.pi * progress)) / 2 if decay == "cosine" else progress**0
    np.testing.assert_allclose(rates, [*expected, *(0.5 * fall)], rtol=1e-4)
    if decay == "cosine":
        assert rates[-1] < 0.01 * max(rates)


def test_gradient_is_clipped_by_its_global_norm():
    for scale, clipped in ((10.0, 1.0), (0.5, 0.5)):
        gradient = {"a": jnp.array([0.6]) * scale, "b": jnp.array([0.8]) * scale}
        found = clip(gradient, optax.tree.norm(gradient), 1.0)
        np.testing.assert_allclose(optax.tree.norm(found), clipped, rtol=1e-6)
        np.testing.assert_allclose(found["a"] / found["b"], 0.75, rtol=1e-6)


def test_weight_decay_shrinks_parameters():
    config = OptimizerConfig(weight_decay=0.1, learning_rate=0.5)
    update, _ = next(updates(config, jnp.zeros(1), jnp.array([2.0])))
    np.testing.assert_allclose(update, [-0.5 * 0.1 * 2.0], rtol=1e-5)


@pytest.fixture
def one_matrix(monkeypatch):
    matrix.install(monkeypatch.setattr)


def test_microbatches_are_the_whole_batch(one_matrix, tiny_experiment):
    """Each image keeps its noise; only the order of sums changes."""
    found = []
    for parts in (1, 2, 4):
        step, state, batch = start(tiny_experiment(f"train.microbatches={parts}"))
        for _ in range(3):
            state, _ = step(state, NOTHING_FROZEN, batch)
        found.append(jax.device_get((means(state.totals), state.params)))
    for values, params in found[1:]:
        for name in ("loss", "grad_norm"):
            np.testing.assert_allclose(values[name], found[0][0][name], rtol=1e-6)
        np.testing.assert_allclose(params["matrix"], found[0][1]["matrix"], atol=1e-6)


def test_step_that_is_not_finite_changes_nothing_but_the_count(
    one_matrix, tiny_experiment
):
    step, state, batch = start(tiny_experiment("train.log_every=3"))
    state, signals = step(state, NOTHING_FROZEN, batch)
    assert signals.finite and not signals.stop
    first = means(jax.device_get(state.totals))
    poisoned = {"matrix": state.params["matrix"].at[0, 0].set(jnp.nan)}
    before = jax.device_get(state._replace(params=poisoned))
    state, signals = step(state._replace(params=poisoned), NOTHING_FROZEN, batch)
    assert not signals.finite
    after = jax.device_get(state)
    for name in ("params", "ema", "opt_state"):
        jax.tree.map(
            np.testing.assert_array_equal, getattr(after, name), getattr(before, name)
        )
    assert after.step == 2  # with other noise it may be finite
    values = means(after.totals)
    assert values.pop("skipped") == 1 and first.pop("skipped") == 0
    assert values == first  # means of the finite step alone


def test_any_process_that_stops_stops_all(one_matrix, tiny_experiment):
    step, state, batch = start(tiny_experiment())
    wanted = np.zeros(len(batch.stop), np.int32)
    wanted[-1] = 1
    batch = batch._replace(stop=place_batch(wanted, make_mesh()))
    _, signals = step(state, NOTHING_FROZEN, batch)
    assert signals.stop and signals.finite


def test_batch_that_devices_cannot_share_is_refused(tiny_experiment):
    with pytest.raises(UserError, match="batch_size is 4, which 3 devices cannot"):
        make_train_step(tiny_experiment(), abstract_mesh(3))
    with pytest.raises(UserError, match=r"2 devices .* in train.microbatches=4 parts"):
        make_train_step(tiny_experiment("train.microbatches=4"), abstract_mesh(2))
