import jax
import pytest

from rad_jax.checkpoints.model import Model
from rad_jax.checkpoints.model_record import write_record
from rad_jax.chips.host import VARIABLES
from rad_jax.config.file import load_config
from tests.conftest import DIGITS


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """What `set_up` sets is not left to other tests."""
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    before = jax.config.jax_platforms  # pyright: ignore[reportAttributeAccessIssue]
    yield
    jax.config.update("jax_platforms", before)


SMALL = (
    *("model.model_channels=32", "model.channel_mult=(1,)"),
    "model.attention_resolutions=()",
)
"""A network that compiles in seconds."""


@pytest.fixture
def model_json(tmp_path):
    """The folder of a model for digits, without its parameters."""
    experiment = load_config(DIGITS, [f"--config.{change}" for change in SMALL])
    folder = tmp_path / "model"
    folder.mkdir()
    parametrisation = experiment.loss.parametrisation
    model = Model(experiment.model, experiment.schedule, parametrisation, {})
    write_record(folder / "model.json", model, {})
    return folder
