"""Notebooks in JupyterLab, in a browser: opened, run from first to last cell, and read."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import pytest

from tools.browser import MISSING, find_browser
from tools.notebooks import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not find_browser(), reason=MISSING)]

#: Those that take no minutes, or train short.
SHORT = ["exercises", "benchmark", "solutions/local_searcher"]
LONG = 300  # seconds: a cap, which an idle machine is far from


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """A copy, which JupyterLab may save."""
    folder = tmp_path_factory.mktemp("lab") / "a book"
    for part in ("notebooks", "book"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns(".*", "std.out"))
    return folder


@pytest.fixture(scope="module")
def lab(book):
    """JupyterLab's address, with nothing of the reader's own settings."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {f"JUPYTER_{kind}_DIR": str(book.parent / kind) for kind in ("CONFIG", "DATA", "RUNTIME")}
    own |= {"SHORT_BUDGET": "1", "SYNETUNE_FOLDER": str(book.parent / "experiments")}
    options = [f"--port={port}", "--no-browser", "--IdentityProvider.token=", f"--notebook-dir={book}"]
    with open(book.parent / "log", "wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "tools.lab", *options], cwd=ROOT, env=os.environ | own, stdout=log, stderr=log
        )
    address = f"http://127.0.0.1:{port}"
    until = time.monotonic() + LONG
    while server.poll() is None and time.monotonic() < until:
        with suppress(OSError):
            urlopen(f"{address}/api").close()
            break
        time.sleep(0.2)
    yield address
    server.terminate()
    server.wait()


@pytest.fixture
def opened(chromium, lab, book, request):
    page = chromium.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(1000 * LONG)

    def open_notebook(name):
        workspace = f"{request.function.__name__}-{Path(name).name}"  # no other notebook is open
        page.goto(f"{lab}/lab/workspaces/{workspace}/tree/notebooks/{name}.ipynb")
        # The notebook's own sign says idle already while the kernel starts, and what is run then may get lost.
        page.locator("#jp-main-statusbar", has_text="| Idle").wait_for()
        return page, book / "notebooks" / f"{name}.ipynb"

    yield open_notebook
    page.close()


CHANGED = ".lm-TabBar-tab.jp-mod-dirty"


def test_what_is_opened_and_not_changed_is_not_marked_as_changed(opened):
    page, _ = opened("exercises")
    page.wait_for_timeout(1000)  # what it does by itself comes when the kernel has said what it is
    assert not page.locator(CHANGED).count()
    page.locator(".jp-Notebook .jp-CodeCell").first.click()
    page.keyboard.press("Escape")
    page.keyboard.press("b")  # a new cell
    page.locator(CHANGED).wait_for(state="attached")


def without_outputs(path):
    notebook = json.loads(path.read_text())
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["execution_count"], cell["outputs"] = None, []
    path.write_text(json.dumps(notebook))
    return sum(cell["cell_type"] == "code" for cell in notebook["cells"])


def executed(page, path):
    """The code cells that had run when it was last saved."""
    page.keyboard.press("Control+s")
    page.wait_for_timeout(500)
    with suppress(ValueError):  # half of it is written
        return [cell for cell in json.loads(path.read_text())["cells"] if cell.get("execution_count")]
    return []


@pytest.mark.parametrize("name", SHORT)
def test_run_all(opened, book, name):
    n_cells = without_outputs(book / "notebooks" / f"{name}.ipynb")
    page, path = opened(name)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    until = time.monotonic() + LONG
    while len(cells := executed(page, path)) < n_cells and time.monotonic() < until:
        page.wait_for_timeout(500)
    assert len(cells) == n_cells
    assert not [output for cell in cells for output in cell["outputs"] if output["output_type"] == "error"]
    assert {file.name for file in path.parent.iterdir() if file.is_file()} <= {
        file.name for file in (ROOT / path.relative_to(book)).parent.iterdir()
    }, "nothing is written beside the notebooks"


def test_stored_figures_are_seen_and_have_their_captions(opened):
    page, path = opened("visualization")
    figure = page.locator(".jp-RenderedSVG img").first
    figure.scroll_into_view_if_needed()
    assert figure.evaluate("one => one.naturalWidth") > 100
    captions = [cell for cell in json.loads(path.read_text())["cells"] if "caption" in cell["metadata"].get("tags", [])]
    words = "".join(captions[0]["source"]).replace("*", "")[:40]
    page.locator(".jp-MarkdownCell", has_text=words).first.scroll_into_view_if_needed()
    assert page.locator(".jp-MarkdownCell", has_text=words).first.is_visible()
