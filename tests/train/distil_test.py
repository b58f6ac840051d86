"""Distilling the tiny model, in two parts, as `rad-jax train` does it."""

import json
import shutil

import jax
import numpy as np
import optax
import pytest

import rad_jax
from rad_jax.checkpoints.load import load_diffusion, read_folder
from rad_jax.checkpoints.model_folder import write_model
from rad_jax.errors import UserError
from rad_jax.runtime.sharding import make_mesh
from rad_jax.train.distil import stages
from rad_jax.train.loop import train
from rad_jax.train.plan import make_plan, step_shapes
from rad_jax.train.pretrained import load_teacher
from rad_jax.train.state import init_state
from rad_jax.train.step import check_batch, make_train_step
from rad_jax.train.stop import StopRequest
from tests.train.loop_test import StopAt, assert_same, stored

STUDENT = (
    "distil.kind=trajectory",
    "distil.energy_steps=2",
    "distil.teacher_steps=2",
    "distil.points=2",
    "loss.parametrisation=eps_as_v",
    "loss.vlb_weight=0.0",
    "train.num_steps=4",
    "train.checkpoint_every=2",
)


@pytest.fixture(scope="module")
def student(tiny_experiment, tiny_run):
    """``student("distil.kind=energy", ...)``: of ``tiny_run``, which predicts noise."""
    teacher = f"distil.teacher={tiny_run[0]}"
    return lambda *changes: tiny_experiment(teacher, *STUDENT, *changes)


@pytest.fixture(scope="module")
def run(student, tmp_path_factory):
    """Workdir and last state of both parts without a stop; do not write there."""
    workdir = tmp_path_factory.mktemp("runs") / "student"
    return workdir, train(student("train.sample_every=4"), workdir, StopRequest())


def count_of(state):
    """Steps of the optimiser."""
    return optax.tree.get(state.opt_state, "ScaleByAdamState").count


@pytest.mark.parametrize("at", [pytest.param(1, marks=pytest.mark.slow), 2, 3])
def test_resumed_is_straight_bit_for_bit(student, run, tmp_path, at):
    """Within the first part, between both, and within the second."""
    straight, expected = run
    train(student(), tmp_path, StopAt(at))
    state = train(student(), tmp_path, StopRequest())
    assert_same(state, expected)
    assert_same(stored(tmp_path, 4, state), stored(straight, 4, state))


def test_second_part_has_its_own_optimiser_and_begins_with_the_average(
    student, run, tmp_path
):
    _, state = run
    assert count_of(state) == 2 and state.step == 4
    slow = student("distil.energy_learning_rate=1e-12")
    halfway = train(slow, tmp_path, StopAt(2))
    average = jax.tree.map(np.array, halfway.ema)
    assert not np.array_equal(
        average["conv_out"]["kernel"], halfway.params["conv_out"]["kernel"]
    )
    after = train(slow, tmp_path, StopRequest())
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-8), after.params, average
    )


def test_parts_of_a_run(student):
    both = stages(student())
    assert [start for start, _ in both] == [0, 2]
    first, second = (each for _, each in both)
    assert (first.distil.kind, second.distil.kind) == ("trajectory", "energy")
    assert (first.train.num_steps, second.train.num_steps) == (2, 2)
    assert first.optimizer.learning_rate == 1e-3
    assert second.optimizer.learning_rate == 3e-4
    alone = student("distil.energy_steps=0")
    assert stages(alone) == [(0, alone)]


def test_model_is_asked_at_its_times(run, tiny_run):
    workdir, _ = run
    model = load_diffusion(workdir)
    assert model.few_steps == (1000, 640, 360, 160)
    assert model.parametrisation == "eps_as_v"
    image, mask = np.zeros((16, 16, 1), np.float32), np.eye(16, dtype=np.float32)
    key = jax.random.key(0)
    filled = rad_jax.inpaint(model, image, mask, key=key, steps=2)
    at_times = rad_jax.inpaint(model, image, mask, key=key, grid=(1000, 160))
    np.testing.assert_array_equal(filled, at_times)
    assert (workdir / "samples" / "0000004.png").exists()
    # What is passed on names the teacher, not its place.
    _, provenance = read_folder(workdir)
    assert provenance["training"]["distil"]["teacher"] == tiny_run[0].name
    assert str(tiny_run[0]) not in json.dumps(provenance)


def test_student_begins_as_its_teacher(student, tiny_run):
    teacher = load_diffusion(tiny_run[0])
    assert_same(load_teacher(student()).params, teacher.params)
    state = init_state(student(), teacher.params)
    assert_same(state.params, teacher.params)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["energy", "consistency"])
def test_other_kinds_train(student, tiny_run, run, tmp_path, kind):
    """Energy needs no teacher: it goes on from any model, as from a student."""
    changes = [f"distil.kind={kind}", "distil.energy_steps=0", "train.num_steps=2"]
    if kind == "energy":
        changes += [
            "distil.teacher=",
            f"pretrained={run[0]}",
            "distil.features=patches",
        ]
    state = train(student(*changes), tmp_path, StopRequest())
    assert (tmp_path / "teacher").exists() == (kind == "consistency")
    begun = load_diffusion(run[0] if kind == "energy" else tiny_run[0]).params
    moved = jax.tree.map(lambda a, b: np.any(a != b), state.params, begun)
    assert any(jax.tree.leaves(moved))


@pytest.mark.slow
def test_adapters_of_the_teacher(student, tiny_run, tmp_path):
    """They are all that trains and is stored; merged, they are a student."""
    experiment = student("lora.rank=2", "lora.alpha=2.0")
    state = train(experiment, tmp_path, StopRequest())
    count = sum(x.size for x in jax.tree.leaves(state.params))
    whole = sum(x.size for x in jax.tree.leaves(load_diffusion(tiny_run[0]).params))
    assert count < whole / 2
    model = load_diffusion(tmp_path)
    assert model.few_steps and model.parametrisation == "eps_as_v"
    assert (tmp_path / "base").exists() and (tmp_path / "teacher").exists()
    shutil.rmtree(tmp_path / "teacher")
    load_diffusion(tmp_path)  # a student runs without it
    with pytest.raises(UserError, match="teacher: "):
        train(
            student("lora.rank=2", "lora.alpha=2.0", "train.max_skipped=3"),
            tmp_path,
            StopRequest(),
        )


@pytest.mark.parametrize(
    "changes, message",
    [
        (("schedule.hole_betas=(0.001,0.02)",), r"schedule.hole_betas is \(0.0001, 0"),
        (("mask.kind=box",), "mask.kind is perlin there, box here"),
        (("mask.blur=1.0",), "mask.blur is 0.0 there, 1.0 here"),
        (("model.channel_mult=(2,)",), "model.channel_mult is "),
        (("loss.parametrisation=v",), "loss.parametrisation is eps there, v here"),
    ],
)
def test_teacher_of_something_else(student, tmp_path, changes, message):
    with pytest.raises(UserError, match=message) as error:
        train(student(*changes), tmp_path / "run", StopRequest())
    assert "distil.teacher" in str(error.value) or "pretrained" in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_teacher(student, tmp_path):
    with pytest.raises(UserError, match="gone: no such folder"):
        load_teacher(student(f"distil.teacher={tmp_path / 'gone'}"))


def test_teacher_may_be_of_other_masks_if_it_does_not_say(student, tiny_run, tmp_path):
    """Of a converted model no masks are known."""
    write_model(tmp_path / "model", load_diffusion(tiny_run[0]), {})
    changed = student("mask.kind=box", f"distil.teacher={tmp_path / 'model'}")
    assert load_teacher(changed).parametrisation == "eps"


def test_batch_has_whole_paths(student):
    check_batch(student(), 2)
    message = "4 devices cannot share equally for paths of distil.points=2; make it a m"
    with pytest.raises(UserError, match=message):
        check_batch(student(), 4)


@pytest.mark.parametrize("kind", ["trajectory", "energy"])
def test_plan_counts_the_teacher_and_what_a_student_keeps(
    student, tiny_experiment, kind
):
    part = dict(stages(student()))[0 if kind == "trajectory" else 2]
    plan, plain = (make_plan(each, make_mesh()) for each in (part, tiny_experiment()))
    assert (plan.base > 0) == (kind == "trajectory") and plan.frozen == 0
    # As many images at once as of plain training, or two for each.
    share = plan.activations / plain.activations
    assert 0.7 < share < 1.3 if kind == "trajectory" else 1.5 < share < 2.6


def test_step_keeps_its_shapes(student):
    for _, part in stages(student()):
        mesh = make_mesh()
        state, frozen, batch = step_shapes(part, mesh)
        after, _ = jax.eval_shape(make_train_step(part, mesh), state, frozen, batch)
        same = jax.tree.map(
            lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), after, state
        )
        assert all(jax.tree.leaves(same))
