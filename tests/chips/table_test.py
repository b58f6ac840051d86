"""The table of chips: what is published, and that its figures go together."""

import pytest

from rad_jax.chips.table import CHIPS, chip_of, peak_flops


@pytest.mark.parametrize(
    ("kind", "dtype", "peak"),
    [
        ("TPU v4", "bfloat16", 275e12),
        ("TPU v5 lite", "bfloat16", 197e12),
        ("TPU v5", "bfloat16", 459e12),
        ("TPU v5p", "float32", 459e12),
        ("TPU v6 lite", "bfloat16", 918e12),
        ("TPU7x", "bfloat16", 2307e12 / 2),
        ("NVIDIA A100-SXM4-80GB", "bfloat16", 312e12),
        ("NVIDIA A100-SXM4-80GB", "float32", 156e12),
        ("NVIDIA H100 80GB HBM3", "bfloat16", 989e12),
        ("NVIDIA H100 PCIe", "bfloat16", 756e12),
        ("NVIDIA H200", "float16", 989e12),
        ("NVIDIA H200 NVL", "float16", 835e12),
        ("NVIDIA L4", "bfloat16", 121e12),
        ("NVIDIA L40S", "bfloat16", None),
        ("Tesla V100-SXM2-16GB", "float16", 125e12),
        ("Tesla V100-SXM2-16GB", "bfloat16", None),
        ("NVIDIA H100 80GB HBM3", "float64", None),
        ("cpu", "float32", None),
    ],
)
def test_published_peaks_of_a_device(kind, dtype, peak):
    assert peak_flops(chip_of(kind), dtype) == peak


def test_devices_of_tpu_v3_are_half_chips():
    assert peak_flops(chip_of("TPU v3"), "bfloat16") == 123e12 / 2


def test_names_and_kinds_find_their_own_chip():
    assert len({chip.name for chip in CHIPS}) == len(CHIPS)
    for chip in CHIPS:
        assert all(chip_of(kind) is chip for kind in chip.kinds)
        assert chip.source.startswith(("Google Cloud TPU doc", "NVIDIA data sheet"))


@pytest.mark.parametrize("chip", CHIPS, ids=lambda chip: chip.name)
def test_figures_are_of_their_units(chip):
    """Between 16 and 256 GiB; reading it all takes 10 to 100 ms; FLOP for each byte."""
    assert 16 <= chip.memory / 2**30 <= 256
    assert 0.01 < chip.memory / chip.bandwidth < 0.1
    assert 100 < chip.half / chip.bandwidth < 600
    assert chip.single <= chip.half
    assert (chip.capability > 0) == chip.source.startswith("NVIDIA")


@pytest.mark.parametrize("chip", [x for x in CHIPS if x.clock], ids=lambda x: x.name)
def test_clocks_are_those_that_the_peaks_follow_from(chip):
    """Each cell of a matrix unit, 128 x 128, multiplies and adds in each cycle."""
    units = {"v3": 2 * 2, "v4": 2 * 4, "v5e": 4, "v5p": 2 * 4}[chip.name]
    assert units * 128**2 * 2 * chip.clock == pytest.approx(chip.half, rel=0.01)
