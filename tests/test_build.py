"""`make book`, with a tiny book of the same settings."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from html import unescape

import nbformat
import pytest
from bs4 import BeautifulSoup

from tools import pdf, translate
from tools.notebooks import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture
def book(tmp_path):
    return small_book(tmp_path / "second copy [2] a*b?c 50% #1 'q' 책")


@pytest.fixture
def plain_book(tmp_path):
    return small_book(tmp_path)


def small_book(parent):
    """A book of two pages, with other files beside them."""
    folder = parent / "chapter"
    shutil.copytree(ROOT / "tools", folder / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "book", folder / "book", ignore=shutil.ignore_patterns("*.md"))
    (folder / "async_hpo" / "plots").mkdir(parents=True)
    for name in ("_config.yml", "CITATION.cff", "async_hpo/plots/colors.py"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "_toc.yml").write_text("format: jb-book\nroot: book/index\nchapters:\n  - file: book/[two]\n")
    (folder / "book" / "index.md").write_text("# One\n")
    (folder / "book" / "[two].md").write_text("# Two\n")
    (folder / "book" / "notes.md").write_text("# The reader's own\n")
    (folder / "README.md").write_text("# No page\n")
    return folder


def add_notebook(folder):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Three")])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, folder / "book" / "[three].ipynb")
    (folder / "_toc.yml").open("a").write("  - file: book/[three]\n")


def build(folder, by=("-m", "tools.build"), **variables):
    command = [sys.executable, *by]
    env = os.environ | {"PYTHONPATH": "", "GITHUB_REPOSITORY": ""} | variables
    result = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    return result.returncode, result.stdout + result.stderr


def pages(folder):
    return {path.name for path in (folder / "_build" / "html").rglob("*.html")}


def test_the_pages_are_those_of_the_table_of_contents_wherever_the_book_lies(book):
    (book / "book" / "[two].md").write_text("# Two\n\nA formula: $x^2$.\n\n```{note}\nA note.\n```\n")
    status, printed = build(book)
    assert status == 0, printed
    assert pages(book) >= {"index.html", "[two].html"} and not pages(book) & {"notes.html", "README.html"}
    assert_it_loads_nothing_from_other_sites(book / "_build" / "html")

    read = {path: path.stat().st_mtime_ns for path in (book / "_build" / ".doctrees").rglob("*.doctree")}
    (book / "book" / "[two].md").write_text("# Three\n")
    assert build(book, by=["tools/build.py"])[0] == 0
    again = {path.name for path, time in read.items() if path.stat().st_mtime_ns != time}
    assert again == {"[two].doctree"}, "only what changed is read again"

    (book / "book" / "_static" / "book.css").write_text("body { color: red; }\n")
    assert build(book)[0] == 0
    assert "red" in (book / "_build" / "html" / "_static" / "book.css").read_text(), "though no page changed"


LOADS = re.compile(
    r"<(?:script|img|iframe|link(?=[^>]*rel=\"(?:stylesheet|preload|icon)))[^>]*(?:src|href)=\"(?:https?:)?//"
)


def assert_it_loads_nothing_from_other_sites(html):
    for path in html.rglob("*.html"):
        assert not LOADS.findall(path.read_text()), path.name
    text = (html / "book" / "[two].html").read_text()
    assert re.search(r'<svg role="img" aria-label="x\^2"', text), "a formula is there without a script"


KOREAN = {
    "One": "하나",
    "Two": "둘",
    "A setence, and [another page](index.md).": "문장과 [다른 페이지](index.md)입니다.",
    "A caption with a tpyo.": "설명입니다.",
    "A picture with a tpyo.": "그림입니다.",
    "It stays.": "그대로입니다.",
}
PAGE = """# Two

A setence, and [another page](index.md).

It stays.

```{figure} _static/logo.svg
:alt: A picture with a tpyo.

A caption with a tpyo.
```
"""
STILL_ENGLISH = "4 of this edition's 6 paragraphs are not translated yet, and are shown in English."
#: Typos, a link that is no more, and another title, which stands in the other pages' navigation, too.
MENDED = {"setence, and [another page](index.md)": "sentence", "tpyo": "typo", "Two": "Three"}


def korean(folder, page):
    """A page's titles, paragraphs and alt texts."""
    html = (folder / "_build" / "html" / "ko" / "book" / f"{page}.html").read_text()
    article = BeautifulSoup(html, "html.parser").article
    for mark in article.select(".headerlink, .caption-number"):
        mark.decompose()
    alts = [drawing["aria-label"] for drawing in article.select("svg")]
    return [*(one.get_text().strip() for one in article.select("h1, p")), *alts]


def translate_all(path, translations):
    catalogue = translate.read(path, "ko")
    for message in catalogue:
        if message.id in translations:
            message.string = translations[message.id]
            message.flags.discard("fuzzy")
    translate.write(path, catalogue, "ko")


def succeed(folder, *by):
    status, printed = build(folder, ["-m", *by])
    assert status == 0, printed
    return printed


IN_KOREAN = ("tools.sphinx", "html", "ko")


def test_a_changed_text_is_shown_as_it_is_until_it_is_translated(plain_book):
    page = plain_book / "book" / "[two].md"
    page.write_text(PAGE)
    first, catalogue = (plain_book / "locale" / "ko" / "LC_MESSAGES" / "book" / f"{n}.po" for n in ("index", "[two]"))
    listed = succeed(plain_book, "tools.translate")
    assert all(f".po: new: {text}\n" in listed for text in KOREAN), listed
    translate_all(first, KOREAN)
    translate_all(catalogue, KOREAN)
    succeed(plain_book, *IN_KOREAN)
    sentence = "문장과 다른 페이지입니다."
    assert korean(plain_book, "[two]") == ["둘", sentence, "그대로입니다.", "설명입니다.", "그림입니다."]
    assert korean(plain_book, "index") == ["하나"]

    for typo, mended in MENDED.items():
        page.write_text(page.read_text().replace(typo, mended))
    title, sentence, caption, alt = "Three", "A sentence.", "A caption with a typo.", "A picture with a typo."
    succeed(plain_book, *IN_KOREAN)
    assert korean(plain_book, "[two]") == [title, sentence, "그대로입니다.", caption, alt]
    assert korean(plain_book, "index") == ["하나", STILL_ENGLISH]
    assert title in (plain_book / "_build" / "html" / "ko" / "book" / "index.html").read_text(), "in its navigation"

    listed = succeed(plain_book, "tools.translate")
    for text in (title, sentence, caption, alt):
        assert re.search(rf"\[two\]\.po: (new|fuzzy): {re.escape(text)}\n", listed), listed
    translate_all(catalogue, {title: "셋"})
    succeed(plain_book, *IN_KOREAN)
    assert korean(plain_book, "[two]") == ["셋", sentence, "그대로입니다.", caption, alt], "nothing fuzzy is shown"
    assert korean(plain_book, "index")[1].startswith("3 of")


def test_ways_in_where_the_address_is_known_and_nowhere_else(plain_book):
    page = "# One\n\n```{in-a-clone}\nmake book\n```\n\n```{how-to-cite}\n```\n"
    (plain_book / "book" / "index.md").write_text(page)
    add_notebook(plain_book)
    address = "https://github.com/someone/a-book"
    actions = {"GITHUB_REPOSITORY": "someone/a-book", "GITHUB_SERVER_URL": "https://github.com"}
    settings = (plain_book / "_config.yml").read_text()
    for known, variables in ((False, {}), (True, actions), ("in _config.yml", {})):
        if known == "in _config.yml":
            changed = re.sub(r"(?m)^(repository:\n  url:).*", rf"\1 {address}", settings)
            assert changed != settings
            (plain_book / "_config.yml").write_text(changed)
        status, printed = build(plain_book, **variables)
        assert status == 0, printed
        html = plain_book / "_build" / "html" / "book"
        first, three = (unescape((html / f"{name}.html").read_text()) for name in ("index", "[three]"))
        words = BeautifulSoup(first, "html.parser").find("article").get_text()
        assert "make book" in words and (f"git clone {address}\ncd a-book" in words) == bool(known)
        assert (f"url = {{{address}}}" in words) == bool(known)
        preview = 'property="og:image" content="https://someone.github.io/a-book/_static/preview.png"'
        assert (preview in first) == bool(known)
        twin = "https://someone.github.io/a-book/ko/book/index.html" if known else "../ko/book/index.html"
        assert f'<link rel="alternate" hreflang="ko" href="{twin}"' in first
        for way in (
            "https://mybinder.org/v2/gh/someone/a-book/main?urlpath=lab/tree/book/",
            "https://codespaces.new/someone/a-book",
            f"{address}/edit/main/book/",
            f"{address}/issues/new",
        ):
            assert (way in three) == bool(known), way


def test_the_zip_holds_all_pages_and_is_the_same_again(plain_book):
    packed = plain_book / "_build" / "asynchronous-random-search.zip"
    contents = []
    for _ in range(2):
        assert build(plain_book)[0] == 0
        contents.append(packed.read_bytes())
        shutil.rmtree(plain_book / "_build" / "html")
        shutil.rmtree(plain_book / "_build" / ".doctrees")
    assert contents[0] == contents[1]
    names = zipfile.ZipFile(packed).namelist()
    assert {f"asynchronous-random-search/{name}" for name in ("index.html", "book/index.html", "search.html")} <= {
        *names
    }


def test_a_warning_fails_and_does_not_hide_in_the_next_build(book):
    (book / "book" / "[two].md").write_text("# Two\n\n[nowhere](missing.md)\n\n$\\frac{1}$\n")
    for _ in range(2):
        status, printed = build(book)
        assert status != 0 and "make: the book has warnings or errors" in printed
        for warning in ("missing.md", "a formula that cannot be typeset"):
            assert re.search(rf"\[two\]\.md:\d+: WARNING: .*{re.escape(warning)}", printed), printed


def test_it_is_said_when_a_pdf_will_lack_the_letters_of_a_language(tmp_path, monkeypatch, capsys):
    program = tmp_path / "fc-list"
    for found in ("NanumGothic.ttf", ""):
        program.write_text(f"#!/bin/sh\necho '{found}'\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        pdf.warn_of_missing_letters()
        assert ("fonts-nanum" in capsys.readouterr().out) == (not found)
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    pdf.warn_of_missing_letters()
    assert not capsys.readouterr().out, "there is nobody to ask"
