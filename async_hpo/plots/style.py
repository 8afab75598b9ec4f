"""What all figures share: fonts, and what colours and patterns mean."""

import colorsys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib_inline.backend_inline import set_matplotlib_formats

from async_hpo import language
from async_hpo.plots.colors import CYCLE, OTHERS, TRIAL, WAITING  # noqa: F401


def paler(color: Any, share: float) -> str:
    """A colour of which only this share is left; the rest is white."""
    red, green, blue = (1 - share * (1 - part) for part in to_rgb(color))
    return to_hex((red, green, blue))


IDLE: dict[str, Any] = {"facecolor": paler(WAITING, 0.1), "edgecolor": WAITING, "hatch": "////", "linewidth": 0.0}
IDEAL: dict[str, Any] = {"color": "black", "linestyle": "-", "linewidth": 0.8}  # no line of LINES is as thin
FAILED: dict[str, Any] = {"hatch": "xxx", "edgecolor": "white", "linewidth": 0.0}
START_UP = 0.35  # share of a trial's colour that is left before it trains
LINES = ("-", "--", "-.")  # lines differ in more than colour
STYLE = Path(__file__).with_name("style.mplstyle")


def use_style() -> None:
    """Set fonts and colours for every figure of the book, and SVG as the notebooks' format. A figure is as wide as the
    style says, so that text has the same size in all, and carries no date: drawn again, it is the same text."""
    set_matplotlib_formats("svg", bbox_inches=None, metadata={"Date": None})
    if figures := language.formatter("image/svg+xml"):
        draw = figures.for_type(Figure)
        figures.for_type(Figure, lambda figure: language.in_figure(draw(figure)))
    plt.style.use(STYLE)
    plt.rcParams["axes.prop_cycle"] = plt.cycler(color=CYCLE)


def size(height: float) -> tuple[float, float]:
    """A figure of this height, in inches, and of the width that all have."""
    return plt.rcParams["figure.figsize"][0], height


def look_of(number: int) -> tuple[tuple[float, float, float], str]:
    """Colour and dashes of a figure's first, second, ... line."""
    return trial_color(number), LINES[number % len(LINES)]


def trial_color(trial_id: int) -> tuple[float, float, float]:
    """A colour of its own for every trial, far from its neighbours' in hue, and dark enough to read white text on it
    and the colour itself on white (contrast 4.5, WCAG 2 AA)."""
    rgb = colorsys.hsv_to_rgb((0.6 + trial_id * 0.618034) % 1, 0.8, 1)
    luminance = sum(weight * value**2.2 for weight, value in zip((0.2126, 0.7152, 0.0722), rgb, strict=True))
    darker = min(0.75, (0.17 / luminance) ** (1 / 2.2))
    return tuple(darker * value for value in rgb)
