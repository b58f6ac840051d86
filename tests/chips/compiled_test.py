"""Digits compiled for slices of v5e, by libtpu, which runs without a TPU.

`make test-chips` has it; elsewhere these are skipped, as is that of JAX's plug-in for
CUDA, which runs without a GPU.
"""

import importlib.util

import jax
import pytest

from rad_jax.chips.hlo import parse, types
from rad_jax.chips.host import PLUGINS, set_up
from rad_jax.chips.slices import find_slice
from rad_jax.config import load_config
from rad_jax.runtime.sharding import abstract_mesh
from rad_jax.train.for_chips import compile_step
from rad_jax.train.plan import step_shapes
from tests.conftest import DIGITS

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs libtpu"
)
needs_cuda = pytest.mark.skipif(
    not any(map(importlib.util.find_spec, PLUGINS["cuda"])),
    reason="needs JAX's plug-in for CUDA",
)

IMAGES = {"v5e-16": 32, "v5e-256": 256}


def digits(*changes):
    return load_config(DIGITS, [f"--config.{change}" for change in changes])


@pytest.fixture(scope="module", params=IMAGES)
def compiled(request):
    """The slice, the experiment, the program and its needs."""
    set_up()
    experiment = digits(f"train.batch_size={IMAGES[request.param]}")
    where = find_slice(request.param)
    text, needs = compile_step(experiment, where)
    return where, experiment, parse(text), needs


@needs_libtpu
def test_devices_talk_once_in_a_step(compiled):
    """One sum of the gradient, where it is not always zero, and of totals."""
    where, experiment, _, needs = compiled
    state, _, _ = step_shapes(experiment, abstract_mesh(where.devices))
    gradient = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state.params))
    [found] = needs.collectives
    assert (found.kind, found.count, found.rounds) == ("all-reduce", 1, 1)
    assert found.size == pytest.approx(gradient, rel=1e-3)


@needs_libtpu
def test_nothing_has_64_bits(compiled):
    """Not even a scalar: TPUs have no such numbers, and would make two of each."""
    _, _, program, _ = compiled
    assert types(program) == {"f32", "bf16", "s32", "u32", "u8", "pred"}


@needs_libtpu
def test_the_step_is_counted(compiled):
    """The state is given and written back; the masks are made in a loop."""
    where, experiment, _, needs = compiled
    state, _, _ = step_shapes(experiment, abstract_mesh(where.devices))
    kept = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
    assert kept < needs.arguments < 2 * kept  # padded to tiles
    assert needs.arguments < needs.total < where.chip.memory / 10
    assert needs.main > 2 * kept
    assert needs.loops == [32]
    assert needs.cycles and needs.flops and needs.accessed


@needs_libtpu
def test_parameters_that_are_divided_are_gathered(rad):
    """A network of seconds; the command prints what it compiled."""
    changes = (
        *("model.model_channels=32", "model.channel_mult=(1,)"),
        *("model.attention_resolutions=()", "train.fsdp=2", "train.batch_size=4"),
    )
    flags = [f"--config.{change}" for change in changes]
    command = ("train", "--config", DIGITS, "--dry_run", "--topology", "v5e-4")
    code, out, _ = rad(*command, *flags)
    assert code == 0
    found = out.splitlines()
    assert found[0].startswith(
        "a training step of 4 images on v5e-4: 4 devices (data 2, fsdp 2), compiled in "
    )
    assert " all-gather, " in found[3] and "1 all-reduce, " in found[3]
    assert found[6].startswith("the compiler's own estimate, unmeasured: ")


@needs_libtpu
def test_too_large_a_batch_is_refused_with_both_numbers(rad):
    changes = ("train.batch_size=131072", "model.attention_resolutions=()")
    flags = [f"--config.{change}" for change in changes]
    command = ("train", "--config", DIGITS, "--dry_run", "--topology", "v5e-1")
    code, out, err = rad(*command, *flags)
    assert (code, out) == (2, "")
    [line] = [x for x in err if x.startswith("rad-jax: ")]
    assert "too large for v5e-1: it needs " in line
    assert " on each device, which has 15.75 GiB; try a smaller train.batch" in line


@needs_cuda
def test_an_h100s_program_has_the_kernels_of_its_kind():
    """cuDNN's attention, which this machine does not have, there and back."""
    set_up()
    changes = (
        *("model.dtype=bfloat16", "model.channel_mult=(2,)", "train.batch_size=4"),
        *("model.attention_resolutions=(16,)", "model.num_head_channels=64"),
    )
    text, needs = compile_step(digits(*changes), find_slice("h100"))
    assert "__cudnn$fmhaSoftmax" in text and "__cudnn$fmhaSoftmaxBackward" in text
    assert needs.total > needs.arguments > 0 and needs.collectives == []
    assert needs.flops is None and needs.cycles is None  # the compiler counts neither
