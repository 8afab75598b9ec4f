"""Pytest, for unit tests and notebooks: in the book's order, with a short budget, no verdict dependent on speed.

Here and not in tests/, so that `pytest notebooks` sees it too.
"""

import os
import signal
from collections import Counter, defaultdict
from pathlib import Path

os.environ["SHORT_BUDGET"] = "1"  # before anything imports async_hpo.paths; the notebooks' kernels inherit it

import nbformat
import pytest

from tools.notebooks import PARAMETERS, ROOT, SHORT, assignments, draws, notebooks, reads_recordings, tags

IDLE = os.environ.get("IDLE_MACHINE") == "1"

# What a script's shell starts in the background ignores interrupts, and so would all that tests start, and interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ORDER = {path.name: position for position, path in enumerate(notebooks())}
#: Files that run one after the other where two run side by side: what one reads from another, and one Ray at a time.
TOGETHER = {"scheduler": "chapter", "visualization": "chapter"}
WITH_RAY = ["test_ray_backend", "test_backends", "test_backends_alone", "test_trials", "test_searches", "cluster"]
TOGETHER |= dict.fromkeys(WITH_RAY, "ray")
FAILED = ROOT / "_build" / "failed"  # executed notebooks of which a cell failed


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: ORDER.get(item.path.name, -1))  # stable: -1 is every unit test
    for item in filter(_is_cell, items):
        notebook, short = item.parent, SHORT.get(item.path.stem)
        if short is None or reads_recordings(notebook.nb):
            item.options["check"] = not draws(item.cell)  # figures are drawn from what is compared
            if item.cell.source.endswith(";"):  # hides a value from a reader, and not from nbval
                item.cell.source += "\nNone"
            notebook.skip_compare += ("stderr",)
            continue
        # It trains. nbval's tags say which cells are compared: what they print.
        notebook.skip_compare += ("stderr", "image/svg+xml", "text/plain", "text/html")
        if PARAMETERS in tags(item.cell):
            item.cell.source += assignments(notebook.nb, short)
    for item in items:
        if not IDLE and item.get_closest_marker("idle"):
            item.add_marker(pytest.mark.skip(reason="a claim about speed: `make claims` checks it, on an idle machine"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    # Not --dist loadgroup: xdist 3.8 finds no groups under pytest 9.2.
    from xdist.scheduler import LoadScopeScheduling

    class FilesTogether(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = Path(nodeid.split("::")[0]).stem
            return TOGETHER.get(file, file)

    return FilesTogether(config, log)


def _is_cell(item) -> bool:
    return hasattr(item, "cell_num")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Keep a notebook with its outputs, from the first failed cell on: they say why."""
    report = yield
    if call.when == "call" and _is_cell(item):
        notebook = item.parent
        item.cell.outputs = item.test_outputs or []
        notebook.failed = getattr(notebook, "failed", False) or report.failed
        if notebook.failed:
            FAILED.mkdir(parents=True, exist_ok=True)
            nbformat.write(notebook.nb, FAILED / notebook.path.name)
    return report


def pytest_terminal_summary(terminalreporter):
    """What was executed, a line a notebook, and what was not, a line a reason."""
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
        terminalreporter.line(f"{name:<30} {cells[name]:3} cells executed, {verdict}, {seconds[name]:4.0f} s")
    if any(failed.values()):
        terminalreporter.line(f"with their outputs in {FAILED.relative_to(ROOT)}/")
    skipped = [report.longrepr for report in terminalreporter.stats.get("skipped", [])]
    reasons = Counter(why[2].removeprefix("Skipped: ") for why in skipped if isinstance(why, tuple))
    for reason, number in reasons.most_common():
        terminalreporter.line(f"{number} skipped: {reason}")


@pytest.fixture
def root() -> Path:
    return ROOT
