"""Where, with what and when a benchmark was measured, and the file that keeps it."""

import datetime
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

PACKAGES = ("jax", "flax", "orbax-checkpoint", "numpy")


def measured() -> dict[str, Any]:
    """The block "measured" of a result; call it before the work, for the load."""
    device = jax.devices()[0]
    cores = f"{os.cpu_count()} CPU cores ({cpu_model()})"
    accelerator = f"{jax.device_count()} x {device.device_kind}, "
    return {
        "command": " ".join(["python", *sys.argv]),
        "hardware": cores if device.platform == "cpu" else accelerator + cores,
        "load_average_1min": os.getloadavg()[0],
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in PACKAGES},
        },
        "date": datetime.date.today().isoformat(),
    }


def store(path: Path, record: Mapping[str, Any]) -> None:
    """Writes a result."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=2) + "\n")


def cpu_model() -> str:
    """The processor's name, where Linux tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2] for line in lines if line.startswith("model name")]
    return names[0].strip() if names else platform.processor()
