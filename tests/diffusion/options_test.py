"""Options are checked when they are made, and have one default each."""

import inspect

import pytest

import rad_jax
from rad_jax.config.blocks import TrainConfig
from rad_jax.diffusion.generation_options import GenerationOptions
from rad_jax.diffusion.options import (
    GRID,
    SAMPLER,
    STEPS,
    SamplerConfig,
    Sampling,
    SamplingOptions,
    few_times,
)
from rad_jax.errors import UserError


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (
            SamplingOptions,
            {"sampler": "plms"},
            "sampler is 'plms'; use one of ddpm, ddim, dpm\\+\\+",
        ),
        (SamplingOptions, {"grid": "cubic"}, "grid is 'cubic'; use one of uniform, "),
        (SamplingOptions, {"grid": ()}, "times are ; they must fall, and end above"),
        (SamplingOptions, {"grid": (9, 9)}, "times are 9, 9; they must fall, and end"),
        (SamplingOptions, {"grid": (9, 0)}, "times are 9, 0; they must fall, and end"),
        (SamplingOptions, {"steps": 3, "grid": (9, 5)}, "times are 2, and steps is 3"),
        (SamplingOptions, {"eta": 0.5}, "eta is 0.5; only the sampler ddim takes one"),
        (SamplingOptions, {"sampler": "ddim", "eta": 2.0}, "eta is 2.0; it must lie"),
        (SamplingOptions, {"sampler": SamplerConfig(), "eta": 0.5}, "only the sampler"),
        (GenerationOptions, {"sampler": "plms"}, "sampler is 'plms'; use one of ddpm"),
        (SamplingOptions, {"snr": 0.1}, "snr is 0.1; only the sampler pc takes one"),
        (SamplingOptions, {"sampler": "pc", "snr": 2.0}, "snr is 2.0; it must lie in"),
        (SamplerConfig, {"snr": -1.0}, "snr is -1.0; it must lie in"),
        (GenerationOptions, {"eta": 0.5}, "eta is 0.5; only the sampler ddim takes"),
        (SamplerConfig, {"variance": "none"}, "variance is 'none'; use one of learned"),
        (SamplerConfig, {"eta": -1.0}, "eta is -1.0; it must lie in"),
    ],
)
def test_mistakes_are_one_line(kind, options, message):
    with pytest.raises(UserError, match=message):
        kind(**options)


def test_a_sampler_names_itself():
    assert str(SamplingOptions().for_model()) == "ddpm, 100 steps, grid uniform"
    ddim = SamplingOptions(10, "ddim", "quadratic", eta=0.5)
    assert str(ddim.for_model()) == "ddim, 10 steps, grid quadratic, eta 0.5"
    corrected = SamplingOptions(10, "pc", snr=0.1)
    assert str(corrected.for_model()) == "pc, 10 steps, grid uniform, snr 0.1"
    whole = SamplingOptions(10, SamplerConfig("pc", snr=0.2))
    assert str(whole.for_model()) == "pc, 10 steps, grid uniform, snr 0.2"
    few = SamplingOptions(2, "renoise", [1000, 160])
    assert str(few.for_model()) == "renoise, times 1000 160" and hash(few)
    exact = SamplingOptions(sampler=SamplerConfig("dpm++", variance="small"))
    assert str(exact.for_model()) == "dpm++, 100 steps, grid uniform"


def test_evaluations_of_the_network():
    assert SamplingOptions(20).for_model().evaluations == 20
    assert SamplingOptions(20, "heun").for_model().evaluations == 40
    whole = SamplingOptions(20, SamplerConfig("pc"))
    assert whole.for_model().evaluations == 40


FEW = (1000, 640, 360, 160)


def test_fewer_evaluations_are_at_the_first_time_and_the_last():
    found = [few_times(FEW, count) for count in (4, 3, 2, 1)]
    assert found == [FEW, (1000, 360, 160), (1000, 160), (1000,)]
    assert few_times((1000,), 1) == (1000,)


RENOISE = SamplerConfig("renoise", variance="small")


@pytest.mark.parametrize(
    ("options", "ordinary", "distilled"),
    [
        # What nobody has said is the model's.
        ({}, (100, "ddpm", "uniform"), (4, "renoise", FEW)),
        ({"steps": 2}, (2, "ddpm", "uniform"), (2, "renoise", (1000, 160))),
        ({"steps": 1}, (1, "ddpm", "uniform"), (1, "renoise", (1000,))),
        ({"sampler": "renoise"}, (100, "renoise", "uniform"), (4, "renoise", FEW)),
        ({"sampler": RENOISE}, (100, RENOISE, "uniform"), (4, RENOISE, FEW)),
        # What somebody has said holds.
        ({"sampler": "dpm++"}, (100, "dpm++", "uniform"), (100, "dpm++", "uniform")),
        (
            {"steps": 9, "sampler": "ddpm"},
            (9, "ddpm", "uniform"),
            (9, "ddpm", "uniform"),
        ),
        (
            {"grid": "quadratic"},
            (100, "ddpm", "quadratic"),
            (100, "renoise", "quadratic"),
        ),
        ({"grid": [1000, 9]}, (2, "ddpm", (1000, 9)), (2, "renoise", (1000, 9))),
        (
            {"steps": 2, "sampler": "ddim", "grid": (1000, 9)},
            (2, "ddim", (1000, 9)),
            (2, "ddim", (1000, 9)),
        ),
    ],
)
def test_what_is_not_said_is_as_the_model_says(options, ordinary, distilled):
    given = SamplingOptions(**options, label=3)
    for few_steps, expected in ((), ordinary), (FEW, distilled):
        found = given.for_model(few_steps)
        assert found == Sampling(*expected, label=3)
        # It may be asked for as it was found.
        again = SamplingOptions(*expected, label=3)
        assert again.for_model(few_steps) == found


def test_other_options_stay():
    ddim = SamplingOptions(5, "ddim", eta=0.5).for_model(FEW)
    assert (ddim.sampler, ddim.eta, ddim.grid) == ("ddim", 0.5, "uniform")
    assert SamplingOptions(5, "pc", snr=0.1).for_model(FEW).snr == 0.1


@pytest.mark.parametrize("steps", [0, 5, 100])
def test_more_than_a_model_was_distilled_for(steps):
    with pytest.raises(UserError) as error:
        SamplingOptions(steps).for_model(FEW)
    assert str(error.value) == (
        f"steps is {steps}; the model was distilled for 1 .. 4 (times 1000, 640, 360, "
        "160); give one of these, or times and a sampler of your own"
    )


def test_the_defaults_are_the_papers_for_training_too():
    assert (STEPS, SAMPLER, GRID) == (100, "ddpm", "uniform")
    assert TrainConfig.sample_steps == STEPS
    parameters = inspect.signature(rad_jax.inpaint).parameters
    assert parameters["steps"].default is parameters["grid"].default is None
