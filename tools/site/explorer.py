"""A figure of the class `explorer` becomes the scheduling explorer where the page can run scripts.

    ```{figure} picture.svg
    :figclass: explorer
    ...

It stays the figure that it is in JupyterLab, on paper, and where scripts are off. `explorer explorer-small` is the one
that plays by itself. Its scripts and style are in book/_static; the recorded durations are read from the table here.
Its words stand in the scripts, in English, as `_("...")`; their translations come with the page.
"""

import csv
import json
import runpy
from pathlib import Path

from babel.messages.extract import extract
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.locale import get_translation

from tools.languages import SOURCE
from tools.site.inline_figures import on_page

_ = get_translation("site")
KEYWORDS = {"_": None}
COLORS = "colors.css"
SCRIPTS = ("schedule.js", "explorer-panel.js", "explorer.js")  # in this order


def setup(app: Sphinx) -> None:
    app.connect("doctree-read", depend_on_table)
    app.connect("html-page-context", add_to_page)
    app.connect("build-finished", write_colors)


def recorded_durations(path: Path) -> list[float]:
    """Seconds that each trial of a table takes, as `async_hpo.tables.durations` has them. The environment that renders
    the book has no pandas."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        seconds: dict[int, float] = {}
        for row in rows:
            trial = int(row["trial"])
            seconds[trial] = max(seconds.get(trial, 0.0), float(row["seconds"]))
    return [seconds[trial] for trial in sorted(seconds)]


def depend_on_table(app: Sphinx, doctree: nodes.document) -> None:
    if _explores(doctree):
        app.env.note_dependency(str(_table(app)))


def add_to_page(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None) -> None:
    if doctree is None or not _explores(doctree):
        return
    if app.config.language != SOURCE:
        translations = {text: _(text) for text in words(Path(app.srcdir))}
        catalogue = {"locale": app.config.language, "messages": translations, "plural_expr": "0"}
        app.add_js_file(None, body=f"Documentation.addTranslations({json.dumps(catalogue)});")
    durations = json.dumps(recorded_durations(_table(app)))
    app.add_js_file(None, body=durations, type="application/json", id="recorded-durations")
    for script in SCRIPTS:
        app.add_js_file(script, loading_method="defer")
    app.add_css_file(COLORS)
    app.add_css_file("explorer.css")


def write_colors(app: Sphinx, exception: Exception | None) -> None:
    """The figures' colours, for style sheets: `var(--waiting)` is what waiting has on this page, light or dark."""
    if not exception and app.builder.format == "html":
        colors = runpy.run_path(str(Path(app.srcdir, "async_hpo", "plots", "colors.py")))
        rules = "; ".join(f"--{name.lower()}: {on_page(colors[name])}" for name in ("TRIAL", "WAITING"))
        Path(app.outdir, "_static", COLORS).write_text(f":root {{ {rules} }}\n", encoding="utf-8")


def words(folder: Path) -> list[str]:
    """All that the scripts say."""
    found: list[str] = []
    for name in SCRIPTS:
        with open(folder / "book" / "_static" / name, "rb") as script:
            options = {"parse_template_string": True}
            found += [str(text) for _line, text, *_rest in extract("javascript", script, KEYWORDS, options=options)]
    return list(dict.fromkeys(found))


def _explores(doctree: nodes.document) -> bool:
    return any("explorer" in figure["classes"] for figure in doctree.findall(nodes.figure))


def _table(app: Sphinx) -> Path:
    return Path(app.srcdir, "recordings", "cnn.csv")
