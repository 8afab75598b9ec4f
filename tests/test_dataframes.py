"""Tables of pandas, as the pages show them."""

import re

import pandas as pd
import pytest

from tools.site.dataframes import OWN_STYLE, TABLE, as_in_a_book, on_page

TABLES = {
    "named": pd.DataFrame({"seconds": [1.5, 2.5], "idle": [0, 1]}, index=pd.Index([1, 2], name="workers")),
    "plain": pd.DataFrame({"seconds": [1.5, 2.5]}),
}


def heads(html):
    return [re.sub(r"<[^>]*>|&nbsp;|\s", "", head) for head in re.findall(r"<th\b.*?</th>", html.split("<tbody>")[0])]


@pytest.mark.parametrize("styled", [False, True])
def test_the_index_has_its_name_in_the_one_row_of_heads(styled):
    named, plain = (TABLES[name].style.to_html() if styled else TABLES[name]._repr_html_() for name in TABLES)
    assert heads(named) == ["", "seconds", "idle", "workers", "", ""], "as pandas writes it"
    (table,) = TABLE.findall(named)
    shown = as_in_a_book(table)
    assert heads(shown) == ["workers", "seconds", "idle"] and shown.count("<tr") == 3
    assert re.findall(r"<td[^>]*>(.*?)</td>", shown) == re.findall(r"<td[^>]*>(.*?)</td>", table)
    assert heads(as_in_a_book(TABLE.findall(plain)[0])) == ["", "seconds"]


def test_it_brings_no_style_of_its_own():
    html = TABLES["plain"]._repr_html_()
    assert "<style" in html and "<style" not in OWN_STYLE.sub("", html)
    assert "border" not in as_in_a_book(TABLE.findall(html)[0])


def test_a_page_has_them_in_place_of_pandas_own():
    html = TABLES["named"]._repr_html_()
    context = {"body": f"<p>Before.</p>{html}<p>After.</p>"}
    on_page(None, "page", "page.html", context, None)
    assert context["body"].startswith("<p>Before.</p>") and context["body"].endswith("<p>After.</p>")
    assert as_in_a_book(TABLE.findall(html)[0]) in context["body"] and "<style" not in context["body"]
