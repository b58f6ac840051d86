"""Settings of the comparison methods, as commands ask for them."""

import subprocess
import sys

import numpy as np
import pytest

from rad_jax.baselines import deqir, jumps, methods, repaint, score_sde
from rad_jax.baselines.choice import METHODS, PRESETS, Baseline, parse_settings
from rad_jax.baselines.methods import evaluations, settings_of
from rad_jax.errors import UserError
from tests.baselines.golden_runs import SCHEDULE


def settings(method, preset="fair", nfe=None, *pairs):
    return settings_of(Baseline(method, preset, nfe, parse_settings(pairs)), SCHEDULE)


def test_names_are_those_of_the_modules():
    assert tuple(methods.MODULES) == METHODS
    for name, module in methods.MODULES.items():
        known = PRESETS if name == "repaint" else PRESETS[:2]
        assert set(module.PRESETS) == set(known)


def test_importing_a_choice_does_not_import_jax():
    code = "import sys, rad_jax.baselines.choice; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("method", "preset", "count"),
    [
        ("score_sde", "fair", 1000),
        ("ddrm", "fair", 20),
        ("repaint", "published", 2410),  # the official schedule's
        ("repaint", "mcg", 20_000),
        ("mcg", "fair", 1000),
        ("ddnm", "fair", 100),
        ("deqir", "published", 375),
        ("deqir", "fair", 25),
    ],
)
def test_evaluations_of_the_presets(method, preset, count):
    assert evaluations(SCHEDULE, settings(method, preset)) == count


def test_evaluations_of_jumps():
    travelling = settings("ddnm", "fair", None, "travel_length=10", "travel_repeat=3")
    assert evaluations(SCHEDULE, travelling) == 280  # as the authors count it
    short = repaint.RePaint(steps=20, jump_length=3, jump_samples=2)
    assert evaluations(SCHEDULE, short) == 20 + 3 * 6


def test_evaluations_are_the_steps_down_of_the_chain():
    for steps in (1, 2, 5, 10, 25, 31):
        for jump in ((1, 1), (1, 10), (2, 3), (10, 10), (40, 2)):
            down = np.diff(jumps.jump_indices(steps, [jump])) < 0
            assert jumps.evaluations(steps, jump) == down.sum()


@pytest.mark.parametrize("nfe", [1, 7, 20, 100, 250, 1000])
@pytest.mark.parametrize("method", METHODS)
def test_nfe_is_used_up_but_never_exceeded(method, nfe):
    found = settings(method, "fair", nfe)
    count = evaluations(SCHEDULE, found)
    assert 0.75 * nfe <= count <= nfe or (method == "repaint" and count <= nfe)
    if method != "deqir":  # which cannot take every number of steps
        more = settings(method, "fair", nfe + 1) if nfe < 1000 else found
        assert evaluations(SCHEDULE, more) >= count


def test_repaints_jumps_keep_their_share_of_the_chain():
    found = settings("repaint", "fair", 250)
    assert isinstance(found, repaint.RePaint)
    assert found.jump_length == max(1, found.steps * 10 // 250)
    given = settings("repaint", "fair", 250, "jump_length=5")
    assert isinstance(given, repaint.RePaint) and given.jump_length == 5


def test_single_settings_are_read_as_their_types():
    pairs = ("steps=50", "variance=small", "paste_level=t", "redraws=2")
    assert settings("score_sde", "fair", None, *pairs) == score_sde.ScoreSDE(
        steps=50, variance="small", paste_level="t", redraws=2
    )
    pasted = settings("ddrm", "fair", None, "final_paste=false", "eta=0.5")
    assert "eta=0.5" in methods.described(pasted)
    assert "final_paste=false" in methods.described(pasted)
    text = methods.described(pasted).split(", ")
    assert settings("ddrm", "published", None, *text) == pasted


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("repant",), r"method is 'repant'.*nearest is 'repaint'"),
        (("ddrm", "mcg"), "preset of ddrm is 'mcg'; use one of fair, published"),
        (("ddrm", "fare"), "nearest is 'fair'"),
        (("ddrm", "fair", 0), "nfe is 0; it must be >= 1"),
        (("ddrm", "fair", 9, "steps=9"), "nfe and the setting steps say the same"),
        (("ddrm", "fair", None, "stps=9"), r"no setting 'stps'.*nearest is 'steps'"),
        (("ddrm", "fair", None, "steps"), "set is 'steps'; give KEY=VALUE"),
        (("ddrm", "fair", None, "eta=1", "eta=0"), "set gives eta twice"),
        (("ddrm", "fair", None, "steps=1.5"), "must be a whole number"),
        (("ddrm", "fair", None, "eta=x"), "'x'; it must be a number"),
        (("ddrm", "fair", None, "eta=nan"), "'nan'; it must be a number"),
        (("ddrm", "fair", None, "final_paste=1"), "use true or false"),
        (("ddrm", "fair", None, "steps=1001"), "steps is 1001; it must lie in 1"),
        (("mcg", "fair", None, "steps=0"), "steps is 0; it must lie in 1"),
        (("score_sde", "fair", None, "steps=0"), "steps is 0"),
        (("repaint", "fair", None, "steps=2000"), "steps is 2000"),
        (("ddnm", "fair", None, "steps=2000"), "steps is 2000"),
        (("deqir", "fair", None, "steps=300"), "makes 333; use 333"),
        (("deqir", "published", 10), "nfe is 10; deqir so takes at least 15"),
    ],
)
def test_what_cannot_be_is_said(arguments, message):
    with pytest.raises(UserError, match=message):
        settings(*arguments)


def test_a_number_of_passes_is_the_most(recwarn):
    published = settings("deqir", "published", 300)
    assert isinstance(published, deqir.DeqIR) and published.steps == 20
