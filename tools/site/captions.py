"""A figure's caption is the Markdown cell tagged `caption` behind the one that draws it: JupyterLab shows it, too.

For the page it becomes what MyST-NB takes for a caption: metadata of the cell that draws.
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
        notebook["cells"] = with_captions(notebook["cells"])
        source[0] = json.dumps(notebook)


def with_captions(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for cell in cells:
        if TAG in cell["metadata"].get("tags", []):
            figure = found[-1]["metadata"].setdefault("mystnb", {}).setdefault("figure", {})
            figure["caption"] = "".join(cell["source"])
        else:
            found.append(cell)
    return found
