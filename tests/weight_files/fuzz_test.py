"""The first cases of `fuzz`, in a process of little memory."""

import subprocess
import sys

CASES = 400
"""Of each of four strategies; the same in every run."""


def test_readers_of_files_made_at_random():
    command = [sys.executable, "-m", "tests.weight_files.fuzz", "--cases", str(CASES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith(f"{4 * CASES} cases of 1 seeds, ")
