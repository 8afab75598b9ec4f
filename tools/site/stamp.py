"""Under a notebook's title: when its outputs were made, how long that took, and with which versions."""

import json
from datetime import date
from pathlib import Path
from typing import Any

from babel.dates import format_date
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.locale import get_translation

_ = get_translation("site")
#: What is known, day and versions -> the sentence: a whole one, as other languages order its parts otherwise. Here,
#: `_` is lazy: the language is not known yet.
SENTENCES = {
    (True, True): _("These outputs were made on {day} in {time}, with {versions}."),
    (True, False): _("These outputs were made on {day} in {time}."),
    (False, True): _("These outputs were made in {time}, with {versions}."),
    (False, False): _("These outputs were made in {time}."),
}


def setup(app: Sphinx) -> None:
    app.connect("doctree-read", add_stamp)


def add_stamp(app: Sphinx, doctree: nodes.document) -> None:
    source = Path(app.env.doc2path(app.env.docname))
    title = doctree.next_node(nodes.title)
    if source.suffix == ".ipynb" and title is not None:
        kept = json.loads(source.read_text())["metadata"].get("async_hpo", {})
        if "seconds" in kept:
            place = title.parent.index(title) + 1
            title.parent.insert(place, nodes.paragraph("", words(kept, app.config.language), classes=["stamp"]))


def words(kept: dict[str, Any], language: str = "en") -> str:
    """What `make execute` has kept, as a sentence: the seconds always, the rest where they are known."""
    minutes, seconds = divmod(kept["seconds"], 60)
    known = {"time": _("{} min {} s").format(minutes, seconds) if minutes else _("{} s").format(seconds)}
    if "date" in kept:
        known["day"] = spelled_out(date.fromisoformat(kept["date"]), language)
    if kept.get("versions"):
        known["versions"] = ", ".join(f"{name} {version}" for name, version in kept["versions"].items())
    return SENTENCES["day" in known, "versions" in known].format(**known)


def spelled_out(day: date, language: str) -> str:
    return format_date(day, "d MMMM y" if language == "en" else "long", locale=language)
