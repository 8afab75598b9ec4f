"""Run notebooks at full budget and store their outputs: `make execute` calls this.

python -m tools.execute [scheduler ...]
"""

import os
import platform
import shutil
import subprocess
import sys
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from tools.made_from import RECORDINGS, parts_of
from tools.notebooks import notebooks, read

#: Notebooks whose run ships with the book: notebook -> name of the tuner.
RECORDED = {"scheduler": "lenet-random-search"}
#: Packages whose version stands at the top of each page, by the name that it has there.
SHOWN = {"PyTorch": "torch", "Syne Tune": "syne-tune"}


def made_from(path: Path) -> dict[str, str]:
    """What the outputs of the notebook at `path` are made from (see `made_from.parts_of`)."""
    return parts_of(read(path), writes=RECORDED.get(path.stem))


def execute(path: Path) -> None:
    """Run a notebook at full budget, and store its outputs and what made them."""
    os.environ.pop("SHORT_BUDGET", None)
    os.environ["IDLE_MACHINE"] = "1"  # as CONTRIBUTING.md asks: its claims about speed are checked, too
    notebook = read(path)
    before = speed_stamp()
    start = time.monotonic()
    print(f"{path.name} ...", flush=True)
    client = NotebookClient(notebook, timeout=None, kernel_name="python3", record_timing=False, coalesce_streams=True)
    client.execute(cwd=str(path.parent))
    seconds = round(time.monotonic() - start)
    notebook.metadata.language_info = NotebookNode(name="python")
    notebook.metadata.async_hpo = NotebookNode(
        made_from=made_from(path), seconds=seconds, stamps=[before, speed_stamp()], **when_and_with_what()
    )
    nbformat.write(notebook, path)
    print(f"{path.name}: {seconds} s", flush=True)
    if path.stem in RECORDED:
        keep_recording(RECORDED[path.stem])


def speed_stamp() -> float:
    """How fast the machine is now (see `async_hpo.stamp`), in a process of its own: ours stays without PyTorch."""
    program = "from async_hpo.stamp import speed_stamp; print(speed_stamp())"
    printed = subprocess.check_output([sys.executable, "-c", program], text=True)
    return round(float(printed.splitlines()[-1]), 2)


def when_and_with_what() -> dict[str, Any]:
    """What a page says about its outputs (see `tools.site.stamp`), beside their seconds."""
    versions = {"Python": platform.python_version()} | {name: version(package) for name, package in SHOWN.items()}
    return {"date": date.today().isoformat(), "versions": versions}


def keep_recording(name: str) -> None:
    """Copy the newest run's own files into `book/recordings/`, in place of an older run of that name."""
    from async_hpo import paths, runs

    if own := [*runs.folders(name, paths.experiments())]:
        _, folder = max(own)
        for old in RECORDINGS.glob(f"{name}-*"):
            shutil.rmtree(old)
        target = RECORDINGS / folder.name
        target.mkdir(parents=True)
        for file in ("metadata.json", runs.ST_RESULTS_DATAFRAME_FILENAME, runs.TRIALS_FILENAME):
            shutil.copy(folder / file, target)


def main(*names: str) -> None:
    paths = {path.stem: path for path in notebooks()}
    chosen = [Path(name).stem for name in names] or [*paths]
    if unknown := [name for name in chosen if name not in paths]:
        sys.exit(f"{unknown[0]} is not in _toc.yml; its notebooks are: {', '.join(paths)}")
    for name in chosen:
        execute(paths[name])


if __name__ == "__main__":
    main(*sys.argv[1:])
