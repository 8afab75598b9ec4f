"""The book's own Sphinx extension: what makes its pages lighter, friendlier and complete. One module a subject."""

from sphinx.application import Sphinx

from tools.site import citation, formulas, glossary, icons, pages, stamp, theme, ways_in


def setup(app: Sphinx) -> dict[str, bool]:
    for part in (pages, theme, icons, formulas, glossary, stamp, ways_in, citation):
        part.setup(app)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
