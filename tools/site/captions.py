"""A figure's caption is the Markdown cell tagged `caption` behind the one that draws it: JupyterLab shows it, too.

For the page it becomes the metadata that MyST-NB reads captions from.
"""

import json
from typing import Any

from sphinx.application import Sphinx

TAG = "caption"


def setup(app: Sphinx) -> None:
    app.connect("source-read", read)


def read(app: Sphinx, docname: str, source: list[str]) -> None:
    if app.env.doc2path(docname).endswith(".ipynb"):
        notebook = json.loads(source[0])
        cells: list[dict[str, Any]] = []
        for cell in notebook["cells"]:
            if TAG in cell["metadata"].get("tags", []):
                figure = cells[-1]["metadata"].setdefault("mystnb", {}).setdefault("figure", {})
                figure["caption"] = "".join(cell["source"])
            else:
                cells.append(cell)
        source[0] = json.dumps(notebook | {"cells": cells})
