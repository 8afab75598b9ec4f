"""Figures become part of the HTML page, so that they take its colours, on dark pages, too.

Matplotlib draws them for white paper. Here the paper goes, black becomes the colour of the text, greys and colours get
a counterpart for dark pages (CSS `light-dark()`), and white, which separates or stands on a colour, the page's ground.
"""

import colorsys
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

from async_hpo.language import in_figure
from tools.languages import SOURCE
from tools.translated import catalogue_of

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
ElementTree.register_namespace("", SVG)
ElementTree.register_namespace("xlink", XLINK)
COLOR = "#[0-9a-f]{6}"
GROUND = "var(--pst-color-background)"
DARK_GROUND = "#121212"  # the theme's
CONTRAST = 4.5  # of a colour on its ground (WCAG 2.2, AA)


def setup(app: Sphinx) -> None:
    app.add_post_transform(InlineFigures)


class InlineFigures(SphinxPostTransform):
    default_priority = 150  # after the outputs of notebooks have become nodes
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        for number, image in enumerate(list(self.document.findall(nodes.image))):
            path = Path(self.env.srcdir, image["uri"])
            if path.suffix == ".svg" and path.is_file():
                svg = path.read_text(encoding="utf-8")
                if self.config.language != SOURCE:
                    svg = in_figure(svg, catalogue_of("figures", self.config.language).gettext)
                html = inline(svg, image.get("alt", ""), f"f{number}-")
                image.replace_self(nodes.raw("", html, format="html"))


def inline(svg: str, alt: str, prefix: str) -> str:
    """An SVG file as an element of a page.

    Args:
        alt: the description for those who can't see it.
        prefix: of its ids, which must differ from those of other figures on the page.
    """
    root = ElementTree.fromstring(svg)
    for child in root.findall(f"{{{SVG}}}metadata"):
        root.remove(child)
    _remove_paper(root)
    root.attrib |= {"role": "img", "aria-label": alt, "class": "inline-figure", "fill": "currentColor"}
    html = ElementTree.tostring(root, encoding="unicode")
    html = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{prefix}", html)
    html = re.sub(rf' fill="({COLOR})"', r' style="fill: \1"', html)  # hatches: an attribute could not follow the page
    return re.sub(rf"(?<=fill: ){COLOR}|(?<=stroke: ){COLOR}", lambda found: on_page(found[0]), html)


def _remove_paper(root: ElementTree.Element) -> None:
    """The white rectangles of figure and axes: Matplotlib's first patch in each."""
    for group in root.iter(f"{{{SVG}}}g"):
        paper = group.find(f"{{{SVG}}}g")
        if paper is None or not re.match(r"(figure|axes)_\d+$", group.get("id", "")):
            continue
        if paper.get("id", "").startswith("patch_") and "fill: #ffffff" in ElementTree.tostring(paper, "unicode"):
            group.remove(paper)


def on_page(color: str) -> str:
    """The counterpart, as CSS, of a colour on white paper."""
    if color == "#000000":
        return "currentColor"
    return GROUND if color == "#ffffff" else f"light-dark({color}, {on_dark(color)})"


def on_dark(color: str) -> str:
    """The counterpart on a dark ground: of the same hue and saturation, with as much contrast as on white."""
    red, green, blue = _parts(color)
    hue, _, saturation = colorsys.rgb_to_hls(red, green, blue)
    wanted = min(contrast(color, "#ffffff"), CONTRAST)
    for step in range(101):
        found = "#" + "".join(f"{round(255 * x):02x}" for x in colorsys.hls_to_rgb(hue, step / 100, saturation))
        if luminance(found) >= luminance(DARK_GROUND) and contrast(found, DARK_GROUND) >= wanted:
            return found
    return "#ffffff"


def contrast(one: str, other: str) -> float:
    """From 1 to 21 (WCAG 2.2)."""
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def luminance(color: str) -> float:
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in _parts(color)]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _parts(color: str) -> tuple[float, ...]:
    return tuple(int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
