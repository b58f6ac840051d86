"""launch/local/launch.py, with children that do not take long."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rad_jax.runtime import distributed

LAUNCH = Path(__file__).parents[2] / "launch" / "local" / "launch.py"


def start(shell, *flags):
    """Two processes of a shell command, which knows its index as $I."""
    command = ("bash", "-c", f"I=$RAD_JAX_PROCESS_ID; {shell}")
    return subprocess.Popen(
        [sys.executable, LAUNCH, *flags, "--", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(shell, *flags):
    """Exit code, sorted lines of stdout, lines of stderr."""
    process = start(shell, *flags)
    out, err = process.communicate(timeout=30)
    return process.returncode, sorted(out.splitlines()), err.splitlines()


def test_processes_are_told_what_the_contract_says():
    names = [*distributed.EXPLICIT, distributed.EXPECTED, "JAX_NUM_CPU_DEVICES"]
    shell = f"echo {' '.join(f'${name}' for name in names)}; echo on stderr >&2"
    code, out, err = run(shell, "--processes", "3", "--devices", "4")
    assert (code, err) == (0, [])
    assert out[1::2] == [f"[{index}] on stderr" for index in range(3)]
    told = [re.fullmatch(r"\[(.)\] 127.0.0.1:(\d+) 3 \1 3 4", x) for x in out[::2]]
    assert all(told) and len({found[2] for found in told if found}) == 1


def test_the_first_bad_exit_code_is_told_and_returned():
    shell = (
        'if [ $I = 1 ]; then exit 2; fi; trap "echo told; exit 0" TERM; sleep 9 & wait'
    )
    assert run(shell) == (
        2,
        ["[0] told"],
        ["launch: process 1 ended with exit code 2; stopping [0]"],
    )


def test_a_signal_that_ends_a_process_is_named():
    code, out, err = run("if [ $I = 0 ]; then kill -KILL $$; fi; sleep 9")
    assert (code, out) == (137, [])
    assert err == ["launch: process 0 ended with SIGKILL; stopping [1]"]


def test_who_does_not_stop_is_killed_with_what_it_started():
    shell = 'if [ $I = 1 ]; then exit 3; fi; trap "" TERM; sleep 99; sleep 99'
    begun = time.monotonic()
    code, _, err = run(shell, "--grace", "0.3")
    assert code == 3 and time.monotonic() - begun < 9
    assert err[1:] == ["launch: not stopped after 0.3 s, killed: [0]"]


def test_nobody_waits_for_what_a_process_has_left_behind():
    begun = time.monotonic()
    assert run("sleep 20 & echo done") == (0, ["[0] done", "[1] done"], [])
    assert time.monotonic() - begun < 15


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_go_on_to_all_processes(number):
    name = number.name.removeprefix("SIG")
    process = start(f'trap "echo {name}; exit 0" {name}; echo up; sleep 9 & wait')
    assert process.stdout
    up = {process.stdout.readline() for _ in range(2)}
    assert up == {"[0] up\n", "[1] up\n"}
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert sorted(out.splitlines()) == [f"[0] {name}", f"[1] {name}"]


def test_nothing_is_left_when_it_is_killed(tmp_path):
    process = start(f"echo $$ >{tmp_path}/$I; echo up; sleep 99; sleep 99")
    assert process.stdout
    for _ in range(2):
        process.stdout.readline()
    process.kill()
    process.communicate()
    for index in range(2):
        child = Path("/proc") / (tmp_path / str(index)).read_text().strip() / "stat"
        for _ in range(100):
            if not child.exists() or " Z " in child.read_text():
                break
            time.sleep(0.05)
        else:
            raise AssertionError(f"process {index} is still there")


def test_a_mistake_takes_one_line():
    def fails(*command):
        found = subprocess.run(
            [sys.executable, LAUNCH, *command], capture_output=True, text=True
        )
        assert found.returncode == 2
        return found.stderr.splitlines()[-1]

    assert fails("--", "no-such-program") == (
        "launch: no-such-program: No such file or directory"
    )
    assert "1 or more" in fails("--processes", "0", "--", "true")
    assert "required: command" in fails("--processes", "2")
