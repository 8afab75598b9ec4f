"""How to cite the book, from CITATION.cff."""

from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

FILE = "CITATION.cff"


def setup(app: Sphinx) -> None:
    app.add_directive("how-to-cite", HowToCite)


class HowToCite(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        path = Path(self.env.srcdir, FILE)
        self.env.note_dependency(str(path))
        text = bibtex(yaml.safe_load(path.read_text()), self.config.book_repository)
        return [nodes.literal_block(text, text, language="bibtex")]


def bibtex(cited: dict[str, Any], url: str) -> str:
    authors = " and ".join(
        author.get("name") or f"{author['family-names']}, {author['given-names']}" for author in cited["authors"]
    )
    fields = {
        "author": f"{{{authors}}}" if any("name" in author for author in cited["authors"]) else authors,
        "title": f"{{{cited['title']}}}",
        "year": str(cited["date-released"])[:4],
        "note": f"Version {cited['version']}",
        "url": url,
    }
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join(["@misc{async_random_search,", *lines, "}"])
