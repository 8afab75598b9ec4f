"""The parts of the book's Sphinx extension, without building a book."""

import json
import re
from io import StringIO
from types import SimpleNamespace
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import pytest
from docutils import nodes
from docutils.utils import new_document
from matplotlib.colors import to_hex
from sphinx import addnodes

from async_hpo import plots
from async_hpo.plots import colors, style
from tools.notebooks import ROOT
from tools.site import captions, formulas, glossary, under_title
from tools.site.inline_figures import DARK_GROUND, SVG, contrast, inline, on_dark, on_page

TERMS = {term: term for term in ("trial", "idle", "idle share", "order")}
KOREAN = {"시험": "trial", "유휴": "idle", "유휴 비율": "idle share", "동기식": "synchronous", "보고": "report"}


def linked(words, terms=TERMS, page="a", language="en"):
    """The terms that a paragraph links to, and the text as it is shown."""
    document, paragraph = new_document(""), nodes.paragraph("", words)
    others = nodes.literal("", "trial"), nodes.reference("", "trial", refuri="x.html")
    document += [nodes.title("", "A trial"), nodes.paragraph("", "", *others), paragraph]
    config = SimpleNamespace(glossary_terms=terms, language=language)
    glossary.link_terms(SimpleNamespace(env=SimpleNamespace(docname=page), config=config), document)
    links = [(link.astext(), link["reftarget"]) for link in document.findall(addnodes.pending_xref)]
    return links, paragraph.astext()


@pytest.mark.parametrize(
    "words,expected,setting",
    [
        (
            "Trials end. The next trial has an idle share, and is idle.",
            [("Trials", "trial"), ("idle share", "idle share"), ("idle", "idle")],
            {},
        ),
        (
            "시험지와 비동기식은 아닙니다. 시험(trial)들은 유휴 비율이, 시험마다 유휴입니다. 동기식으로 보고 있습니다.",
            [("시험", "trial"), ("유휴 비율", "idle share"), ("유휴", "idle"), ("동기식", "synchronous")],
            {"terms": KOREAN, "language": "ko"},
        ),
        ("An idle share, and another idle share.", [("idle share", "idle share")], {}),
        ("A trial.", [], {"page": glossary.PAGE}),
        ("The industrial trial_id of book/trial, in any order.", [], {}),
    ],
)
def test_the_first_use_of_a_term_in_prose_is_linked_and_no_other_word(words, expected, setting):
    assert linked(words, **setting) == (expected, words)


def test_the_glossary_is_in_order_and_its_everyday_words_are_terms():
    config = SimpleNamespace(language="en")
    glossary.read_terms(SimpleNamespace(srcdir=ROOT), config)
    terms = [*config.glossary_terms]
    assert len(terms) > 25 and terms == sorted(terms) == [*config.glossary_terms.values()]
    assert {*terms} >= glossary.EVERYDAY["ko"]


def test_a_stamp_says_when_and_with_what_outputs_were_made():
    kept = {"seconds": 243, "date": "2026-11-09", "versions": {"Python": "3.13.1", "PyTorch": "2.14.1"}}
    said = "These outputs were made on 9 November 2026 in 4 min 3 s, with Python 3.13.1, PyTorch 2.14.1."
    assert under_title.stamp(kept) == said
    assert under_title.stamp(kept | {"seconds": 42}) == said.replace("4 min 3 s", "42 s")
    assert "2026년 11월 9일" in under_title.stamp(kept, "ko")


def test_a_formula_is_as_large_as_its_text_and_has_a_name_without_looks():
    picture = formulas.drawn(nodes.math("", r"\displaystyle\frac{\mathrm{E}[T]}{b} < 1"), in_line=True)
    assert 'role="img" aria-label="\\frac{E[T]}{b} &lt; 1" style="width:' in picture
    assert "em;vertical-align:-" in picture and 'fill="currentColor"' in picture


@pytest.fixture(scope="module")
def drawn():
    with plt.style.context(style.STYLE):
        figure, ax = plt.subplots()
        ax.barh([0, 1], [3, 2], color=colors.TRIAL, edgecolor="white")
        ax.barh(2, 1, **style.IDLE)
        file = StringIO()
        figure.savefig(file, format="svg")
        plt.close(figure)
    return file.getvalue()


def test_a_figure_takes_the_colours_of_the_page(drawn):
    html = inline(drawn, "Two bars", "a-")
    assert not re.search(r"""(fill|stroke)(: |=")#""", html), "each colour has a counterpart"
    root = ElementTree.fromstring(html)
    assert root.attrib["role"] == "img" and root.attrib["aria-label"] == "Two bars"
    assert root.attrib["fill"] == "currentColor", "glyphs of black text say no colour"
    looks = [path.get("style", "") for path in root.iter(f"{{{SVG}}}path")]
    assert not [look for look in looks if "fill: var(--pst-color-background)" in look], "the paper"
    bars = [look for look in looks if f"fill: {on_page(colors.TRIAL)}" in look]
    assert len(bars) == 2 and all("stroke: var(--pst-color-background)" in bar for bar in bars), "white separates"
    assert f"fill: {on_page(style.IDLE['facecolor'])}" in html and f"stroke: {on_page(colors.WAITING)}" in html


def test_figures_of_one_page_share_no_ids(drawn):
    ids = []
    for prefix in ("a-", "b-"):
        html = inline(drawn, "", prefix)
        own = re.findall(r' id="([^"]*)"', html)
        used = re.findall(r'href="#([^"]*)"', html) + re.findall(r"url\(#([^)]*)\)", html)
        assert used and {*used} <= {*own}, "each reference finds its own figure's part"
        ids += own
    assert len({*ids}) == len(ids)


@pytest.mark.parametrize("color", [colors.TRIAL, colors.WAITING, "#e6e6e6", *map(plots.trial_color, range(20))])
def test_contrast_is_as_high_on_dark_pages(color):
    color = to_hex(color)
    assert contrast(on_dark(color), DARK_GROUND) == pytest.approx(min(contrast(color, "#ffffff"), 4.5), rel=0.06)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01), "by hand"


def test_a_caption_becomes_the_figures():
    other, caption = {"metadata": {}}, {"metadata": {"tags": [captions.TAG]}, "source": ["What to see:\n", "a line."]}
    figure = {"metadata": {"mystnb": {"image": {"alt": "A line."}}}}
    source = [json.dumps({"cells": [other, figure, caption, other]})]
    captions.read(SimpleNamespace(env=SimpleNamespace(doc2path=lambda docname: "page.ipynb")), "page", source)
    figure["metadata"]["mystnb"]["figure"] = {"caption": "What to see:\na line."}
    assert json.loads(source[0])["cells"] == [other, figure, other]
