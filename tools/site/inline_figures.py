"""Figures become part of the HTML page, so that they take its colours, on dark pages, too.

Matplotlib draws them for white paper. Here the paper goes, black becomes the colour of the text, greys and colours get
a counterpart for dark pages (CSS `light-dark()`), and white, which separates or stands on a colour, the page's ground.

Where there is a second drawing of a figure for phones (`async_hpo.plots`), the page has both, and book.css shows one.
"""

import colorsys
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
HREF = f"{{{XLINK}}}href"
ElementTree.register_namespace("", SVG)
ElementTree.register_namespace("xlink", XLINK)
GLYPH = re.compile(r"DejaVu\w+(?:-\w+)*-[0-9a-f]+$")  # as Matplotlib calls a letter of its font
COLOR = re.compile("#[0-9a-f]{6}")
GROUND = "var(--pst-color-background)"
DARK_GROUND = "#121212"  # the theme's
PHONE_MIME, PHONE_SUFFIX = "application/vnd.async-hpo.phone+svg", "-phone.svg"  # as in `async_hpo.plots.style`
CONTRAST = 4.5  # of a colour on its ground (WCAG 2.2, AA)


def setup(app: Sphinx) -> None:
    app.add_post_transform(InlineFigures)


def without_drawings_for_phones(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A notebook's cells: MyST-NB would warn that it does not know what to do with these."""
    for data in outputs_of(cells):
        data.pop(PHONE_MIME, None)
    return cells


def outputs_of(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Type -> content, of each output."""
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return [output["data"] for output in outputs if "data" in output]


class InlineFigures(SphinxPostTransform):
    default_priority = 150  # after the outputs of notebooks have become nodes
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        glyphs: set[str] = set()
        looks: dict[str, str] = {}
        for_phones = drawings_for_phones(Path(self.env.doc2path(self.env.docname)))
        for number, image in enumerate(list(self.document.findall(nodes.image))):
            path = Path(self.env.srcdir, image["uri"])
            if path.suffix == ".svg" and path.is_file():
                svg, alt = path.read_text(encoding="utf-8"), image.get("alt", "")
                html = inline(svg, alt, f"f{number}-", glyphs, looks)
                beside = path.with_name(path.stem + PHONE_SUFFIX)
                phone = beside.read_text(encoding="utf-8") if beside.is_file() else for_phones.get(svg.strip())
                if phone:
                    html += inline(phone, alt, f"f{number}p-", glyphs, looks, "for-phones")
                image.replace_self(nodes.raw("", html, format="html"))


def drawings_for_phones(page: Path) -> dict[str, str]:
    """Figures among a notebook's outputs -> the same for phones."""
    if page.suffix != ".ipynb":
        return {}
    found = outputs_of(json.loads(page.read_text(encoding="utf-8"))["cells"])
    return {"".join(data["image/svg+xml"]).strip(): "".join(data[PHONE_MIME]) for data in found if PHONE_MIME in data}


def inline(
    svg: str,
    alt: str,
    prefix: str,
    glyphs: set[str] | None = None,
    looks: dict[str, str] | None = None,
    kind: str = "",
) -> str:
    """An SVG file as an element of a page.

    Args:
        alt: what it shows, for those who can't see it.
        prefix: of its ids, which must differ from those of other figures on the page.
        glyphs: ids of letters that the page has already; those that this figure brings are added.
        looks: styles that the page has already -> their classes; likewise.
        kind: another class.
    """
    root = ElementTree.fromstring(svg)
    for child in root.findall(f"{{{SVG}}}metadata"):
        root.remove(child)
    _remove_paper(root)
    _share_glyphs(root, set() if glyphs is None else glyphs)
    names: dict[str, str] = {}
    for element in root.iter():
        _rename(element, prefix, names)
        _recolor(element)
        _shorten(element)
    _forget_unused_ids(root)
    _share_looks(root, {} if looks is None else looks)
    _unwrap(root)
    root.attrib |= {"role": "img", "aria-label": alt, "class": f"inline-figure {kind}".strip(), "fill": "currentColor"}
    return ElementTree.tostring(root, encoding="unicode").replace(" />", "/>")


def _remove_paper(root: ElementTree.Element) -> None:
    """The white rectangles of figure and axes: Matplotlib's first patch in each."""
    for group in root.iter(f"{{{SVG}}}g"):
        paper = group.find(f"{{{SVG}}}g")
        if paper is None or not re.match(r"(figure|axes)_\d+$", group.get("id", "")):
            continue
        if paper.get("id", "").startswith("patch_") and "fill: #ffffff" in ElementTree.tostring(paper, "unicode"):
            group.remove(paper)


def _share_glyphs(root: ElementTree.Element, glyphs: set[str]) -> None:
    """A page defines each letter once, whichever of its figures use it."""
    for definitions in root.iter(f"{{{SVG}}}defs"):
        for path in definitions.findall(f"{{{SVG}}}path"):
            if GLYPH.match(name := path.get("id", "")):
                if name in glyphs:
                    definitions.remove(path)
                glyphs.add(name)


def _rename(element: ElementTree.Element, prefix: str, names: dict[str, str]) -> None:
    """Matplotlib's ids are long, and each part of a figure refers to one: a number will do."""

    def new(name: str) -> str:
        return names.setdefault(name, f"{prefix}{len(names)}")

    for name, value in element.attrib.items():
        if GLYPH.match(value.removeprefix("#")):
            continue
        if name == "id":
            element.set(name, new(value))
        elif name == HREF and value.startswith("#"):
            element.set(name, f"#{new(value[1:])}")
        else:
            element.set(name, re.sub(r"url\(#([^)]*)\)", lambda url: f"url(#{new(url[1])})", value))


def _recolor(element: ElementTree.Element) -> None:
    style = element.get("style", "")
    if COLOR.fullmatch(element.get("fill", "")):  # of a hatched part; as an attribute it could not follow the page
        style = f"fill: {element.attrib.pop('fill')}; {style}".rstrip("; ")
    if colored := re.sub(r"(fill|stroke): (#[0-9a-f]{6})", lambda m: f"{m[1]}: {on_page(m[2])}", style):
        element.set("style", colored)


def _shorten(element: ElementTree.Element) -> None:
    """Tenths of a point are enough, and neither a line nor a space for each is needed: half of a figure's bytes."""
    for name in {"d", "x", "y", "points"} & element.attrib.keys():
        element.set(name, without_blanks(_tenths(element.attrib[name])))
    if moved := element.get("transform"):
        element.set("transform", re.sub(r"translate\([^)]*\)", lambda m: _tenths(m[0]), moved))
    if target := element.attrib.pop(HREF, None):
        element.set("href", target)
    element.text, element.tail = (text if text and text.strip() else None for text in (element.text, element.tail))


def without_blanks(numbers: str) -> str:
    """Of a path or a list of points: one between two numbers is enough, and none beside a letter or before a sign."""
    return re.sub(r"(?<=[A-Za-z]) | (?=[A-Za-z-])", "", " ".join(numbers.split()))


def _tenths(text: str) -> str:
    return re.sub(r"-?\d+\.\d+", lambda m: f"{float(m[0]):.1f}".rstrip("0").rstrip("."), text)


def _share_looks(root: ElementTree.Element, looks: dict[str, str]) -> None:
    """Parts that look alike share a class, in all figures of the page: a quarter of a figure's bytes."""
    new = []
    for element in root.iter():
        if look := element.attrib.pop("style", ""):
            if look not in looks:
                looks[look] = f"look-{len(looks)}"
                new.append(f".{looks[look]}{{{look}}}")
            element.set("class", looks[look])
    sheet = ElementTree.Element(f"{{{SVG}}}style")
    sheet.text = "".join(new)
    root.insert(0, sheet)


def _unwrap(parent: ElementTree.Element) -> None:
    """Groups of which nothing is said go."""
    for child in list(parent):
        _unwrap(child)
        if child.tag == f"{{{SVG}}}g" and not child.attrib:
            place = list(parent).index(child)
            parent[place : place + 1] = list(child)


def _forget_unused_ids(root: ElementTree.Element) -> None:
    """Matplotlib names every part of a figure: a tenth of its bytes. Other figures of the page may use its letters."""
    values = [value for element in root.iter() for value in element.attrib.values()]
    used = {name for value in values for name in re.findall(r"#([^)]+)", value)}
    for element in root.iter():
        name = element.get("id", "")
        if name and name not in used and not GLYPH.match(name):
            del element.attrib["id"]


def on_page(color: str) -> str:
    """What a colour of a figure on white paper is on a page, as CSS."""
    if color == "#000000":
        return "currentColor"
    return GROUND if color == "#ffffff" else f"light-dark({color}, {on_dark(color)})"


def on_dark(color: str) -> str:
    """A colour that is to a dark ground what `color` is to white: hue and saturation stay, contrast is as high."""
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
