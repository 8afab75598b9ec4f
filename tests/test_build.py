"""`make book`, with a tiny book of the same settings."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from tools.notebooks import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(params=["plain", "second copy [2]", "a*b?c", "50% #1 'q' 책"])
def book(request, tmp_path):
    """A book of two pages, in a folder of that name, with other files beside them."""
    folder = tmp_path / request.param / "chapter"
    shutil.copytree(ROOT / "tools", folder / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "book", folder / "book", ignore=shutil.ignore_patterns("*.md", "recordings"))
    shutil.copy(ROOT / "_config.yml", folder)
    (folder / "_toc.yml").write_text("format: jb-book\nroot: book/index\nchapters:\n  - file: book/[two]\n")
    (folder / "book" / "index.md").write_text("# One\n")
    (folder / "book" / "[two].md").write_text("# Two\n")
    (folder / "book" / "notes.md").write_text("# The reader's own\n")
    (folder / "README.md").write_text("# No page\n")
    return folder


def build(folder):
    command = [sys.executable, "-m", "tools.build"]
    result = subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": ""}, capture_output=True, text=True)
    return result.returncode, result.stdout + result.stderr


def pages(folder):
    return {path.name for path in (folder / "_build" / "html").rglob("*.html")}


def test_the_pages_are_those_of_the_table_of_contents_wherever_the_book_lies(book):
    status, printed = build(book)
    assert status == 0, printed
    assert pages(book) >= {"index.html", "[two].html"} and not pages(book) & {"notes.html", "README.html"}

    read = {path: path.stat().st_mtime_ns for path in (book / "_build" / ".doctrees").rglob("*.doctree")}
    (book / "book" / "[two].md").write_text("# Three\n")
    assert build(book)[0] == 0
    again = {path.name for path, time in read.items() if path.stat().st_mtime_ns != time}
    assert again == {"[two].doctree"}, "only what changed is read again"

    (book / "book" / "_static" / "book.css").write_text("body { color: red; }\n")
    assert build(book)[0] == 0
    assert "red" in (book / "_build" / "html" / "_static" / "book.css").read_text(), "though no page changed"


LOADS = re.compile(
    r"<(?:script|img|iframe|link(?=[^>]*rel=\"(?:stylesheet|preload|icon)))[^>]*(?:src|href)=\"(?:https?:)?//"
)


def test_pages_load_nothing_from_other_sites(book):
    (book / "book" / "[two].md").write_text("# Two\n\nA formula: $x^2$.\n\n```{note}\nA note.\n```\n")
    status, printed = build(book)
    assert status == 0, printed
    html = book / "_build" / "html"
    for path in html.rglob("*.html"):
        assert not LOADS.findall(path.read_text()), path.name
    text = (html / "book" / "[two].html").read_text()
    (script,) = re.findall(r'src="([^"]*mathjax/tex-[^"]*)"', text)
    assert (html / "book" / script).resolve().is_file(), "MathJax comes with the book"


def test_a_warning_fails_and_does_not_hide_in_the_next_build(tmp_path, book):
    (book / "book" / "[two].md").write_text("[nowhere](missing.md)\n")
    for _ in range(2):
        status, printed = build(book)
        assert status != 0 and "make: the book has warnings or errors" in printed
