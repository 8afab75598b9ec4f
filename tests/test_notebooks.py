"""The notebooks as they are committed: executed, in order, and as the package knows them."""

import ast
import json
import re
from itertools import pairwise
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from nbclient import NotebookClient
from syne_tune import StoppingCriterion, Tuner
from syne_tune.backend import PythonBackend
from syne_tune.config_space import loguniform, randint
from syne_tune.experiments import load_experiment
from syne_tune.optimizer.baselines import RandomSearch

from tools import figures
from tools.execute import LIVE, TRAINS, run_cells
from tools.notebooks import (
    PARAMETERS,
    ROOT,
    SHORT,
    SWITCH,
    code_cells,
    notebooks,
    parameters,
    read,
    reads_recordings,
    set_parameters,
    tags,
)
from tools.save import CHAPTER, SOLUTIONS, saved_code
from tools.site.captions import TAG as CAPTION

NOTEBOOKS = pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)


@NOTEBOOKS
def test_every_cell_is_executed_in_order_without_an_error(path):
    cells = code_cells(read(path))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]


@NOTEBOOKS
def test_every_figure_has_alt_text_and_caption(path):
    cells = read(path).cells
    for cell, after in pairwise(cells):
        draws = any({"image/svg+xml", "image/png"} & set(output.get("data", {})) for output in cell.get("outputs", []))
        if draws:
            assert len(cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")) > 40, cell.source
        assert draws == (CAPTION in after.metadata.get("tags", [])), cell.source


@NOTEBOOKS
def test_what_a_reader_would_trip_over(path):
    assert path.stat().st_size < 2_000_000
    notebook = read(path)
    assert notebook.metadata.language_info.name == "python"
    outputs = json.dumps([cell.outputs for cell in code_cells(notebook)])
    assert not re.search(r"\\u001b\[", outputs), "colour codes"
    assert not re.search(r"[\"' ](/home|/root|/tmp|/Users|/work)/", outputs), "a path of the machine"


#: What a tag hides in the HTML, JupyterLab folds.
FOLDED = {
    "hide-input": {"source_hidden": True},
    "hide-output": {"outputs_hidden": True},
    "remove-cell": {"source_hidden": True, "outputs_hidden": True},
}
#: Tags for outputs that are wider than the page's column: over the margin (the theme's), or in several lines (ours).
WIDTH = {"full-width", "wrap-output"}


@NOTEBOOKS
def test_it_reads_in_jupyterlab_as_on_the_page(path):
    for cell in code_cells(read(path)):
        folded = {k: v for tag in cell.metadata.get("tags", []) for k, v in FOLDED.get(tag, {}).items()}
        assert cell.metadata.get("jupyter", {}) == folded, cell.source
        assert tags(cell) <= {*FOLDED, *WIDTH, PARAMETERS, TRAINS, "nbval-check-output"}, "new here?"
    for cell in read(path).cells:
        roles = re.findall(r"\{(?:ref|numref|doc|cite)\w*\}`.*?`", cell.source)
        assert "[](" not in cell.source, "JupyterLab writes no title for it"
        assert not roles, f"only links to files work in JupyterLab, too: [text](page.ipynb#label), not {roles}"


@pytest.mark.parametrize("module", [CHAPTER, SOLUTIONS], ids=lambda path: path.stem)
def test_the_package_holds_the_saved_cells(module):
    assert module.read_text() == saved_code(module), "make save"


def test_solutions_are_kept_apart():
    assert "LocalSearcher" in SOLUTIONS.read_text() and "LocalSearcher" not in CHAPTER.read_text()
    for path in [ROOT / "notebooks" / "exercises.ipynb", *(ROOT / "async_hpo").rglob("*.py")]:
        if path != SOLUTIONS:
            assert not re.search(r"(from|import) async_hpo[. ](import )?solutions", path.read_text()), path.name


@pytest.mark.slow
def test_the_exercises_run_without_the_solutions():
    path = ROOT / "notebooks" / "exercises.ipynb"
    notebook = read(path)
    none = "import sys\nsys.modules['async_hpo.solutions'] = None  # an import of it fails"
    notebook.cells.insert(0, nbformat.v4.new_code_cell(none))
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute(cwd=str(path.parent))


@NOTEBOOKS
def test_no_visible_cell_holds_what_is_there_for_tests(path):
    for cell in code_cells(read(path)):
        if not {"remove-cell", "remove-input"} & tags(cell):
            assert not re.search(r"(?m)NBVAL_|SHORT_BUDGET|IDLE_MACHINE|^\s*assert\b", cell.source), cell.source


def report_error(learning_rate, batch_size, max_epochs):
    import time

    from syne_tune import Reporter

    report = Reporter()
    for epoch in range(1, max_epochs + 1):
        time.sleep(0.1)
        report(epoch=epoch, validation_error=learning_rate / epoch)


DRAWING = {
    "scheduler": ["sch-22", "sch-scatter", "sch-25"],
    "visualization": ["vis-trials", "vis-03", "vis-05", "vis-07"],
}


def test_the_chapters_figures_can_be_taken_along(monkeypatch, tmp_path):
    """Their cells need nothing of the book, and draw what `load_experiment` reads of a run without its callbacks."""
    monkeypatch.setenv("SYNETUNE_FOLDER", str(tmp_path))
    space = {"learning_rate": loguniform(1e-2, 1), "batch_size": randint(32, 256), "max_epochs": 3}
    tuner = Tuner(
        trial_backend=PythonBackend(report_error, space),
        scheduler=RandomSearch(space, metrics=["validation_error"]),
        stop_criterion=StoppingCriterion(max_num_trials_finished=4),
        n_workers=2,
        sleep_time=0.1,
        save_tuner=False,
    )
    tuner.run()
    table = load_experiment(tuner.name).results
    taken = {"np": np, "pd": pd, "plt": plt, "metric": "validation_error", "lenet_config_space": space}
    taken["columns"] = ["trial_id", "epoch", "validation_error", "learning_rate", "batch_size"]
    for path in notebooks():
        cells = {cell.id: cell.source for cell in read(path).cells}
        short = table.rename(columns=lambda name: name.removeprefix("config_"))
        taken["results"] = short if path.stem == "scheduler" else table
        for cell_id in DRAWING.get(path.stem, []):
            exec(cells[cell_id], taken)
            drawn = [ax for number in plt.get_fignums() for ax in plt.figure(number).axes]
            assert all(ax.lines or ax.patches or ax.collections for ax in drawn)
            plt.close("all")
    assert list(taken["ranking"].validation_error) == sorted(taken["ranking"].validation_error)
    assert set(taken["workers"]) <= {0, 1}


def test_what_the_chapter_says_of_the_books_run_holds(capsys):
    """Its hidden cells ask it of no run of a reader's own."""
    (folder,) = (ROOT / "recordings" / "scheduler" / "run").glob("lenet-random-search-*")
    experiment = load_experiment(folder.name, local_path=str(folder.parent))
    of_run = {"pd": pd, "metric": "validation_error", "columns": [], "tuner": experiment, "folder": folder}
    of_run |= {"experiment": experiment, "results": experiment.results}
    short = {"results": experiment.results.rename(columns=lambda name: name.removeprefix("config_"))}
    for page, ids, more in (
        ("scheduler", ["sch-22", "sch-23", "sch-says"], short),
        ("visualization", ["vis-trials", "vis-07", "vis-08"], {}),
    ):
        (path,) = (path for path in notebooks() if path.stem == page)
        cells, known = {cell.id: cell for cell in read(path).cells}, of_run | more
        for cell_id in ids:
            exec(cells[cell_id].source, known)
        assert known.get("is_the_books", True)
        shown = [output.text for cell_id in ids for output in cells[cell_id].outputs if "text" in output]
        assert capsys.readouterr().out == "".join(shown), "the page shows the run in `recordings/`"


@NOTEBOOKS
def test_what_takes_long_is_a_parameter_with_a_short_value(path):
    notebook = read(path)
    full = {name: ast.literal_eval(value) for name, value in parameters(notebook).items() if "*" not in value}
    full |= {name: eval(value) for name, value in parameters(notebook).items() if name not in full}  # 12 * 60
    short = SHORT.get(path.stem, {})
    assert set(short) <= set(full)
    recorded = [*(ROOT / "recordings" / path.stem).glob("[!f]*/recording.json")]
    assert full.get(SWITCH) == (not recorded if SWITCH in full else None), "off where there are recordings"
    for name, value in short.items():
        if isinstance(value, list | str):
            assert len(value) <= len(full[name])
        elif name != SWITCH:
            assert value < full[name], f"{name} is no shorter in the tests"
    budgets = {name for name in full if "wallclock" in name or "seconds" in name or name == "budget"}
    assert budgets <= set(short), "a wall-clock budget without a short one"


@NOTEBOOKS
def test_a_page_that_trains_has_an_output_that_is_compared(path):
    if path.stem in LIVE and path.stem != "visualization":
        marked = [cell for cell in code_cells(read(path)) if "nbval-check-output" in tags(cell)]
        assert any(output.get("text", "").strip() for cell in marked for output in cell.outputs)


def test_pages_with_recordings_train_nothing_unless_asked_to():
    for path in notebooks():
        notebook = read(path)
        reads = any("recorded(" in cell.source for cell in code_cells(notebook))
        assert reads == (SWITCH in parameters(notebook)), path.stem
        assert not (reads and path.stem in LIVE)


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in notebooks() if reads_recordings(read(path))], ids=lambda p: p.stem)
def test_the_switch_runs_it_all_anew(path, monkeypatch, tmp_path):
    """With short values, from the first cell to the last; what is recorded then is not taken into the book."""
    monkeypatch.setenv("SYNETUNE_FOLDER", str(tmp_path))
    notebook = read(path)
    set_parameters(notebook, SHORT[path.stem])
    run_cells(path, [cell for cell in code_cells(notebook) if TRAINS not in tags(cell)])
    assert [*(tmp_path / "recordings" / path.stem).glob("*/recording.json")]


@pytest.mark.parametrize("name", figures.FIGURES)
def test_the_pages_figures_are_drawn_from_the_recordings(name):
    shipped = ElementTree.parse(figures.STATIC / f"{name}.svg").find(".//{http://purl.org/dc/elements/1.1/}description")
    figure, description = figures.FIGURES[name]()
    plt.close(figure)
    assert description == shipped.text, "python -m tools.figures"
