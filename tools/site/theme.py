"""What the theme leaves to be repaired, for screen readers, slow lines and the browser's console."""

import re
from typing import Any

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


def setup(app: Sphinx) -> None:
    app.connect("config-inited", without_thebe, priority=900)
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
    body = context.get("body", "")
    for part, instead in REPAIRS.items():
        body = re.sub(part, instead, body)
    context["body"] = body
    for kind in ("css_files", "script_files"):
        context[kind] = [file for file in context.get(kind, []) if is_used(str(file.filename or ""), body)]


def is_used(file: str, body: str) -> bool:
    return all(re.search(sign, body) for name, sign in SELDOM.items() if name in file)
