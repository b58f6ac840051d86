import pytest

from tests.sharing.fake_hub import WRITE, fake_hub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty Hub on loopback, an empty cache, and a token that may write."""
    from huggingface_hub import constants

    with fake_hub() as found:
        cache = tmp_path / "home" / "hub"
        monkeypatch.setenv("HF_TOKEN", WRITE)
        # The library reads its variables when it is imported.
        monkeypatch.setattr(constants, "ENDPOINT", found.url)
        template = f"{found.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_URL_HOSTS", frozenset({"127.0.0.1"}))
        monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "home" / "t"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        yield found
