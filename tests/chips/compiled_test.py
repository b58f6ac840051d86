"""Digits compiled for slices of v5e, by libtpu, which runs without a TPU.

`make test-chips` has it; elsewhere these are skipped, as is that of JAX's plug-in for
CUDA, which runs without a GPU.
"""

import importlib.util
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from rad_jax.checkpoints.load import load_shapes
from rad_jax.chips.compiled import compile_for
from rad_jax.chips.hlo import parse, types
from rad_jax.chips.host import PLUGINS, set_up
from rad_jax.chips.slices import GPUS, find_slice
from rad_jax.config.file import load_config
from rad_jax.diffusion.options import SamplingOptions
from rad_jax.inference.for_chips import Batch, compile_fill, fill_flops
from rad_jax.runtime.sharding import abstract_mesh, everywhere, make_mesh
from rad_jax.train.for_chips import compile_step
from rad_jax.train.plan import step_shapes
from tests.chips.conftest import SMALL
from tests.conftest import DIGITS, ROOT

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs libtpu"
)
needs_cuda = pytest.mark.skipif(
    not any(map(importlib.util.find_spec, PLUGINS["cuda"])),
    reason="needs JAX's plug-in for CUDA",
)

IMAGES = {"v5e-16": 32, "v5e-256": 256}


def bytes_of(tree):
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


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
    gradient = bytes_of(state.params)
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
    kept = bytes_of(state)
    assert kept < needs.arguments < 2 * kept  # padded to tiles
    assert needs.arguments < needs.total < where.chip.memory / 10
    assert needs.main > 2 * kept
    assert needs.loops == [32]
    assert needs.cycles and needs.flops and needs.accessed


@needs_libtpu
def test_parameters_that_are_divided_are_gathered(rad):
    """A network of seconds; the command prints what it compiled."""
    changes = (*SMALL, "train.fsdp=2", "train.batch_size=4")
    flags = [f"--config.{change}" for change in changes]
    command = ("train", "--config", DIGITS, "--dry_run", "--topology", "v5e-4")
    code, out, _ = rad(*command, *flags)
    assert code == 0
    found = out.splitlines()
    assert found[0].startswith(
        "a training step of 4 images on v5e-4: 4 devices (data 2, fsdp 2), compiled in "
    )
    assert "1 all-gather, " in found[3] and "1 all-reduce, " in found[3]
    assert found[6].startswith("the compiler's own estimate, unmeasured: ")


@needs_libtpu
def test_between_slices_hosts_sum_what_devices_have_summed():
    """Within a slice a part of the sum is each device's; then it is gathered."""
    set_up()
    experiment = digits(*SMALL, "train.batch_size=8")
    where = find_slice("2xv5e-4")
    text, needs = compile_step(experiment, where)
    assert where.devices == 8 and "replica_groups={{0,1,2,3}" in text
    state, _, _ = step_shapes(experiment, abstract_mesh(8))
    gradient = bytes_of(state.params)
    size = {x.kind: x.size for x in needs.collectives}
    # What is scattered is a quarter of what is summed.
    within = size["all-reduce"] + 4 * size.get("reduce-scatter", 0)
    assert within == pytest.approx(gradient, rel=1e-2)
    assert gradient / 4 <= size["all-reduce between slices"] <= gradient


@needs_libtpu
def test_a_host_s_devices_share_a_filling(rad, model_json):
    """Five images on four devices, two each; the steps are 20, the rounds 128."""
    flags = ("--dry_run", "--topology", "v5e-16", "--steps", 20, "--batch_size", 5)
    code, out, _ = rad("inpaint", "--model", model_json, *flags)
    assert code == 0
    head, _, memory, communication, work, roofline, cycles = out.splitlines()
    assert head.startswith(
        "a filling of 5 images of 16x16 (ddpm, 20 steps, grid uniform; float32) on "
        "v5e-16: 4 devices of a host, compiled in "
    )
    assert memory.startswith("memory: ") and communication == "communication: none"
    assert "(one round of each loop, of 128)" in work
    assert " a step, " in roofline and " images/s, MFU at most " in roofline
    assert cycles.startswith("the compiler's own estimate, unmeasured: ")


@needs_libtpu
def test_two_processes_compile_at_once(model_json):
    command = (
        *(sys.executable, "-m", "rad_jax", "inpaint", "--model", str(model_json)),
        *("--dry_run", "--topology", "v5e-1", "--batch_size", "1"),
    )
    pipe = subprocess.PIPE
    both = [
        subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)
        for _ in range(2)
    ]
    for process in both:
        out, err = process.communicate(timeout=600)
        assert process.returncode == 0, err
        assert out.startswith("a filling of 1 image of 16x16 ")


@needs_libtpu
def test_too_large_a_batch_is_refused_with_both_numbers(rad):
    changes = ("train.batch_size=131072", "model.attention_resolutions=()")
    flags = [f"--config.{change}" for change in changes]
    command = ("train", "--config", DIGITS, "--dry_run", "--topology", "v5e-1")
    code, out, err = rad(*command, *flags)
    assert (code, out) == (2, "")
    [line] = [x for x in err if x.startswith("rad-jax: ")]
    assert "too large for v5e-1: it needs " in line
    assert " on each device, which has 15.75 GiB; by the estimate it fits with " in line


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


@needs_cuda
@pytest.mark.parametrize("name", GPUS)
def test_every_gpu_is_described(name):
    """A convolution by cuDNN, and a matrix product, counted right."""
    set_up()
    where = find_slice(name)

    def build(devices):
        there = everywhere(make_mesh(1, devices))

        def given(*shape):
            return jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=there)

        dimensions = ("NHWC", "HWIO", "NHWC")

        def program(x, kernel, matrix):
            window = {"window_strides": (1, 1), "padding": "SAME"}
            y = jax.lax.conv_general_dilated(
                x, kernel, **window, dimension_numbers=dimensions
            )
            return y @ matrix

        shapes = given(4, 32, 32, 64), given(3, 3, 64, 64), given(64, 64)
        return jax.jit(program), shapes

    compiled, needs = compile_for(where, build)
    assert "__cudnn$conv" in (compiled.as_text() or "")
    pixels = 4 * 32 * 32
    assert needs.parts[0].flops == 2 * pixels * 64 * (9 * 64 + 64)
    assert needs.total < where.chip.memory


@needs_cuda
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_gpu_s_program_takes_the_operations_of_the_network(model_json, dtype):
    """Those that its text has, kernel by kernel, are those of a step of the network."""
    set_up()
    model = load_shapes(model_json, dtype=dtype)
    options, batch = SamplingOptions(steps=20), Batch(4, (16, 16))
    devices, needs = compile_fill(model, options, batch, find_slice("h100"))
    _, loop = needs.parts
    assert (devices, loop.rounds, needs.loops) == (1, 128, [128])
    of_a_step = fill_flops(model, options, batch) / 20
    assert loop.flops == pytest.approx(of_a_step, rel=0.01)
    assert needs.arguments > 4 * sum(x.size for x in jax.tree.leaves(model.params))
