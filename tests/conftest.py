import pytest


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """Where a test's runs keep their results."""
    monkeypatch.setenv("SYNETUNE_FOLDER", str(tmp_path / "experiments"))
    return tmp_path / "experiments"
