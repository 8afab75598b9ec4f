"""Figures as parts of the page, in its colours, and their captions."""

import json
import re
from io import StringIO
from types import SimpleNamespace
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import pytest
from matplotlib.colors import to_hex

from async_hpo import plots
from async_hpo.plots import colors, style
from tools.site import captions, notebooks
from tools.site.inline_figures import DARK_GROUND, SVG, contrast, inline, on_dark, on_page


@pytest.fixture(scope="module")
def drawn():
    with plt.style.context(style.STYLE):
        figure, ax = plt.subplots()
        ax.barh([0, 1], [3, 2], color=colors.TRIAL, edgecolor="white")
        ax.barh(2, 1, **style.IDLE)
        ax.text(1, 0, "trial", color="white")
        ax.set_xlabel("time")
        file = StringIO()
        figure.savefig(file, format="svg")
        plt.close(figure)
    return file.getvalue()


def test_a_figure_takes_the_colours_of_the_page(drawn):
    html = inline(drawn, "Two bars", "a-", set())
    assert not re.search(r"""(fill|stroke)(: |=")#""", html), "each colour has a counterpart"
    root = ElementTree.fromstring(html)
    assert root.attrib["role"] == "img" and root.attrib["aria-label"] == "Two bars"
    assert root.attrib["fill"] == "currentColor", "glyphs of black text say no colour"
    looks = [path.get("style", "") for path in root.iter(f"{{{SVG}}}path")]
    assert not [look for look in looks if "fill: var(--pst-color-background)" in look], "the paper"
    bars = [look for look in looks if f"fill: {on_page(colors.TRIAL)}" in look]
    assert len(bars) == 2 and all("stroke: var(--pst-color-background)" in bar for bar in bars), "white separates"
    assert f"fill: {on_page(style.IDLE['facecolor'])}" in html and f"stroke: {on_page(colors.WAITING)}" in html
    assert "rdf" not in html and "<?xml" not in html


def test_figures_of_one_page_share_letters_and_no_other_ids(drawn):
    glyphs = set()
    html, second = (inline(drawn, "", prefix, glyphs) for prefix in ("a-", "b-"))
    ids = [re.findall(r' id="([^"]*)"', one) for one in (html, second)]
    assert glyphs and len({*ids[0], *ids[1]}) == len(ids[0]) + len(ids[1])
    for one, own in ((html, ids[0]), (second, ids[1])):
        used = {*re.findall(r'href="#([^"]*)"', one)} | {*re.findall(r"url\(#([^)]*)\)", one)}
        assert used >= glyphs and used <= {*own} | glyphs, "what refers to an id finds it"


def test_what_is_drawn_stays_where_it_was(drawn):
    page = inline(drawn, "", "", set())
    before, after = ({*re.findall(r' (?:x|y|transform)="[^"]*"', svg)} for svg in (drawn, page))
    assert after and after <= before
    bars = [re.findall(r'<path d="(M [^"]*)" clip-path', svg)[-1] for svg in (drawn, page)]
    before, after = ([float(number) for number in re.findall(r"[\d.]+", bar)] for bar in bars)
    assert after == pytest.approx(before, abs=0.01)


@pytest.mark.parametrize("color", [colors.TRIAL, colors.WAITING, "#e6e6e6", *map(plots.trial_color, range(20))])
def test_contrast_is_as_high_on_dark_pages(color):
    color = to_hex(color)
    assert contrast(on_dark(color), DARK_GROUND) == pytest.approx(min(contrast(color, "#ffffff"), 4.5), rel=0.06)
    assert on_page(color) == f"light-dark({color}, {on_dark(color)})"


def test_contrast_by_hand():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)
    assert on_page("#000000") == "currentColor"


# --- of notebooks ----------------------------------------------------------------------------------------------------


def code(*outputs, **metadata):
    return {"cell_type": "code", "metadata": metadata, "source": [], "outputs": [{"data": data} for data in outputs]}


def caption(*lines):
    return {"cell_type": "markdown", "metadata": {"tags": [captions.TAG]}, "source": [*lines]}


def as_read(cells, name="page.ipynb"):
    source = [json.dumps({"cells": cells})]
    notebooks.read(SimpleNamespace(env=SimpleNamespace(doc2path=lambda docname: name)), "page", source)
    return json.loads(source[0])["cells"]


def test_a_caption_becomes_the_figures():
    figure = code({"image/svg+xml": "a"}, mystnb={"figure": {"name": "fig-a"}, "image": {"alt": "A line."}})
    cells = [code(), code(), figure, caption("What to see:\n", "a line.", ""), code()]
    first, second, captioned, last = as_read(cells)
    assert captioned["metadata"]["mystnb"] == {
        "figure": {"name": "fig-a", "caption": "What to see:\na line."},
        "image": {"alt": "A line."},
    }
    assert (first, second, last) == (code(), code(), code())


def test_a_page_that_is_no_notebook_is_left_alone():
    source = ["# A page"]
    notebooks.read(SimpleNamespace(env=SimpleNamespace(doc2path=lambda docname: "page.md")), "page", source)
    assert source == ["# A page"]
