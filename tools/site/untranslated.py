"""A translation's first page says how many paragraphs of all pages are still shown in English, if some are."""

from gettext import NullTranslations
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.locale import get_translation
from sphinx.transforms import SphinxTransform
from sphinx.util.nodes import extract_messages
from sphinx_exercise.nodes import exercise_node, solution_node

from tools.languages import SOURCE
from tools.site.languages import text_of

_ = get_translation("site")
#: What is in these is no message: a notebook's metadata, outputs but for figures' alt texts, numbers of exercises.
NOT_OF_MESSAGES = (nodes.field, nodes.field_body, nodes.container, exercise_node, solution_node)


def setup(app: Sphinx) -> None:
    if app.config.language != SOURCE:
        app.add_transform(Count)
        app.connect("env-updated", write_first_page_again)
        app.connect("doctree-resolved", add_line)


class Nothing(NullTranslations):
    """Asked where a catalogue has no translation, which otherwise gives the original."""

    def gettext(self, message: str) -> str:
        return ""


class Count(SphinxTransform):
    default_priority = 19  # Sphinx translates at 20

    def apply(self, **kwargs: Any) -> None:
        page = self.env.metadata[self.env.docname]
        if "untranslated" not in page:  # later, Sphinx parses each translation as a document of its own
            catalogue = text_of(self.env.docname, self.config.language)
            catalogue.add_fallback(Nothing())
            texts = {text for node, text in extract_messages(self.document) if is_message(node)}
            page["untranslated"] = sum(not catalogue.gettext(text) for text in texts), len(texts)


def is_message(node: nodes.Element) -> bool:
    return isinstance(node, nodes.image) or not isinstance(node.parent, NOT_OF_MESSAGES)


def counts(env: BuildEnvironment) -> tuple[int, int]:
    """Of all pages: paragraphs without a translation, and paragraphs."""
    missing, all_ = zip(*(page.get("untranslated", (0, 0)) for page in env.metadata.values()), strict=True)
    return sum(missing), sum(all_)


def write_first_page_again(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """When another page has changed what its line says: Sphinx would write only the other."""
    if app.builder.name != "html":  # the other builders always write all pages
        return []
    first = env.metadata[app.config.root_doc]
    before, first["untranslated_in_all"] = first.get("untranslated_in_all"), counts(env)
    return [app.config.root_doc] if before != first["untranslated_in_all"] else []


def add_line(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    missing, all_ = counts(app.env)
    title = doctree.next_node(nodes.title)
    if missing and title is not None and docname == app.config.root_doc:
        words = _("{missing} of this edition's {all} paragraphs are not translated yet, and are shown in English.")
        line = words.format(missing=f"{missing:,}", all=f"{all_:,}")
        title.parent.insert(title.parent.index(title) + 1, nodes.paragraph("", line, classes=["stamp"]))
