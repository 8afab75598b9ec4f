"""The notebooks as they are committed: executed, in order, and as the package knows them."""

import json
import re
from itertools import pairwise
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import nbformat
import pytest
from nbclient import NotebookClient

from async_hpo import paths, runs
from async_hpo.plots.style import PHONE_MIME
from tools import colab, figures
from tools.execute import RECORDED, made_from
from tools.made_from import changed
from tools.notebooks import ROOT, code_cells, notebooks, read
from tools.save import CHAPTER, SOLUTIONS, saved_code
from tools.site.captions import TAG as CAPTION

NOTEBOOKS = pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)


@NOTEBOOKS
def test_outputs_belong_to_all_that_made_them(path):
    stored = read(path).metadata.get("async_hpo", {}).get("made_from", {})
    assert not changed(stored, made_from(path)), f"outputs are older: make execute NOTEBOOK={path.stem}"


@NOTEBOOKS
def test_every_cell_is_executed_in_order_without_an_error(path):
    cells = code_cells(read(path))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]


@NOTEBOOKS
def test_the_first_code_cell_sets_up_colab(path):
    first, *others = code_cells(read(path))
    assert first.source == colab.cell() and colab.is_colab(first), "make save"
    assert not any(map(colab.is_colab, others))


@NOTEBOOKS
def test_every_figure_has_alt_text_and_caption(path):
    cells = read(path).cells
    for cell, after in pairwise(cells):
        draws = any({"image/svg+xml", "image/png"} & set(output.get("data", {})) for output in cell.get("outputs", []))
        if draws:
            assert len(cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")) > 40, cell.source
        assert draws == (CAPTION in after.metadata.get("tags", [])), cell.source


@NOTEBOOKS
def test_every_figure_is_drawn_for_phones_too(path):
    for cell in code_cells(read(path)):
        for output in cell.outputs:
            data = output.get("data", {})
            assert ("image/svg+xml" in data) == (PHONE_MIME in data), cell.source


@NOTEBOOKS
def test_what_a_reader_would_trip_over(path):
    assert path.stat().st_size < 2_000_000
    notebook = read(path)
    assert notebook.metadata.language_info.name == "python"
    outputs = json.dumps([cell.outputs for cell in code_cells(notebook)])
    assert not re.search(r"\\u001b\[", outputs), "colour codes"
    assert not re.search(r"[\"' ](/home|/root|/tmp|/Users|/work)/", outputs), "a path of the machine"
    stated = int(re.search(r"\*\*Run time:\*\* about (\d+) minutes?", notebook.cells[0].source)[1])
    assert abs(stated - notebook.metadata.async_hpo.seconds / 60) < 1, "the stated run time is not the measured one"


@NOTEBOOKS
def test_the_machine_kept_its_speed_or_the_page_says_so(path):
    notebook = read(path)
    stamps = notebook.metadata.async_hpo.stamps
    drift = max(stamps) / min(stamps) - 1
    assert drift < 0.15 or any("speed stamp" in cell.source for cell in notebook.cells), f"{drift:.0%}"


#: What a tag hides in the HTML, JupyterLab folds.
FOLDED = {
    "hide-input": {"source_hidden": True},
    "hide-output": {"outputs_hidden": True},
    "remove-cell": {"source_hidden": True, "outputs_hidden": True},
}


@NOTEBOOKS
def test_it_reads_in_jupyterlab_as_on_the_page(path):
    for cell in code_cells(read(path)):
        folded = {k: v for tag in cell.metadata.get("tags", []) for k, v in FOLDED.get(tag, {}).items()}
        assert cell.metadata.get("jupyter", {}) == folded, cell.source
        assert set(cell.metadata.get("tags", [])) <= {*FOLDED, colab.TAG, "nbval-skip"}, "add what it folds to FOLDED"
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
def test_an_output_is_compared(path):
    """nbval compares what a cell prints, and only where the cell says so, alone on a line."""
    marked = [cell for cell in code_cells(read(path)) if "# NBVAL_CHECK_OUTPUT" in cell.source.splitlines()]
    assert any(output.get("text", "").strip() for cell in marked for output in cell.outputs)


@pytest.mark.parametrize("notebook, name", RECORDED.items())
def test_recordings_are_the_runs_that_the_notebooks_show(notebook, name):
    (folder,) = paths.RECORDINGS.glob(f"{name}-*")
    assert folder.name in (ROOT / "notebooks" / f"{notebook}.ipynb").read_text(), "make execute"
    reports = runs.read_run(folder).reports
    assert len(reports) > 0 and reports.trial_id.nunique() >= 8


@pytest.mark.parametrize("name", figures.FIGURES)
def test_the_pages_figures_are_drawn_from_the_recordings(name):
    shipped = ElementTree.parse(figures.STATIC / f"{name}.svg").find(".//{http://purl.org/dc/elements/1.1/}description")
    figure, description = figures.FIGURES[name]()
    plt.close(figure)
    assert description == shipped.text, "python -m tools.figures"
