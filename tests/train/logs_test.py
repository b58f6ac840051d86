"""Weights & Biases, by a stand-in: the package is an extra."""

import json
import sys
import types

import numpy as np
import pytest

from rad_jax.errors import UserError
from rad_jax.train.logs import Logs


@pytest.fixture
def wandb(monkeypatch):
    """Records what it is told."""
    calls = []
    module = types.ModuleType("wandb")
    module.__dict__.update(
        init=lambda **options: calls.append(("init", options)),
        log=lambda values, step: calls.append(("log", step, values)),
        finish=lambda: calls.append(("finish",)),
        Image=lambda path: ("picture", path),
    )
    monkeypatch.setitem(sys.modules, "wandb", module)
    return calls


def test_what_is_logged_goes_to_wandb_too(tmp_path, wandb):
    (tmp_path / "config.json").write_text(json.dumps({"seed": 3}))
    with Logs(tmp_path, 0, "project") as logs:
        logs.scalars(5, {"loss": 0.5}, {"img_per_s": 7.0})
        path = logs.picture(5, np.zeros((4, 4, 3), np.uint8))
    name = tmp_path.name
    options = {"project": "project", "name": name, "id": name, "resume": "allow"}
    assert wandb == [
        ("init", {**options, "config": {"seed": 3}}),
        ("log", 5, {"loss": 0.5, "img_per_s": 7.0}),
        ("log", 5, {"samples": ("picture", str(path))}),
        ("finish",),
    ]


def test_without_a_project_it_is_not_imported(tmp_path, wandb):
    with Logs(tmp_path, 0) as logs:
        logs.scalars(1, {"loss": 0.5}, {"img_per_s": 7.0})
    assert wandb == []


def test_missing_wandb_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"pip install 'rad-jax\[wandb\]', or set"):
        Logs(tmp_path, 0, "project")
