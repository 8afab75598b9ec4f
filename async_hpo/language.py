"""The language in which the book speaks to its reader: English, until a notebook of a translation asks for its own.

Sentences are gettext's messages, `_("...")` in this package: catalogue `async_hpo`. The words of figures and tables
stand in the notebooks' code, the same in all languages, and are looked up when they are shown: catalogue `figures`.
Both lie in `locale/<language>/LC_MESSAGES/`; `make translate` keeps them.
"""

import io
import re
from collections.abc import Callable
from gettext import GNUTranslations, NullTranslations
from html import escape, unescape
from pathlib import Path
from typing import Any

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from IPython.core.getipython import get_ipython

LOCALE = Path(__file__).parents[1] / "locale"
#: They stand as {} in messages; those of a name such as D2L do not.
NUMBER = re.compile(r"(?<![A-Za-z\d_])\d+(?:[.,]\d+)*")
#: What an SVG file and an HTML table say; in the same three parts.
IN_FIGURES = re.compile(r"(<text[^>]*>)([^<]+)(</text>)")
IN_TABLES = re.compile(r"(<t[hd][^>]*>)([^<]+)(</t[hd]>)")
_messages, _shown = NullTranslations(), NullTranslations()


def use(language: str) -> None:
    """Speak this language from here on, in messages, figures and tables.

    Raises:
        FileNotFoundError: the book has not been translated to it, or this package is used without the book.
    """
    global _messages, _shown
    _messages, _shown = (catalogue(name, language) for name in ("async_hpo", "figures"))
    if tables := formatter("text/html"):
        for module, name in (("pandas", "DataFrame"), ("pandas.io.formats.style", "Styler")):
            tables.for_type_by_name(module, name, lambda table: in_table(table._repr_html_() or "") or None)


def formatter(kind: str) -> Any:
    """What shows objects as this MIME type, where a notebook is running."""
    shell = get_ipython()
    return shell.display_formatter.formatters[kind] if shell and shell.display_formatter else None


def catalogue_file(name: str, language: str) -> Path:
    return LOCALE / language / "LC_MESSAGES" / f"{name}.po"


def catalogue(name: str, language: str) -> GNUTranslations:
    """A catalogue of the book, from the file that translators edit."""
    path = catalogue_file(name, language)
    if not path.exists():
        known = ", ".join(sorted(folder.name for folder in LOCALE.glob("*")))
        raise FileNotFoundError(f"There is no {path}. The book has been translated to: {known or 'nothing'}.")
    compiled = io.BytesIO()
    with path.open("rb") as file:
        write_mo(compiled, read_po(file, locale=language))
    compiled.seek(0)
    return GNUTranslations(compiled)


def _(message: str, *values: object) -> str:
    """A message in the reader's language, with values in the places of its {}."""
    found = _messages.gettext(message)
    return found.format(*values) if values else found


def words(text: str, gettext: Callable[[str], str] | None = None) -> str:
    """What is shown, in the reader's language where the catalogue has it; its numbers stay."""
    message = NUMBER.sub("{}", text)
    found = (gettext or _shown.gettext)(message)
    return text if found == message else found.format(*NUMBER.findall(text))


def in_figure(svg: str, gettext: Callable[[str], str] | None = None) -> str:
    """An SVG file with its words in the reader's language. Letters are the browser's: any font has them."""
    return _within(IN_FIGURES, svg, gettext)


def in_table(html: str, gettext: Callable[[str], str] | None = None) -> str:
    """An HTML table with its words in the reader's language."""
    return _within(IN_TABLES, html, gettext)


def _within(parts: re.Pattern[str], text: str, gettext: Callable[[str], str] | None) -> str:
    return parts.sub(lambda one: f"{one[1]}{escape(words(unescape(one[2]), gettext), quote=False)}{one[3]}", text)
