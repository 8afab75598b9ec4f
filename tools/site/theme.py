"""Faults of the theme and of other extensions, repaired; and the description of a page that its theme shows."""

import textwrap
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

#: A part of a page, and its replacement.
REPAIRS = {
    # docutils: the children of a list must be list items, and these are not; the role of a citation is deprecated.
    '<div role="list" class="citation-list">': '<div class="citation-list">',
    ' role="doc-biblioentry"': "",
    # MyST-NB: the accessible name must be the text that is shown.
    '<summary aria-label="Toggle hidden content">': "<summary>",
}


def setup(app: Sphinx) -> None:
    app.connect("builder-inited", know_all_nodes)
    app.connect("html-page-context", repair, priority=900)


def know_all_nodes(app: Sphinx) -> None:
    """sphinx-exercise names the builder `singlehtml`: there, Sphinx then forgets all nodes of other extensions."""
    handlers = app.registry.translation_handlers
    handlers["singlehtml"] = handlers["html"] | handlers.get("singlehtml", {})


def repair(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    if doctree is not None:  # for search engines and previews: the theme would take the title and the stamp, too
        paragraphs = (one.astext() for one in doctree.findall(nodes.paragraph) if "stamp" not in one["classes"])
        context["page_description"] = textwrap.shorten(next(paragraphs, ""), 160, placeholder=" …")
    for part, instead in REPAIRS.items():
        context["body"] = context.get("body", "").replace(part, instead)
