"""What the theme leaves to be repaired, for screen readers, slow lines and the browser's console."""

import re
import textwrap
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config

#: A part of a page, and what it is replaced with.
REPAIRS = {
    # A list's children are list items, and these are not; the role of a citation is no more.
    r'<div role="list" class="citation-list">': '<div class="citation-list">',
    r' role="doc-biblioentry"': "",
    # Its name is what it shows.
    r'<summary aria-label="Toggle hidden content">': "<summary>",
}
#: Files of extensions that most pages have no use for -> a pattern that a page which uses them contains.
SELDOM = {
    "sphinx-thebe": "thebe",
    "sphinx-design": r"\bsd-",
    "design-tabs": r"\bsd-",
    "exercise": "exercise",
    "togglebutton": "toggle|dropdown",
}
#: How the classes of Bootstrap's components begin that a page may well do without: a fifth of the theme's style sheet.
COMPONENTS = ("accordion", "btn-outline", "carousel", "form-", "list-group", "offcanvas", "sd-", "toast")
RULE = re.compile(r"([^{}]+)\{[^{}]*\}")


def setup(app: Sphinx) -> None:
    app.connect("config-inited", without_thebe, priority=900)
    app.connect("build-finished", lighten)
    app.connect("builder-inited", know_all_nodes)
    app.connect("html-page-context", repair, priority=900)


def without_thebe(app: Sphinx, config: Config) -> None:
    """Jupyter Book adds Thebe, which asks other sites for its parts, even where nothing is run in the page."""
    for listeners in list(app.events.listeners.values()):
        for listener in list(listeners):
            if listener.handler.__module__ == "sphinx_thebe":
                app.disconnect(listener.id)


def know_all_nodes(app: Sphinx) -> None:
    """Where some extensions say how a single page is written, Sphinx forgets what others said of all HTML."""
    handlers = app.registry.translation_handlers
    handlers["singlehtml"] = handlers["html"] | handlers.get("singlehtml", {})


def repair(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    if doctree is not None:
        context["page_description"] = description(doctree)
    body = context.get("body", "")
    for part, instead in REPAIRS.items():
        body = re.sub(part, instead, body)
    context["body"] = body
    for kind in ("css_files", "script_files"):
        context[kind] = [file for file in context.get(kind, []) if is_used(str(file.filename or ""), body)]


def description(page: nodes.document) -> str:
    """What search engines and previews show: the page's first words, where the theme takes the title and the stamp."""
    paragraphs = (one.astext() for one in page.findall(nodes.paragraph) if "stamp" not in one["classes"])
    return textwrap.shorten(next(paragraphs, ""), 160, placeholder=" …")


def is_used(file: str, body: str) -> bool:
    return all(re.search(sign, body) for name, sign in SELDOM.items() if name in file)


def lighten(app: Sphinx, exception: Exception | None) -> None:
    sheet = Path(app.outdir, "_static", "styles", "pydata-sphinx-theme.css")
    if exception or not sheet.exists():
        return
    pages = [page.read_text() for page in Path(app.outdir).rglob("*.html")]
    used = {name for page in pages for name in re.findall(rf'class="(?:[^"]* )?({"|".join(COMPONENTS)})', page)}
    sheet.write_text(without_components(sheet.read_text(), {*COMPONENTS} - used))


def without_components(sheet: str, unused: set[str]) -> str:
    """A style sheet without the rules that are of these and nothing else."""
    if not unused:
        return sheet
    of_unused = re.compile(rf"\.(?:{'|'.join(map(re.escape, sorted(unused)))})")
    return RULE.sub(lambda rule: "" if all(map(of_unused.search, rule[1].split(","))) else rule[0], sheet)
