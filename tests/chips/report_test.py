"""The lines of the report, of made-up numbers."""

import pytest

from rad_jax.chips.compiled import Needs
from rad_jax.chips.hlo import Collective
from rad_jax.chips.report import Filling, call_seconds, lines
from rad_jax.chips.slices import find_slice
from rad_jax.chips.work import Part

NEEDS = Needs(
    arguments=2**20,
    temporaries=2**21,
    total=3 * 2**20,
    peak=2**21,
    flops=197e9,
    accessed=3e9,
    main=1_638_000_000,
    parts=[Part(1, 197e9, 1_638_000_000, 15_000_000, 1e-3, 2e-3, 2.5e-3)],
    collectives=[
        Collective("all-reduce", 1, 2**20, 1, False),
        Collective("all-gather", 2, 2**11, 3, False),
        Collective("all-to-all", 1, 100, 1, True),
    ],
    loops=[32, None],
    cycles=15_000_000,
    seconds=1.0,
)


def test_each_number_stands_in_the_report():
    """Memory takes 2 ms, 197 GFLOP one, the network's 98.5 GFLOP half of one."""
    assert lines(find_slice("v5e-16"), NEEDS, 98.5e9, "bfloat16") == [
        "memory: 3.0 MiB of 16.0 GiB (arguments 1.0 MiB, temporaries 2.0 MiB, 2.0 MiB "
        "at the fullest moment)",
        "communication: 1 all-reduce, 1.0 MiB; 2 all-gather, 2.0 KiB, 3 times each; "
        "1 all-to-all, 100 B, in a loop",
        "work: 197 GFLOP, 3 GB accessed (one round of each loop, of 32, ?), "
        "1.64 GB of main memory (of unknown rounds one)",
        "roofline: 2 ms by memory (197 TFLOP/s in bfloat16, 819 GB/s of main memory, "
        "as published): MFU at most 25.0%",
        "the compiler's own estimate, unmeasured: 15.00 Mcycles = 10 ms at 1.5 GHz, "
        "without communication: MFU 5.0%",
    ]


def test_the_work_of_loops_that_the_compiler_counts_once_is_not_lost():
    found = lines(find_slice("v5e-16"), NEEDS, 985e9, "bfloat16")
    assert "roofline: 5 ms by compute" in found[3] and "at most 100.0%" in found[3]


def test_a_device_may_be_half_a_chip():
    found = lines(find_slice("tpu7x-8"), NEEDS, 98.5e9, "bfloat16")
    assert found[0].startswith("memory: 3.0 MiB of 96.0 GiB (")
    assert "1.15 PFLOP/s in bfloat16, 3.69 TB/s" in found[3]
    assert found[4].endswith("the clock of tpu7x is not known")


@pytest.mark.parametrize("unknown", ["flops", "accessed"])
def test_on_gpus_the_network_s_own_work_is_counted(unknown):
    """Kernels do not overlap: their sum, 2.5 ms, of which the network's is 0.1."""
    needs = NEEDS._replace(**{unknown: None}, cycles=None, peak=0, loops=[32])
    needs = needs._replace(collectives=[])
    assert lines(find_slice("h100x8"), needs, 98.9e9, "bfloat16") == [
        "memory: 3.0 MiB of 80.0 GiB (arguments 1.0 MiB, temporaries 2.0 MiB)",
        "communication: none",
        "work: 98.9 GFLOP of the network, by rad_jax's count since the compiler makes "
        "none; 1.64 GB of main memory (all rounds)",
        "roofline: 2.5 ms mostly by memory, kernel after kernel (989 TFLOP/s in "
        "bfloat16, 3.35 TB/s of main memory, as published): MFU at most 4.0%",
    ]


STEPS = NEEDS._replace(
    parts=[
        Part(1, 0, 1e9, 1e6, 1e-3, 2e-3, 3e-3),
        Part(32, 0, 1, 1, 1e-9, 1e-9, 1e-9),
        Part(128, 0, 8.19e9, 15e6, 1e-3, 10e-3, 10.5e-3),
    ],
    loops=[32, 128],
)


def test_a_filling_is_timed_by_its_steps_not_by_those_that_do_nothing():
    """Of 100 steps of 128: 2 + 1000 ms; 1 + 1500 million cycles at 1.5 GHz."""
    found = lines(find_slice("v5e-1"), STEPS, 19.7e12, "bfloat16", Filling(16, 100))
    assert found[2:] == [
        "work: 197 GFLOP, 3 GB accessed (one round of each loop, of 32, 128), 8.19 GB "
        "of main memory a step, 820 GB the call",
        "roofline: 10 ms a step, 1 s the call, by memory (197 TFLOP/s in bfloat16, 819 "
        "GB/s of main memory, as published): at most 16 images/s, MFU at most 10.0%",
        "the compiler's own estimate, unmeasured: 1501.00 Mcycles = 10 ms a step, 1 s "
        "the call, at 1.5 GHz, without communication: 16 images/s, MFU 10.0%",
    ]


def test_a_filling_of_another_method_has_all_rounds_and_no_steps():
    found = lines(find_slice("h100"), STEPS, 1e9, "bfloat16", Filling(16, None))
    assert "roofline: 1.35 s mostly by memory" in found[3]  # 3 + 128 x 10.5 ms
    assert "at most 11.9 images/s" in found[3] and " a step" not in found[2]


def test_how_long_a_call_takes_is_the_compiler_s_word_where_it_has_one():
    one = Filling(1, None)
    text = "the compiler's estimate"
    assert call_seconds(find_slice("v5e-16"), NEEDS, one) == (0.01, text)
    roof = call_seconds(find_slice("v5e-16"), NEEDS._replace(cycles=None), one)
    assert roof == (0.002, "the roofline")
    unknown_clock = call_seconds(find_slice("tpu7x-8"), NEEDS, one)
    assert unknown_clock[1] == "the roofline"
    assert (
        call_seconds(find_slice("h100"), NEEDS._replace(cycles=None), one)[0] == 2.5e-3
    )
