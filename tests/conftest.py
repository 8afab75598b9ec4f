import os
import secrets

import pytest

# Nodes that tests start, and the drivers that connect to them, share a token (read when Ray is imported).
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """Where a test's runs keep their results."""
    monkeypatch.setenv("SYNETUNE_FOLDER", str(tmp_path / "experiments"))
    return tmp_path / "experiments"
