"""The notebooks as they are committed: executed, in order, and as the package knows them."""

import gzip
import json
import re
import tomllib
from itertools import pairwise
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from syne_tune.experiments import load_experiment

from async_hpo.chapter import lenet_config_space
from async_hpo.fetch import FILES, RAW
from tools import figures
from tools.execute import LIVE, TRAINS, run_cells
from tools.notebooks import (
    ROOT,
    SWITCH,
    code_cells,
    draws,
    notebooks,
    parameters,
    read,
    reads_recordings,
    set_parameters,
    tags,
)
from tools.save import CHAPTER, SOLUTIONS, saved_code
from tools.site.captions import TAG as CAPTION

SHORT = tomllib.loads((ROOT / "tests" / "short_budgets.toml").read_text("utf-8"))
NOTEBOOKS = pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
BY_NAME = {path.stem: path for path in notebooks()}
WITH_SWITCH = [path for path in notebooks() if reads_recordings(read(path))]
#: Pages that run anew in a minute, from a replay or a simulation to a search on warm workers.
QUICK = {"own_search", "speedup"}


@NOTEBOOKS
def test_what_a_reader_would_trip_over(path):
    notebook = read(path)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), "executed, in this order"
    outputs = json.dumps([cell.outputs for cell in cells])
    assert not re.search(r'"output_type": "error"|\\u001b\[', outputs), "errors, colour codes"
    assert not re.search(r"[\"' ](/home|/root|/tmp|/Users|/work)/", outputs), "a path of the machine"
    for cell in cells:
        if not {"remove-cell", "remove-input"} & tags(cell):
            assert not re.search(r"(?m)NBVAL_|SHORT_BUDGET|IDLE_MACHINE|^\s*assert\b", cell.source), "there for tests"
    for cell, after in pairwise(notebook.cells):
        is_figure = cell.cell_type == "code" and draws(cell)
        assert not is_figure or len(cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")) > 40, cell.source
        assert is_figure == (CAPTION in after.metadata.get("tags", [])), cell.source


@NOTEBOOKS
def test_it_reads_in_jupyterlab_as_on_the_page(path):
    for cell in code_cells(read(path)):
        is_folded = cell.metadata.get("jupyter", {}).get("source_hidden", False)
        assert is_folded == bool({"hide-input", "remove-cell"} & tags(cell)), cell.source
    for cell in read(path).cells:
        only_on_the_page = re.findall(r"\[\]\(|\{(?:ref|numref|doc|cite)\w*\}`.*?`", cell.source)
        assert not only_on_the_page, "in JupyterLab, too, this works: [text](page.ipynb#label)"


@pytest.mark.parametrize("module", [CHAPTER, SOLUTIONS], ids=lambda path: path.stem)
def test_the_package_holds_the_saved_cells(module):
    assert module.read_text() == saved_code(module), "make save"


def test_solutions_are_kept_apart():
    assert "LocalSearcher" in SOLUTIONS.read_text() and "LocalSearcher" not in CHAPTER.read_text()
    for path in [BY_NAME["exercises"], *(ROOT / "async_hpo").rglob("*.py")]:
        if path != SOLUTIONS:
            assert not re.search(r"(from|import) async_hpo[. ](import )?solutions", path.read_text()), path.name


@pytest.mark.parametrize(
    "page, ids",
    {
        "scheduler": ["sch-22", "sch-23", "sch-scatter", "sch-25", "sch-says"],
        "visualization": ["vis-trials", "vis-03", "vis-05", "vis-07", "vis-08"],
    }.items(),
)
def test_what_the_chapter_says_of_the_books_run_holds(page, ids, capsys):
    """Its cells need nothing of the book but the run's files, so that a reader can take the figures along."""
    (folder,) = (ROOT / "recordings" / "scheduler" / "run").glob("lenet-random-search-*")
    run = load_experiment(folder.name, local_path=str(folder.parent))
    results = run.results
    if page == "scheduler":
        results = results.rename(columns=lambda name: name.removeprefix("config_"))
    known = {"np": np, "pd": pd, "plt": plt, "metric": "validation_error", "lenet_config_space": lenet_config_space}
    known |= {"columns": [], "tuner": run, "experiment": run, "folder": folder, "results": results}
    cells = {cell.id: cell for cell in code_cells(read(BY_NAME[page]))}
    for cell_id in ids:
        exec(cells[cell_id].source, known)
        assert bool(plt.get_fignums()) == draws(cells[cell_id])
        plt.close("all")
    assert known.get("is_the_books", True)
    shown = [output.text for cell_id in ids for output in cells[cell_id].outputs if "text" in output]
    assert capsys.readouterr().out == "".join(shown), "the page shows the run in `recordings/`"


@NOTEBOOKS
def test_a_page_shows_recordings_or_trains_and_has_short_values(path):
    cells, full, short = code_cells(read(path)), parameters(read(path)), SHORT.get(path.stem, {})
    budgets = {name for name in full if "wallclock" in name or "seconds" in name or name == "budget"}
    assert budgets <= set(short) <= set(full)
    reads = any("recorded(" in cell.source for cell in cells)
    assert reads == (SWITCH in full) and not (reads and path.stem in LIVE)
    assert not full.get(SWITCH), "the page trains where it has recordings"
    if path.stem in LIVE and path.stem != "visualization":
        marked = [cell for cell in cells if "nbval-check-output" in tags(cell)]
        assert any(output.get("text", "").strip() for cell in marked for output in cell.outputs)


def long(path):
    return [] if path.stem in QUICK else [pytest.mark.long]


@pytest.mark.slow
@pytest.mark.parametrize("path", [pytest.param(path, marks=long(path), id=path.stem) for path in WITH_SWITCH])
def test_the_switch_runs_it_all_anew(path, small_images, monkeypatch, tmp_path):
    """With short values, from the first cell to the last; what is recorded then is not taken into the book."""
    monkeypatch.setenv("SYNETUNE_FOLDER", str(tmp_path))
    notebook = read(path)
    set_parameters(notebook, SHORT[path.stem])
    run_cells(small_images / path.name, [cell for cell in code_cells(notebook) if TRAINS not in tags(cell)])
    assert [*(tmp_path / "recordings" / path.stem).glob("*/recording.json")]


@pytest.fixture(scope="module")
def small_images(tmp_path_factory):
    """A folder for notebooks where D2L's own loader, which is slow, finds 1,000 images of each kind."""
    home = tmp_path_factory.mktemp("home")
    raw = home / "data" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name in FILES:
        content = gzip.decompress((RAW / name).read_bytes())
        header, size = (16, 28 * 28) if "images" in name else (8, 1)
        few = content[:4] + (1000).to_bytes(4, "big") + content[8 : header + 1000 * size]
        (raw / name.removesuffix(".gz")).write_bytes(few)
    (home / "notebooks").mkdir()
    (home / "recipes").symlink_to(ROOT / "recipes")
    return home / "notebooks"


@pytest.mark.parametrize("name", figures.FIGURES)
def test_the_pages_figures_are_drawn_from_the_recordings(name):
    shipped = ElementTree.parse(figures.STATIC / f"{name}.svg").find(".//{http://purl.org/dc/elements/1.1/}description")
    figure, description = figures.FIGURES[name]()
    plt.close(figure)
    assert description == shipped.text, "python -m tools.figures"
