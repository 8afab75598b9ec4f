"""The built book in a browser: every page of both languages from `file:`, wide and on a phone, in light and in dark."""

import copy
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from babel.messages.extract import extract_from_file
from bs4 import BeautifulSoup, Comment, Doctype
from sphinx_external_toc.parsing import parse_toc_yaml
from test_build import add_notebook, small_book, succeed

from async_hpo.language import NUMBER
from tools import translate, translated
from tools.browser import MISSING, find_browser
from tools.languages import NAMES as LANGUAGES
from tools.languages import SOURCE, TRANSLATIONS, folder
from tools.notebooks import ROOT
from tools.pdf import pdf_in

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not find_browser(), reason=MISSING)]

HTML = ROOT / "_build" / "html"
NAMES = [*parse_toc_yaml(ROOT / "_toc.yml"), "search", "404"]
TRANSLATED = [f"{folder(language)}{name}" for language in TRANSLATIONS for name in NAMES]
PAGES = pytest.mark.parametrize("name", NAMES + TRANSLATED)
WIDE, PHONE = 1280, 390
SIZES = {width: {"width": width, "height": 800} for width in (WIDE, PHONE)}
#: Bytes that a page loads, uncompressed. Of these, 1.5 MB are the theme's icons, which a browser keeps.
BUDGET = 3_000_000
#: The repository's address is unknown, as in a clone, on GitHub Actions, too.
NOWHERE = os.environ | {"GITHUB_REPOSITORY": ""}


@pytest.fixture(scope="module")
def browser(chromium):
    subprocess.run([sys.executable, "-m", "tools.build"], cwd=ROOT, env=NOWHERE, check=True)
    return chromium


@pytest.fixture
def visit(browser):
    """Open a page; return it, the addresses that it asks for, and the errors and warnings that it tells the console."""
    with browser.new_page(reduced_motion="reduce") as page:  # colours change at once
        asked, said = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("requestfailed", lambda one: "ABORTED" in one.failure or said.append(f"not found: {one.url}"))
        page.on("console", lambda message: message.type in ("error", "warning") and said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))

        def visit(name, width=WIDE):
            page.set_viewport_size(SIZES[width])
            page.goto(address(name), wait_until="load")
            return page, asked, said

        yield visit


def address(name):
    return (HTML / f"{name}.html").as_uri()


def go_dark(page):
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("document.documentElement.dataset.theme === 'dark'")  # the theme's script follows


#: The theme looks 0.3 s later which of it can be scrolled: waited for by the page's own frames and timers, which keep
#: their order on a slow machine, too.
UNFOLD = """async () => {
    const folded = [...document.querySelectorAll("details:not([open]) > summary, button.toggle-button-hidden")];
    folded.forEach(one => one.click());
    if (!folded.length) return;
    for (let frame = 0; frame < 2; frame++) await new Promise(requestAnimationFrame);
    await new Promise(done => setTimeout(done, 500));
}"""
#: Of a drawn figure axe looks at its name. Its thousands of lines only take time.
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
#: Rules whose verdict depends on colours.
COLOURS = ["color-contrast", "link-in-text-block"]


def serious(page, rules=None):
    """What axe finds on the page. The colours of code, slow to check, depend on no width or language."""
    seen = page.viewport_size["width"] == PHONE or page.locator("html").get_attribute("lang") != SOURCE
    return page.evaluate(SERIOUS, [rules, "*:not(.highlight pre *)" if seen else "*"])


@pytest.mark.parametrize(
    "name, width",
    [*((name, WIDE) for name in NAMES), *((name, PHONE) for name in TRANSLATED)]
    + [pytest.param(name, PHONE, marks=pytest.mark.long) for name in NAMES]
    + [pytest.param(name, WIDE, marks=pytest.mark.long) for name in TRANSLATED],
)
def test_everyone_can_read_it_in_light_and_in_dark(visit, name, width):
    page, asked, said = visit(name, width)
    assert not [url for url in asked if urlparse(url).scheme not in ("file", "data", "blob")], "other hosts"
    page.evaluate(UNFOLD)
    page.evaluate(AXE_SCRIPT)
    assert not serious(page)
    go_dark(page)
    assert not serious(page, COLOURS)
    assert not said


@pytest.mark.parametrize("width", SIZES)
def test_everyone_can_use_the_buttons_that_lead_elsewhere(visit, tmp_path, width):
    """On a notebook's page, of a tiny book: those of ours have no buttons that lead to their repository."""
    book = small_book(tmp_path)
    add_notebook(book)
    succeed(book, GITHUB_REPOSITORY="someone/a-book", GITHUB_SERVER_URL="https://github.com")
    page, _, said = visit(book / "_build" / "html" / "book" / "[three]", width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "there is room for all of them"
    page.evaluate(AXE_SCRIPT)
    for ways, name in (("launch", "Binder"), ("source", "Open issue")):
        group = page.locator(f".dropdown-{ways}-buttons")
        group.locator("button").press("Enter")
        group.get_by_role("link", name=name).wait_for()
        assert not serious(page)
        page.keyboard.press("Escape")
    assert not said


def test_a_dark_page_is_printed_as_a_light_one(visit):
    page, _, _ = visit("notebooks/objective")
    colours = """() => ["article p", "article .inline-figure"].map(one =>
        getComputedStyle(document.querySelector(one)).color)"""
    light = page.evaluate(colours)
    go_dark(page)
    dark = page.evaluate(colours)
    assert not {*light} & {*dark}
    for event, expected in (("beforeprint", light), ("afterprint", dark)):
        page.evaluate("event => window.dispatchEvent(new Event(event))", event)
        assert page.evaluate(colours) == expected


#: Words that are smaller than the text.
SMALL = """() => [...document.querySelectorAll("article :is(p, li, dt, dd, th, td, figcaption)")]
    .filter(one => one.checkVisibility() && one.innerText.trim() && !one.closest("footer"))
    .filter(one => parseFloat(getComputedStyle(one).fontSize) < 16)
    .map(one => getComputedStyle(one).fontSize + " " + one.innerText.slice(0, 60)).slice(0, 5)"""
#: The smallest words of each figure (pixels), exponents aside.
LETTERS = """() => [...document.querySelectorAll(".inline-figure")].filter(one => one.checkVisibility()).map(svg => {
    const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
    const words = [...svg.querySelectorAll("text:not(:has(tspan)), tspan:first-child")];
    return scale * Math.min(...words.map(one => parseFloat(getComputedStyle(one).fontSize)));
})"""


@PAGES
def test_it_fits_every_screen_and_is_light(visit, name):
    page, asked, _ = visit(name, PHONE)
    letters = page.evaluate(LETTERS)
    page.evaluate(UNFOLD)
    page.evaluate("window.scrollTo(1000, 0)")
    assert page.evaluate("window.scrollX") == 0
    assert not page.evaluate(SMALL), "text on a phone"
    page.set_viewport_size(SIZES[WIDE])
    assert all(8 <= size < 100 for size in letters + page.evaluate(LETTERS)), "in figures"
    page.evaluate("document.querySelectorAll('img').forEach(one => one.loading = 'eager')")
    page.wait_for_function("[...document.images].every(one => one.complete)")
    files = {Path(unquote(urlparse(url).path)) for url in asked if url.startswith("file:")}
    sizes = sorted(((path.stat().st_size, path.name) for path in files), reverse=True)
    assert sum(size for size, _ in sizes) < BUDGET, sizes[:6]


@PAGES
def test_without_scripts_text_and_figures_are_there(browser, name):
    with browser.new_page(java_script_enabled=False, viewport=SIZES[PHONE]) as page:
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


#: A word of several pages, as it stands there and as a reader may type it.
@pytest.mark.parametrize("language,word,typed", [("en", "straggler", "straggler"), ("ko", "작업자", "작업자는")])
def test_search_finds_words_from_file(visit, language, word, typed):
    page, _, said = visit(f"{folder(language)}notebooks/objective")
    page.keyboard.press("Control+k")
    page.keyboard.type(typed)
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=*")
    page.locator("#search-results li a").first.click()
    page.wait_for_load_state()
    assert word in page.locator("article").inner_text().lower()
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
    for original in NAMES:
        twins = {language: HTML / f"{folder(language)}{original}.html" for language in LANGUAGES}
        for here, path in twins.items():
            assert soups[path].html["lang"] == here
            for tag, named in (("a", {*LANGUAGES} - {here}), ("link", {*LANGUAGES})):
                links = soups[path].find_all(tag, hreflang=True)
                found = {one["hreflang"]: (path.parent / one["href"]).resolve() for one in links}
                assert found == {language: twins[language] for language in named}


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_a_translated_page_s_theme_speaks_its_language(soups, language):
    """What is shown or heard beside the text has none of the words that the templates translate."""
    templates = (ROOT / "book" / "_templates").glob("*.html")
    words = {text for path in templates for _line, text, *_rest in extract_from_file("jinja2", path)}
    catalogue = translate.read(ROOT / "locale" / language / "LC_MESSAGES" / "sphinx.po", language)
    words &= {message.id for message in catalogue if message.string and not message.fuzzy}
    assert len(words) > 10
    for name in (f"{folder(language)}{name}" for name in NAMES):
        tags = soups[HTML / f"{name}.html"].find_all(True)
        outside = [one for one in tags if not one.find_parent(["article", "head"])]
        heard = {one.get(kind) for one in outside for kind in ("aria-label", "data-bs-title", "placeholder", "title")}
        shown = {text.strip() for one in outside for text in one.find_all(string=True, recursive=False)}
        assert not words & (heard | shown), name


#: What stands alone in Latin letters on a translated page, too: names, references and, behind a term, its original.
NAMED = re.compile(
    r"Dive into Deep Learning|What you can rely on|Ctrl|GPU|ASHA|macOS|TensorBoard|MLflow|Weights & Biases|KubeRay"
    r"|Fashion-MNIST|FCNet|HPOBench|NAS-Bench-201|fcnet|hpobench|nasbench201|runs|another-machine|lr"
    r"|(Ray|Optuna)( Tune)?(, (reuse_actors|n_jobs=2))?|(Python|Forkserver|Ray)Backend|\w+_\w+"  # and columns
    r"|Li|Zhang|([A-Z]\w+( and [A-Z]\w+)?)?( ?et al\.?)?(, \d{4}| \(\d{4}\))?(?<=[\d.l])"  # who wrote what
    r"|\.(ipynb|md|pdf)"
    r"|\([A-Za-z -]+\)"
)
SAID = ("alt", "aria-label", "title")
ASIDE = "head, script, style, noscript, pre, code, .stream, svg[style], body [lang], .citation, .bibtex-citation"


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_a_translated_page_has_no_english_but_code_outputs_and_names(soups, language):
    """What is new in a page's text is English, until it has been translated: `make translate` lists it."""
    catalogues = (ROOT / "locale" / language / "LC_MESSAGES").rglob("*.po")
    known = "\n".join(one for path in catalogues for one in translated.messages(name_of(path, language), language))
    left = []
    for name in (f"{folder(language)}{name}" for name in NAMES):
        soup = copy.copy(soups[HTML / f"{name}.html"])
        for one in soup.select(ASIDE):
            one.decompose()
        texts = [(one, one) for one in soup.find_all(string=True) if not isinstance(one, Comment | Doctype)]
        texts += [(tag, tag[kind]) for tag in soup.find_all(True) for kind in SAID if tag.get(kind)]
        for tag, text in texts:
            words = re.sub(r": [\d.,]+$|[.,:]+$|\($", "", text.strip())
            is_new = tag.find_parent("article") and NUMBER.sub("{}", words) not in known
            if re.search("[A-Za-z]{2}", words) and not re.search("[가-힣]", words) and not NAMED.fullmatch(words):
                left += [] if is_new else [f"{name}: {words}"]
    assert not left, "\n".join(left)


def name_of(path, language):
    return path.relative_to(ROOT / "locale" / language / "LC_MESSAGES").with_suffix("").as_posix()


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_glossary_is_in_the_order_of_its_language(soups, language):
    found = soups[HTML / f"{folder(language)}book/glossary.html"].select(".glossary dt")
    terms = [one.get_text().removesuffix("#") for one in found]
    assert len(terms) > 25 and terms == sorted(terms)


def test_every_image_has_alt_text(soups):
    images = ((page, image) for page, soup in soups.items() for image in soup.find_all("img"))
    assert not [f"{page}: {image.get('src')}" for page, image in images if not image.get("alt", "").strip()]


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
