"""Figures of some classes come to life where the page can run scripts.

    ```{figure} picture.svg
    :figclass: explorer
    ...

`explorer` is the scheduling explorer, `explorer explorer-small` the one that plays by itself, and `law` the speed-up as
a function of two numbers. Each stays the figure that it is in JupyterLab, on paper, and where scripts are off. Scripts
and styles are in book/_static; the recorded durations are read from the tables here. The scripts' words stand in them,
in English, as `_("...")`; their translations come with the page.
"""

import csv
import json
import lzma
import runpy
from pathlib import Path
from statistics import fmean

from babel.messages.extract import extract
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.locale import get_translation

from tools.languages import SOURCE
from tools.site.editions import translate_scripts
from tools.site.inline_figures import on_page

_ = get_translation("site")
KEYWORDS = {"_": None}
COLORS = "colors.css"
#: A figure's class, which is its style sheet's name, too -> what brings it to life, in this order.
LIVE = {
    "explorer": ("live.js", "schedule.js", "explorer-panel.js", "explorer.js"),
    "law": ("live.js", "law.js"),
}
OURS = "recordings/cnn.csv"
PUBLIC = tuple(
    f"recordings/public/{name}.csv.xz"
    for name in ("nasbench201_cifar10", "fcnet_slice_localization", "hpobench_phoneme")
)


def setup(app: Sphinx) -> None:
    app.connect("doctree-read", depend_on_tables)
    app.connect("html-page-context", add_to_page)
    app.connect("build-finished", write_colors)


def recorded_durations(path: Path) -> list[float]:
    """`async_hpo.tables.durations`, without pandas: the environment that renders the book has none."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        seconds = {int(row["trial"]): float(row["seconds"]) for row in rows}  # the last report's
    return [seconds[trial] for trial in sorted(seconds)]


def public_durations(path: Path) -> list[tuple[int, float]]:
    """A table of recordings/public/, in a few hundred groups of neighbours: how many they are, and their mean (s).

    The longest trial of a batch decides: the longest of all stand alone, and each group has a sixteenth of those that
    are longer, but no more than one trial in two hundred.
    """
    with lzma.open(path, "rt", encoding="utf-8", newline="") as file:
        left = [float(row["seconds"]) for row in csv.DictReader(file)]  # they are sorted
    total, groups = len(left), []
    while left:
        size = max(1, min((total - len(left)) // 16, total // 200))
        group, left = left[-size:], left[:-size]
        groups.append((len(group), float(f"{fmean(group):.6g}")))
    return groups[::-1]


def live_figures(doctree: nodes.document) -> list[str]:
    classes = {name for figure in doctree.findall(nodes.figure) for name in figure["classes"]}
    return [name for name in LIVE if name in classes]


def depend_on_tables(app: Sphinx, doctree: nodes.document) -> None:
    if "explorer" in live_figures(doctree):
        for table in (OURS, *PUBLIC):
            app.env.note_dependency(str(Path(app.srcdir, table)))


def add_to_page(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None) -> None:
    here = live_figures(doctree) if doctree else []
    if not here:
        return
    if app.config.language != SOURCE:
        translate_scripts(app, {text: _(text) for text in words(Path(app.srcdir))})
    if "explorer" in here:
        durations: dict[str, list] = {"cnn": recorded_durations(Path(app.srcdir, OURS))}
        durations |= {Path(table).name.split(".")[0]: public_durations(Path(app.srcdir, table)) for table in PUBLIC}
        body = json.dumps(durations, separators=(",", ":"))
        app.add_js_file(None, body=body, type="application/json", id="recorded-durations")
    for script in dict.fromkeys(script for name in here for script in LIVE[name]):
        app.add_js_file(script, loading_method="defer")
    for style in (COLORS, "live.css", *(f"{name}.css" for name in here)):
        app.add_css_file(style)


def write_colors(app: Sphinx, exception: Exception | None) -> None:
    """The figures' colours, for style sheets: `var(--waiting)` is what waiting has on this page, light or dark."""
    if not exception and app.builder.format == "html":
        colors = runpy.run_path(str(Path(app.srcdir, "async_hpo", "plots", "colors.py")))
        rules = "; ".join(f"--{name.lower()}: {on_page(colors[name])}" for name in ("TRIAL", "WAITING"))
        Path(app.outdir, "_static", COLORS).write_text(f":root {{ {rules} }}\n", encoding="utf-8")


def words(folder: Path) -> list[str]:
    """All messages of the scripts."""
    found: list[str] = []
    for name in dict.fromkeys(script for scripts in LIVE.values() for script in scripts):
        with open(folder / "book" / "_static" / name, "rb") as script:
            options = {"parse_template_string": True}
            found += [str(text) for _line, text, *_rest in extract("javascript", script, KEYWORDS, options=options)]
    return list(dict.fromkeys(found))
