import os
import secrets

# Nodes that tests start, and the drivers that connect to them, share a token (read when Ray is imported).
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))

import pytest
from helpers import SPACE, two_cpus

import async_hpo
from tools.browser import MISSING, find_browser


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """Where a test's runs keep their results."""
    monkeypatch.setenv("SYNETUNE_FOLDER", str(tmp_path / "experiments"))
    return tmp_path / "experiments"


@pytest.fixture
def go(tmp_path):
    """The file that ends trials of `report_until`."""
    return tmp_path / "go"


@pytest.fixture(params=["ForkserverBackend", pytest.param("RayBackend", marks=pytest.mark.cluster)], scope="module")
def name_of_backend(request):
    if request.param == "ForkserverBackend":
        yield request.param
        return
    with two_cpus():
        yield request.param  # the first back-end starts Ray, the others find it
        import ray  # after the back-end has, which sets options

        ray.shutdown()


@pytest.fixture
def backend_for(name_of_backend, request):
    def make(objective, space=SPACE, preload=None, share=()):
        # The test's own module: trials refer to what it defines, and would import it anew.
        preload = [request.module.__name__] if preload is None else preload
        return getattr(async_hpo, name_of_backend)(objective, space, preload=preload, share=share)

    return make


@pytest.fixture(scope="module")
def chromium():
    """A browser; without one the test is skipped."""
    if not find_browser():
        pytest.skip(MISSING)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        yield browser
        browser.close()
