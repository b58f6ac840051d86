"""What the ablation runs, and what it says of its results."""

import pytest

from benchmarks import ablation, ablation_tables
from rad_jax.config.file import load_config
from rad_jax.evaluate.protocol import RESULTS
from rad_jax.evaluate.results import Cell


def test_every_variant_is_a_config_of_its_own():
    configs = {
        name: load_config(
            "configs/digits_lora.py",
            [f"--config.{change}" for change in (*ablation.RANK, *changes)],
        )
        for name, changes in ablation.VARIANTS.items()
    }
    assert len(set(map(repr, configs.values()))) == len(configs) == 11
    ranks = {name: config.lora.rank for name, config in configs.items()}
    assert ranks["RAD"] == ranks["soft masks"] == 4 and ranks["LoRA rank 64"] == 64
    assert ranks["all parameters"] == 0


def test_what_is_left(tmp_path):
    every = ablation.left(tmp_path)
    assert len(every) == 34 and len({run.folder for run in every}) == 34
    done = tmp_path / every[1].folder / RESULTS
    done.parent.mkdir()  # begun alone
    assert ablation.left(tmp_path) == every
    done.write_text("{}")
    assert ablation.left(tmp_path) == [every[0], *every[2:]]


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (Cell(1.5, 1.0, 2.0, 3), -1),
        (Cell(3.5, 2.0, 4.0, 3), 0),
        (Cell(7.0, 6.0, 8.0, 3), 1),
        (Cell(5.5, 3.0, 9.0, 1), 1),  # that interval is over images
        (Cell(4.0, None, None, 1), 0),
    ],
)
def test_sides(one, expected):
    other = Cell(4.0, 3.0, 5.0, 3)
    assert ablation_tables.side("accuracy", one, other) == expected
    assert ablation_tables.side("frechet_classifier", one, other) == -expected


def record(name, seed, frechet, accuracy):
    scores = {
        "frechet_classifier": frechet,
        "accuracy": {"mean": accuracy, "low": 0, "high": 1},
        "psnr_hole": {"mean": 20 + seed, "low": 0, "high": 40},
    }
    return {
        "name": name,
        "masks": {"box": scores, "wide": scores | {"frechet_classifier": 1.0}},
        "training_steps": 7,
        "measured": {"hardware": "h", "date": "d"},
    }


def test_verdicts():
    records = [record("RAD", s, 1 + s / 10, 0.9 - s / 10) for s in range(3)]
    records += [record("x", s, 0.5 + s / 10, 0.65 - s / 10) for s in range(3)]
    records.append(record("y", 0, 1.1, 0.95))
    lines = ablation_tables.verdicts(records).splitlines()
    assert lines[2] == ("| x | 3 | Frechet (classifier): box | accuracy: box, wide |")
    assert lines[3] == "| y | 1 | accuracy: box, wide |  |"
    assert "`python benchmarks/ablation.py` on h, d." in lines[-1]
