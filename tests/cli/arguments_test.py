"""What flags become."""

import argparse

import pytest

from rad_jax.cli.sampling_flags import sampling_of
from rad_jax.diffusion.options import SamplingOptions


@pytest.mark.parametrize(
    ("sampler", "nfe", "steps"),
    [
        *(("ddpm", 21, 21), ("heun", 21, 10), ("pc", 1, 1), ("dpm++", None, 100)),
        *((None, 3, 3), ("renoise", 2, 2)),
    ],
)
def test_nfe_is_of_evaluations(sampler, nfe, steps):
    """At most so many: two in each step of some samplers."""
    args = argparse.Namespace(
        given=set(), nfe=nfe, steps=100, sampler=sampler, grid=None, times=None, set=[]
    )
    options = sampling_of(args, "rad")
    assert isinstance(options, SamplingOptions) and options.steps == steps
