"""`make book`, with a tiny book of the same settings."""

import os
import re
import shutil
import subprocess
import sys
from html import unescape

import nbformat
import pytest
from bs4 import BeautifulSoup

from tools import translate
from tools.notebooks import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture
def book(tmp_path):
    return small_book(tmp_path / "second copy [2] a*b?c 50% #1 'q' 책")


def small_book(parent, pages=None):
    """A book of a few pages, name -> text; the first is `index`."""
    folder = parent / "chapter"
    shutil.copytree(ROOT / "tools", folder / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "book", folder / "book", ignore=shutil.ignore_patterns("*.md"))
    (folder / "async_hpo" / "plots").mkdir(parents=True)
    code = ("__init__", "paths", "language", "plots/colors")
    for name in ("_config.yml", *(f"async_hpo/{name}.py" for name in code)):
        shutil.copy(ROOT / name, folder / name)
    pages = pages or {"index": "# One\n", "[two]": "# Two\n"}
    for name, text in pages.items():
        (folder / "book" / f"{name}.md").write_text(text, "utf-8")
    chapters = "".join(f"- file: book/{name}\n" for name in pages if name != "index")
    (folder / "_toc.yml").write_text(f"format: jb-book\nroot: book/index\nchapters:\n{chapters}", "utf-8")
    return folder


def add_notebook(folder):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Three")])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, folder / "book" / "[three].ipynb")
    (folder / "_toc.yml").open("a", encoding="utf-8").write("- file: book/[three]\n")


def build(folder, *arguments, module="tools.build", **variables):
    command = [sys.executable, "-m", module, *arguments]
    env = os.environ | {"PYTHONPATH": "", "GITHUB_REPOSITORY": ""} | variables
    said = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "encoding": "utf-8", "errors": "replace"}
    return subprocess.run(command, cwd=folder, env=env, **said)


def succeed(folder, *arguments, **options):
    result = build(folder, *arguments, **options)
    assert result.returncode == 0, result.stdout


def test_a_book_is_built_wherever_it_lies_and_only_what_changed_is_read_again(book):
    page = book / "book" / "[two].md"
    page.write_text("# Two\n\nA formula: $x^2$.\n\n```{note}\nA note.\n```\n")
    succeed(book)
    html = book / "_build" / "html"
    assert {path.name for path in html.rglob("*.html")} >= {"index.html", "[two].html", "404.html", "search.html"}
    assert '<svg role="img" aria-label="x^2"' in (html / "book" / "[two].html").read_text("utf-8")

    read = {path: path.stat().st_mtime_ns for path in (book / "_build" / ".doctrees").rglob("*.doctree")}
    page.write_text("# Three\n")
    succeed(book)
    assert {path.name for path, time in read.items() if path.stat().st_mtime_ns != time} == {"[two].doctree"}

    (book / "book" / "_static" / "book.css").write_text("body { color: red; }\n")
    succeed(book)
    assert "red" in (html / "_static" / "book.css").read_text("utf-8"), "though no page changed"


def test_a_locale_that_lacks_its_letters_changes_no_page(book):
    (book / "book" / "[two].md").write_text("# 둘 → 2\n", "utf-8")
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    succeed(book, **plain)
    html = book / "_build" / "html"
    assert "둘 → 2" in (html / "book" / "[two].html").read_text("utf-8")
    assert "첫 페이지로" in (html / "ko" / "index.html").read_text("utf-8")
    succeed(book, module="tools.translate", **plain)
    assert "둘 → 2" in (book / "locale" / "ko" / "LC_MESSAGES" / "book" / "[two].po").read_text("utf-8")


def test_the_pages_are_those_of_the_table_of_contents(tmp_path):
    book = small_book(tmp_path)
    (book / "book" / "notes.md").write_text("# The reader's own\n")
    succeed(book)
    assert not [*book.rglob("notes.html")]


PAGE = """# Two

A setence, and [another page](index.md).

It stays.

```{figure} _static/logo.svg
:alt: A picture with a tpyo.

A caption with a tpyo.
```
"""
KOREAN = {
    "One": "하나",
    "Two": "둘",
    "A setence, and [another page](index.md).": "문장과 [다른 페이지](index.md)입니다.",
    "It stays.": "그대로입니다.",
    "A caption with a tpyo.": "설명입니다.",
    "A picture with a tpyo.": "그림입니다.",
}
#: Typos, a link that is no more, and another title, which stands in the other pages' navigation, too.
MENDED = {"setence, and [another page](index.md)": "sentence", "tpyo": "typo", "Two": "Three"}


def korean(book, page):
    """A page's titles, paragraphs and alt texts."""
    html = (book / "_build" / "html" / "ko" / "book" / f"{page}.html").read_text("utf-8")
    article = BeautifulSoup(html, "html.parser").article
    for mark in article.select(".headerlink, .caption-number"):
        mark.decompose()
    alts = [drawing["aria-label"] for drawing in article.select("svg")]
    return [*(one.get_text().strip() for one in article.select("h1, p")), *alts]


def translate_all(book, translations):
    for path in (book / "locale" / "ko" / "LC_MESSAGES" / "book").glob("*.po"):
        catalogue = translate.read(path, "ko")
        for message in catalogue:
            if message.id in translations:
                message.string = translations[message.id]
                message.flags.discard("fuzzy")
        translate.write(path, catalogue, "ko")


def test_a_changed_text_is_shown_as_it_is_until_it_is_translated(book):
    page = book / "book" / "[two].md"
    page.write_text(PAGE, "utf-8")
    succeed(book, module="tools.translate")
    translate_all(book, KOREAN)
    succeed(book, "html", "ko")
    assert korean(book, "[two]") == ["둘", "문장과 다른 페이지입니다.", "그대로입니다.", "설명입니다.", "그림입니다."]
    assert korean(book, "index") == ["하나"]

    for typo, mended in MENDED.items():
        page.write_text(page.read_text("utf-8").replace(typo, mended), "utf-8")
    changed = ["A sentence.", "그대로입니다.", "A caption with a typo.", "A picture with a typo."]
    succeed(book, "html", "ko")
    assert korean(book, "[two]") == ["Three", *changed]
    assert korean(book, "index")[1].startswith("4 of this edition's 6 paragraphs are not translated yet")
    assert "Three" in (book / "_build" / "html" / "ko" / "book" / "index.html").read_text("utf-8"), "in its navigation"

    succeed(book, module="tools.translate")
    translate_all(book, {"Three": "셋"})
    succeed(book, "html", "ko")
    assert korean(book, "[two]") == ["셋", *changed], "nothing fuzzy is shown"
    assert korean(book, "index")[1].startswith("3 of")


def test_ways_in_where_the_address_is_known_and_nowhere_else(book):
    (book / "book" / "index.md").write_text("# One\n\n```{in-a-clone}\nmake book\n```\n")
    add_notebook(book)
    address = "https://github.com/someone/a-book"
    actions = {"GITHUB_REPOSITORY": "someone/a-book", "GITHUB_SERVER_URL": "https://github.com"}
    elsewhere = actions | {"GITHUB_SERVER_URL": "https://git.example.org"}
    for known, variables in ((False, elsewhere), (True, actions), ("in _config.yml", {})):
        if known == "in _config.yml":
            settings = book / "_config.yml"
            settings.write_text(re.sub(r"(?m)^(repository:\n  url:).*", rf"\1 {address}", settings.read_text("utf-8")))
        succeed(book, **variables)
        first, three = (
            unescape((book / "_build" / "html" / "book" / f"{name}.html").read_text("utf-8"))
            for name in ("index", "[three]")
        )
        words = BeautifulSoup(first, "html.parser").find("article").get_text()
        assert "make book" in words
        twin = "https://someone.github.io/a-book/ko/book/index.html" if known else "../ko/book/index.html"
        assert f'<link rel="alternate" hreflang="ko" href="{twin}"' in first
        for way, page in {
            f"git clone {address}\ncd a-book": words,
            'property="og:image" content="https://someone.github.io/a-book/_static/preview.png"': first,
            "https://mybinder.org/v2/gh/someone/a-book/main?urlpath=lab/tree/book/": three,
            "https://codespaces.new/someone/a-book?quickstart=1": three,
            f"{address}/edit/main/book/": three,
            f"{address}/issues/new": three,
        }.items():
            assert (way in page) == bool(known), way
        translated = (book / "_build" / "html" / "ko" / "book" / "[three].html").read_text("utf-8")
        assert ("lab/tree/ko/book/" in translated) == bool(known)
        assert (book / "_build" / "html" / "ko" / "_sources" / "book" / "[three].ipynb").exists()


def test_a_warning_fails_and_does_not_hide_in_the_next_build(book):
    (book / "book" / "[two].md").write_text("# Two\n\n[nowhere](missing.md)\n\n$\\frac{1}$\n")
    for _ in range(2):
        failed = build(book)
        assert failed.returncode != 0 and "make: the book has warnings or errors" in failed.stdout
        for warning in ("missing.md", "a formula that cannot be typeset"):
            assert re.search(rf"\[two\]\.md:\d+: WARNING: .*{re.escape(warning)}", failed.stdout), failed.stdout
