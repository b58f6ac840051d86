"""Options are checked when they are made, and have one default each."""

import inspect

import pytest

import rad_jax
from rad_jax.diffusion.options import (
    GenerationOptions,
    SamplerConfig,
    SamplingOptions,
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
        (SamplingOptions, {"grid": (9, 5)}, "times are 2, and steps is 100; give as"),
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
    assert str(SamplingOptions()) == "ddpm, 100 steps, grid uniform"
    ddim = SamplingOptions(10, "ddim", "quadratic", eta=0.5)
    assert str(ddim) == "ddim, 10 steps, grid quadratic, eta 0.5"
    corrected = SamplingOptions(10, "pc", snr=0.1)
    assert str(corrected) == "pc, 10 steps, grid uniform, snr 0.1"
    whole = SamplingOptions(10, SamplerConfig("pc", snr=0.2))
    assert str(whole) == "pc, 10 steps, grid uniform, snr 0.2"
    few = SamplingOptions(2, "renoise", [1000, 160])
    assert str(few) == "renoise, times 1000 160" and hash(few)
    exact = SamplingOptions(sampler=SamplerConfig("dpm++", variance="small"))
    assert str(exact) == "dpm++, 100 steps, grid uniform"


def test_evaluations_of_the_network():
    assert SamplingOptions(20).evaluations == 20
    assert SamplingOptions(20, "heun").evaluations == 40
    assert SamplingOptions(20, SamplerConfig("pc")).evaluations == 40


def test_python_has_the_defaults_of_the_command_line():
    parameters = inspect.signature(rad_jax.inpaint).parameters
    options = SamplingOptions()
    assert parameters["steps"].default == options.steps
    assert parameters["grid"].default == options.grid
