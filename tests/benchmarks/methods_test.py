"""The comparison of methods: exact moments, what is run, and what is said of it."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import method_oracle, method_settings, method_tables, methods
from benchmarks.exact_samplers import SCHEDULE
from rad_jax.baselines.choice import METHODS, Baseline
from rad_jax.baselines.methods import settings_of
from rad_jax.evaluate.protocol import RESULTS

MEASURED = {"command": "python x.py", "hardware": "2 CPU cores (A)", "date": "2026-1-1"}


@pytest.mark.parametrize("method", ["ddrm", "ddnm", "repaint", "score_sde", "deqir"])
def test_the_exact_error_is_that_of_samples(method):
    """Of few steps, far from the conditional, and of one given image."""
    gaussian, mask = method_oracle.data(), method_oracle.masks()["box"]
    more = (("jump_length", "2"), ("jump_samples", "2")) if method == "repaint" else ()
    settings = settings_of(Baseline(method, "fair", 5, more), SCHEDULE)
    exact = method_oracle.exact_error(gaussian, mask, settings)
    # The error is relative to the conditional's spread; of samples it has noise.
    found = method_oracle.sampled_error(gaussian, mask, settings)
    assert found == pytest.approx(exact, rel=0.1) and exact > 0.2


@pytest.mark.parametrize("method", ["ddrm", "repaint", "deqir"])
def test_a_covariance_is_that_of_every_draw_apart(method):
    """Of few steps, with the derivative by each draw kept."""
    gaussian, mask = method_oracle.data(), method_oracle.masks()["box"]
    more = (("jump_length", "2"), ("jump_samples", "2")) if method == "repaint" else ()
    settings = settings_of(Baseline(method, "fair", 5, more), SCHEDULE)
    fill, where = method_oracle.filler(gaussian, mask, settings), np.flatnonzero(mask)

    def one(draws):
        made = fill(jnp.zeros((1, 8, 8, 1)), lambda number: draws[number][None])
        return made.ravel()[where]

    effects = np.asarray(jax.jit(jax.jacrev(one))(jnp.zeros((30, 8, 8, 1))))
    effects = effects.reshape(len(where), -1)
    images = gaussian.mean[None]
    found = method_oracle.exact_moments(gaussian, mask, settings, images)
    np.testing.assert_allclose(found.covariance, effects @ effects.T, atol=1e-5)
    assert np.trace(found.covariance) > 0.01


def test_every_method_is_compared_and_named():
    assert {method for method, _ in methods.OTHERS.values()} == set(METHODS)
    assert set(method_tables.NAMES) == set(METHODS)
    case = methods.CASES["digits"]
    rows = list(methods.rows(case))
    assert len({row.folder for row in rows}) == len(rows)
    short = [row for row in rows if row.nfe < methods.LONG]
    assert {row.seed for row in short} == set(case.seeds)
    assert rows[: len(short)] == short  # hours come last


def test_what_is_left(tmp_path):
    case = methods.CASES["photos64"]
    every = methods.left(case, tmp_path)
    done = tmp_path / every[1].folder / RESULTS
    done.parent.mkdir()  # begun alone
    assert methods.left(case, tmp_path) == every
    done.write_text("{}")
    assert methods.left(case, tmp_path) == [every[0], *every[2:]]


def test_settings_and_differences_are_told():
    text = method_settings.settings_table()
    assert "| 2,410 / 2,410 |" in text and "| 375 / 25 |" in text
    assert "| 1,000 / 1,000, as many backward |" in text
    text = method_settings.differences()
    assert "- `mcg`, `norm` batch / image: " in text
    assert "- `ddrm`, `final_paste` false / true: " in text
    assert max(map(len, text.splitlines())) <= 120
    assert len(method_settings.citations().splitlines()) == len(METHODS)


def test_a_difference_without_a_reason_is_an_error(monkeypatch):
    about = method_settings.ABOUT["mcg"]
    poorer = {**method_settings.ABOUT, "mcg": about._replace(reasons={})}
    monkeypatch.setattr(method_settings, "ABOUT", poorer)
    with pytest.raises(KeyError, match="norm"):
        method_settings.differences()


def test_what_is_said_of_the_oracle():
    def row(method, preset, evaluations, box):
        return {
            "method": method,
            "preset": preset,
            "evaluations": evaluations,
            "box": box,
            "extreme": box / 2,
        }

    rad = [row("rad", "", count, 1 / count) for count in (10, 20)]
    others = [
        row(method, preset, count, error)
        for method, (preset, count, error) in itertools.product(
            METHODS, [("fair", 9, 0.5), ("published", 375, 0.25)]
        )
    ]
    record = {"rows": rad + others, "size": 8, "measured": MEASURED}
    text = method_tables.oracle_text(record)
    assert "| RAD | 0.100 | 0.050 |  |" in text
    assert "| DDRM | 0.500 (9) | 0.500 (9) | 0.250 (375) |" in text
    assert "| DDRM | 0.250 (9) | 0.250 (9) | 0.125 (375) |" in text
    assert "8 x 8 Gaussian pixels" in " ".join(text.split())
    assert "Not measured yet" in method_tables.oracle_text(None)


def test_what_is_said_of_seconds():
    names = ("rad", *METHODS)
    one = {
        name: {"evaluations": 20.0, "seconds": 0.002, "over_rad": 1.05}
        for name in names
    }
    whole = {
        name: {
            "forward": 100,
            "backward": 50 if name == "mcg" else 0,
            "seconds": 1.5,
            "over_rad_100": 7.5,
            "over_rad_20": 30.0,
        }
        for name in ("rad, 100", "rad, 20", *METHODS)
    }
    large = {name: {**x, "seconds": 2.0} for name, x in one.items()}
    record = {
        "measured": MEASURED,
        "digits": {"evaluation": one, "whole": whole},
        "ffhq256": {"evaluation": large},
    }
    text = method_tables.speed_text(record)
    assert "| DDRM | 0.002 / 1.05 | 2 / 1.05 |" in text
    expected = (
        "| MCG | 100 + 50 backward | 1.5 / 7.50 / 30.00 | 200 | 128.058 / 15.17 |"
    )
    assert expected in text
    assert "| RAD, 100 | 100 | 1.5 / 7.50 / 30.00 | 200 | 8.442 / 1.00 |" in text
    assert "| RAD, 20 | 100 | 1.5 / 7.50 / 30.00 | 200 |  |" in text
    assert method_tables.speed_text(None).startswith("not measured (`")


def test_mcg_is_measured_by_samples(monkeypatch):
    """With few of them, its error is near that of more."""
    monkeypatch.setattr(method_oracle, "GIVEN", 4)
    gaussian, mask = method_oracle.data(), method_oracle.masks()["box"]
    settings = settings_of(Baseline("mcg", "fair", 5), SCHEDULE)
    assert 0.1 < method_oracle.sampled_error(gaussian, mask, settings) < 2


def test_who_is_ahead_of_rad_with_as_many_evaluations():
    def record(name, evaluations, seed, frechet):
        scores = {
            "frechet_classifier": frechet + 0.01 * seed,
            "energy_hole": {"mean": 0.1 + 0.01 * seed, "low": 0, "high": 1},
            "accuracy": {"mean": 0.5 + 0.01 * seed, "low": 0, "high": 1},
            "psnr_hole": {"mean": 20 + seed, "low": 0, "high": 40},
            "forward_evaluations": evaluations,
            "backward_evaluations": 0.0,
        }
        masks = {"box": scores, "wide": scores | {"frechet_classifier": 1.0}}
        return {"name": name, "masks": masks, "measured": MEASURED}

    told = [
        ("RAD by LoRA", 20, 2.0),
        ("RAD by LoRA", 100, 1.0),
        ("RAD in full", 20, 3.0),
        ("DDRM", 25, 2.5),
        ("RePaint", 91, 1.5),
        ("MCG", 15, 9.0),
    ]
    records = [record(*row[:2], seed, row[2]) for row in told for seed in range(3)]
    lines = method_tables.verdicts(records).splitlines()
    assert "| DDRM | 3 | RAD by LoRA, 20 |  | Frechet (classifier): box |" in lines
    assert "| DDRM | 3 | RAD in full | Frechet (classifier): box |  |" in lines
    assert "| RePaint | 3 | RAD by LoRA, 100 |  | Frechet (classifier): box |" in lines
    assert not any(line.startswith("| MCG") for line in lines)  # RAD has none so few
