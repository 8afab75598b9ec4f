"""Amounts side by side: seconds, images per second, what systems manage."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from async_hpo.plots import style


def compared(measured: pd.DataFrame, column: str, xlabel: str, ours: str) -> Figure:
    """Medians as bars, the range of all measurements as a line across each bar's end. `measured`: a row a measurement,
    with the columns `system` and `column`; systems whose name begins with `ours` get the accent colour.

    Raises:
        KeyError: one of the columns is missing.
    """
    groups = measured.groupby("system", sort=False)[column]
    medians, lowest, highest = groups.median(), groups.min(), groups.max()
    colors = [style.TRIAL if name.startswith(ours) else style.OTHERS for name in medians.index]
    figure, ax = _bars(medians, xlabel, colors)
    ax.hlines(range(len(medians)), lowest, highest, color="black", linewidth=1.5)
    ax.set_xlim(0, highest.max() * 1.05)
    return figure


def seconds_of_a_trial(splits: pd.DataFrame) -> Figure:
    """What a worker did during a trial, in seconds: a bar a column, a part a row. "training" and "gap" have the colours
    of trials and of waiting, the other parts paler ones of trials."""
    figure, ax = plt.subplots(figsize=style.size(1.5 + 0.4 * splits.shape[1]))
    left = pd.Series(0.0, index=splits.columns)
    pale = iter([0.27, 0.5, 0.73])
    known = {"training": style.TRIAL, "gap": style.WAITING}
    for part, seconds in splits.iterrows():
        color = known.get(str(part)) or style.paler(style.TRIAL, next(pale))
        ax.barh(splits.columns, seconds, left=left, color=color, edgecolor="white", height=0.7, label=part)
        left += seconds
    ax.invert_yaxis()
    ax.set(xlabel="wall-clock time [s]")
    ax.grid(axis="y", visible=False)
    figure.legend(loc="outside upper center", ncols=3)
    return figure


def _bars(values: pd.Series, xlabel: str, colors: str | list[str] = style.TRIAL):
    """A bar a value; its name and value stand above it, where the longest name has room."""
    figure, ax = plt.subplots(figsize=style.size(0.8 + 0.37 * len(values)))
    ax.barh(range(len(values)), values, color=colors, height=0.36)
    for row, (name, value) in enumerate(values.items()):
        ax.annotate(f"{name}: {value:,.0f}", (0, row - 0.2), (2, 1), textcoords="offset points", va="bottom")
    ax.set(xlabel=xlabel, yticks=[], ylim=(len(values) - 0.6, -0.8))
    ax.locator_params(axis="x", nbins=6)  # long numbers need the room
    ax.xaxis.set_major_formatter("{x:,.0f}")
    return figure, ax
