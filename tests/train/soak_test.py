"""A long run needs no more memory at its end, and no more open files."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import DIGITS


def resident_mib(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS: the process has ended")


@pytest.mark.slow
def test_memory_and_files_are_flat(digits_dir, tmp_path, capfd):
    """2000 steps of the digits config, 40 checkpoints and 4 sample grids."""
    changes = {
        "data.data_dir": digits_dir,
        "train.checkpoint_every": 50,
        "train.sample_every": 500,
        "train.log_every": 10,
    }
    arguments = ["--config", str(DIGITS), "--workdir", str(tmp_path / "run")]
    arguments += [f"--config.{name}={value}" for name, value in changes.items()]
    process = subprocess.Popen(
        [sys.executable, "-m", "rad_jax", "train", *arguments],
        stderr=subprocess.DEVNULL,
    )
    lines = tmp_path / "run" / "metrics.jsonl"
    seen = []
    while process.poll() is None:
        time.sleep(2)
        step = 10 * len(lines.read_text().splitlines()) if lines.exists() else 0
        try:
            files = len(os.listdir(f"/proc/{process.pid}/fd"))
            seen.append((step, resident_mib(process.pid), files))
        except (OSError, AssertionError):
            break
    assert process.wait() == 0
    # The first grid compiles the sampler, and the first checkpoints fill buffers; after
    # the last step the process is ending.
    steps, memory, files = np.array([x for x in seen if 600 <= x[0] < 2000]).T
    slope = 1000 * np.polyfit(steps, memory, 1)[0]
    with capfd.disabled():
        print(
            f"\nsoak: {slope:+.1f} MiB per 1000 steps of {memory.mean():.0f} MiB, "
            f"{files.min():.0f} to {files.max():.0f} open files, {len(steps)} samples"
        )
    assert slope < 0.05 * memory.mean()  # heaps grow a little as they fragment
    half = len(files) // 2
    assert files[half:].max() <= files[:half].max() + 2
