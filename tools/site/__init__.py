"""The book's own Sphinx extension: what makes its pages lighter, friendlier and complete. One module a subject."""

from sphinx.application import Sphinx

from tools.site import (
    citation,
    dataframes,
    explorer,
    formulas,
    glossary,
    icons,
    inline_figures,
    korean,
    languages,
    links,
    messages,
    notebooks,
    pages,
    stamp,
    theme,
    untranslated,
    ways_in,
)

PARTS = (
    languages,
    untranslated,
    korean,
    messages,
    notebooks,
    pages,
    links,
    inline_figures,
    dataframes,
    explorer,
    theme,
    icons,
    formulas,
    stamp,  # its words are linked to the glossary, too
    glossary,
    ways_in,
    citation,
)


def setup(app: Sphinx) -> dict[str, bool]:
    for part in PARTS:
        part.setup(app)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
