"""The book's notebooks: which they are, their code, and the values of their parameters."""

from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
PARAMETERS = "parameters"  # papermill's tag of the cell whose values others may follow
SWITCH = "run_anew"  # the parameter of pages that read recordings


def notebooks() -> list[Path]:
    """All notebooks of the book, in its order: a later one may read what an earlier one wrote."""
    from sphinx_external_toc.parsing import parse_toc_yaml  # not there where notebooks are only opened

    paths = [ROOT / f"{name}.ipynb" for name in parse_toc_yaml(ROOT / "_toc.yml")]
    return [path for path in paths if path.exists()]


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags(cell: NotebookNode) -> set[str]:
    return set(cell.metadata.get("tags", []))


def draws(cell: NotebookNode) -> bool:
    return any("image/svg+xml" in output.get("data", {}) for output in cell.outputs)


def parameters(notebook: NotebookNode) -> dict[str, Any]:
    """The parameters that a notebook assigns, by name; none for one without such a cell."""
    found: dict[str, Any] = {}
    for cell in code_cells(notebook):
        if PARAMETERS in tags(cell):
            exec(cell.source, {}, found)
    return found


def reads_recordings(notebook: NotebookNode) -> bool:
    """Whether a notebook shows recordings: it has the switch, and it is off."""
    return parameters(notebook).get(SWITCH) is False


def set_parameters(notebook: NotebookNode, values: dict[str, Any]) -> None:
    """Give a notebook's parameters other values, behind its own.

    Raises:
        LookupError: the notebook has no such parameter.
    """
    if unknown := set(values) - set(parameters(notebook)):
        raise LookupError(f"there is no parameter {', '.join(sorted(unknown))} in the notebook's cell `{PARAMETERS}`")
    for cell in code_cells(notebook):
        if PARAMETERS in tags(cell):
            cell.source += "".join(f"\n{name} = {value!r}" for name, value in values.items())
