"""Lines under a page's title: when a notebook's outputs were made; how much of a translation is still in English."""

import json
from datetime import date
from pathlib import Path
from typing import Any

from babel.dates import format_date
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.locale import get_translation
from sphinx.transforms import SphinxTransform
from sphinx.util.nodes import extract_messages
from sphinx_exercise.nodes import exercise_node, solution_node

from tools.languages import SOURCE
from tools.site.editions import text_of

_ = get_translation("site")
#: Text in these is no message: a notebook's metadata, outputs except figures' alt texts, numbers of exercises.
NOT_OF_MESSAGES = (nodes.field, nodes.field_body, nodes.container, exercise_node, solution_node)


def setup(app: Sphinx) -> None:
    app.connect("doctree-read", add_stamp, priority=400)  # before the glossary, which links its words
    if app.config.language != SOURCE:
        app.add_transform(Count)
        app.connect("env-updated", lambda app, env: [app.config.root_doc])  # it says what is missing on other pages
        app.connect("doctree-resolved", say_what_is_missing)


def add_line(doctree: nodes.document, words: str) -> None:
    if title := doctree.next_node(nodes.title):
        title.parent.insert(title.parent.index(title) + 1, nodes.paragraph("", words, classes=["stamp"]))


def add_stamp(app: Sphinx, doctree: nodes.document) -> None:
    source = Path(app.env.doc2path(app.env.docname))
    if source.suffix == ".ipynb":
        kept = json.loads(source.read_text(encoding="utf-8"))["metadata"].get("async_hpo", {})
        if "seconds" in kept:
            add_line(doctree, stamp(kept, app.config.language))


def stamp(kept: dict[str, Any], language: str = SOURCE) -> str:
    """The date, duration (s) and versions that `make execute` has kept, as a sentence."""
    minutes, seconds = divmod(kept["seconds"], 60)
    time = _("{} min {} s").format(minutes, seconds) if minutes else _("{} s").format(seconds)
    day = format_date(date.fromisoformat(kept["date"]), "d MMMM y" if language == SOURCE else "long", locale=language)
    versions = ", ".join(f"{name} {version}" for name, version in kept["versions"].items())
    sentence = _("These outputs were made on {day} in {time}, with {versions}.")
    return sentence.format(day=day, time=time, versions=versions)


class Count(SphinxTransform):
    """How many messages of a page have no translation, and how many there are."""

    default_priority = 19  # Sphinx translates at 20

    def apply(self, **kwargs: Any) -> None:
        page = self.env.metadata[self.env.docname]
        if "untranslated" not in page:  # later, Sphinx parses each translation as a document of its own
            gettext = text_of(self.env.docname, self.config.language).gettext
            texts = {
                text
                for node, text in extract_messages(self.document)
                if isinstance(node, nodes.image) or not isinstance(node.parent, NOT_OF_MESSAGES)
            }
            # Without a translation, gettext returns the very object that it was given.
            page["untranslated"] = sum(gettext(text) is text for text in texts), len(texts)


def say_what_is_missing(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    counts = [page.get("untranslated", (0, 0)) for page in app.env.metadata.values()]
    missing, total = map(sum, zip(*counts, strict=True))
    if missing and docname == app.config.root_doc:
        words = _("{missing} of this edition's {all} paragraphs are not translated yet, and are shown in English.")
        add_line(doctree, words.format(missing=f"{missing:,}", all=f"{total:,}"))
