"""Under a notebook's title: when its outputs were made, how long that took, and with which versions."""

import json
from datetime import date
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

MONTHS = ["January", "February", "March", "April", "May", "June"]
MONTHS += ["July", "August", "September", "October", "November", "December"]


def setup(app: Sphinx) -> None:
    app.connect("doctree-read", add_stamp)


def add_stamp(app: Sphinx, doctree: nodes.document) -> None:
    source = Path(app.env.doc2path(app.env.docname))
    title = doctree.next_node(nodes.title)
    if source.suffix == ".ipynb" and title is not None:
        kept = json.loads(source.read_text())["metadata"].get("async_hpo", {})
        if "seconds" in kept:
            place = title.parent.index(title) + 1
            title.parent.insert(place, nodes.paragraph("", words(kept), classes=["stamp"]))


def words(kept: dict[str, Any]) -> str:
    """What `make execute` has kept, as a sentence: the seconds always, the rest where they are known."""
    minutes, seconds = divmod(kept["seconds"], 60)
    time = f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    day = f" on {spelled_out(date.fromisoformat(kept['date']))}" if "date" in kept else ""
    versions = ", ".join(f"{name} {version}" for name, version in kept.get("versions", {}).items())
    return f"These outputs were made{day} in {time}" + (f", with {versions}." if versions else ".")


def spelled_out(day: date) -> str:
    """In English, whatever the builder's language."""
    return f"{day.day} {MONTHS[day.month - 1]} {day.year}"
