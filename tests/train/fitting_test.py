"""What makes a step fit: by a made-up estimate, and by the real one."""

import dataclasses

import pytest

from rad_jax.config.file import load_config
from rad_jax.train import fitting
from rad_jax.train.plan import Plan, make_plan
from tests.conftest import DIGITS

GB = 10**9


@pytest.fixture
def estimate(monkeypatch):
    """20 GB of activations and 8 GB of the rest, less by each setting."""

    def plan(experiment, mesh):
        settings, model = experiment.train, experiment.model
        activations = 20 * GB / settings.microbatches
        activations /= (4 if model.use_remat else 1) * (
            2 if model.dtype == "bfloat16" else 1
        )
        shared = 4 * GB // settings.fsdp
        return Plan(1, 0, shared, 0, 4 * GB, int(activations), 0, 0)

    monkeypatch.setattr(fitting, "make_plan", plan)


def digits(*changes):
    return load_config(DIGITS, [f"--config.{change}" for change in changes])


@pytest.mark.parametrize(
    ("there", "fits"),
    [
        (18, "train.microbatches=2"),
        (13.5, "train.microbatches=4"),
        (9, "train.microbatches=8 model.use_remat=True"),
        (8.5, "train.microbatches=8 model.use_remat=True train.fsdp=2"),
        (5.7, "train.microbatches=8 model.use_remat=True train.fsdp=4"),
        (
            5.4,
            "train.microbatches=8 model.use_remat=True train.fsdp=4 "
            "model.dtype=bfloat16",
        ),
    ],
)
def test_what_changes_least_comes_first(estimate, there, fits):
    """Of 8 images on each of 4 devices, in parts of 2, 4 and 8."""
    found = fitting.what_fits(digits("train.batch_size=32"), 4, None, float(there * GB))
    assert found == f"by the estimate it fits with {fits}"


def test_nothing_may_be_enough(estimate):
    found = fitting.what_fits(digits("train.batch_size=32"), 4, None, 5.0 * GB)
    assert found == fitting.NOTHING


def test_the_compiler_s_number_scales_the_estimate(estimate):
    """It needs 48 GB: of activations 40, twice what the estimate says."""
    experiment = digits("train.batch_size=32")
    found = fitting.what_fits(experiment, 4, 48.0 * GB, 13.5 * GB)
    assert found == "by the estimate it fits with train.microbatches=8"


def test_what_is_named_fits_by_the_real_estimate():
    """What the devices cannot share is not named: 3 images on each of 2."""
    experiment = digits("train.batch_size=6", "model.attention_resolutions=()")
    mesh = fitting.abstract_mesh(2)
    whole = make_plan(experiment, mesh)
    there = whole.device - whole.activations // 2
    found = fitting.what_fits(experiment, 2, None, float(there))
    assert found == "by the estimate it fits with train.microbatches=3"
    train = dataclasses.replace(experiment.train, microbatches=3)
    parted = make_plan(dataclasses.replace(experiment, train=train), mesh)
    assert parted.device <= there < whole.device
