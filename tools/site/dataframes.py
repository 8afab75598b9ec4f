"""Pandas' tables with one row of heads, and the looks of book.css in place of their own."""

import re
from typing import Any

from sphinx.application import Sphinx

BLANK = r"\s*<th[^>]*>(?:&nbsp;)?</th>"
#: The row of heads, which begins with an empty one, and a row that holds nothing but the index's name.
HEADS = re.compile(
    rf"<tr([^>]*)>{BLANK}(.*?)</tr>\s*<tr>\s*<th[^>]*>([^<]+)</th>(?:{BLANK})+\s*</tr>\s*</thead>", re.DOTALL
)
OWN_STYLE = re.compile(r"<style scoped>.*?</style>\s*(?=<table)", re.DOTALL)
TABLE = re.compile(r'<table (?:border="1" class="dataframe"|id="T_\w+")>.*?</table>', re.DOTALL)


def setup(app: Sphinx) -> None:
    app.connect("html-page-context", on_page)


def on_page(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    context["body"] = TABLE.sub(lambda table: as_in_a_book(table[0]), OWN_STYLE.sub("", context.get("body", "")))


def as_in_a_book(table: str) -> str:
    """One of pandas' tables, with the index's name above the index."""
    table = table.replace('border="1" class="dataframe"', 'class="dataframe"')
    return HEADS.sub(r"<tr\1><th>\3</th>\2</tr></thead>", table)
