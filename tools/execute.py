"""Run notebooks at full budget, or draw them from their recordings, and store their outputs.

python -m tools.execute scheduler ...     run: pages that train in front of the reader (make execute NOTEBOOK=scheduler)
python -m tools.execute --draw [...]      draw: trains nothing (make draw)
python -m tools.execute --measure PAGE    run a page's recorded parts anew, and draw it (make measure PAGE=stragglers)

A page with the switch `run_anew` shows recordings, and is executed as it stands; but for its cells with nbval's tag
`nbval-skip`, which train: `--measure` stores their outputs. Of a page that trains in front of the reader, only the
figures are drawn again: what they show was kept when it was run.
"""

import argparse
import copy
import hashlib
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient
from nbformat import NotebookNode

from async_hpo import paths
from tools import figures
from tools.notebooks import PARAMETERS, SWITCH, code_cells, draws, notebooks, parameters, read, set_parameters, tags


class Live(NamedTuple):
    """A page that trains in front of the reader."""

    of: tuple[str, ...] = ()  # what its results depend on (see `async_hpo.recordings`)
    drawn: str = "{}"  # the variables that its figures show, kept in `recordings/<page>/figures/`
    run: str | None = None  # the tuner's name of a run that others draw, kept in `recordings/<page>/run/`


LENET = ("async_hpo.chapter:hpo_objective_lenet_synetune", "async_hpo.chapter:lenet_config_space")
DROPOUT_MLP = ("async_hpo.solutions:hpo_objective_dropoutmlp_synetune",)
LIVE = {
    "objective": Live(LENET[:1], "dict(trials=trials)"),
    "scheduler": Live(LENET, "dict(metric=metric, ranking=ranking, results=results)", "lenet-random-search"),
    "visualization": Live(LENET, "dict(free_from=free_from, trials=trials, workers=workers)"),
    "dropout_mlp": Live(DROPOUT_MLP, "dict(reports=reports)"),
    "environment": Live(),
    "local_searcher": Live(),
}
TRAINS = "nbval-skip"
#: Packages whose version stands at the top of each page, by the name that it has there.
SHOWN = {"PyTorch": "torch", "Syne Tune": "syne-tune"}
KEEP = """
from async_hpo import paths, recordings, runs
folder, of, drawn, run = paths.RECORDINGS / {page!r}, {live.of!r}, {live.drawn}, {live.run!r}
if drawn:
    recordings.keep(drawn, folder / "figures", of, {seconds})
if run:
    recordings.keep(dict(run=runs.find_run(run)), folder / "run", of, {seconds})
"""
LOAD = """
from async_hpo import paths, recordings
globals().update(recordings.load(paths.RECORDINGS / {page!r} / "figures")[0])
"""


def execute(path: Path) -> None:
    """Run a notebook that trains in front of the reader, and store its outputs and what its figures show."""
    notebook, begin = read(path), time.monotonic()
    run = run_cells(path, code_cells(notebook), KEEP)
    for cell, done in zip(code_cells(notebook), run, strict=True):
        cell.outputs, cell.execution_count = done.outputs, done.execution_count
    notebook.metadata.async_hpo = NotebookNode(  # the page says so (see `tools/site/`)
        seconds=round(time.monotonic() - begin),
        date=date.today().isoformat(),
        versions={"Python": platform.python_version()} | {name: version(package) for name, package in SHOWN.items()},
    )
    nbformat.write(notebook, path)


def draw(path: Path) -> None:
    """Execute a page from its recordings; of one that trains, draw the figures alone."""
    notebook, live = read(path), LIVE.get(path.stem)
    cells = code_cells(notebook)
    shown = [cell for cell in cells if (draws(cell) if live else TRAINS not in tags(cell))]
    if not shown:
        return
    first = [cell for cell in cells if live and sets_up(cell) and cell not in shown]
    if live:
        first.append(nbformat.v4.new_code_cell(LOAD.format(page=path.stem)))
    for cell, done in zip(shown, run_cells(path, [*first, *shown])[len(first) :], strict=True):
        cell.outputs = done.outputs
    for number, cell in enumerate(cells, start=1):
        cell.execution_count = number
    nbformat.write(notebook, path)


def measure(path: Path) -> None:
    """Run a page's recorded parts anew, put the recordings into the book, and draw the page."""
    notebook = read(path)
    if SWITCH not in parameters(notebook):
        sys.exit(f"{path.stem} has no recordings. Try: make execute NOTEBOOK={path.stem}")
    anew = copy.deepcopy(notebook)
    set_parameters(anew, {SWITCH: True})
    run = run_cells(path, code_cells(anew))
    for made in sorted((paths.experiments() / "recordings" / path.stem).iterdir()):
        target = paths.RECORDINGS / path.stem / made.name
        shutil.rmtree(target, ignore_errors=True)
        shutil.move(made, target)
    for cell, done in zip(code_cells(notebook), run, strict=True):
        if TRAINS in tags(cell):
            cell.outputs = done.outputs
    nbformat.write(notebook, path)
    draw(path)


def run_cells(path: Path, cells: list[NotebookNode], afterwards: str = "") -> list[NotebookNode]:
    """Run copies of cells in the notebook's folder, then `afterwards`; and return the copies."""
    print(f"{path.stem} ...", flush=True)
    begin = time.monotonic()
    notebook = nbformat.v4.new_notebook(cells=copy.deepcopy(cells))
    client = NotebookClient(notebook, timeout=None, kernel_name="python3", record_timing=False, coalesce_streams=True)
    # This Python's own kernel, and in no folder one of the same name, which starts another Python.
    client.create_kernel_manager().kernel_spec_manager = KernelSpecManager(kernel_dirs=[])
    with client.setup_kernel(cwd=str(path.parent)):
        for number, cell in enumerate(notebook.cells):
            client.execute_cell(cell, number)
            settle(cell)
        if afterwards:
            code = afterwards.format(page=path.stem, live=LIVE[path.stem], seconds=time.monotonic() - begin)
            notebook.cells.append(nbformat.v4.new_code_cell(code))
            client.execute_cell(notebook.cells[-1], len(cells))
    print(f"{path.stem}: {time.monotonic() - begin:.0f} s", flush=True)
    return notebook.cells[: len(cells)]


def settle(cell: NotebookNode) -> None:
    """Give a table's style, and the address of an object, the same name in every run."""
    name = f"T_{hashlib.sha256(cell.id.encode()).hexdigest()[:5]}"
    for data in (output.data for output in cell.outputs if "data" in output):
        for kind in {"text/html", "text/plain"} & set(data):
            data[kind] = re.sub(r" at 0x[0-9a-f]+", " at 0x0", re.sub(r"\bT_[0-9a-f]{5}", name, data[kind]))


def sets_up(cell: NotebookNode) -> bool:
    """Whether a cell sets parameters, or imports; a removed one that imports checks what others did."""
    imports = re.search(r"^(from|import) ", cell.source, re.MULTILINE) and "remove-cell" not in tags(cell)
    return PARAMETERS in tags(cell) or bool(imports)


def main() -> None:
    known = {path.stem: path for path in notebooks()}
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pages", nargs="*", type=lambda name: Path(name).stem, help=f"some of {', '.join(known)}")
    parser.add_argument("--draw", action="store_true", help="draw these pages, or all, from their recordings")
    parser.add_argument("--measure", action="store_true", help="make the recordings of these pages anew")
    given = parser.parse_args()
    if not set(given.pages) <= set(known) or not (given.pages or given.draw):
        sys.exit(f"Which page? One of: {', '.join(known)}")
    for name in ("SHORT_BUDGET", "MPLBACKEND", "PYTHONSTARTUP"):  # a kernel would show no figures, and know more names
        os.environ.pop(name, None)
    with tempfile.TemporaryDirectory() as empty:
        if given.draw:
            os.environ["SYNETUNE_FOLDER"] = empty  # figures show the book's runs, not the contributor's own
            figures.draw()
        for name in given.pages or known:
            (measure if given.measure else execute if name in LIVE and not given.draw else draw)(known[name])


if __name__ == "__main__":
    main()
