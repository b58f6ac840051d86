import contextlib
import os
import re
import shutil
import tempfile
from pathlib import Path

# Compiling is most of the time. What one test compiles, other tests and the processes
# that they start find here. JAX reads the variable when it is imported.
CACHE = "JAX_COMPILATION_CACHE_DIR"
_ours = None if CACHE in os.environ else tempfile.mkdtemp(prefix="rad-jax-test-")
os.environ.setdefault(CACHE, _ours or "")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "configs" / "digits.py"

# A network that compiles in seconds. Its EMA's decay is reached in the third step.
TINY = (
    "model.model_channels=32",
    "model.channel_mult=(1,)",
    "model.attention_resolutions=()",
    "model.num_head_channels=32",
    "loss.parametrisation=eps",
    "optimizer.learning_rate=1e-3",
    "optimizer.warmup_steps=3",
    "optimizer.decay=constant",
    "optimizer.ema_decay=0.2",
    "train.batch_size=4",
    "train.num_steps=10",
    "train.log_every=1",
    "train.checkpoint_every=5",
    "train.sample_every=0",
    "train.sample_steps=2",
)


def pytest_configure(config):
    # Two processes of a test run may meet at one file; who reads half of it compiles.
    for verb in ("reading", "writing"):
        config.addinivalue_line(
            "filterwarnings", f"ignore:Error {verb} persistent compilation cache entry"
        )


def pytest_unconfigure():
    if _ours:
        shutil.rmtree(_ours, ignore_errors=True)


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture
def quickly():
    """Compiles in less time: for what runs little."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@contextlib.contextmanager
def compiling():
    """The names of what is compiled meanwhile, or read from the tests' cache."""
    names = []

    def listen(event, duration_secs, **about):
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(about["fun_name"])

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)


# Lines whose numbers are those of the machine.
PROGRESS = re.compile(r"[\w ]+: \d+(/\d+)? \w+, |rad-jax: needs about ")


@pytest.fixture
def rad(capsys):
    """``rad("info", folder)`` runs a verb: exit code, stdout, stderr but progress."""
    from rad_jax.cli.main import main

    def run(*arguments):
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        return code, out, [x for x in err.splitlines() if not PROGRESS.match(x)]

    return run


@pytest.fixture
def bucket(monkeypatch):
    """An empty gs://bucket."""
    from tests.files.fake_bucket import fake_bucket

    with fake_bucket() as fake:
        for name, value in fake.environment.items():
            monkeypatch.setenv(name, value)
        yield fake


@pytest.fixture(scope="session")
def s3_server():
    """One for all tests: the libraries keep what they have once connected to."""
    from tests.files.fake_s3 import fake_s3

    with fake_s3() as fake:
        yield fake


@pytest.fixture
def s3(s3_server, monkeypatch):
    """An empty s3://bucket."""
    s3_server.empty()
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture(scope="session")
def digits_dir(tmp_path_factory):
    """Folder of data sets that holds the digits."""
    from rad_jax.prepare.command import prepare

    folder = tmp_path_factory.mktemp("data")
    prepare("digits", folder)
    return folder


@pytest.fixture(scope="session")
def tiny(digits_dir):
    """``tiny("train.num_steps=4", ...)``: overrides of configs/digits.py."""

    def overrides(*changes):
        data = f"data.data_dir={digits_dir}"
        return [f"--config.{change}" for change in (data, *TINY, *changes)]

    return overrides


@pytest.fixture(scope="session")
def tiny_experiment(tiny):
    """``tiny_experiment("train.num_steps=4", ...)``: the experiment of these."""
    from rad_jax.config.file import load_config

    return lambda *changes: load_config(DIGITS, tiny(*changes))


@pytest.fixture(scope="session")
def tiny_run(tiny_experiment, tmp_path_factory):
    """Workdir and last state of 10 steps without a stop; do not write there."""
    from rad_jax.train.loop import train
    from rad_jax.train.stop import StopRequest

    workdir = tmp_path_factory.mktemp("runs") / "tiny"
    state = train(tiny_experiment("train.sample_every=5"), workdir, StopRequest())
    return workdir, state


LORA = (
    "lora.rank=2",
    "lora.alpha=3.0",
    "train.num_steps=4",
    "train.checkpoint_every=2",
)


@pytest.fixture(scope="session")
def lora_experiment(tiny_experiment, tiny_run):
    """``lora_experiment("train.num_steps=2", ...)``: adapters of ``tiny_run``."""
    base, _ = tiny_run
    return lambda *changes: tiny_experiment(f"pretrained={base}", *LORA, *changes)


@pytest.fixture(scope="session")
def lora_run(lora_experiment, tmp_path_factory):
    """Workdir and last state of 4 steps with adapters; do not write there."""
    from rad_jax.train.loop import train
    from rad_jax.train.stop import StopRequest

    workdir = tmp_path_factory.mktemp("runs") / "lora"
    return workdir, train(lora_experiment(), workdir, StopRequest())
