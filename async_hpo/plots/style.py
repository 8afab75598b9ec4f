"""What all figures share: fonts, colours and what they mean, widths, names of lines."""

import colorsys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from io import StringIO
from pathlib import Path
from typing import Any, ParamSpec
from weakref import WeakKeyDictionary

import matplotlib.pyplot as plt
import numpy as np
from IPython.core.interactiveshell import InteractiveShell
from matplotlib.figure import Figure
from matplotlib_inline.backend_inline import set_matplotlib_formats

INK = "#1f4e79"  # trials, and what they found
WAITING = "#c2410c"  # idle time, wherever it shows; hatched where trials have colours of their own
IDLE: dict[str, Any] = {"facecolor": "#fdf1ea", "edgecolor": WAITING, "hatch": "////", "linewidth": 0.0}
OTHERS = "#6b7280"  # what the accent is set against
IDEAL: dict[str, Any] = {"color": "black", "linestyle": "-", "linewidth": 0.8}  # no line of LINES is as thin
FAILED: dict[str, Any] = {"hatch": "xxx", "edgecolor": "white"}
LINES = ("-", "--", "-.")  # methods differ in more than colour
STYLE = Path(__file__).with_name("style.mplstyle")
#: A phone 390 px wide shows a point of these figures as 1.2 px or more: text keeps 11 px.
PHONE_WIDTH = 4.0  # inches
#: They stand beside a figure: among the outputs of a notebook (JupyterLab shows the wide one), and as a file.
PHONE_MIME, PHONE_SUFFIX = "application/vnd.async-hpo.phone+svg", "-phone.svg"

P = ParamSpec("P")
_for_phones: WeakKeyDictionary[Figure, Figure] = WeakKeyDictionary()


def use_style() -> None:
    """Set fonts and colours for every figure of the book, and SVG as the notebooks' format."""
    set_matplotlib_formats("svg")
    plt.style.use(STYLE)
    formatter = InteractiveShell.instance().display_formatter
    if formatter is not None:
        formatter.mimebundle_formatter.for_type(Figure, _phones_figure)


def for_pages_and_phones(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draws twice: the figure that `draw` returns, and one for phones, which goes with it into a notebook's outputs."""

    @wraps(draw)
    def both(*args: P.args, **kwargs: P.kwargs) -> Figure:
        figure = draw(*args, **kwargs)
        if not on_phone():
            with for_phones():
                _for_phones[figure] = draw(*args, **kwargs)
            plt.close(_for_phones[figure])
        return figure

    return both


@contextmanager
def for_phones() -> Iterator[None]:
    """Figures that are made here are for phones."""
    with plt.rc_context({"figure.figsize": (PHONE_WIDTH, 3.2), "font.size": 10}):
        yield


def phones_figure(figure: Figure) -> Figure | None:
    """The narrow one that was drawn with a figure."""
    return _for_phones.get(figure)


def _phones_figure(figure: Figure) -> dict[str, str]:
    narrow = phones_figure(figure)
    return {PHONE_MIME: svg(narrow)} if narrow else {}


def svg(figure: Figure) -> str:
    """The figure as an SVG document, without a date: the same figure gives the same text."""
    with StringIO() as file:
        figure.savefig(file, format="svg", metadata={"Date": None})
        return file.getvalue()


def width() -> float:
    """Of the figures that are drawn now, in inches."""
    return float(plt.rcParams["figure.figsize"][0])


def on_phone() -> bool:
    """Whether the figures that are drawn now are for phones."""
    return width() == PHONE_WIDTH


def wrapped(text: str) -> str:
    """A title in as many lines as it needs."""
    return textwrap.fill(text, int(10.8 * width()))


def label(metric: str) -> str:
    """A metric's name on an axis: words in place of underscores."""
    return metric.replace("_", " ")


def name_lines(ax) -> None:
    """Write each line's name where it ends, in its colour. On a phone, where that takes the room, above all lines."""
    handles, names = ax.get_legend_handles_labels()
    if on_phone():
        ax.figure.legend(handles, names, loc="outside upper center", ncols=2)
        return
    ax.figure.draw_without_rendering()  # places the axes
    lines = [handle[0] if isinstance(handle, tuple) else handle for handle in handles]  # of a point with its interval
    ends = np.array([line.get_xydata()[-1] for line in lines])
    right, heights = ax.transAxes.inverted().transform(ax.transData.transform(ends)).T
    at_the_edge = right > 0.9
    points = ax.bbox.height / ax.figure.dpi * 72
    places = heights * points
    places[at_the_edge] = spread(places[at_the_edge], 13)
    for line, name, end, shift, edge in zip(lines, names, ends, places - heights * points, at_the_edge, strict=True):
        at: dict[str, Any] = {"xy": (1, end[1]), "xycoords": ("axes fraction", "data")} if edge else {"xy": end}
        ax.annotate(
            name,
            xytext=(6, shift if edge else -12),
            textcoords="offset points",
            color=line.get_color(),
            va="center",
            annotation_clip=False,
            **at,
        )


def spread(places: np.ndarray, apart: float) -> np.ndarray:
    """The places nearest to `places`, in the same order, that keep a distance."""
    from scipy.optimize import isotonic_regression

    order = np.argsort(places, kind="stable")
    steps = apart * np.arange(len(places))
    found = np.empty(len(places))
    found[order] = isotonic_regression(places[order] - steps).x + steps
    return found


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
