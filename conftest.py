"""Pytest, for unit tests and notebooks: in the book's order, with a short budget, no verdict dependent on speed.

Here and not in tests/, so that `pytest notebooks` sees it too.
"""

import os
import signal
import tomllib
from pathlib import Path

os.environ["SHORT_BUDGET"] = "1"  # before anything imports async_hpo.paths; the notebooks' kernels inherit it

import pytest

from tools.notebooks import PARAMETERS, ROOT, draws, notebooks, reads_recordings, set_parameters, tags

#: Notebook -> its parameters' values in the tests.
SHORT = tomllib.loads((ROOT / "tests" / "short_budgets.toml").read_text("utf-8"))
IDLE = os.environ.get("IDLE_MACHINE") == "1"

# What a script's shell starts in the background ignores interrupts, and so would all that tests start, and interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ORDER = {path.name: position for position, path in enumerate(notebooks())}
#: Files that run one after the other where two run side by side: what one reads from another, and one Ray at a time.
TOGETHER = {"scheduler": "chapter", "visualization": "chapter"}
RAY = ["test_ray_backend", "test_backends", "test_backends_alone", "test_trials", "test_searches", "test_random_kills"]
TOGETHER |= dict.fromkeys(RAY, "ray")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: ORDER.get(item.path.name, -1))  # stable: -1 is every unit test
    for item in items:
        if not IDLE and item.get_closest_marker("idle"):
            item.add_marker(pytest.mark.skip(reason="a claim about speed: `make claims` checks it, on an idle machine"))
        if not hasattr(item, "cell_num"):
            continue  # no cell of a notebook
        notebook, short = item.parent, SHORT.get(item.path.stem)
        if short is None or reads_recordings(notebook.nb):  # all is compared but figures, and the data behind them is
            item.options["check"] = not draws(item.cell)
            if item.cell.source.endswith(";"):  # hides a value from a reader, and not from nbval
                item.cell.source += "\nNone"
            notebook.skip_compare += ("stderr",)
        else:  # it trains: nbval's tags say which cells are compared, by what they print
            notebook.skip_compare += ("stderr", "image/svg+xml", "text/plain", "text/html")
            if PARAMETERS in tags(item.cell):
                set_parameters(notebook.nb, short)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    # Not --dist loadgroup: xdist 3.8 finds no groups under pytest 9.2.
    from xdist.scheduler import LoadScopeScheduling

    class FilesTogether(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = Path(nodeid.split("::")[0]).stem
            return TOGETHER.get(file, file)

    return FilesTogether(config, log)
