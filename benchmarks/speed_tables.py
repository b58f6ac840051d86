"""Results of the speed benchmarks as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.prose import filled, source_of

Record = Mapping[str, Any]

MISSING = "not measured"
NETWORKS = {
    "digits": "digits 16x16",
    "ffhq256": "FFHQ 256",
    "imagenet256": "ImageNet 256",
}
OURS = ("ADM", "RAD", "RAD, by pixels")
THEIRS = ("PyTorch ADM", "PyTorch RAD, by pixels")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        f"| {' | '.join(cells)} |".replace("| --- ", "|---") for cells in lines
    )


def unet_table(record: Record | None) -> str:
    """The network's forward pass: milliseconds, and ratios to our ADM."""
    if record is None:
        return f"{MISSING} (`python benchmarks/unet.py`)"
    rows = []
    for row in record["rows"]:
        cells = [_network(row)]
        if row.get("out_of_memory"):
            rows.append(
                [*cells, "out of memory", *[""] * (len(OURS) + len(THEIRS) - 1)]
            )
            continue
        for name in OURS:
            share = row["share_of_peak"][name]
            cells.append(f"{_time(row, name)}, {share:.0%} of the peak")
        cells += [_peer(row, name) for name in THEIRS]
        rows.append(cells)
    return table(
        ["network, batch", *OURS, *(f"{x}: eager; best" for x in THEIRS)], rows
    )


def inpainting_table(record: Record | None) -> str:
    """Whole inpainting: images per second by steps."""
    if record is None:
        return f"{MISSING} (`python benchmarks/inpainting.py`)"
    found = {(_network(row), row["steps"]): row for row in record["rows"]}
    networks = list(dict.fromkeys(name for name, _ in found))
    steps = sorted({count for _, count in found}, reverse=True)
    rows = []
    for name in networks:
        cells = [found.get((name, count)) for count in steps]
        adds = [row["sampler_adds"] for row in cells if row and "sampler_adds" in row]
        most = f"{max(adds):+.1%}" if adds else ""
        rows.append([name, *map(_rate, cells), most])
    head = ["network, batch", *(f"{count} steps" for count in steps)]
    return table([*head, "the sampler adds at most"], rows)


def training_table(record: Record | None) -> str:
    """A training step: images per second, ratios, share of the peak, memory."""
    if record is None:
        return f"{MISSING} (`python benchmarks/training.py`)"
    rows = []
    for row in record["rows"]:
        if row.get("out_of_memory"):
            rows.append([_network(row), "", "out of memory", "", "", ""])
            continue
        for name, rate in row["images_per_second"].items():
            size = row["bytes"][name]
            rows.append(
                [
                    _network(row),
                    name,
                    f"{rate:.3g}",
                    f"{row['over_adm'][name]:.2f}",
                    f"{row['share_of_peak'][name]:.0%}",
                    MISSING if size is None else f"{size / 2**20:,.0f} MiB",
                ]
            )
    head = ["network, batch", "what trains", "images/s", "time over ADM's"]
    return table([*head, "of the peak", "memory"], rows)


def cold_start_table(record: Record | None) -> str:
    """From a command's start to its picture."""
    if record is None:
        return f"{MISSING} (`python benchmarks/cold_start.py`)"
    rows = [
        [
            NETWORKS[row["case"]],
            *(f"{row['seconds'][name]:.1f} s" for name in ("first", "again")),
        ]
        for row in record["rows"]
    ]
    head = [
        f"`rad-jax inpaint`, {record['steps']} steps",
        "first run",
        "compiled before",
    ]
    return table(head, rows)


def choices_table(record: Record | None) -> str:
    """What other ways to compute parts of the network take."""
    if record is None:
        return f"{MISSING} (`python benchmarks/choices.py`)"
    ways = list(record["rows"][0]["over_built"])[1:]
    rows = [
        [way, *(f"{row['over_built'][way]:.2f}" for row in record["rows"])]
        for way in ways
    ]
    head = ["instead of what is built", *map(_network, record["rows"])]
    return table(head, rows)


def eigen_text(record: Record | None) -> str:
    """Calls with convolutions by Eigen over those without, a line each."""
    if record is None:
        return f"{MISSING} (`python benchmarks/eigen.py`)"
    head = ("network", "images", "seconds by YNN", "by Eigen", "Eigen over YNN")
    rows = [
        (
            f"{row['config']}{', gradient' * row['gradient']}",
            f"{row['batch']} of {row['size']}x{row['size']}",
            _seconds(row["seconds"]["default"]),
            _seconds(row["seconds"]["Eigen"]),
            f"{row['over_default']:.2f}",
        )
        for row in record["rows"]
    ]
    return f"{table(head, rows)}\n\n{filled(source_of(record))}"


def last_convolution_text(record: Record | None) -> str:
    """What three products for six change, beside the rest in bfloat16."""
    if record is None:
        return f"{MISSING} (`python benchmarks/last_convolution.py`)"
    told = "; ".join(
        f"{row['config']} {row['three']:.1e}, beside {row['bfloat16']:.1e} of all but "
        "it in bfloat16"
        for row in record["rows"]
    )
    return filled(
        f"Three products change the network's output by (root mean square, relative): "
        f"{told}. {source_of(record)}"
    )


def fast_paths_table(record: Record | None) -> str:
    """What fast ways change: PSNR to what is built, and the demo's metrics."""
    if record is None:
        return f"{MISSING} (`python benchmarks/fast_paths.py`)"
    rows = []
    for way, kinds in record["ways"].items():
        cells = [way]
        for seeds in kinds.values():
            accuracies = [row["accuracy"] for row in seeds]
            errors = [row["hole_rmse"] for row in seeds]
            decibels = sum(row["psnr"] for row in seeds) / len(seeds)
            apart = "" if decibels >= 150 else f"; {decibels:.0f} dB"
            cells.append(f"{_range(accuracies)} / {_range(errors)}{apart}")
        rows.append(cells)
    kinds = next(iter(record["ways"].values()))
    return table([record["protocol"], *kinds], rows)


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.3f} to {max(values):.3f}"


def summary_table(unet: Record | None) -> str:
    """The README's rows: RAD beside ADM and PyTorch, on 256x256 networks."""
    if unet is None:
        return f"{MISSING} (`make bench`)"
    rows = []
    for row in unet["rows"]:
        if row["case"] == "digits" or row.get("out_of_memory"):
            continue
        cells = [_network(row), _seconds(row["seconds"]["RAD"])]
        cells.append(f"{row['over_adm']['RAD']:.2f}")
        for name in THEIRS:
            way = _best(row, name)
            over = row["over_adm"]
            cells.append(f"{over[way] / over['RAD']:.2f}" if way else MISSING)
        rows.append(cells)
    return table(
        [
            "one network call",
            "RAD",
            "time / our plain ADM's",
            "PyTorch's plain ADM / RAD",
            "PyTorch's RAD, by pixels / RAD",
        ],
        rows,
    )


def _network(row: Record) -> str:
    return f"{NETWORKS[row['case']]}, {row['dtype']}, {row['batch']}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def _time(row: Record, name: str) -> str:
    ratio = "" if name == "ADM" else f" ({row['over_adm'][name]:.2f})"
    return _seconds(row["seconds"][name]) + ratio


def _best(row: Record, name: str) -> str | None:
    """PyTorch's fastest way to run a network."""
    ways = [way for way in row["seconds"] if way.startswith(f"{name}: ")]
    return min(ways, key=row["seconds"].__getitem__, default=None)


def _peer(row: Record, name: str) -> str:
    best = _best(row, name)
    if best is None:
        return MISSING
    eager = _time(row, f"{name}: eager")
    return f"{eager}; {_time(row, best)} {best.partition(': ')[2]}"


def _rate(row: Record | None) -> str:
    if row is None:
        return ""
    if row.get("out_of_memory"):
        return "out of memory"
    return f"{row['images_per_second']:.3g} images/s"
