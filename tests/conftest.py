import pytest
from backend_helpers import backend_for, folder, go, name_of_backend

from tools.browser import MISSING, find_browser

__all__ = ["backend_for", "chromium", "folder", "go", "name_of_backend"]


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
