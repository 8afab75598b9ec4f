"""The first code cell of each notebook, which sets up Google Colab: `make save` writes it, with the book's address."""

import nbformat
import yaml
from nbformat import NotebookNode

from tools.notebooks import ROOT, notebooks, read

TAG = "colab"
CELL = """import sys

if "google.colab" in sys.modules:  # it has this notebook alone
    address = "{address}"
    if not address:
        raise RuntimeError("Write the book's address above.")
    shell = get_ipython()
    shell.system(f"git clone --quiet --depth 1 {{address}} /content/book")
    shell.run_line_magic("run", "/content/book/binder/colab.py")"""


def cell() -> str:
    settings = yaml.safe_load((ROOT / "_config.yml").read_text())
    return CELL.format(address=settings["repository"]["url"])


def is_colab(cell: NotebookNode) -> bool:
    return TAG in cell.metadata.get("tags", [])


def write() -> None:
    text = cell()
    for path in notebooks():
        notebook = read(path)
        ours = next((one for one in notebook.cells if is_colab(one)), None)
        if ours is None:
            ours = nbformat.v4.new_code_cell(id=f"{path.stem.replace('_', '-')}-colab", execution_count=0)
            ours.metadata = NotebookNode(
                tags=[TAG, "remove-cell"], jupyter={"source_hidden": True, "outputs_hidden": True}
            )
            first = next(number for number, one in enumerate(notebook.cells) if one.cell_type == "code")
            notebook.cells.insert(first, ours)
        if ours.source != text:
            ours.source = text
            nbformat.write(notebook, path)
