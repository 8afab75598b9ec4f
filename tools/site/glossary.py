"""The first time that a page uses a term of the glossary, it leads there."""

import re
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.config import Config

from tools.site import korean
from tools.site.languages import text_of

PAGE = "book/glossary"
FENCE = re.compile(r"^```\{glossary\}\n(.*?)^```", re.MULTILINE | re.DOTALL)
#: Terms that are everyday words as well: only the glossary and the drawing of a trial explain them.
EVERYDAY = {"batch", "busy", "gap", "order", "useful"}
EVERYDAY_ELSEWHERE = {"ko": {"report"}}  # 보고, which is "see, and" as well
#: What may follow a term and belongs to its link, and what may follow that. A part of a longer word is not the term.
ENDINGS = {"en": r"s?(?![\w/-])", "ko": rf"(?={korean.ENDING}(?![\w/-]))"}
#: Text in these is left alone: names, code, what is a link already, what stands beside the text.
NOT_IN = (
    nodes.title, nodes.reference, addnodes.pending_xref, nodes.literal, nodes.literal_block, nodes.raw, nodes.math,
    nodes.caption, nodes.table, nodes.sidebar, nodes.image, nodes.comment, nodes.target,
)  # fmt: skip


def setup(app: Sphinx) -> None:
    app.add_config_value("glossary_terms", {}, "env")  # another term, and every page is read again
    app.connect("config-inited", read_terms, priority=902)
    app.connect("doctree-read", link_terms)


def read_terms(app: Sphinx, config: Config) -> None:
    """The terms, as words of the page's language -> the names that they have in the glossary's source."""
    page = Path(app.srcdir, f"{PAGE}.md")
    found = FENCE.search(page.read_text()) if PAGE in config.external_site_map and page.exists() else None
    lines = found[1].splitlines() if found else []
    terms = [line for line in lines if line and not line[0].isspace() and line[0] != ":"]
    translated = text_of(PAGE, config.language)
    config.glossary_terms = {without_original(translated.gettext(term)): term for term in terms}


def without_original(term: str) -> str:
    """Translated terms stand in the glossary as `시험(trial)`, and elsewhere without what is in parentheses."""
    return term.partition("(")[0]


def link_terms(app: Sphinx, doctree: nodes.document) -> None:
    if app.env.docname == PAGE:
        return
    language = app.config.language
    everyday = EVERYDAY | EVERYDAY_ELSEWHERE.get(language, set())
    missing = {word: term for word, term in app.config.glossary_terms.items() if term not in everyday}
    for text in list(doctree.findall(nodes.Text)):
        if missing and is_prose(text):
            link_first(text, missing, app.env.docname, ENDINGS[language])


def is_prose(text: nodes.Text) -> bool:
    node, in_paragraph = text.parent, False
    while node is not None:
        if isinstance(node, NOT_IN) or "margin" in node.get("classes", []):
            return False
        in_paragraph = in_paragraph or isinstance(node, nodes.paragraph)
        node = node.parent
    return in_paragraph


def link_first(text: nodes.Text, missing: dict[str, str], page: str, ending: str) -> None:
    """Replace a piece of text by links and what stands between them; take their terms from `missing`."""
    longest_first = sorted(missing, key=len, reverse=True)
    terms = re.compile(rf"(?<![\w./-])({'|'.join(map(re.escape, longest_first))}){ending}", re.IGNORECASE)
    pieces: list[nodes.Node] = []
    source, end = text.astext(), 0
    for found in terms.finditer(source):
        if term := missing.pop(found[1].lower(), None):
            pieces += [nodes.Text(source[end : found.start()]), link(found[0], term, page)]
            end = found.end()
    if pieces:
        pieces.append(nodes.Text(source[end:]))
        text.parent.replace(text, [piece for piece in pieces if piece.astext()])


def link(words: str, term: str, page: str) -> addnodes.pending_xref:
    shown = nodes.inline("", words, classes=["xref", "std", "std-term"])
    return addnodes.pending_xref(
        "", shown, refdomain="std", reftype="term", reftarget=term, refexplicit=True, refwarn=True, refdoc=page
    )
