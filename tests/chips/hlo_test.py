"""What is read from a program's text: small ones, in the forms that libtpu prints."""

import pytest

from rad_jax.chips import hlo

BODY = '"window_config":{"estimated_cycles":"%d","iteration_bounds":["1"]}'

LOOPS = f"""\
HloModule jit_step, is_scheduled=true

%add (x: f32[], y: f32[]) -> f32[] {{
  %x = f32[]{{:T(128)}} parameter(0)
  %y = f32[]{{:T(128)}} parameter(1)
  ROOT %sum = f32[]{{:T(128)}} add(%x, %y)
}}

%inside (p: f32[8,128]) -> f32[8,128] {{
  %p = f32[8,128]{{1,0:T(8,128)S(1)}} parameter(0)
  ROOT %exp.1 = f32[8,128]{{1,0:T(8,128)}} exponential(%p), \
backend_config={{{BODY % 7}}}
}}

%body (t: (s32[], f32[8,128])) -> (s32[], f32[8,128]) {{
  %t = (s32[]{{:T(128)}}, f32[8,128]{{1,0:T(8,128)}}) parameter(0)
  %i = s32[]{{:T(128)}} get-tuple-element(%t), index=0
  %v = f32[8,128]{{1,0:T(8,128)}} get-tuple-element(%t), index=1
  %all-reduce.2 = f32[8,128]{{1,0:T(8,128)}} all-reduce(%v), channel_id=2, to_apply=%add
  %f = f32[8,128]{{1,0:T(8,128)S(1)}} fusion(%all-reduce.2), calls=%inside, \
backend_config={{{BODY % 100}}}
  ROOT %r = (s32[]{{:T(128)}}, f32[8,128]{{1,0:T(8,128)}}) tuple(%i, %f)
}}

%condition (t: (s32[], f32[8,128])) -> pred[] {{
  %limit = s32[]{{:T(128)}} constant(3), metadata={{op_name="jit(step)/while"}}
  %c = (s32[]{{:T(128)}}, f32[8,128]{{1,0:T(8,128)}}) parameter(0)
  %j = s32[]{{:T(128)}} get-tuple-element(%c), index=0
  ROOT %less = pred[]{{:T(512)}} compare(%j, %limit), direction=LT
}}

ENTRY %main (a: f32[8,128]) -> (f32[2], bf16[4]) {{
  %a = f32[8,128]{{1,0:T(8,128)}} parameter(0)
  %zero = s32[]{{:T(128)}} constant(0)
  %start = (s32[]{{:T(128)}}, f32[8,128]{{1,0:T(8,128)}}) tuple(%zero, %a)
  %while.1 = (s32[]{{:T(128)}}, f32[8,128]{{1,0:T(8,128)}}) while(%start), \
condition=%condition, body=%body
  %mine = f32[8,128]{{1,0:T(8,128)}} get-tuple-element(%while.1), index=1
  %one = f32[2]{{0:T(128)}} slice(%mine), slice={{[0:2]}}, backend_config={{{BODY % 5}}}
  %two = bf16[4]{{0:T(128)S(1)}} convert(%one), backend_config={{{BODY % 6}}}
  ROOT %all-reduce.1 = (f32[2]{{0:T(128)}}, /*index=1*/bf16[4]{{0:T(128)S(1)}}) \
all-reduce(%one, %two), channel_id=1, to_apply=%add
}}
"""
MAP = 8 * 128 * 4


def test_a_loop_counts_as_often_as_it_goes_round():
    program = hlo.parse(LOOPS)
    assert hlo.loops(program) == [3]
    assert hlo.estimated_cycles(program) == 5 + 6 + 3 * 100  # not within the fusion
    assert hlo.collectives(program) == [
        hlo.Collective("all-reduce", 1, 2 * 4 + 4 * 2, 1, False),
        hlo.Collective("all-reduce", 1, MAP, 3, False),
    ]


def test_a_loop_may_say_it_itself_or_not_at_all():
    line = "condition=%condition, body=%body"
    known = f'{line}, backend_config={{"known_trip_count":{{"n":"4"}}}}'
    assert hlo.loops(hlo.parse(LOOPS.replace(line, known))) == [4]
    hidden = hlo.parse(LOOPS.replace("direction=LT", "direction=NE"))
    assert hlo.loops(hidden) == [None]
    assert hlo.collectives(hidden)[1] == hlo.Collective("all-reduce", 1, MAP, 1, True)
    assert hlo.estimated_cycles(hidden) == 5 + 6 + 100


GATHERED = """\
HloModule jit_step

%begins (w: f32[8,32]) -> (f32[8,32], f32[8,128]) {
  %w = f32[8,32]{1,0} parameter(0)
  %all-gather.1 = f32[8,128]{1,0} all-gather(%w), channel_id=7, dimensions={1}
  ROOT %both = (f32[8,32]{1,0}, f32[8,128]{1,0}) tuple(%w, %all-gather.1)
}

%ends (g: f32[8,128]) -> f32[8,128] {
  %g = f32[8,128]{1,0} parameter(0)
  ROOT %all-gather.2 = f32[8,128]{1,0} all-gather(%g), channel_id=7, dimensions={1}
}

ENTRY %main (w: f32[8,32]) -> f32[8,128] {
  %m = f32[8,32]{1,0} parameter(0)
  %from = (f32[8,32]{1,0}, f32[8,128]{1,0}) fusion(%m), kind=kCustom, calls=%begins
  %part = f32[8,128]{1,0} get-tuple-element(%from), index=1
  %other = (f32[8,32]{1,0}, f32[8,128]{1,0}) all-gather-start(%m), channel_id=9
  %there = f32[8,128]{1,0} all-gather-done(%other)
  ROOT %to = f32[8,128]{1,0} fusion(%part), kind=kCustom, calls=%ends
}
"""


def test_what_is_written_several_times_is_one():
    """A fusion begins it and another ends it; or it starts and is done."""
    [found] = hlo.collectives(hlo.parse(GATHERED))
    assert found == hlo.Collective("all-gather", 2, 2 * MAP, 1, False)
    assert hlo.estimated_cycles(hlo.parse(GATHERED)) is None


SLICES = """\
HloModule jit_step

ENTRY %main (a: f32[64], b: f32[32]) -> f32[64] {
  %a = f32[64]{0} parameter(0)
  %b = f32[32]{0} parameter(1)
  %g = f32[64]{0} all-gather(%b), channel_id=1, dimensions={0}
  %h = f32[64]{0} all-gather(%b), channel_id=1, dimensions={0}
  %after = token[] after-all()
  %send = (f32[64]{0}, u32[], token[]) send(%a, %after), channel_id=2, \
is_host_transfer=true, frontend_attributes={_xla_megascale_transfer_type="ALL_REDUCE"}
  %done = token[] send-done(%send), channel_id=2, is_host_transfer=true
  %other = (f32[64]{0}, u32[], token[]) send(%a, %after), channel_id=3
  ROOT %sum = f32[64]{0} add(%g, %h)
}
"""


def test_hosts_sum_between_slices():
    """What is sent for another purpose is no sum; a channel may be shared."""
    assert hlo.collectives(hlo.parse(SLICES)) == [
        hlo.Collective("all-gather", 2, 2 * 64 * 4, 1, False),
        hlo.Collective("all-reduce between slices", 1, 64 * 4, 1, False),
    ]


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ("f32[]", 4),
        ("bf16[2,3]{1,0:T(8,128)}", 12),
        ("pred[5]", 5),
        ("(u8[3], s64[2], token[])", 19),
        ("f8e4m3fn[16]", 16),
        ("s4[16]", 8),
        ("c64[2]", 16),
        ("f32[0,7]", 0),
    ],
)
def test_sizes(shape, size):
    assert hlo.size_of(shape) == size


def test_types():
    assert hlo.types(hlo.parse(LOOPS)) == {"f32", "s32", "pred", "bf16"}
    assert hlo.collectives(hlo.parse("HloModule nothing")) == []
