"""Names of slices, and what JAX is asked for."""

import subprocess
import sys

import pytest

from rad_jax.chips.slices import find_slice, names
from rad_jax.errors import UserError


@pytest.mark.parametrize(
    ("name", "topology", "devices", "options"),
    [
        ("v5e-16", "v5e:4x4", 16, {}),
        ("v5litepod-16", "v5e:4x4", 16, {}),
        ("V5E-8", "v5e:2x4", 8, {}),
        ("v5e-1", "v5e:1x1", 1, {"chips_per_host_bounds": (1, 1, 1)}),
        ("v5e-256", "v5e:16x16", 256, {"wrap": (True, True, False)}),
        ("v6e-128", "v6e:8x16", 128, {"wrap": (False, True, False)}),
        # By TensorCores, of which a chip has two.
        ("v4-32", "v4:2x2x4", 16, {"chip_config_name": "megacore"}),
        ("v5p-32", "v5p:2x2x4", 16, {}),
        ("v5p-128", "v5p:4x4x4", 64, {"wrap": (True, True, True)}),
        # So are JAX's devices.
        ("tpu7x-16", "tpu7x:2x2x2", 16, {}),
        ("v5e:4x4", "v5e:4x4", 16, {}),
        ("v5p:2x4x8", "v5p:2x4x8", 64, {}),
        ("v6e:1x1", "v6e:1x1", 1, {"chips_per_host_bounds": (1, 1, 1)}),
        ("2xv5e-16", "v5e:4x4", 32, {"num_slices": 2}),
        ("4xv4-32", "v4:2x2x4", 64, {"chip_config_name": "megacore", "num_slices": 4}),
        ("2xv5e:2x2", "v5e:2x2", 8, {"num_slices": 2}),
        ("1xv5e-16", "v5e:4x4", 16, {}),
        ("h100", "h100", 1, {"topology": "1x1x1"}),
        ("h100x8", "h100", 8, {"topology": "1x1x8"}),
        ("H100x16", "h100", 16, {"topology": "1x2x8"}),
    ],
)
def test_what_names_mean(name, topology, devices, options):
    found = find_slice(name)
    assert found.name == name
    assert (found.topology, found.devices, found.options) == (
        topology,
        devices,
        options,
    )
    assert found.platform == ("cuda" if "h100" in topology else "tpu")


def test_every_name_is_found_and_counts_its_chips():
    for name in names():
        found = find_slice(name)
        if found.platform == "tpu":
            count = int(name.split("-")[1])
            assert found.chips * found.chip.cores == count
            assert found.chips <= found.chip.pod


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("v5e-12", "the nearest are v5e-8 and v5e-16"),
        ("v5litepod-500", "the nearest are v5e-256 and v5e-128"),
        ("v5p-4", "the nearest are v5p-8 and v5p-16"),
        ("b200", "the nearest are h200 and h100"),
        ("v6-16", "the nearest are v6e-16 and "),
        ("unknown", "use v5e-16 or h100x8"),
        ("v9:4x4", "is not known"),
        ("v5e:4", "is not known"),
        ("v5e:2x2x2", "v5e has 2 axes, such as v5e:4x4"),
        ("v5e:3x5", "hosts are 2 x 2 chips"),
        ("v5e:32x32", "256 the most of a v5e slice"),
        ("v4:0x0x0", "4096 the most of a v4 slice"),
        ("2xv5e-12", "--topology v5e-12 is not known; the nearest are v5e-8"),
        ("2xh100x8", "GPUs have no slices; of 2 hosts: h100x16"),
        ("0xv5e-16", "is not known"),
        ("h100x9", "give up to 8 GPUs, or a multiple of it"),
    ],
)
def test_what_is_none(name, text):
    with pytest.raises(UserError, match=rf"^--topology {name}") as error:
        find_slice(name)
    assert text in str(error.value)


def test_table_slices_and_host_import_no_jax():
    program = (
        "import sys, rad_jax.chips.table, rad_jax.chips.slices, rad_jax.chips.host; "
        "assert not {'jax', 'numpy'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
