"""What each chip has, as its maker publishes it: memory, bandwidth, peak, clock.

This is the package's only table of chips. It imports no JAX.
"""

import dataclasses

GIB, GB, TERA = 2**30, 1e9, 1e12


@dataclasses.dataclass(frozen=True)
class Chip:
    """Figures of a whole chip, of which JAX may make several devices.

    Attributes:
      name: as names of slices begin, such as "v5e".
      kinds: first words of `jax.Device.device_kind`, longer ones in rows above.
      memory: bytes.
      bandwidth: of that memory, bytes per second.
      half: dense matrix operations per second in 16 bits, without sparsity.
      single: the same in what JAX multiplies float32 in unless it is told otherwise:
        bfloat16 on a TPU, TF32 on a GPU that has it.
      source: where these are from.
      host: chips of a usual host.
      devices: that JAX makes of a chip.
      cores: TensorCores of a chip where names of slices count those, else 1.
      axes: of a TPU's network, 2 or 3; 0 of what has no slices.
      pod: chips of the largest slice.
      clock: cycles per second, None where not known.
      capability: NVIDIA's compute capability, the number before the point; 0 for a TPU.
      bfloat16: whether 16 bits may be bfloat16.
    """

    name: str
    kinds: tuple[str, ...]
    memory: int
    bandwidth: float
    half: float
    single: float
    source: str
    host: int
    devices: int = 1
    cores: int = 1
    axes: int = 0
    pod: int = 0
    clock: float | None = None
    capability: int = 0
    bfloat16: bool = True


def _tpu(name, kinds, memory, bandwidth, peak, page, **more) -> Chip:
    """Memory in GiB, bandwidth in GB/s, peak in TFLOP/s of bfloat16."""
    figures = (memory * GIB, bandwidth * GB, peak * TERA, peak * TERA)
    source = f"Google Cloud TPU documentation, {page}"
    return Chip(name, kinds, *figures, source, host=4, **more)


def _gpu(name, kind, memory, bandwidth, half, single, sheet, **more) -> Chip:
    """Memory in GiB, bandwidth in GB/s, peaks in TFLOP/s."""
    figures = (memory * GIB, bandwidth * GB, half * TERA, single * TERA)
    source = f"NVIDIA data sheet, {sheet}"
    return Chip(name, (kind,), *figures, source, host=8, **more)


# Clocks follow from the published peaks: a multiplication and an addition per cycle in
# each cell of the matrix units, 128 x 128 cells a unit, 4 units a core (v3: 2).
# NVIDIA's peaks are those at the full power of the form that is named.
CHIPS = (
    _tpu("v3", ("TPU v3",), 32, 900, 123, "TPU v3", devices=2, clock=0.94e9),
    _tpu(
        "v4",
        ("TPU v4",),
        32,
        1228,
        275,
        "TPU v4",
        cores=2,
        axes=3,
        pod=4096,
        clock=1.05e9,
    ),
    _tpu(
        "v5e", ("TPU v5 lite",), 16, 819, 197, "TPU v5e", axes=2, pod=256, clock=1.5e9
    ),
    _tpu(
        "v5p",
        ("TPU v5p", "TPU v5"),
        95,
        2765,
        459,
        "TPU v5p",
        cores=2,
        axes=3,
        pod=8960,
        clock=1.75e9,
    ),
    _tpu("v6e", ("TPU v6 lite",), 32, 1638, 918, "TPU v6e", axes=2, pod=256),
    _tpu(
        "tpu7x",
        ("TPU7x",),
        192,
        7380,
        2307,
        "TPU7x (Ironwood)",
        devices=2,
        cores=2,
        axes=3,
        pod=9216,
    ),
    _gpu("a100", "NVIDIA A100", 80, 2039, 312, 156, "A100 80GB SXM", capability=8),
    _gpu("h100pcie", "NVIDIA H100 PCIe", 80, 2000, 756, 378, "H100 PCIe", capability=9),
    _gpu("h100nvl", "NVIDIA H100 NVL", 94, 3900, 835, 417.5, "H100 NVL", capability=9),
    _gpu("h100", "NVIDIA H100", 80, 3350, 989, 494.5, "H100 SXM", capability=9),
    _gpu("h200nvl", "NVIDIA H200 NVL", 141, 4800, 835, 417.5, "H200 NVL", capability=9),
    _gpu("h200", "NVIDIA H200", 141, 4800, 989, 494.5, "H200 SXM", capability=9),
    _gpu("l4", "NVIDIA L4", 24, 300, 121, 60.5, "L4", capability=8),
    _gpu(
        "v100",
        "Tesla V100",
        32,
        900,
        125,
        15.7,
        "V100 SXM2, in float16",
        capability=7,
        bfloat16=False,
    ),
)


def chip_of(device_kind: str) -> Chip | None:
    """The chip whose `jax.Device.device_kind` this is; None where it is not known."""
    for chip in CHIPS:
        for kind in chip.kinds:
            if f"{device_kind} ".startswith((f"{kind} ", f"{kind}-")):
                return chip
    return None


def peak_flops(chip: Chip | None, dtype: str) -> float | None:
    """Matrix operations per second that one device can do at most, as published.

    Args:
      chip: None for one that is not known: a CPU, for example.
      dtype: of the network, such as "bfloat16".

    Returns:
      The rate, or None where it is not known.
    """
    if chip is None or (dtype == "bfloat16" and not chip.bfloat16):
        return None
    peaks = {"bfloat16": chip.half, "float16": chip.half, "float32": chip.single}
    return peaks[dtype] / chip.devices if dtype in peaks else None
