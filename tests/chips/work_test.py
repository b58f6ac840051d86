"""Work by the text of a program: small ones, in the forms that compilers print."""

import pytest

from rad_jax.chips import hlo
from rad_jax.chips.table import CHIPS
from rad_jax.chips.traffic import main_memory_traffic
from rad_jax.chips.work import parts

H100, V5E = (next(x for x in CHIPS if x.name == name) for name in ("h100", "v5e"))

CALL = 'custom_call_target="__cudnn$%s"'
WINDOW = "window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_o01i->b01f"
CONVOLUTION = 2 * (4 * 8 * 8 * 32) * (3 * 3 * 16)
"""Of 4 images of 8x8, from 16 channels to 32, by 3x3."""


def of(*lines: str, chip=H100):
    """The one part of a program of these lines, the parameters first."""
    text = "\n".join(f"  {line}" for line in lines)
    [part] = parts(hlo.parse(f"ENTRY %main (a: f32[]) -> f32[] {{\n{text}\n}}"), chip)
    return part


IMAGES = "%x = bf16[4,8,8,16]{3,2,1,0} parameter(0)"
KERNEL = "%k = bf16[32,3,3,16]{3,2,1,0} parameter(1)"
MAPS = "%y = bf16[4,8,8,32]{3,2,1,0} parameter(2)"


@pytest.mark.parametrize(
    ("made", "of_what", "target"),
    [
        ("bf16[4,8,8,32]{3,2,1,0}", "%x, %k", "convForward"),
        ("bf16[4,8,8,32]{3,2,1,0}", "%x, %k, %y", "convBiasActivationForward"),
        ("bf16[32,3,3,16]{3,2,1,0}", "%x, %y", "convBackwardFilter"),
        ("bf16[4,8,8,16]{3,2,1,0}", "%y, %k", "convBackwardInput"),
    ],
)
def test_cudnn_s_convolutions_take_the_same_there_and_back(made, of_what, target):
    line = f"%c = ({made}, u8[0]{{0}}) custom-call({of_what}), {WINDOW}, "
    found = of(IMAGES, KERNEL, MAPS, line + CALL % target)
    assert found.flops == CONVOLUTION
    assert found.compute == pytest.approx(CONVOLUTION / 989e12)


def test_a_convolution_s_strides_and_zeros():
    """Its labels say which axis is which; half of the gradient's input is zero."""
    image = "%x = f32[4,8,8,16]{3,2,1,0} parameter(0)"
    kernel = "%k = f32[3,3,16,32]{3,2,1,0} parameter(1)"
    line = "%c = f32[4,4,4,32]{3,2,1,0} convolution(%x, %k), window={size=3x3 stride="
    found = of(image, kernel, line + "2x2}, dim_labels=b01f_01io->b01f", chip=V5E)
    assert found.flops == 2 * (4 * 4 * 4 * 32) * (3 * 3 * 16)
    back = "%c = f32[4,16,16,32]{3,2,1,0} convolution(%x, %k), window={size=3x3 "
    found = of(image, kernel, back + "lhs_dilate=2x2}, dim_labels=b01f_01io->b01f")
    assert found.flops == 2 * (4 * 16 * 16 * 32) * (3 * 3 * 16) / 4
    assert found.compute == pytest.approx(found.flops / 494.5e12)  # in TF32


@pytest.mark.parametrize(
    "how",
    [
        "dot(%a, %b), lhs_contracting_dims={1}, rhs_contracting_dims={0}",
        'custom-call(%a, %b), custom_call_target="__cublas$lt$matmul", backend_config='
        '{"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":'
        '["1"],"rhs_contracting_dimensions":["0"]}}}',
    ],
)
def test_matrix_products(how):
    given = "%a = bf16[64,48]{1,0} parameter(0)", "%b = bf16[48,32]{1,0} parameter(1)"
    found = of(*given, f"%c = (bf16[64,32]{{1,0}}, s8[9]{{0}}) {how}")
    assert found.flops == 2 * 64 * 48 * 32


@pytest.mark.parametrize(("back", "products"), [("", 2), ("Backward", 5)])
def test_attention_is_some_matrix_products(back, products):
    query = "%q = bf16[4,256,2,64]{3,2,1,0} parameter(0)"
    scores = '"intermediate_tensor_shape": {"dimensions": ["4", "2", "256", "256"]}'
    call = f"custom-call(%q, %q, %q), {CALL % f'fmhaSoftmax{back}'}, "
    made = "%o = (bf16[4,2,256,64]{3,1,2,0}, u8[0]{0})"
    found = of(query, f"{made} {call}backend_config={{{scores}}}")
    assert found.flops == products * 2 * (4 * 2 * 256 * 256) * 64


LOOP = """\
HloModule jit_run

%product (p: f32[64,64]) -> f32[64,64] {
  %p = f32[64,64]{1,0} parameter(0)
  ROOT %d = f32[64,64]{1,0} dot(%p, %p), lhs_contracting_dims={1}
}

%inner (v: f32[64,64]) -> f32[64,64] {
  %v = f32[64,64]{1,0} parameter(0)
  ROOT %e = f32[64,64]{1,0} exponential(%v), backend_config={"estimated_cycles":"3"}
}

%body (t: f32[64,64]) -> f32[64,64] {
  %t = f32[64,64]{1,0} parameter(0)
  %f = f32[64,64]{1,0} fusion(%t), kind=kOutput, calls=%product, \
backend_config={"estimated_cycles":"50"}
  ROOT %w2 = f32[64,64]{1,0} while(%f), condition=%c2, body=%inner, \
backend_config={"known_trip_count":{"n":"4"}}
}

ENTRY %main (a: f32[64,64]) -> f32[64,64] {
  %a = f32[64,64]{1,0} parameter(0)
  %copy = f32[64,64]{1,0} copy(%a)
  ROOT %w1 = f32[64,64]{1,0} while(%copy), condition=%c1, body=%body, \
backend_config={"known_trip_count":{"n":"128"}}
}
"""
MAP = 64 * 64 * 4


def test_a_round_of_a_loop_has_the_loops_and_fusions_within_it():
    outside, loop = parts(hlo.parse(LOOP), V5E)
    assert (outside.rounds, outside.flops, outside.main) == (1, 0, 2 * MAP)
    assert (loop.rounds, loop.flops, loop.cycles) == (128, 2 * 64**3, 50 + 4 * 3)
    assert loop.main == 2 * MAP + 4 * 2 * MAP
    assert loop.compute == pytest.approx(2 * 64**3 / 197e12)
    assert loop.traffic == pytest.approx(loop.main / 819e9)
    assert loop.traffic == pytest.approx(loop.one_by_one)  # each waits for memory
    assert main_memory_traffic(hlo.parse(LOOP)) == outside.main + 128 * loop.main
    assert hlo.estimated_cycles(hlo.parse(LOOP)) == 128 * loop.cycles


def test_each_instruction_waits_for_what_it_needs_more():
    """A product of 50 us, then a copy of 40: the sum of these, not the longer one."""
    side = 4096
    given = f"%a = f32[{side},{side}]{{1,0}} parameter(0)"
    product = f"%d = f32[{side},{side}]{{1,0}} dot(%a, %a), lhs_contracting_dims={{1}}"
    copy = f"%c = f32[{side},{side}]{{1,0}} copy(%d)"
    found = of(given, product, copy)
    times = 2 * side**3 / 494.5e12, 2 * 4 * side**2 / 3.35e12
    assert found.one_by_one == pytest.approx(sum(times), rel=1e-3)
    assert found.one_by_one > max(found.compute, found.traffic)
