"""The icons that the pages use, and no others: the theme brings 1.5 MB of them to every page.

Its script of all icons is left out of the pages (see book/_templates/layout.html). A style sheet with the few that
occur takes its place, drawn from the same paths.
"""

import re
from pathlib import Path
from urllib.parse import quote

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

USED = re.compile(r'class="[^"]*\bfa(?:-solid|-brands|-regular|[bsr]) fa-([a-z-]+)')
STYLE = "icons.css"
#: The theme's own rules for icons, a fifth of its style sheet.
RULES = re.compile(r'(?:\.fa-[\w-]+:before,?)+\{content:"[^"]*"\}|@font-face\{[^}]*Font Awesome[^}]*\}')
#: The icon of each kind of box: the theme takes it from a font.
BOXES = {
    "note": "circle-info",
    "tip": "lightbulb",
    "hint": "lightbulb",
    "seealso": "lightbulb",
    "important": "circle-exclamation",
    "attention": "circle-exclamation",
    "caution": "triangle-exclamation",
    "warning": "triangle-exclamation",
    "danger": "triangle-exclamation",
    "error": "circle-xmark",
    "exercise": "pencil",
}
TITLE = "> .admonition-title::after"
DRAWN = """:is(.fa-solid, .fa-regular, .fa-brands, .fas, .far, .fab)::before {
  content: "";
  display: inline-block;
  width: 1em;
  height: 1em;
  vertical-align: -0.125em;
  background: currentColor;
  mask: var(--icon) center / contain no-repeat;
}
div.admonition > .admonition-title::after {
  content: none;
}
"""
BOX = """ {
  content: "";
  top: 0.7em;
  height: 1em;
  background: currentColor;
  mask: var(--icon) center / contain no-repeat;
}
"""


def setup(app: Sphinx) -> None:
    app.add_css_file(STYLE)
    app.connect("build-finished", draw)


def draw(app: Sphinx, exception: Exception | None) -> None:
    static = Path(app.outdir, "_static")
    everything = static / "scripts" / "fontawesome.js"
    if exception or not everything.exists():
        return
    used = sorted({name for page in Path(app.outdir).rglob("*.html") for name in USED.findall(page.read_text())})
    paths = everything.read_text()
    boxes = [rule(name, paths, f"div.admonition.{kind} {TITLE}") for kind, name in BOXES.items()]
    shown = ", ".join(f"div.admonition.{kind} {TITLE}" for kind in BOXES) + BOX
    (static / STYLE).write_text(DRAWN + shown + "".join([*(rule(name, paths) for name in used), *boxes]))
    sheet = static / "styles" / "pydata-sphinx-theme.css"
    sheet.write_text(RULES.sub("", sheet.read_text()))
    for file in [everything, *static.glob("vendor/fontawesome/webfonts/*")]:
        file.unlink()


def rule(name: str, paths: str, selector: str = "") -> str:
    shape = r'(\d+),(\d+),\[[^\]]*\],"[0-9a-f]+","([^"]+)"\]'
    older = rf'\[(\d+),(\d+),\[[^\]]*"{name}"[^\]]*\],"[0-9a-f]+","([^"]+)"\]'  # it has been renamed since
    found = re.search(rf'[{{,]"?{name}"?:\[{shape}', paths) or re.search(older, paths)
    if not found:
        raise ExtensionError(f"the theme has no icon named {name}")
    width, height, path = found.groups()
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"><path d="{path}"/></svg>'
    return f'{selector or f".fa-{name}"} {{ --icon: url("data:image/svg+xml,{quote(svg)}"); }}\n'
