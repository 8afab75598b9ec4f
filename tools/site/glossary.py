"""The first time that a page uses a term of the glossary, it leads there."""

import re
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.config import Config

from tools.site import korean
from tools.site.editions import text_of

PAGE = "book/glossary"
TERM = re.compile(r"^(?![\s:`]).+$", re.MULTILINE)
#: Terms that are everyday words as well: only the glossary and the drawing of a trial explain them. In Korean, 보고
#: (report) is "see, and" as well, and 측정, 예측 (measured, predicted) are nouns, of anything.
EVERYDAY = {"en": {"batch", "busy", "gap", "order", "useful"}}
EVERYDAY["ko"] = EVERYDAY["en"] | {"report", "measured", "predicted"}
#: What may follow a term and belongs to its link, and what may follow that. A part of a longer word is not the term.
ENDINGS = {"en": r"s?(?![\w/-])", "ko": rf"(?={korean.ENDING}(?![\w/-]))"}
#: Text in these is left alone: names, code, links, and what stands beside the text.
NOT_IN = (
    nodes.title, nodes.reference, addnodes.pending_xref, nodes.literal, nodes.literal_block, nodes.raw, nodes.math,
    nodes.caption, nodes.table, nodes.sidebar, nodes.image, nodes.comment, nodes.target,
)  # fmt: skip


def setup(app: Sphinx) -> None:
    app.add_config_value("glossary_terms", {}, "env")  # another term, and every page is read again
    app.connect("config-inited", read_terms)
    app.connect("doctree-read", link_terms)


def read_terms(app: Sphinx, config: Config) -> None:
    """The terms, as words of the page's language -> the names that they have in the glossary's source."""
    page = Path(app.srcdir, f"{PAGE}.md")
    terms = TERM.findall(page.read_text("utf-8").partition("```{glossary}\n")[2]) if page.exists() else []
    translated = text_of(PAGE, config.language)
    config.glossary_terms = {without_original(translated.gettext(term)): term for term in terms}


def without_original(term: str) -> str:
    """Translated terms stand in the glossary as `시험(trial)`, and elsewhere without what is in parentheses."""
    return term.partition("(")[0]


def link_terms(app: Sphinx, doctree: nodes.document) -> None:
    if app.env.docname == PAGE:
        for terms in doctree.findall(addnodes.glossary):
            terms[0].children.sort(key=lambda item: item.astext())  # in the order of the page's own language
        return
    language, words = app.config.language, app.config.glossary_terms
    missing = {word: term for word, term in words.items() if term not in EVERYDAY[language]}
    longest_first = "|".join(map(re.escape, sorted(words, key=len, reverse=True)))
    pattern = re.compile(rf"(?<![\w./-])({longest_first}){ENDINGS[language]}", re.IGNORECASE)
    for text in list(doctree.findall(nodes.Text)):
        if missing and is_prose(text):
            link_first(text, pattern, missing, app.env.docname)


def is_prose(node: nodes.Node, in_paragraph: bool = False) -> bool:
    if isinstance(node, NOT_IN) or (isinstance(node, nodes.Element) and "margin" in node.get("classes", [])):
        return False
    in_paragraph = in_paragraph or isinstance(node, nodes.paragraph)
    return is_prose(node.parent, in_paragraph) if node.parent else in_paragraph


def link_first(text: nodes.Text, terms: re.Pattern[str], missing: dict[str, str], page: str) -> None:
    """Replace a piece of text by links and what stands between them; take their terms from `missing`.

    `terms` finds linked ones, too: a part of a longer term is not the shorter one.
    """
    target = {"refdomain": "std", "reftype": "term", "refexplicit": True, "refwarn": True, "refdoc": page}
    pieces: list[nodes.Node] = []
    source, end = text.astext(), 0
    for found in terms.finditer(source):
        if term := missing.pop(found[1].lower(), None):
            shown = nodes.inline("", found[0], classes=["xref", "std", "std-term"])
            link = addnodes.pending_xref("", shown, reftarget=term, **target)
            pieces += [nodes.Text(source[end : found.start()]), link]
            end = found.end()
    if pieces:
        text.parent.replace(text, [*pieces, nodes.Text(source[end:])])
