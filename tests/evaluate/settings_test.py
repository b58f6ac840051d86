"""What an evaluation is asked for."""

from pathlib import Path

import pytest

from rad_jax.diffusion.options import SamplerConfig, SamplingOptions
from rad_jax.errors import UserError
from rad_jax.evaluate.settings import Evaluation


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingOptions(label=3),
        SamplingOptions(sampler="ddim", eta=0.5),
        SamplingOptions(sampler="pc", snr=0.1),
        SamplingOptions(sampler=SamplerConfig()),
    ],
)
def test_what_its_record_could_not_say(sampling):
    with pytest.raises(UserError, match="leave label, eta and snr out"):
        Evaluation("digits", Path("data"), sampling=sampling)


@pytest.mark.parametrize(
    ("data", "split"),
    [("digits", "test"), ("photos", "test"), ("ffhq256", "validation")],
)
def test_held_out_split(data, split):
    assert Evaluation(data, Path("data")).held_out_split == split
    assert Evaluation(data, Path("data"), split="train").held_out_split == "train"
