"""Pytest, for unit tests and notebooks: unit tests first, then the notebooks in order, with a short budget.

Here and not in tests/, so that `pytest notebooks` sees it too.
"""

import os
from collections import defaultdict
from pathlib import Path

os.environ["SHORT_BUDGET"] = "1"  # before anything imports async_hpo.runs; the notebooks' kernels inherit it

import pytest
from nbtools import ROOT, notebooks

ORDER = {path.name: position for position, path in enumerate(notebooks())}


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: ORDER.get(item.path.name, -1))  # stable: -1 is every unit test
    for notebook in {item.parent for item in items if hasattr(item.parent, "skip_compare")}:
        notebook.skip_compare += ("stderr", "image/svg+xml")  # nbval: log messages and figures are no results


def pytest_terminal_summary(terminalreporter):
    """What was executed, a line a notebook."""
    seconds, cells, failed = defaultdict(float), defaultdict(int), defaultdict(int)
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.stats.get(outcome, []):
            name = Path(report.nodeid.split("::")[0]).name
            if name in ORDER and report.when == "call":
                cells[name] += 1
                seconds[name] += report.duration
                failed[name] += outcome != "passed"
    for name in sorted(cells, key=ORDER.get):
        verdict = f"{failed[name]} FAILED" if failed[name] else "all passed"
        terminalreporter.line(f"{name:<22} {cells[name]:3} cells executed, {verdict}, {seconds[name]:4.0f} s")


@pytest.fixture
def root() -> Path:
    return ROOT
