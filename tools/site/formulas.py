"""Formulas, typeset when the book is built: pictures in the page itself, which need no script and no font.

Each takes the text's colour and size, and its TeX is what a screen reader gets, without what only says how it looks.
"""

import re
from html import escape

import ziamath
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

#: ziamath draws at this size (px); the page scales it to its own.
SIZE = 20
ziamath.config.precision = 2  # of these, after the decimal point
LOOKS = re.compile(r"\\displaystyle\s*|\\mathrm\{([^{}]*)\}")
GLYPH = re.compile(r'<symbol id="([^"]+)".*?</symbol>', re.DOTALL)
LOGGER = logging.getLogger(__name__)


def setup(app: Sphinx) -> None:
    app.add_html_math_renderer("drawn", inline_renderers=(inline, None), block_renderers=(block, None))
    app.connect("config-inited", lambda _, config: setattr(config, "html_math_renderer", "drawn"))


def inline(visitor, node: nodes.math) -> None:
    visitor.body.append(f'<span class="formula">{drawn(node, glyphs_of(visitor), in_line=True)}</span>')
    raise nodes.SkipNode


def block(visitor, node: nodes.math_block) -> None:
    visitor.body.append(visitor.starttag(node, "div", CLASS="formula", TABINDEX="0"))  # a phone scrolls it
    number = f'<span class="eqno">({node["number"]})</span>' if node.get("number") else ""
    visitor.body.append(f"{drawn(node, glyphs_of(visitor), in_line=False)}{number}</div>")
    raise nodes.SkipNode


def glyphs_of(visitor) -> set[str]:
    """The letters that the page has already: it defines each once, whichever of its formulas use it."""
    glyphs: set[str] = visitor.__dict__.setdefault("glyphs", set())
    return glyphs


def drawn(node: nodes.Element, glyphs: set[str], in_line: bool) -> str:
    tex = node.astext().strip()
    try:
        picture = short(ziamath.Latex(tex, size=SIZE, color="currentColor", inline=in_line).svg(), glyphs)
    except Exception as error:  # of any kind: whatever stands between the dollars
        LOGGER.warning("a formula that cannot be typeset (%s): %s", error, tex, location=node)
        return f"<code>{escape(tex)}</code>"
    return re.sub(r"<svg [^>]*?(?=viewBox)", lambda _: start(picture, tex), picture, count=1)


def short(picture: str, glyphs: set[str]) -> str:
    """The same without letters that the page has, and blanks and colours that it can do without."""
    new = {name for name in GLYPH.findall(picture) if name not in glyphs}
    glyphs |= new
    picture = GLYPH.sub(lambda glyph: glyph[0] if glyph[1] in new else "", picture)
    picture = picture.replace(' fill="currentColor"', "").replace(" />", "/>").replace("STIXTwoMathRegular_", "math-")
    return re.sub(r'(?<=\bd=")[^"]*', lambda path: without_blanks(path[0]), picture)


def without_blanks(numbers: str) -> str:
    """Of a path: one blank between two numbers is enough, and none is needed beside a letter or before a sign."""
    return re.sub(r"(?<=[A-Za-z]) | (?=[A-Za-z-])", "", " ".join(numbers.split()))


def start(picture: str, tex: str) -> str:
    """An image as large as the text around it, and on its line: zero is the line, and y goes down."""
    _, top, width, height = (float(side) / SIZE for side in re.findall(r'viewBox="([^"]*)"', picture)[0].split())
    style = f"width:{width:.3f}em;height:{height:.3f}em;vertical-align:{-(top + height):.3f}em"
    return f'<svg role="img" aria-label="{escape(heard(tex))}" style="{style}" fill="currentColor" '


def heard(tex: str) -> str:
    return LOOKS.sub(lambda look: look[1] or "", tex)
