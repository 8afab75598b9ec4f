"""Google Colab, as far as it can be had without it: a kernel that has `google.colab`, and an address to clone from."""

import os
import subprocess
import sys

import nbformat
import pytest

from binder.colab import missing
from tools import colab
from tools.notebooks import ROOT

LOCK = """# Install with: pip install -r
Torch.Vision==0.1 ; sys_platform == 'linux'
    # via d2l
d2l==1.0
syne_tune==0.15
"""


def test_what_colab_has_stays():
    assert missing(LOCK, {"torch-vision", "other"}) == ["d2l==1.0", "syne_tune==0.15"]
    assert missing(LOCK, {"torch-vision", "d2l", "syne-tune"}) == []


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "origin"
    (folder / "binder").mkdir(parents=True)
    (folder / "notebooks").mkdir()
    (folder / "notebooks" / "kept").touch()
    (folder / "binder" / "colab.py").write_bytes((ROOT / "binder" / "colab.py").read_bytes())
    (folder / "requirements.txt").write_text("pip==0\n")  # installed, whichever it is
    git = ["git", "-c", "user.name=n", "-c", "user.email=e", "-c", "init.defaultBranch=main"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "the book"]):
        subprocess.run([*git, *command], cwd=folder, check=True)
    return folder


def run(cell, in_colab, folder):
    program = [
        "import os, sys, types",
        "from IPython.core.interactiveshell import InteractiveShell",
        "get_ipython = InteractiveShell.instance",
        *(['sys.modules["google.colab"] = types.ModuleType("colab")'] if in_colab else []),
        cell.replace("/content/book", str(folder)),
        "print(os.getcwd(), sys.path[0])",
    ]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
    command = [sys.executable, "-c", "\n".join(program)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=env)
    return (ran.stdout.splitlines() or [""])[-1], ran.stderr


def test_the_cell_gets_the_book_in_colab_alone(repository, tmp_path):
    cell = colab.CELL.format(address=repository.as_uri())
    book = tmp_path / "book"
    said, error = run(cell, in_colab=True, folder=book)
    assert said == f"{book / 'notebooks'} {book}", error
    elsewhere = tmp_path / "elsewhere"
    assert run(cell, in_colab=False, folder=elsewhere)[0].startswith(str(ROOT)) and not elsewhere.exists()


def test_without_an_address_it_says_what_to_write(tmp_path):
    assert "Write the book's address above" in run(colab.CELL.format(address=""), True, tmp_path / "book")[1]


def test_the_cell_is_written_where_it_is_missing_or_another_one(tmp_path, monkeypatch):
    path = tmp_path / "page.ipynb"
    cells = [nbformat.v4.new_markdown_cell("# Page"), nbformat.v4.new_code_cell("1")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    monkeypatch.setattr(colab, "notebooks", lambda: [path])
    for text in ("one", "another"):
        monkeypatch.setattr(colab, "cell", lambda text=text: text)
        colab.write()
        assert [one.source for one in nbformat.read(path, 4).cells] == ["# Page", text, "1"]
        written = path.stat().st_mtime_ns
        colab.write()
        assert path.stat().st_mtime_ns == written, "what is right is left alone"
