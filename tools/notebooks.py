"""The book's notebooks: which they are, and their code."""

import ast
from pathlib import Path

import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode
from sphinx_external_toc.parsing import parse_toc_yaml

ROOT = Path(__file__).resolve().parents[1]


def notebooks() -> list[Path]:
    """All notebooks of the book, in its order: a later one may read what an earlier one wrote."""
    paths = [ROOT / f"{name}.ipynb" for name in parse_toc_yaml(ROOT / "_toc.yml")]
    return [path for path in paths if path.exists()]


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def syntax_tree(cell: NotebookNode) -> ast.Module:
    """A code cell's syntax tree, magics as the calls that they are."""
    return ast.parse(TransformerManager().transform_cell(cell.source))
