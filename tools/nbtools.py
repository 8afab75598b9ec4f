"""Keep notebooks, their outputs and the package together: `make save`, `make execute`, and what the tests check.

python tools/nbtools.py save
python tools/nbtools.py execute [scheduler ...]
"""

import ast
import hashlib
import os
import shutil
import sys
import time
from pathlib import Path

import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient
from nbformat import NotebookNode
from sphinx_external_toc.parsing import parse_toc_yaml

ROOT = Path(__file__).resolve().parents[1]
CHAPTER = ROOT / "async_hpo" / "chapter.py"
SOLUTIONS = ROOT / "async_hpo" / "solutions.py"  # what the solutions teach: neither exercises nor checks import it
MARK = "#@save"
HEADER = '"""What the {} teach and others reuse. Written by `make save` from their cells marked `#@save`."""\n'


def notebooks() -> list[Path]:
    """All notebooks of the book, in its order: a later one may read what an earlier one wrote."""
    paths = [ROOT / f"{name}.ipynb" for name in parse_toc_yaml(ROOT / "_toc.yml")]
    return [path for path in paths if path.exists()]


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


# --- make save -------------------------------------------------------------------------------------------------------


def saved_code(module: Path) -> str:
    """The text of `CHAPTER` or `SOLUTIONS`: every cell with a line that ends in `#@save`, in the book's order."""
    parts = [HEADER.format("solutions" if module == SOLUTIONS else "notebooks")]
    for path in notebooks():
        if (path.parent.name == "solutions") != (module == SOLUTIONS):
            continue
        for cell in code_cells(nbformat.read(path, as_version=4)):
            lines = cell.source.splitlines()
            if any(line.endswith(MARK) for line in lines):
                text = "\n".join(line.removesuffix(MARK).rstrip() for line in lines)
                parts.append(f"# {path.relative_to(ROOT).as_posix()}\n{text}\n")
    return "\n\n".join(parts)


# --- make execute ----------------------------------------------------------------------------------------------------


def digest(notebook: NotebookNode) -> str:
    """A digest of the code cells' syntax trees: comments and layout may change, code may not.

    The same on every Python: `ast.dump` is not (3.13 leaves out empty fields).
    """
    transform = TransformerManager().transform_cell
    trees = [_tree(ast.parse(transform(cell.source))) for cell in code_cells(notebook)]
    return hashlib.sha256(repr(trees).encode()).hexdigest()


def _tree(node):
    if isinstance(node, ast.AST):
        fields = [(name, _tree(value)) for name, value in ast.iter_fields(node) if value not in (None, [])]
        return type(node).__name__, fields
    return [_tree(child) for child in node] if isinstance(node, list) else repr(node)


def execute(path: Path) -> None:
    """Run a notebook at full budget, and store its outputs and the digest of the code that made them."""
    os.environ.pop("SHORT_BUDGET", None)
    notebook = nbformat.read(path, as_version=4)
    start = time.monotonic()
    print(f"{path.name} ...", flush=True)
    client = NotebookClient(notebook, timeout=None, kernel_name="python3", record_timing=False, coalesce_streams=True)
    client.execute(cwd=str(path.parent))
    notebook.metadata.language_info = NotebookNode(name="python")
    notebook.metadata.async_hpo = NotebookNode(digest=digest(notebook), seconds=round(time.monotonic() - start))
    nbformat.write(notebook, path)
    print(f"{path.name}: {notebook.metadata.async_hpo.seconds} s", flush=True)
    if path.stem in RECORDED:
        keep_recording(RECORDED[path.stem])


# --- recordings ------------------------------------------------------------------------------------------------------

#: Notebooks whose run ships with the book: notebook -> name of the tuner.
RECORDED = {"scheduler": "lenet-random-search"}


def keep_recording(name: str) -> None:
    """Copy the newest run's own files into `book/recordings/`, in place of an older run of that name, and draw the
    opening figure from it."""
    from async_hpo import plots, runs

    folder = runs.find_experiment(name)
    for old in runs.RECORDINGS.glob(f"{name}-*"):
        if old.name != folder.name:
            shutil.rmtree(old)
    if folder.parent != runs.RECORDINGS:
        target = runs.RECORDINGS / folder.name
        target.mkdir(parents=True, exist_ok=True)
        for file in ("metadata.json", runs.ST_RESULTS_DATAFRAME_FILENAME, runs.TRIALS_FILENAME):
            shutil.copy(folder / file, target)
    plots.save_opening_figure(runs.load_run(name), ROOT / "book" / "_static" / "three-schedules.svg")


def main(command: str, *names: str) -> None:
    if command == "save":
        for module in (CHAPTER, SOLUTIONS):
            module.write_text(saved_code(module))
            print(f"wrote {module.relative_to(ROOT)}")
    elif command == "execute":
        paths = {path.stem: path for path in notebooks()}
        chosen = [Path(name).stem for name in names] or [*paths]
        if unknown := [name for name in chosen if name not in paths]:
            sys.exit(f"{unknown[0]} is not in _toc.yml; its notebooks are: {', '.join(paths)}")
        for name in chosen:
            execute(paths[name])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(*sys.argv[1:])
