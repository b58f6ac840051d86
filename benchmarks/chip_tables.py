"""What `chip_programs.py` found, as Markdown."""

from collections.abc import Mapping
from typing import Any

from benchmarks.prose import filled

COMMAND = "python benchmarks/chip_programs.py --topology h100"


def rounding_text(record: Mapping[str, Any] | None) -> str:
    """Parameters that are rounded before a loop, and in it."""
    if record is None:
        return f"Not compiled yet (`{COMMAND}`)."
    lines = [
        "| images | parameters rounded | traffic of a step, GB | temporaries, MiB |",
        "|---|---|---|---|",
    ]
    for row in record["rows"]:
        [rounds] = row["loops"]
        lines.append(
            f"| {row['batch']} | {row['rounded']} "
            f"| {row['main_memory_traffic'] / rounds / 1e9:.2f} "
            f"| {row['temporaries'] / 2**20:.0f} |"
        )
    machine = record["measured"]
    text = (
        "The filling of the FFHQ-256 network in bfloat16, compiled for one H100; "
        "nothing ran there. Traffic is of the chip's main memory, by the program's "
        f"text. `{COMMAND}` on {machine['hardware']}, jax "
        f"{machine['versions']['jax']}, {machine['date']}."
    )
    return "\n".join([*lines, "", filled(text)])
