"""What MyST-NB gets to see of a notebook: captions where it looks for them."""

import json

from sphinx.application import Sphinx

from tools.site.captions import with_captions


def setup(app: Sphinx) -> None:
    app.connect("source-read", read)


def read(app: Sphinx, docname: str, source: list[str]) -> None:
    if app.env.doc2path(docname).endswith(".ipynb"):
        notebook = json.loads(source[0])
        notebook["cells"] = with_captions(notebook["cells"])
        source[0] = json.dumps(notebook)
