"""The commands keep what they compile; the library does not."""

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import filelock
import pytest

from rad_jax.checkpoints.model import Model
from rad_jax.checkpoints.model_folder import write_model
from rad_jax.diffusion.schedule_config import ScheduleConfig
from rad_jax.errors import UserError
from rad_jax.files.paths import cache_home
from rad_jax.models.network import abstract_params
from rad_jax.runtime import compilation_cache
from rad_jax.runtime.compilation_cache import enable_compilation_cache
from tests.conftest import DIGITS, PROGRESS, ROOT
from tests.inference.generate_test import FIXED
from tests.models.adm_files import random_params

# What JAX tells of its cache while a command runs.
COUNT = """
import collections, json, sys
import jax
counts = collections.Counter()
jax.monitoring.register_event_listener(lambda name, **_: counts.update([name]))
from rad_jax.cli.main import main
code = main(sys.argv[1:])
names = ("cache_hits", "cache_misses")
print(json.dumps([counts["/jax/compilation_cache/" + name] for name in names]))
sys.exit(code)
"""


@pytest.fixture
def environment(tmp_path):
    """Without the tests' cache, and with a home of its own."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    return env | {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}


def run(env, program, *arguments):
    """Its output and what it says on stderr but for progress."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, [x for x in done.stderr.splitlines() if not PROGRESS.match(x)]


@pytest.mark.slow
def test_the_second_command_compiles_nothing(environment, tmp_path):
    write_model(
        tmp_path / "model",
        Model(FIXED, ScheduleConfig(), "eps", random_params(abstract_params(FIXED))),
        {},
    )

    def sample(name):
        output = tmp_path / f"{name}.png"
        files = ("--model", tmp_path / "model", "--output", output)
        out, err = run(environment, COUNT, "sample", *files, "--respacing", "2")
        return *json.loads(out.splitlines()[-1]), err, output.read_bytes()

    hits, compiled, err, picture = sample("one")
    assert (hits, err) == (0, []) and compiled > 0
    folder = tmp_path / "cache" / "rad_jax" / "compiled"
    entries = sorted(folder.glob("*-cache"))
    assert len(entries) == compiled
    assert folder.stat().st_mode & 0o777 == 0o700
    assert sample("two") == (compiled, 0, [], picture)

    # One entry was cut off while it was written, and another is damaged.
    largest = max(entries, key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:1000])
    Path(str(largest).removesuffix("-cache") + "-atime").unlink()
    other = next(path for path in entries if path != largest)
    other.write_bytes(b"damaged")
    hits, again, err, found = sample("three")
    assert (hits, again, found) == (compiled - 2, 2, picture)
    assert largest.stat().st_size > 1000
    # JAX's warning and the line of code that it comes from.
    assert len(err) == 2 and "Error reading persistent compilation cache" in err[0]


def test_the_library_keeps_nothing(environment):
    program = """
import jax, jax.numpy as jnp, rad_jax, rad_jax.inference.inpaint
rad_jax.load
jnp.arange(3) + 1
assert jax.config.jax_compilation_cache_dir is None
"""
    run(environment, program)
    assert not Path(environment["XDG_CACHE_HOME"]).exists()


@pytest.fixture
def updates(monkeypatch, tmp_path):
    """What is set of a JAX that is as it comes; ``updates.config`` are its values."""
    monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    class Updates(dict):
        config = types.SimpleNamespace(
            jax_enable_compilation_cache=True, jax_compilation_cache_dir=None
        )
        processes = 1

    updates = Updates()
    updates.config.update = updates.__setitem__
    jax = types.SimpleNamespace(
        config=updates.config, process_count=lambda: updates.processes
    )
    monkeypatch.setattr(compilation_cache, "jax", jax)
    return updates


def test_where_and_how_much_is_kept(updates, tmp_path, capsys):
    enable_compilation_cache()
    assert updates == {
        "jax_compilation_cache_dir": str(tmp_path / "cache" / "rad_jax" / "compiled"),
        "jax_compilation_cache_max_size": 2 * 1024**3,
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }
    assert capsys.readouterr() == ("", "")


def test_variables_of_jax_come_first(updates, monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_MAX_SIZE", "1000")
    enable_compilation_cache()
    assert set(updates) == {
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
    }


@pytest.mark.parametrize(
    "name, value",
    [
        ("jax_compilation_cache_dir", "elsewhere"),
        ("jax_compilation_cache_dir", ""),
        ("jax_enable_compilation_cache", False),
    ],
)
def test_the_users_folder_or_wish_for_none(updates, tmp_path, name, value):
    setattr(updates.config, name, value)
    enable_compilation_cache()
    assert updates == {} and not (tmp_path / "cache").exists()


def test_the_users_folder_is_used(environment, tmp_path):
    environment["JAX_COMPILATION_CACHE_DIR"] = str(tmp_path / "mine")
    program = """
import jax, rad_jax.runtime.compilation_cache
rad_jax.runtime.compilation_cache.enable_compilation_cache()
print(jax.config.jax_compilation_cache_dir, jax.config.jax_compilation_cache_max_size)
"""
    assert run(environment, program) == (f"{tmp_path / 'mine'} -1\n", [])
    assert not (tmp_path / "cache").exists()


def test_several_processes_keep_nothing(updates, tmp_path):
    updates.processes = 2
    enable_compilation_cache()
    assert updates == {} and not (tmp_path / "cache").exists()


def no_name(_):
    raise KeyError("getpwuid(): uid not found: 12345")


def no_locks(*_):
    raise NotImplementedError("FileSystem does not appear to support flock")


@pytest.mark.parametrize(
    "where, patch, reason",
    [
        ("a file", None, "Not a directory: "),
        ("cache", ("pathlib.Path.owner", no_name), "uid not found"),
        ("cache", ("filelock.FileLock.acquire", no_locks), "support flock"),
    ],
)
def test_a_folder_that_cannot_be_used_is_one_line(
    updates, monkeypatch, tmp_path, capsys, where, patch, reason
):
    (tmp_path / "a file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / where))
    if patch:
        monkeypatch.setattr(*patch)
    enable_compilation_cache()
    assert updates == {}
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("rad-jax: what is compiled is not kept (")
    assert reason in line and "set JAX_COMPILATION_CACHE_DIR to a folder" in line


FULL = """
import resource
from rad_jax.runtime.compilation_cache import enable_compilation_cache

enable_compilation_cache()
resource.setrlimit(resource.RLIMIT_FSIZE, (100, -1))
import jax, jax.numpy as jnp, warnings

print(jax.jit(jnp.sin)(jnp.zeros(3)), jax.jit(jnp.cos)(jnp.zeros(3)))
warnings.warn("another")
"""


def test_a_full_disk_is_one_line(environment):
    """A limit on file size fails like one, with EFBIG instead of ENOSPC."""
    out, err = run(environment, FULL)
    assert out == "[0. 0. 0.] [1. 1. 1.]\n"
    told, other = (x for x in err if not x.startswith("  "))
    assert told == (
        "rad-jax: what is compiled is not kept (OSError: [Errno 27] File too large); "
        "set JAX_COMPILATION_CACHE_DIR to a folder that can be written"
    )
    assert other.endswith("UserWarning: another")


def test_an_entry_that_another_command_is_writing_stays(updates, tmp_path):
    folder = cache_home() / "compiled"
    folder.mkdir(parents=True)
    (folder / "x-cache").touch()
    with filelock.FileLock(folder / ".lockfile"):
        enable_compilation_cache()
    assert (folder / "x-cache").exists() and updates
    enable_compilation_cache()
    assert not (folder / "x-cache").exists()


@pytest.mark.parametrize("base", [None, "", "relative"])
def test_the_folder_of_the_specification(monkeypatch, base):
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if base is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", base)
    assert cache_home() == Path("/home/somebody/.cache/rad_jax")


FILES = "--image a --mask b --output c"


@pytest.mark.parametrize(
    "arguments",
    [
        f"inpaint --model m {FILES}",
        "sample --model m --output c",
        "demo --output c",
        f"train --config {DIGITS} --workdir w",
    ],
)
def test_commands_that_compile_keep_it(monkeypatch, tmp_path, rad, arguments):
    def asked():
        raise UserError("far enough")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "rad_jax.runtime.compilation_cache.enable_compilation_cache", asked
    )
    assert rad(*arguments.split()) == (2, "", ["rad-jax: far enough"])
    assert list(tmp_path.iterdir()) == []
