"""Figures as parts of the page, in its colours."""

import json
import re
from io import StringIO
from types import SimpleNamespace
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import pytest

from async_hpo import plots
from async_hpo.plots import style
from tools.site import captions, inline_figures, notebooks
from tools.site.inline_figures import DARK_GROUND, PHONE_MIME, SVG, contrast, inline, on_dark, on_page


@pytest.fixture(scope="module")
def drawn():
    with plt.style.context(style.STYLE):
        figure, ax = plt.subplots()
        ax.barh([0, 1], [3, 2], color=style.WAITING, edgecolor="white")
        ax.text(1, 0, "waits", color="white")
        ax.set_xlabel("time")
        file = StringIO()
        figure.savefig(file, format="svg")
        plt.close(figure)
    return file.getvalue()


def test_a_figure_takes_the_colours_of_the_page(drawn):
    html = inline(drawn, "Two bars", "a-")
    assert not re.search(r"(fill|stroke): #", html), "each colour has a counterpart"
    root = ElementTree.fromstring(html)
    assert root.attrib["role"] == "img" and root.attrib["aria-label"] == "Two bars"
    assert root.attrib["fill"] == "currentColor", "glyphs of black text say no colour"
    rules = dict(re.findall(r"\.(look-\d+)\{([^}]*)\}", html))
    looks = [rules.get(path.get("class"), "") for path in root.iter(f"{{{SVG}}}path") if path.get("d")]
    assert not [look for look in looks if "fill: var(--pst-color-background)" in look], "the paper"
    bars = [look for look in looks if f"fill: light-dark({style.WAITING}, " in look]
    assert len(bars) == 2 and all("stroke: var(--pst-color-background)" in bar for bar in bars), "white separates"
    assert "rdf" not in html and "<?xml" not in html


def test_the_ground_of_what_is_hatched_takes_the_colours_of_the_page():
    figure, ax = plt.subplots()
    ax.barh(0, 1, **style.IDLE)
    file = StringIO()
    figure.savefig(file, format="svg")
    plt.close(figure)
    looks: dict[str, str] = {}
    html = inline(file.getvalue(), "", "a-", looks=looks)
    ground = style.IDLE["facecolor"]
    assert not re.search(rf'fill="{ground}"', html)
    assert f"fill: light-dark({ground}, {on_dark(ground)})" in html + " ".join(looks)


def test_figures_of_one_page_do_not_share_ids(drawn):
    glyphs = set()
    html, second = (inline(drawn, "", prefix, glyphs) for prefix in ("a-", "b-"))
    ids = [set(re.findall(r' id="([^"]*)"', one)) for one in (html, second)]
    assert not ids[0] & ids[1] and glyphs and glyphs <= ids[0], "a letter is defined once"
    assert set(re.findall(r'href="#(DejaVu[^"]*)"', second)) <= glyphs
    used = set(re.findall(r'href="#([^"]*)"', html)) | set(re.findall(r"url\(#([^)]*)\)", html))
    assert used == ids[0], "what refers to an id finds it, and there is no other id"


def test_figures_of_one_page_share_looks(drawn):
    looks = {}
    first, second = (inline(drawn, "", prefix, None, looks) for prefix in ("a-", "b-"))
    assert len(looks) > 3 and {*re.findall(r"\.(look-\d+)\{", first)} == {*looks.values()}
    assert ".look-" not in second and {*re.findall(r'class="(look-\d+)"', second)} == {*looks.values()}
    assert "style=" not in first + second


@pytest.mark.parametrize("color", [style.INK, style.WAITING, "#e6e6e6", "#e8e8e8", *map(plots.trial_color, range(20))])
def test_contrast_is_as_high_on_dark_pages(color):
    if isinstance(color, tuple):
        color = "#" + "".join(f"{round(255 * part):02x}" for part in color)
    on_white = contrast(color, "#ffffff")
    assert contrast(on_dark(color), DARK_GROUND) == pytest.approx(min(on_white, 4.5), rel=0.06)
    assert on_page(color) == f"light-dark({color}, {on_dark(color)})"


def test_it_is_short_and_lies_where_it_did(drawn):
    def numbers(svg):
        paths = [path for path in ElementTree.fromstring(svg).iter(f"{{{SVG}}}path") if path.get("d")]
        return [float(number) for path in paths for number in re.findall(r"-?\d+(?:\.\d+)?", path.get("d"))][-8:]

    html = inline(drawn, "", "a-")
    assert len(html) < 0.7 * len(drawn) and "\n" not in html
    assert numbers(html) == pytest.approx(numbers(drawn), abs=0.06)


def test_contrast_by_hand():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)
    assert on_page("#000000") == "currentColor"


# --- of notebooks ----------------------------------------------------------------------------------------------------


def code(*outputs, **metadata):
    return {"cell_type": "code", "metadata": metadata, "source": [], "outputs": [{"data": data} for data in outputs]}


def caption(*lines):
    return {"cell_type": "markdown", "metadata": {"tags": [captions.TAG]}, "source": [*lines]}


def test_the_drawing_for_phones_is_found_by_the_other_one(tmp_path):
    assert (inline_figures.PHONE_MIME, inline_figures.PHONE_SUFFIX) == (style.PHONE_MIME, style.PHONE_SUFFIX)
    page = tmp_path / "page.ipynb"
    figure = {"image/svg+xml": ["<svg>\n", "wide</svg>\n"], PHONE_MIME: ["<svg>", "narrow</svg>"]}
    cells = [code({"text/plain": "x"}, figure), code({"image/svg+xml": "<svg/>"}), {"cell_type": "markdown"}]
    page.write_text(json.dumps({"cells": cells}))
    assert inline_figures.drawings_for_phones(page) == {"<svg>\nwide</svg>": "<svg>narrow</svg>"}
    assert inline_figures.drawings_for_phones(tmp_path / "page.md") == {}


def as_read(cells, name="page.ipynb"):
    source = [json.dumps({"cells": cells})]
    notebooks.read(SimpleNamespace(env=SimpleNamespace(doc2path=lambda docname: name)), "page", source)
    return json.loads(source[0])["cells"]


def test_the_page_is_made_without_them():
    (cell,) = as_read([code({"image/svg+xml": "a", PHONE_MIME: "b"})])
    assert cell == code({"image/svg+xml": "a"})


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
