import jax
import pytest

from rad_jax.chips.host import VARIABLES


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """What `set_up` sets is not left to other tests."""
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    before = jax.config.jax_platforms  # pyright: ignore[reportAttributeAccessIssue]
    yield
    jax.config.update("jax_platforms", before)
