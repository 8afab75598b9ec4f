"""The built book in a browser: every page of both languages from `file:`, wide and on a phone, in light and in dark."""

import os
import re
import subprocess
import sys
import zlib
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urldefrag, urlparse

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from babel.messages.extract import extract_from_file
from bs4 import BeautifulSoup, NavigableString
from sphinx_external_toc.parsing import parse_toc_yaml
from test_build import add_notebook, build, small_book
from translation import LETTERS

from tools import translate
from tools.browser import MISSING, find_browser
from tools.languages import NAMES as LANGUAGES
from tools.languages import SOURCE, TRANSLATIONS, folder
from tools.notebooks import ROOT
from tools.pdf import has_letters, pdf_in

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not find_browser(), reason=MISSING)]

HTML = ROOT / "_build" / "html"
NAMES = [*parse_toc_yaml(ROOT / "_toc.yml"), "search", "404"]
TRANSLATED = [f"{folder(language)}{name}" for language in TRANSLATIONS for name in NAMES]
PAGES = pytest.mark.parametrize("name", NAMES + TRANSLATED)
WIDE, PHONE = 1280, 390
SIZES = {WIDE: {"width": WIDE, "height": 800}, PHONE: {"width": PHONE, "height": 844}}
VIEWS = [(name, width) for width in (WIDE, PHONE) for name in NAMES + TRANSLATED]
MEGABYTE = 1_000_000
#: The repository's address is unknown, as in a clone, on GitHub Actions, too.
NOWHERE = os.environ | {"GITHUB_REPOSITORY": ""}


@pytest.fixture(scope="module")
def browser(chromium):
    subprocess.run([sys.executable, "-m", "tools.build"], cwd=ROOT, env=NOWHERE, check=True)
    return chromium


@pytest.fixture(scope="module")
def tab(browser):
    page = browser.new_page()
    page.set_default_timeout(30_000)
    yield page
    page.close()


#: What is still on its way when another page is opened.
GIVEN_UP = {"net::ERR_ABORTED"}


@contextmanager
def listening(tab):
    """What pages ask for, and what they say."""
    asked, said = [], []
    listeners = {
        "request": lambda request: asked.append(request.url),
        "requestfailed": lambda request: request.failure in GIVEN_UP or said.append(f"not found: {request.url}"),
        "console": lambda message: message.type in ("error", "warning") and said.append(message.text),
        "pageerror": lambda error: said.append(str(error)),
    }
    for event, listener in listeners.items():
        tab.on(event, listener)
    yield asked, said
    for event, listener in listeners.items():
        tab.remove_listener(event, listener)


def open_page(tab, name, width):
    tab.set_viewport_size(SIZES[width])
    tab.emulate_media(color_scheme="light", reduced_motion="reduce")  # colours change at once
    tab.goto(address(name), wait_until="load")


@pytest.fixture
def visit(tab):
    """Open a page, and keep what it asked for and what it said."""

    def visit(name, width=WIDE):
        open_page(tab, name, width)
        return tab, asked, said

    with listening(tab) as (asked, said):
        yield visit


def address(name):
    return (HTML / f"{name}.html").as_uri()


#: The theme looks 0.3 s later which of it can be scrolled: waited for by the page's own frames and timers, which keep
#: their order on a slow machine, too.
UNFOLD = """async settled => {
    const folded = [...document.querySelectorAll("details:not([open]) > summary, button.toggle-button-hidden")];
    folded.forEach(one => one.click());
    if (!folded.length || !settled) return;
    for (let frame = 0; frame < 2; frame++) await new Promise(requestAnimationFrame);
    await new Promise(done => setTimeout(done, 500));
}"""


def unfold(page, settled=True):
    page.evaluate(UNFOLD, settled)


#: Of a drawn figure axe looks at its name. Its thousands of lines and letters, which are drawn, too, only take time.
SERIOUS = """async ([rules, coloured]) => {
    document.querySelectorAll(".inline-figure > :is(g, defs)").forEach(one => one.remove());
    axe.configure({rules: [{id: "color-contrast", selector: coloured}]});
    const all = {rules: {"label-content-name-mismatch": {enabled: true}}};
    const some = rules ? {runOnly: {type: "rule", values: rules}} : all;
    const options = {resultTypes: ["violations"], preload: false, ...some};
    const {violations} = await axe.run(document, options);
    const bad = violations.filter(one => ["serious", "critical"].includes(one.impact));
    const why = node => [...node.any, ...node.all, ...node.none].map(check => check.message).join("; ");
    return bad.flatMap(one => one.nodes.map(node => [one.id, node.target.flat().join(" "), why(node)]));
}"""
#: Those whose verdict depends on colours.
COLOURS = ["color-contrast", "link-in-text-block"]


def serious(page, rules=None):
    """What axe finds on the page, one line each. The colours of code, slow to check, depend on no width or language."""
    seen = page.viewport_size["width"] == PHONE or page.locator("html").get_attribute("lang") != SOURCE
    found = page.evaluate(SERIOUS, [rules, "*:not(.highlight pre *)" if seen else "*"])
    return [" | ".join(line) for line in found]


@pytest.mark.parametrize("name,width", VIEWS)
def test_everyone_can_read_it_in_light_and_in_dark(visit, name, width):
    page, asked, said = visit(name, width)
    assert not [url for url in asked if urlparse(url).scheme not in ("file", "data", "blob")], "other hosts"
    unfold(page)
    page.evaluate(AXE_SCRIPT)
    assert not serious(page)
    assert not said
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("document.documentElement.dataset.theme === 'dark'")  # the theme's script follows
    assert not serious(page, COLOURS)
    assert not said


@pytest.fixture(scope="module")
def with_an_address(tmp_path_factory):
    """A notebook's page, of a tiny book: those of ours have no buttons that lead to their repository."""
    folder = small_book(tmp_path_factory.mktemp("address"))
    add_notebook(folder)
    status, printed = build(folder, GITHUB_REPOSITORY="someone/a-book", GITHUB_SERVER_URL="https://github.com")
    assert status == 0, printed
    return folder / "_build" / "html" / "book" / "[three]"


@pytest.mark.parametrize("width", SIZES)
def test_everyone_can_use_the_buttons_that_lead_elsewhere(visit, with_an_address, width):
    page, asked, said = visit(with_an_address, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "there is room for all of them"
    page.evaluate(AXE_SCRIPT)
    for ways, name in (("launch", "Binder"), ("source", "Open issue")):
        group = page.locator(f".dropdown-{ways}-buttons")
        group.locator("button").press("Enter")
        group.get_by_role("link", name=name).wait_for()
        assert not serious(page)
        page.keyboard.press("Escape")
    assert not [url for url in asked if not url.startswith(("file:", "data:"))] and not said


def test_a_dark_page_is_printed_as_a_light_one(visit):
    page, _, _ = visit("notebooks/objective")
    colours = """() => [document.documentElement.dataset.theme,
        ...["article p", "article .inline-figure"].map(one => getComputedStyle(document.querySelector(one)).color)]"""
    light = page.evaluate(colours)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
    dark = page.evaluate(colours)
    assert not {*light} & {*dark}
    for event, expected in (("beforeprint", light), ("afterprint", dark)):
        page.evaluate("event => window.dispatchEvent(new Event(event))", event)
        assert page.evaluate(colours) == expected


WIDER = """width => [...document.querySelectorAll("body *")]
    .filter(one => one.getBoundingClientRect().right > width + 1 && one.checkVisibility())
    .map(one => one.tagName + "." + one.className).slice(0, 5)"""
SMALL = """() => [...document.querySelectorAll("article :is(p, li, dt, dd, th, td, figcaption)")]
    .filter(one => one.checkVisibility() && one.innerText.trim() && !one.closest("footer"))
    .filter(one => parseFloat(getComputedStyle(one).fontSize) < 16)
    .map(one => getComputedStyle(one).fontSize + " " + one.innerText.slice(0, 60)).slice(0, 5)"""


FIGURES = """() => [...document.querySelectorAll(".inline-figure")].filter(one => one.checkVisibility()).map(svg => {
    const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
    const letters = [...svg.querySelectorAll("g[transform*='scale(']:has(> use)")];
    const sizes = letters.map(one => parseFloat(/scale\\(([\\d.]+)/.exec(one.getAttribute("transform"))[1]));
    return 100 * scale * Math.min(...sizes);
})"""


#: Margin notes that leave the window, or lie across the edge of the text or of a box in it.
NOTES = """() => [...document.querySelectorAll("aside.margin")].filter(one => {
    const {left, right, width} = one.getBoundingClientRect();
    const box = one.closest(".admonition, article"), padding = parseFloat(getComputedStyle(box).paddingRight);
    const edge = box.getBoundingClientRect().right - (box.matches("article") ? padding : 0);
    return right > innerWidth || (left < edge && right > edge + 1) || width < 150;
}).map(one => innerWidth + " " + one.innerText.slice(0, 60))"""


@pytest.fixture(scope="module")
def seen(tab):
    """Page -> what one visit shows of it, on a phone and then wide."""

    @cache
    def look(name):
        with listening(tab) as (asked, _):
            open_page(tab, name, PHONE)
            narrow = tab.evaluate(FIGURES)
            unfold(tab, settled=False)
            tab.evaluate("window.scrollTo(1000, 0)")
            scrolled, wider, small = tab.evaluate("window.scrollX"), tab.evaluate(WIDER, PHONE), tab.evaluate(SMALL)
            tab.set_viewport_size(SIZES[WIDE])
            wide = tab.evaluate(FIGURES)
            tab.evaluate("document.querySelectorAll('img').forEach(one => one.loading = 'eager')")
            tab.wait_for_function("[...document.images].every(one => one.complete)")
            notes = []
            for width in (PHONE, 1000, 1199, 1200, WIDE, 1900):
                tab.set_viewport_size({"width": width, "height": 800})
                notes += tab.evaluate(NOTES)
        files = {path_of(url) for url in asked if url.startswith("file:")}
        return SimpleNamespace(
            narrow=narrow, wide=wide, scrolled=scrolled, wider=wider, small=small, notes=notes, files=files
        )

    return look


@PAGES
def test_a_phone_need_not_scroll_sideways_or_zoom(seen, name):
    assert seen(name).scrolled == 0, seen(name).wider
    assert not seen(name).small


@PAGES
def test_text_in_figures_is_legible_on_a_phone(seen, name):
    """Matplotlib draws text as letters of 100 units, scaled."""
    wide, narrow = seen(name).wide, seen(name).narrow
    assert len(narrow) == len(wide)
    assert all(8 <= size < 100 for size in [*narrow, *wide]), "pixels"


@PAGES
def test_notes_are_beside_the_text_or_in_it_on_any_screen(seen, name):
    assert not seen(name).notes


@PAGES
def test_it_is_light(seen, name):
    sizes = sorted(((path.stat().st_size, path.name) for path in seen(name).files), reverse=True)
    assert sum(size for size, _ in sizes) < MEGABYTE, sizes[:6]


@pytest.mark.idle
@PAGES
def test_it_can_be_used_within_a_second(visit, name):
    page, _, _ = visit(name)
    assert page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd") < 1000, "milliseconds"


def path_of(url):
    return Path(unquote(urlparse(url).path))


@pytest.fixture(scope="module", params=SIZES)
def without_scripts(browser, request):
    context = browser.new_context(java_script_enabled=False, viewport=SIZES[request.param])
    yield context.new_page()
    context.close()


@PAGES
def test_without_scripts_text_and_figures_are_there(without_scripts, name):
    page = without_scripts
    page.goto(address(name), wait_until="load")
    kind = name.rpartition("/")[2]
    article = page.locator("main" if kind == "search" else "article")
    assert len(article.inner_text()) > (40 if kind in ("search", "404") else 500)
    for image in article.locator("img").all():
        image.scroll_into_view_if_needed()
        assert image.is_visible() and image.evaluate("one => one.naturalWidth") > 0
    for figure in article.locator("figure").all():
        drawn = figure.locator("svg.inline-figure")
        assert drawn.is_visible() and drawn.bounding_box()["width"] > 300


def test_a_hint_is_folded_until_it_is_asked_for_by_mouse_or_keyboard(visit):
    page, _, _ = visit("notebooks/exercises")
    for ask in (lambda title: title.click(), lambda title: title.locator("..").locator("button").press("Enter")):
        page.reload()
        hint = page.locator(".tip.dropdown").first
        assert not hint.locator("p").nth(1).is_visible()
        ask(hint.locator(".admonition-title"))
        assert hint.locator("p").nth(1).is_visible()


#: A language -> a word of several pages, as it stands there and as a reader may type it.
SEARCHED = {"en": ("straggler", "straggler"), "ko": ("작업자", "작업자는")}


@pytest.mark.parametrize("language", LANGUAGES)
def test_search_finds_words_from_file(visit, language):
    page, _, said = visit(f"{folder(language)}notebooks/objective")
    word, typed = SEARCHED[language]
    page.keyboard.press("Control+k")
    page.keyboard.type(typed)
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=*")
    first = page.locator("#search-results li a").first
    first.wait_for()
    first.click()
    page.wait_for_load_state()
    assert page.locator("article").inner_text().lower().count(word)
    assert not said


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_a_page_leads_to_its_twin_and_back_by_keyboard(visit, language):
    page, _, said = visit("notebooks/speedup")
    for here in (language, SOURCE):
        page.get_by_role("link", name=LANGUAGES[here], exact=True).press("Enter")
        page.wait_for_url(f"**/html/{folder(here)}notebooks/speedup.html")
        assert page.locator("html").get_attribute("lang") == here
    assert not said


@pytest.fixture(scope="module")
def soups(browser):
    """All pages, parsed. They need no browser, but to be built."""
    paths = [path for path in HTML.rglob("*.html") if "_static" not in path.parts]
    return {path: BeautifulSoup(path.read_text(), "html.parser") for path in paths}


def test_no_link_and_no_anchor_is_broken(soups):
    ids = {path: {one.get("id") or one.get("name") for one in soup.find_all()} for path, soup in soups.items()}
    broken = []
    for page, soup in soups.items():
        for one in soup.find_all(href=True) + soup.find_all(src=True):
            link = one.get("href") or one["src"]
            if urlparse(link).scheme or link.startswith("//"):
                continue
            there, anchor = urldefrag(link)
            target = (page.parent / unquote(urlparse(there).path)).resolve() if there else page
            if not target.is_file() or (anchor and target in ids and unquote(anchor) not in ids[target]):
                broken.append(f"{page.relative_to(HTML)}: {link}")
    assert not broken


def test_each_page_names_its_language_and_its_twins(soups):
    for name in NAMES + TRANSLATED:
        path = HTML / f"{name}.html"
        here = next((language for language in TRANSLATIONS if name.startswith(folder(language))), SOURCE)
        assert soups[path].html["lang"] == here
        original = name.removeprefix(folder(here))
        for tag, named in (("a", {*LANGUAGES} - {here}), ("link", {*LANGUAGES, "x-default"})):
            editions = {one["hreflang"]: one["href"] for one in soups[path].find_all(tag, hreflang=True)}
            assert {*editions} == named
            for language, address in editions.items():
                language = SOURCE if language == "x-default" else language
                assert (path.parent / address).resolve() == HTML / f"{folder(language)}{original}.html"


#: Where words are heard, or seen when asked for.
SPOKEN = ("alt", "aria-label", "data-bs-title", "placeholder", "title")
#: What is no text, and the page's own.
NOT_THE_SITE = ["article", "code", "kbd", "pre", "script", "style", "title"]
IN_ANY_LANGUAGE = {"English", ".ipynb", ".md", ".pdf", "Dive into Deep Learning"}


def said_by_the_site(soup):
    for text in soup.find_all(string=True):
        if type(text) is NavigableString and not text.find_parent(NOT_THE_SITE):
            yield text.strip()
    for one in soup.find_all(True):
        if not {"reference", "formula"} & {*one.get("class", []), *one.parent.get("class", [])}:  # names, and TeX
            yield from (one[name] for name in SPOKEN if one.get(name))


def may_be_english(soups, language):
    """The book's own words: titles, alt texts, and what its templates and its extension say without a translation."""
    articles = [article for name in NAMES for article in soups[HTML / f"{name}.html"].find_all("article")]
    alts = [one.get("alt", one.get("aria-label", "")) for article in articles for one in article.select("img, svg")]
    words = {message.id for message in translate.words_of_the_site() if message.id}
    for template in Path("book", "_templates").glob("*.html"):
        words |= {text for _, text, *_ in extract_from_file("jinja2", template)}
    for catalogue in ("site", "sphinx"):
        path = ROOT / "locale" / language / "LC_MESSAGES" / f"{catalogue}.po"
        words -= {m.id for m in translate.read(path, language) if m.string and not m.fuzzy}
    return "\n".join([Path("_toc.yml").read_text(), *(article.get_text() for article in articles), *alts, *words])


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_a_translated_page_s_theme_speaks_its_language(soups, language, monkeypatch):
    monkeypatch.chdir(ROOT)
    ours = may_be_english(soups, language)
    english = {
        (name, said)
        for name in TRANSLATED
        if name.startswith(folder(language))
        for said in said_by_the_site(soups[HTML / f"{name}.html"])
        if re.search("[A-Za-z]{2}", said) and not LETTERS[language].search(said) and said not in IN_ANY_LANGUAGE
        if said not in ours
    }
    assert not english


def test_every_image_has_alt_text(soups):
    assert not [
        f"{page.relative_to(HTML)}: {image.get('src')}"
        for page, soup in soups.items()
        for image in soup.find_all("img")
        if not image.get("alt", "").strip()
    ]


@pytest.mark.parametrize("page", ["notebooks/stragglers", "notebooks/speedup"])
def test_formulas_are_drawn_in_every_language(soups, page):
    pages = [soups[HTML / f"{folder(language)}{page}.html"] for language in LANGUAGES]
    tex = [sorted(svg["aria-label"] for svg in soup.select(".formula > svg")) for soup in pages]
    assert len(tex[0]) >= 3 and all(one == tex[0] for one in tex)


@pytest.fixture(scope="module")
def pdfs(browser):
    subprocess.run([sys.executable, "-m", "tools.pdf"], cwd=ROOT, env=NOWHERE, check=True)
    return {language: (ROOT / pdf_in(language)).read_bytes() for language in LANGUAGES}


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_pdf_holds_all_pages_and_its_links_stay_inside(pdfs, language):
    pdf = pdfs[language]
    assert len(re.findall(rb"/Type /Page\b", pdf)) > 2 * len(NAMES)
    assert b"/Outlines" in pdf and b"(file:" not in pdf
    assert pdf.count(b"/Dest") > 10 * len(NAMES), "links from page to page"
    assert f"/Lang ({language})".encode() in pdf


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_the_pdf_has_a_font_for_its_letters(pdfs, language):
    """Among the PDF's packed parts is a table of what each font's shapes stand for: searching and copying need it."""
    if not has_letters(language):
        pytest.skip(f"no font with the letters of {LANGUAGES[language]}")
    letters = set()
    for packed in re.findall(rb"stream\r?\n(.*?)endstream", pdfs[language], re.DOTALL):
        with suppress(zlib.error):
            text = zlib.decompressobj().decompress(packed)
            if b"begincmap" in text:
                letters |= {chr(int(code, 16)) for code in re.findall(rb"(?m)<([0-9A-Fa-f]{4})>$", text)}
    assert LETTERS[language].search("".join(letters))
