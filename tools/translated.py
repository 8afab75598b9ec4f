"""The book's notebooks in other languages, made from its catalogues: `make lab LANGUAGE=ko` calls this.

They lie in a folder of the language's name, beside the figures, pages and recipes that they lead to. What a reader has
changed there stays. The pages take code and outputs from here; their text is translated by
Sphinx itself, from the same catalogues.
"""

import hashlib
import io
import re
import shutil
import sys
import tokenize
from collections.abc import Callable, Iterator
from functools import cache, partial
from gettext import NullTranslations
from html import escape, unescape
from pathlib import Path

import nbformat
from babel.messages.pofile import read_po
from nbformat import NotebookNode

from async_hpo.language import catalogue, catalogue_file, in_figure, in_table, words
from tools.languages import SPEAKING, TRANSLATIONS
from tools.notebooks import ROOT, code_cells, read

PAGES = ("notebooks/*.ipynb", "notebooks/solutions/*.ipynb", "book/*.md", "recipes/*.py")

#: What stands before a message on its line: marks of Markdown, a directive or its option, or the cell of a table.
BEFORE = r"(?m)(^[ \t]*(?:(?:[-*>]|#+|\d+\.|`{3,}\{[\w-]+\}|:alt:)[ \t]+)*|\|[ \t]*)"
AFTER = r"(?=[ \t]*(?:\||$))"
#: A comment or docstring in a file that a cell shows.
LISTED = re.compile(r'(<span class="(?:c1|sd)">(?:# |""")?)(.*?)((?:""")?</span>)')
#: A line that this package prints begins so, or is one message.
MARKS = re.compile(r"([✓✗–] | *\d+%\|[^|]*\| | {4}\w+: +)?(.*)")


# --- text ------------------------------------------------------------------------------------------------------------


def page_of(path: Path) -> str:
    """What a page and its catalogue are called."""
    return path.relative_to(ROOT).with_suffix("").as_posix()


@cache
def messages(name: str, language: str) -> dict[str, str]:
    """A catalogue's messages, the longest first. There are none where a page has not been translated."""
    if not catalogue_file(name, language).exists():
        return {}
    with catalogue_file(name, language).open("rb") as file:
        found = {str(one.id): str(one.string) for one in read_po(file) if one.id and one.string and not one.fuzzy}
    return dict(sorted(found.items(), key=lambda one: -len(one[0])))


def in_text(source: str, known: dict[str, str]) -> str:
    """Markdown with each of its messages translated: a paragraph, a heading, an item, the cell of a table, ..."""
    put: list[str] = []
    for message, translation in known.items():
        first, *others = message.split()
        if first in source:
            parts = r"\s+".join(map(re.escape, [first, *others]))

            def take(found: re.Match[str], translation: str = translation) -> str:
                put.append(translation)
                return f"{found[1]}\0{len(put) - 1}\0"  # a shorter message may be a part of it

            source = re.sub(BEFORE + parts + AFTER, take, source)
    return re.sub("\0(\\d+)\0", lambda found: put[int(found[1])], source)


# --- code ------------------------------------------------------------------------------------------------------------


def remarks(code: str) -> Iterator[tuple[int, int, str]]:
    """Comments and docstrings: where each begins and ends, and its text. Comments of whole lines that follow each other
    are one."""
    lines = code.splitlines(keepends=True)
    starts = [sum(map(len, lines[:number])) for number in range(len(lines) + 1)]
    before, block = tokenize.NEWLINE, None
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        begin, end = (starts[row - 1] + column for row, column in (token.start, token.end))
        if token.type == tokenize.COMMENT and not token.string.startswith("#@"):
            alone = not token.line[: token.start[1]].strip()
            if block and alone and code[block[1] : begin].strip(" ") == "\n":
                block = (block[0], end, f"{block[2]}\n{token.string[1:].strip()}")
            else:
                if block:
                    yield block
                block = (begin, end, token.string[1:].strip())
        elif before in (tokenize.INDENT, tokenize.NEWLINE) and token.string.startswith('"""'):
            yield begin + 3, end - 3, token.string[3:-3]
        if token.type not in (tokenize.COMMENT, tokenize.NL, tokenize.ENCODING):
            before = token.type
    if block:
        yield block


def in_code(code: str, gettext: Callable[[str], str]) -> str:
    for begin, end, text in sorted(remarks(code), reverse=True):
        translated = words(text, gettext)
        if code[begin] == "#":
            indent = begin - (code.rfind("\n", 0, begin) + 1)
            translated = ("\n" + " " * indent).join(f"# {line}" for line in translated.splitlines())
        code = code[:begin] + translated + code[end:]
    return code


# --- outputs ---------------------------------------------------------------------------------------------------------


def in_output(output: NotebookNode, language: str) -> None:
    """Figures, tables, listings of files, and what the book itself printed."""
    shown, remark = (catalogue_of(name, language).gettext for name in ("figures", "code"))
    data = output.get("data", {})
    if "image/svg+xml" in data:
        data["image/svg+xml"] = in_figure(data["image/svg+xml"], shown)
    if "text/html" in data:
        data["text/html"] = in_table(data["text/html"], shown)
        data["text/html"] = LISTED.sub(lambda one: f"{one[1]}{_remark(one[2], remark)}{one[3]}", data["text/html"])
    if output.output_type == "stream":
        output.text = said(output.text, language)


def _remark(html: str, gettext: Callable[[str], str]) -> str:
    return escape(words(unescape(html), gettext), quote=False)


def said(text: str, language: str) -> str:
    """What this package printed, when it was run in English."""
    for message, translation in messages("async_hpo", language).items():
        if "\n" in message:
            text = re.sub(f"(?m)^{pattern(message)}$", partial(filled, translation, language=language), text)
    return "\n".join(_said_in_line(line, language) for line in text.split("\n"))


def _said_in_line(line: str, language: str) -> str:
    mark, rest = MARKS.fullmatch(line).groups()  # type: ignore[union-attr]
    if not mark:
        return _message(line, language, n_letters=8)
    if mark.strip().endswith(":"):  # of what was expected, and seen
        return _message(f"{mark}{_message(rest, language)}", language)
    return mark + ", ".join(_message(part, language) for part in (rest.split(", ") if "%" in mark else [rest]))


def _message(text: str, language: str, n_letters: int = 0) -> str:
    """One of the messages, whose own words have so many letters: notebooks print lines, too."""
    for message, translation in messages("async_hpo", language).items():
        found = re.fullmatch(pattern(message.removeprefix(", ")), text)
        if found and len(re.sub("[^A-Za-z]", "", message)) >= n_letters:
            return filled(translation.removeprefix(", "), found, language)
    return text


@cache
def pattern(message: str) -> str:
    return re.escape(message).replace(r"\{\}", "(.+?)")


def filled(translation: str, found: re.Match[str], language: str) -> str:
    return translation.format(*(_message(value, language) for value in found.groups()))


# --- notebooks -------------------------------------------------------------------------------------------------------


@cache
def catalogue_of(name: str, language: str) -> NullTranslations:
    return catalogue(name, language) if catalogue_file(name, language).exists() else NullTranslations()


def code_and_outputs(notebook: NotebookNode, language: str) -> None:
    for cell in code_cells(notebook):
        cell.source = in_code(cell.source, catalogue_of("code", language).gettext)
        for output in cell.outputs:
            in_output(output, language)


def translated(path: Path, language: str) -> str:
    """A notebook of the book as one of this language, which asks the package to speak it, or a page of its text."""
    known = messages(page_of(path), language)
    if path.suffix == ".md":
        return in_text(path.read_text("utf-8"), known)
    notebook = read(path)
    code_and_outputs(notebook, language)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = in_text(cell.source, known)
    if cells := code_cells(notebook):
        speak = f'from async_hpo import language\n\nlanguage.use("{language}")  # {SPEAKING[language]}'
        notebook.cells.insert(notebook.cells.index(cells[0]), nbformat.v4.new_code_cell(speak, id="language"))
    return nbformat.writes(notebook) + "\n"


def write(language: str, folder: Path) -> list[Path]:
    """Write what is not there yet, or is as it was written. Returns what a reader has changed, and the book, too."""
    shutil.copytree(ROOT / "book" / "_static", folder / "book" / "_static", dirs_exist_ok=True)
    for figure in (folder / "book" / "_static").glob("*.svg"):
        shown = in_figure(figure.read_text("utf-8"), catalogue_of("figures", language).gettext)
        figure.write_text(shown, "utf-8")
    remark, kept = catalogue_of("code", language).gettext, []
    for path in [path for places in PAGES for path in sorted(ROOT.glob(places))]:
        target = folder / path.relative_to(ROOT)
        if path.suffix == ".py":
            text = in_code(path.read_text("utf-8"), remark)
        elif catalogue_file(page_of(path), language).exists():
            text = translated(path, language)
        else:
            continue  # a notebook of the reader's own
        mark = target.with_name(f".{target.name}.sha")  # of what was written: the reader has changed what differs
        made_from = mark.read_text() if mark.exists() else ""
        if target.exists() and made_from != _sha(target.read_text("utf-8")):
            kept += [target] if made_from != _sha(text) else []
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8")
        mark.write_text(_sha(text))
    return kept


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def main(language: str) -> None:
    if language not in TRANSLATIONS:
        sys.exit(f"There is no {language!r}. The book has been translated to: {', '.join(TRANSLATIONS)}.")
    for path in write(language, ROOT / language):
        print(f"You have changed {path.relative_to(ROOT)}, and so has the book. To have the book's, delete yours.")


if __name__ == "__main__":
    main(*sys.argv[1:])
