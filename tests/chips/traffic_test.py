"""Bytes of main memory by the text of a program: small ones."""

from rad_jax.chips import hlo
from rad_jax.chips.traffic import main_memory_traffic
from tests.chips.hlo_test import LOOPS, MAP


def traffic(function: str, call: str) -> int:
    """Of one fusion of a map p and a vector q."""
    return main_memory_traffic(
        hlo.parse(f"""\
%inside (p: f32[8,128], q: f32[128]) -> f32[8] {{
  %p = f32[8,128]{{1,0}} parameter(0)
  %q = f32[128]{{0}} parameter(1)
{function}
}}

ENTRY %main (a: f32[8,128], b: f32[128]) -> f32[8] {{
  %a = f32[8,128]{{1,0}} parameter(0)
  %b = f32[128]{{0}} parameter(1)
  ROOT %made = {call} fusion(%a, %b), kind=kLoop, calls=%inside
}}
""")
    )


def test_traffic_is_that_of_the_main_memory():
    """Of the map: the sum reads and writes it, the fusion reads it."""
    slices = 8 + 8 + 8  # read and written, then read to be converted
    sums = 8 + 8
    expected = 3 * 3 * MAP + slices + sums
    assert main_memory_traffic(hlo.parse(LOOPS)) == expected


ROW = """\
  %half = bf16[8,128]{1,0} convert(%p)
  %row = bf16[1,128]{1,0} slice(%half), slice={[0:1], [0:128]}
  %flat = bf16[128]{0} bitcast(%row)
"""


def test_of_what_a_fusion_slices_the_slice_is_read():
    root = "  ROOT %wide = f32[128]{0} convert(%flat)"
    assert traffic(ROW + root, "f32[128]{0}") == 128 * 4 + 128 * 4


def test_what_it_reads_otherwise_too_is_read_whole():
    root = """\
  %wide = f32[128]{0} convert(%flat)
  %c = f32[] constant(0)
  %sum = f32[8]{0} reduce(%p, %c), dimensions={1}, to_apply=%add
  ROOT %both = (f32[128]{0}, f32[8]{0}) tuple(%wide, %sum)"""
    results = 128 * 4 + 8 * 4
    assert traffic(ROW + root, "(f32[128]{0}, f32[8]{0})") == MAP + results


def test_a_slice_of_joined_maps_reads_no_more_of_each():
    function = """\
  %all = f32[16,128]{1,0} concatenate(%p, %p), dimensions={0}
  %row = f32[1,128]{1,0} slice(%all), slice={[0:1], [0:128]}
  %long = f32[8,128]{1,0} broadcast(%q), dimensions={1}
  %none = f32[1,128]{1,0} slice(%long), slice={[0:1], [0:128]}
  ROOT %sum = f32[1,128]{1,0} add(%row, %none)"""
    assert traffic(function, "f32[1,128]{1,0}") == 2 * 128 * 4 + 128 * 4 + 128 * 4
