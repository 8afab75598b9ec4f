"""Amounts side by side: seconds, images per second, what systems manage."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from async_hpo.plots import style


@style.for_pages_and_phones
def seconds_per_epoch(seconds: pd.Series) -> Figure:
    """Seconds an epoch takes, by batch size (the index)."""
    figure, ax = plt.subplots(figsize=(style.width(), 2.4))
    bars = ax.barh([str(batch_size) for batch_size in seconds.index], seconds, color=style.INK, height=0.6)
    ax.bar_label(bars, fmt="%.1f s", padding=4)
    ax.set(xlabel="time per epoch [s]", ylabel="batch size", xlim=(0, seconds.max() * 1.15))
    ax.grid(axis="y", visible=False)
    return figure


@style.for_pages_and_phones
def images_per_second(rates: pd.Series, limit: float) -> Figure:
    """Training images per second after each step (the index, in order), and the limit as a line."""
    figure, ax = _bars(rates, "training images per second")
    ax.axvline(limit, color="black", linestyle="--", linewidth=1)
    bottom, top = ax.get_ylim()
    ax.annotate(f"limit {limit:,.0f}", (limit, top), (-4, 2), textcoords="offset points", ha="right", va="bottom")
    ax.set(xlim=(0, max(limit, rates.max()) * 1.05), ylim=(bottom, top - 0.6))
    return figure


@style.for_pages_and_phones
def compared(measured: pd.DataFrame, column: str, xlabel: str, ours: str) -> Figure:
    """Medians as bars, the range of all measurements as a line across each bar's end. `measured`: a row a measurement,
    with the columns `system` and `column`; systems whose name begins with `ours` get the accent colour.

    Raises:
        KeyError: one of the columns is missing.
    """
    groups = measured.groupby("system", sort=False)[column]
    medians, lowest, highest = groups.median(), groups.min(), groups.max()
    colors = [style.INK if name.startswith(ours) else style.OTHERS for name in medians.index]
    figure, ax = _bars(medians, xlabel, colors)
    ax.hlines(range(len(medians)), lowest, highest, color="black", linewidth=1.5)
    ax.set(xlim=(0, highest.max() * 1.05))
    return figure


@style.for_pages_and_phones
def seconds_of_a_trial(splits: pd.DataFrame) -> Figure:
    """What a worker did during a trial, in seconds: a bar a column, a part a row. "training" and "gap" have the colours
    of trials and of waiting, the other parts paler ones of trials."""
    figure, ax = plt.subplots(figsize=(style.width(), 1.6 + 0.5 * splits.shape[1]))
    left = pd.Series(0.0, index=splits.columns)
    pale = iter(["#c3d5e6", "#8fb0cf", "#5c88b3"])
    known = {"training": style.INK, "gap": style.WAITING}
    for part, seconds in splits.iterrows():
        color = known.get(str(part)) or next(pale)
        ax.barh(splits.columns, seconds, left=left, color=color, edgecolor="white", height=0.7, label=part)
        left += seconds
    ax.invert_yaxis()
    ax.set(xlabel="wall-clock time [s]")
    ax.grid(axis="y", visible=False)
    figure.legend(loc="outside upper center", ncols=2 if style.on_phone() else 3)
    return figure


def _bars(values: pd.Series, xlabel: str, colors: str | list[str] = style.INK):
    """A bar a value; its name stands beside it, and on a phone, where that takes the room, above it."""
    above = style.on_phone()
    figure, ax = plt.subplots(figsize=(style.width(), 1.2 + (0.55 if above else 0.4) * len(values)))
    bars = ax.barh(values.index, values, color=colors, height=0.5 if above else 0.7)
    ax.bar_label(bars, fmt="{:,.0f}", color="white", label_type="center")
    if above:
        ax.set_yticks([])
        for row, name in enumerate(values.index):
            ax.annotate(name, (0, row - 0.28), (2, 0), textcoords="offset points", va="bottom")
    ax.set(xlabel=xlabel, ylim=(len(values) - 0.5, -0.9 if above else -0.5))
    ax.locator_params(axis="x", nbins=4 if above else 6)  # long numbers need the room
    ax.grid(axis="y", visible=False)
    return figure, ax
