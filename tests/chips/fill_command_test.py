"""``inpaint`` and ``evaluate`` with ``--dry_run --topology``: where they refuse."""

import jax
import pytest
from jax.errors import JaxRuntimeError

from rad_jax.chips import compiled
from rad_jax.chips.compiled import TooLarge
from rad_jax.inference import dry_run, for_chips
from tests.chips.command_test import compilers  # noqa: F401  (a fixture)
from tests.chips.report_test import NEEDS

GIB = 2**30


@pytest.fixture
def fill(rad, model_json):
    """Code, stdout and the one line on stderr of a verb, by default a dry run."""

    def run(*arguments, verb="inpaint", dry_run=True):
        more = ("--dry_run",) if dry_run else ()
        code, out, err = rad(verb, "--model", model_json, *more, *arguments)
        assert (code, out) == (2, "")
        [only] = err
        return only.removeprefix("rad-jax: ")

    return run


@pytest.fixture
def too_large(monkeypatch):
    """Makes the compiler refuse a program that needs so many GiB of 16."""

    def refuse(need):
        def fail(where, build):
            raise TooLarge("too large", need and need * GIB, need and 16.0 * GIB)

        monkeypatch.setattr(for_chips, "devices_of", lambda _: jax.local_devices()[:1])
        monkeypatch.setattr(for_chips, "compile_for", fail)

    return refuse


@pytest.mark.parametrize("verb", ["inpaint", "evaluate"])
def test_a_dry_run_says_where_and_other_runs_what(fill, verb):
    assert fill(verb=verb) == (
        "--dry_run needs --topology, the chips, such as h100 or v5e-1"
    )
    assert fill("--topology", "h100", verb=verb, dry_run=False) == (
        "--topology compiles and fills nothing; add --dry_run"
    )
    assert "v5e-12 is not known; the nearest" in fill("--topology", "v5e-12", verb=verb)
    missing = {"inpaint": "--image, --output", "evaluate": "--output, --data"}[verb]
    assert fill(verb=verb, dry_run=False) == (
        f"{missing}: needed, but with --dry_run --topology CHIPS"
    )


def test_what_is_of_dry_runs_alone(fill):
    files = ("--image", "a.png", "--output", "b.png")
    line = fill(*files, "--size", "64x32", dry_run=False)
    assert line == "--size is for --dry_run --topology; pictures have their own"
    line = fill(*files, "--best_batch", dry_run=False)
    assert line == "--best_batch compares what is compiled; add --dry_run"
    with_size = ("--topology", "h100", "--size")
    for wrong in ("64", "64x", "x64", "0x64", "64x64x64"):
        assert "argument --size: " in fill(*with_size, wrong)


@pytest.mark.parametrize(
    ("verb", "flags", "text"),
    [
        ("inpaint", ["--label", 3], "the model has no classes; give no label"),
        ("inpaint", ["--method", "ddrm", "--strategy", "tile"], "strategy tile is RAD"),
        ("inpaint", ["--method", "ddrm"], "method ddrm needs a plain ADM"),
        ("inpaint", ["--steps", 5000], "steps"),
        ("evaluate", ["--method", "ddrm"], "method ddrm needs a plain ADM"),
        ("evaluate", ["--method", "originals"], "there is nothing to compile"),
        ("evaluate", ["--num_images", 3], "there are 3 images, and v5e-16 has 4 hosts"),
    ],
)
def test_options_are_refused_as_they_would_be(
    fill,
    compilers,  # noqa: F811
    monkeypatch,
    verb,
    flags,
    text,
):
    class Device:
        def __init__(self, process):
            self.process_index = process

    of_hosts = [Device(n // 4) for n in range(16)]
    monkeypatch.setattr(for_chips, "devices_of", lambda _: of_hosts)
    assert text in fill("--topology", "v5e-16", *flags, verb=verb)


def test_a_missing_model_is_named(rad, tmp_path):
    flags = ("--dry_run", "--topology", "h100")
    code, _, [line] = rad("inpaint", "--model", tmp_path / "none", *flags)
    assert code == 2 and line.endswith("none: no such folder; check the name")
    (tmp_path / "model.json").write_text("{")
    code, _, [line] = rad("inpaint", "--model", tmp_path, *flags)
    assert code == 2 and "model.json: cannot be read" in line


@pytest.mark.parametrize(
    ("need", "size", "text"),
    [
        (60.0, None, "by this number --batch_size 4 fits"),
        (17.0, None, "by this number --batch_size 15 fits"),
        (400.0, None, "not even one image fits, by this number; take --dtype bfloat16"),
        (None, None, "give a smaller --batch_size, or take --dtype bfloat16"),
        (64.0, "80x80", "give a smaller --batch_size, or take --dtype bfloat16"),
    ],
)
def test_the_largest_batch_that_fits_is_named(fill, too_large, need, size, text):
    """Of 16 images, beside parameters of a few MiB."""
    too_large(need)
    more = ("--size", size) if size else ()
    line = fill("--topology", "v5e-1", *more)
    assert line.startswith(f"too large; {text}")


@pytest.mark.parametrize(
    ("batch", "most", "best", "rates"),
    [
        (64, 64, 8, "2: 100, 4: 133, 8: 160, 16: 114, 32: 57.1, 64: 28.6"),
        (6, 64, 6, "2: 100, 4: 133, 6: 150"),
        (1, 64, 1, "1: 66.7"),
        (64, 7, 4, "2: 100, 4: 133"),
    ],
)
def test_the_best_batch_is_found(
    rad,
    compilers,  # noqa: F811
    monkeypatch,
    model_json,
    batch,
    most,
    best,
    rates,
):
    """Of two devices, where more than 8 images take more than twice as long."""

    def compile_fill(model, options, batch, where):
        if batch.count > most:
            raise TooLarge("too large")
        images = batch.count
        milliseconds = 10 + 5 * images if images <= 8 else images**2 / 64 * 35
        cycles = 1_500_000 * milliseconds
        part = NEEDS.parts[0]._replace(cycles=cycles)
        return min(2, images), NEEDS._replace(parts=[part])

    monkeypatch.setattr(dry_run, "compile_fill", compile_fill)
    monkeypatch.setattr(dry_run, "host_devices", lambda _: [1, 2])
    flags = ("--dry_run", "--topology", "v5e-4", "--best_batch", "--batch_size", batch)
    code, out, _ = rad("inpaint", "--model", model_json, *flags)
    found = out.splitlines()
    assert code == 0 and found[0].startswith(f"a filling of {best} image")
    told = f"images/s at --batch_size, by the compiler's estimate: {rates}"
    assert found[-1] == told


def test_the_best_batch_of_what_never_fits_is_an_error(fill, too_large):
    too_large(400.0)
    line = fill("--topology", "v5e-1", "--best_batch")
    assert line.startswith("too large; not even one image fits")


MISMATCH = (
    "INVALID_ARGUMENT: Mismatched PJRT plugin PJRT API version (0.54) and framework "
    "PJRT API version 0.99)."
)


def test_a_libtpu_of_another_version_is_one_line(
    fill,
    compilers,  # noqa: F811
    monkeypatch,
):
    """In jaxlib's words."""

    def fail(*args, **options):
        raise JaxRuntimeError(MISMATCH)

    monkeypatch.setattr(compiled.topologies, "get_topology_desc", fail)
    assert fill("--topology", "v5e-1") == (
        f"the compiler cannot describe v5e-1: {MISMATCH}; its version may not be the "
        "one that jaxlib wants: pip install 'rad-jax[tpu]'"
    )
