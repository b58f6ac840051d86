"""``rad-jax train --dry_run --topology``: its lines where it cannot compile."""

import json
import os
import subprocess
import sys

import jax
import pytest
from jax.errors import JaxRuntimeError

from rad_jax.chips import compiled, host
from rad_jax.chips.slices import find_slice
from tests.chips.report_test import NEEDS
from tests.conftest import DIGITS


@pytest.fixture
def line(rad):
    """The one line on stderr of a command that fails; code 2, nothing on stdout."""

    def run(*arguments, dry_run=True):
        more = ["--dry_run"] if dry_run else []
        code, out, err = rad("train", "--config", DIGITS, *more, *arguments)
        assert (code, out) == (2, "")
        [only] = err
        return only

    return run


@pytest.fixture
def compilers(monkeypatch):
    """Of all chips, as if they were installed."""
    monkeypatch.setattr(host, "PLUGINS", {"tpu": ("json",), "cuda": ("json",)})


@pytest.fixture
def no_compilers(monkeypatch):
    missing = {"tpu": ("no_such_module",), "cuda": ("no_such_module", "nor_this")}
    monkeypatch.setattr(host, "PLUGINS", missing)


def test_unknown_slices_are_named_with_the_nearest(line):
    assert line("--topology", "v5e-12") == (
        "rad-jax: --topology v5e-12 is not known; the nearest are v5e-8 and v5e-16 (or "
        "a shape, such as v5e:4x4)"
    )


def test_it_does_not_train(line, tmp_path):
    arguments = ("--topology", "v5e-16", "--workdir", tmp_path)
    assert line(*arguments, dry_run=False) == (
        "rad-jax: --topology compiles and trains nothing; add --dry_run"
    )


@pytest.mark.parametrize(
    ("topology", "change", "text"),
    [
        (
            "v5e-256",
            "train.batch_size=32",
            "batch_size is 32, which 256 devices cannot",
        ),
        ("v5e-16", "train.fsdp=3", "train.fsdp is 3, which does not divide 16"),
        ("v4-32", "train.fsdp=32", "train.fsdp is 32, which does not divide 16"),
        ("v5e-16", "train.microbatches=4", "in train.microbatches=4 parts; make it a"),
    ],
)
def test_devices_share_a_step_equally(line, topology, change, text):
    assert text in line("--topology", topology, f"--config.{change}")


@pytest.mark.parametrize(
    ("topology", "text"),
    [
        ("v5e-16", "--topology v5e-16 needs libtpu: pip install 'rad-jax[tpu]'"),
        (
            "h100x8",
            "--topology h100x8 needs JAX's plug-in for CUDA: "
            "pip install 'rad-jax[cuda]'",
        ),
    ],
)
def test_missing_compilers_are_named(line, no_compilers, topology, text):
    assert line("--topology", topology) == f"rad-jax: {text}"


TOO_LARGE = (
    "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
    "temporaries (89.34G) exceeds available HBM (15.75G).",
    "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory "
    "space hbm. Used 89.34G of 15.75G hbm. Exceeded hbm capacity by 73.59G.",
)


@pytest.mark.parametrize("message", TOO_LARGE)
def test_what_is_too_large_is_told_with_both_numbers(
    line, compilers, monkeypatch, message
):
    def fail(where):
        raise JaxRuntimeError(message)

    monkeypatch.setattr(compiled, "devices_of", fail)
    change = "--config.train.batch_size=32768"
    found = line("--topology", "v5e-16", change)
    assert found.startswith(
        "rad-jax: too large for v5e-16: it needs 89.34 GiB on each device, which has "
        "15.75 GiB; by the estimate it fits with train.microbatches="
    )


def test_a_program_that_only_the_chip_would_refuse_is_refused_here(
    compilers, monkeypatch
):
    """As the compiler for GPUs compiles what is too large for them."""
    needs = NEEDS._replace(total=100 * 2**30)
    monkeypatch.setattr(compiled, "devices_of", lambda where: [])
    monkeypatch.setattr(compiled, "_needs", lambda *of: needs)
    function = jax.jit(lambda x: x)
    with pytest.raises(compiled.TooLarge) as error:
        compiled.compile_for(find_slice("h100"), lambda devices: (function, [1.0]))
    assert str(error.value) == (
        "too large for h100: it needs 100.0 GiB on each device, which has 80 GiB"
    )
    assert (error.value.need, error.value.there) == (100 * 2**30, 80 * 2**30)


def test_what_the_compiler_cannot_describe_is_told(line, compilers, monkeypatch):
    def fail(*args, **options):
        raise JaxRuntimeError("INVALID_ARGUMENT: no such chip\nmore")

    monkeypatch.setattr(compiled.topologies, "get_topology_desc", fail)
    assert line("--topology", "v5e-16") == (
        "rad-jax: the compiler cannot describe v5e-16: INVALID_ARGUMENT: no such chip"
    )


PROGRAM = """
import json, os, sys
from rad_jax.chips import host

host.PLUGINS = {"tpu": ("no_such_module",)}
from rad_jax.cli.main import main

code = main(["train", "--config", sys.argv[1], "--dry_run", "--topology", "v5e-16"])
import jax

found = {name: os.environ[name] for name in host.VARIABLES}
print(json.dumps([code, jax.config.jax_platforms, found]))
"""


@pytest.mark.parametrize("given", [{}, {"ALLOW_MULTIPLE_LIBTPU_LOAD": "0"}])
def test_the_environment_is_set_before_jax_reads_it(given):
    """Where it does not say otherwise."""
    kept = {k: v for k, v in os.environ.items() if k not in host.VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(DIGITS)],
        capture_output=True,
        text=True,
        check=True,
        env=kept | given,
    )
    assert json.loads(done.stdout) == [2, "cpu", host.VARIABLES | given]
