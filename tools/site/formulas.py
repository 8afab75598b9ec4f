"""Formulas, typeset when the book is built: pictures in the page itself, which need no script and no font.

Each takes the text's colour and size, and its TeX is what a screen reader gets, without commands for looks alone.
(latex2mathml would be shorter, but sets a wrong formula without a warning, and `\\mathrm{E}` in italics.)
"""

import re
from html import escape

import ziamath
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

#: ziamath draws at this size (px); the page scales it to its own.
SIZE = 20
ziamath.config.precision = 2  # digits after the decimal point
ziamath.config.svg2 = False  # no ids, which would have to differ from those of other formulas
LOOKS = re.compile(r"\\displaystyle\s*|\\mathrm\{([^{}]*)\}")
LOGGER = logging.getLogger(__name__)


def setup(app: Sphinx) -> None:
    app.add_html_math_renderer("drawn", inline_renderers=(inline, None), block_renderers=(block, None))


def inline(visitor, node: nodes.math) -> None:
    visitor.body.append(f'<span class="formula">{drawn(node, in_line=True)}</span>')
    raise nodes.SkipNode


def block(visitor, node: nodes.math_block) -> None:  # on a phone it scrolls
    visitor.body.append(f'<div class="formula" tabindex="0">{drawn(node, in_line=False)}</div>')
    raise nodes.SkipNode


def drawn(node: nodes.Element, in_line: bool) -> str:
    tex = node.astext().strip()
    try:
        picture = ziamath.Latex(tex, size=SIZE, color="currentColor", inline=in_line).svg()
    except Exception as error:  # of any kind: whatever stands between the dollars
        LOGGER.warning("a formula that cannot be typeset (%s): %s", error, tex, location=node)
        return f"<code>{escape(tex)}</code>"
    # An image as large as the text around it, and on its line: zero is the line, and y goes down.
    _, top, width, height = (float(side) / SIZE for side in re.findall(r'viewBox="([^"]*)"', picture)[0].split())
    style = f"width:{width:.3f}em;height:{height:.3f}em;vertical-align:{-(top + height):.3f}em"
    name = escape(LOOKS.sub(lambda look: look[1] or "", tex))
    start = f'<svg role="img" aria-label="{name}" style="{style}" '
    return re.sub(r"<svg [^>]*?(?=viewBox)", lambda _: start, picture, count=1)
