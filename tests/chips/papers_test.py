"""The paper's networks in bfloat16, filling and training, compiled for chips.

By the compilers that are there; minutes each.
"""

import re

import pytest

from benchmarks.chip_programs import experiment_of
from rad_jax.checkpoints.model import Model
from rad_jax.chips.hlo import parse, types
from rad_jax.chips.host import set_up
from rad_jax.chips.slices import find_slice
from rad_jax.diffusion.options import SamplingOptions
from rad_jax.inference import for_chips
from rad_jax.inference.for_chips import Batch, compile_fill
from rad_jax.models.network import abstract_params
from rad_jax.runtime.sharding import abstract_mesh
from rad_jax.train.for_chips import compile_step
from rad_jax.train.plan import make_plan, step_shapes
from tests.chips.compiled_test import bytes_of, needs_cuda, needs_libtpu

pytestmark = pytest.mark.slow
CHIPS = [
    pytest.param("v5e-16", marks=needs_libtpu),
    pytest.param("h100", marks=needs_cuda),
]
papers = pytest.mark.parametrize("name", ["ffhq256", "lsun_bedroom256", "imagenet256"])


def float32_convolutions(text):
    """Of more than one pixel, with float32 operands, by XLA for TPUs and cuDNN."""
    found = [
        line
        for line in text.splitlines()
        if "__cudnn$conv" in line or re.search(r" convolution\(.*size=3x3", line)
    ]
    assert len(found) > 50
    return [line for line in found if not re.search(r"[(= ]bf16\[", line)]


def check(where, text, needs):
    assert needs.total < where.chip.memory
    if where.platform == "tpu":  # which would make two numbers of each
        assert not types(parse(text)) & {"f64", "s64", "u64", "c128"}
    else:
        assert "__cudnn$fmhaSoftmax" in text


@papers
@pytest.mark.parametrize("chips", CHIPS)
def test_a_step_communicates_once_and_needs_what_is_planned(name, chips):
    set_up()
    where = find_slice(chips)
    experiment = experiment_of(name, batch=max(4, where.devices))
    text, needs = compile_step(experiment, where)
    check(where, text, needs)
    mesh = abstract_mesh(where.devices)
    if where.devices > 1:
        gradient = bytes_of(step_shapes(experiment, mesh)[0].params)
        [found] = needs.collectives
        assert (found.kind, found.count) == ("all-reduce", 1)
        assert found.size == pytest.approx(gradient, rel=1e-3)
    # Of the last convolution: there, and back to its input and its kernel.
    assert len(float32_convolutions(text)) <= 3
    assert make_plan(experiment, mesh).device > 0.95 * needs.total


@papers
@pytest.mark.parametrize("chips", CHIPS)
def test_a_filling_fits_and_is_in_bfloat16(name, chips, monkeypatch):
    set_up()
    where, experiment = find_slice(chips), experiment_of(name, batch=16)
    config, texts = experiment.model, []
    compile_for = for_chips.compile_for

    def keep(*arguments):
        compiled, needs = compile_for(*arguments)
        texts.append(compiled.as_text())
        return compiled, needs

    monkeypatch.setattr(for_chips, "compile_for", keep)
    model = Model(config, experiment.schedule, "eps", abstract_params(config))
    size = (config.image_size, config.image_size)
    _, needs = compile_fill(model, SamplingOptions(), Batch(1, size), where)
    check(where, texts[0], needs)
    assert needs.collectives == [] and len(float32_convolutions(texts[0])) == 1
