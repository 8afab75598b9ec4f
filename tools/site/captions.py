"""A figure's caption is the Markdown cell tagged `caption` behind the one that draws it: JupyterLab shows it, too.

For the page it becomes what MyST-NB takes for a caption: metadata of the cell that draws.
"""

from typing import Any

TAG = "caption"


def with_captions(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for cell in cells:
        if TAG in cell["metadata"].get("tags", []):
            figure = found[-1]["metadata"].setdefault("mystnb", {}).setdefault("figure", {})
            figure["caption"] = "".join(cell["source"])
        else:
            found.append(cell)
    return found
