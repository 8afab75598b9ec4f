"""Run notebooks at full budget, or draw them from their recordings, and store their outputs.

python -m tools.execute scheduler ...     run: pages that train in front of the reader (make execute NOTEBOOK=scheduler)
python -m tools.execute --draw [...]      draw: trains nothing (make draw)
python -m tools.execute --measure PAGE    run a page's recorded parts anew, and draw it (make measure PAGE=stragglers)

A page with the switch `run_anew` shows recordings, and is executed as it stands; except for its cells with nbval's tag
`nbval-skip`, which train: a test runs what they run, and `--measure` stores their outputs. Of a page that trains in
front of the reader, only the figures are drawn again: when it was run, what they show was kept in
`recordings/<page>/figures/`.
"""

import ast
import builtins
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
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from async_hpo import paths
from tools import figures
from tools.notebooks import (
    PARAMETERS,
    SWITCH,
    code_cells,
    draws,
    notebooks,
    parameters,
    read,
    set_parameters,
    syntax_tree,
    tags,
)

LENET = ["async_hpo.chapter:hpo_objective_lenet_synetune", "async_hpo.chapter:lenet_config_space"]
#: Pages that train in front of the reader, and what their results depend on (see `async_hpo.recordings`).
LIVE = {
    "objective": LENET[:1],
    "scheduler": LENET,
    "visualization": LENET,
    "dropout_mlp": ["async_hpo.solutions:hpo_objective_dropoutmlp_synetune"],
    "environment": [],
    "local_searcher": [],
}
TRAINS = "nbval-skip"
#: Runs that other pages draw, too, by the tuner's name: kept whole, in `recordings/<page>/run/`.
RUNS = {"scheduler": "lenet-random-search"}
#: Packages whose version stands at the top of each page, by the name that it has there.
SHOWN = {"PyTorch": "torch", "Syne Tune": "syne-tune"}
KEEP = """
from pathlib import Path
from async_hpo.recordings import keep
from async_hpo.runs import find_run
keep({what}, Path({folder!r}), {of!r}, {seconds})
"""
LOAD = """
from async_hpo import paths, recordings
globals().update(recordings.load(paths.RECORDINGS / {page!r} / "figures")[0])
"""


def execute(path: Path) -> None:
    """Run a notebook that trains in front of the reader, and store its outputs and what its figures show."""
    notebook, begin = read(path), time.monotonic()
    run = run_cells(path, code_cells(notebook), keep=True)
    seconds = round(time.monotonic() - begin)
    for cell, done in zip(code_cells(notebook), run, strict=True):
        cell.outputs, cell.execution_count = done.outputs, done.execution_count
    notebook.metadata.async_hpo = NotebookNode(seconds=seconds, **when_and_with_what())
    write(notebook, path)


def draw(path: Path) -> None:
    """Execute a page from its recordings; of one that trains, draw the figures alone."""
    notebook = read(path)
    cells = code_cells(notebook)
    if path.stem in LIVE or parameters(notebook).get(SWITCH) == "True":
        shown = [cell for cell in cells if draws(cell)]
        if not shown or (what_is_drawn(cells) and not (paths.RECORDINGS / path.stem / "figures").exists()):
            return
        first = [cell for cell in cells if sets_up(cell) and cell not in shown]
        load = LOAD.format(page=path.stem) if what_is_drawn(cells) else ""
        run = run_cells(path, [*first, code(load), *shown])[-len(shown) :]
        for cell, done in zip(shown, run, strict=True):
            cell.outputs = done.outputs
    else:
        shown = [cell for cell in cells if TRAINS not in tags(cell)]
        for cell, done in zip(shown, run_cells(path, shown), strict=True):
            cell.outputs = done.outputs
        for number, cell in enumerate(cells, start=1):
            cell.execution_count = number
        notebook.metadata.pop("async_hpo", None)  # its recordings say when and with what they were made
    write(notebook, path)


def measure(path: Path) -> None:
    """Run a page's recorded parts anew, put the recordings into the book, and draw the page."""
    notebook = read(path)
    if SWITCH not in parameters(notebook):
        sys.exit(f"{path.stem} has no recordings. Try: make execute NOTEBOOK={path.stem}")
    anew = copy.deepcopy(notebook)
    set_parameters(anew, {SWITCH: True})
    run = run_cells(path, code_cells(anew))
    take_recordings(path.stem)
    for cell, done in zip(code_cells(notebook), run, strict=True):
        if TRAINS in tags(cell):
            cell.outputs = done.outputs
    for cell in code_cells(notebook):  # a page that had none shows them from now on
        cell.source = cell.source.replace(f"{SWITCH} = True", f"{SWITCH} = False")
    write(notebook, path)
    shutil.rmtree(paths.RECORDINGS / path.stem / "figures", ignore_errors=True)
    draw(path)


def take_recordings(page: str) -> None:
    for made in sorted((paths.experiments() / "recordings" / page).iterdir()):
        target = paths.RECORDINGS / page / made.name
        shutil.rmtree(target, ignore_errors=True)
        shutil.move(made, target)


def run_cells(path: Path, cells: list[NotebookNode], keep: bool = False) -> list[NotebookNode]:
    """Run copies of cells one after the other where the notebook is, and return the copies.

    Args:
        keep: the variables that figures are drawn from, in `recordings/`.
    """
    print(f"{path.stem} ...", flush=True)
    begin = time.monotonic()
    notebook = nbformat.v4.new_notebook(cells=copy.deepcopy(cells))
    client = NotebookClient(notebook, timeout=None, kernel_name="python3", record_timing=False, coalesce_streams=True)
    with client.setup_kernel(cwd=str(path.parent)):
        for number, cell in enumerate(notebook.cells):
            client.execute_cell(cell, number)
            settle(cell)
        for name, what in what_is_kept(path.stem, notebook.cells).items() if keep else ():
            target = {"folder": str(paths.RECORDINGS / path.stem / name), "of": LIVE[path.stem]}
            notebook.cells.append(code(KEEP.format(what=what, seconds=time.monotonic() - begin, **target)))
            client.execute_cell(notebook.cells[-1], len(notebook.cells) - 1)
    print(f"{path.stem}: {time.monotonic() - begin:.0f} s", flush=True)
    return notebook.cells[: len(cells)]


def settle(cell: NotebookNode) -> None:
    """Give a table's style, and the address of an object, the same name in every run."""
    name = f"T_{hashlib.sha256(cell.id.encode()).hexdigest()[:5]}"
    for output in cell.outputs:
        data = output.get("data", {})
        for kind in {"text/html", "text/plain"} & set(data):
            data[kind] = re.sub(r" at 0x[0-9a-f]+", " at 0x0", re.sub(r"\bT_[0-9a-f]{5}", name, data[kind]))


def write(notebook: NotebookNode, path: Path) -> None:
    notebook.metadata.language_info = NotebookNode(name="python")
    nbformat.write(notebook, path)


def code(source: str) -> NotebookNode:
    return nbformat.v4.new_code_cell(source)


# --- what figures show -----------------------------------------------------------------------------------------------


def sets_up(cell: NotebookNode) -> bool:
    """Whether a cell imports, or sets parameters. A removed one that imports checks what others did."""
    imports = any(isinstance(part, ast.ImportFrom) for part in syntax_tree(cell).body)
    return PARAMETERS in tags(cell) or (imports and "remove-cell" not in tags(cell))


def what_is_drawn(cells: list[NotebookNode]) -> list[str]:
    """The variables that cells with figures use, of those that others assign by training."""
    known = {name for cell in cells if sets_up(cell) for name in _names(cell, ast.Store)} | set(dir(builtins))
    shown = [cell for cell in cells if draws(cell)]
    used = {name for cell in shown for name in _names(cell, ast.Load) - _names(cell, ast.Store)}
    return sorted(used - known)


def what_is_kept(page: str, cells: list[NotebookNode]) -> dict[str, str]:
    """What `execute` puts into `recordings/<page>/`: folder -> code of what is kept there."""
    names = what_is_drawn(cells)
    kept = {"figures": f"dict({', '.join(f'{name}={name}' for name in names)})"} if names else {}
    return kept | ({"run": f"dict(run=find_run({RUNS[page]!r}))"} if page in RUNS else {})


def _names(cell: NotebookNode, context: type) -> set[str]:
    found = set()
    for node in ast.walk(syntax_tree(cell)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, context):
            found.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom) and context is ast.Store:
            found |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
    return found


def when_and_with_what() -> dict[str, Any]:
    """What a page says about its outputs (see `tools.site.stamp`), beside their seconds."""
    versions = {"Python": platform.python_version()} | {name: version(package) for name, package in SHOWN.items()}
    return {"date": date.today().isoformat(), "versions": versions}


def main(*arguments: str) -> None:
    known = {path.stem: path for path in notebooks()}
    options = {argument for argument in arguments if argument.startswith("--")}
    names = [Path(name).stem for name in arguments if name not in options]
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"{unknown[0]} is not in _toc.yml; its notebooks are: {', '.join(known)}")
    if not names and "--draw" not in options:
        sys.exit(f"Which page? One of: {', '.join(known)}")
    os.environ.pop("SHORT_BUDGET", None)
    if "--draw" in options:
        figures.draw()
        with tempfile.TemporaryDirectory() as empty:
            os.environ["SYNETUNE_FOLDER"] = empty  # figures show the book's runs, not the contributor's own
            for name in names or known:
                draw(known[name])
        return
    for name in names:
        (measure if "--measure" in options else execute if name in LIVE else draw)(known[name])


if __name__ == "__main__":
    main(*sys.argv[1:])
