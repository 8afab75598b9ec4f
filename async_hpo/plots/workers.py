"""What more workers bring."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from async_hpo.plots import style


def scaling(measured: pd.DataFrame, ideal: float) -> Figure:
    """Reports per second against the number of workers, both on log scales: `measured` (columns `workers` and
    `reports_per_second`, a row a measurement), and `ideal`, the reports per second that one worker's trials make."""
    figure, ax = plt.subplots()
    workers = measured.workers.unique()
    ax.plot(workers, ideal * workers, label="all that trials report", **style.IDEAL)
    ax.plot(measured.workers, measured.reports_per_second, "o", color=style.TRIAL, label="received by the tuner")
    _log_axis_of_workers(ax, workers)
    ax.set_yscale("log", base=10)
    ax.set_ylabel("reports per second")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def speed_up(named: dict[str, pd.DataFrame], points: dict[str, pd.DataFrame] | None = None) -> Figure:
    """Speed-up against the number of workers (the index), on log axes, with the ideal line. `named`: line -> columns
    `speed-up`, `low` and `high` (see `compare.speed_up`), one line at least; `points`: the same of single values, with
    their intervals, in the colour of the line that they are called after, else black with a label.

    Raises:
        KeyError: a table has no column `speed-up`.
    """
    figure, ax = plt.subplots(figsize=style.size(3.6))
    for number, (name, table) in enumerate(named.items()):
        color, dashes = style.look_of(number)
        ax.plot(table.index, table["speed-up"], dashes, marker="o", markersize=4, color=color, label=name)
        ax.fill_between(table.index, table.low, table.high, color=color, alpha=0.2, linewidth=0)
    ax.plot(table.index, table.index, label="ideal", **style.IDEAL)
    _draw_points(ax, points, list(named), "speed-up")
    _log_axis_of_workers(ax, table.index)
    ax.set_yscale("log", base=2)
    ax.set(ylabel="speed-up", yticks=table.index, yticklabels=table.index)
    figure.legend(loc="outside upper center", ncols=3)
    return figure


def slowed_by_waiting(ratios: pd.DataFrame, points: dict[str, pd.DataFrame] | None = None) -> Figure:
    """How many times faster workers are that don't wait, against the number of workers (the index). `ratios` has a line
    a column; columns named `<line> low` and `<line> high` are a band. `points`: as in `speed_up`, of `ratio`.

    Raises:
        KeyError: one end of a band is missing, or `ratio` in one of the points.
    """
    figure, ax = plt.subplots(figsize=style.size(3.6))
    lines = [name for name in ratios if not name.endswith((" low", " high"))]
    for number, name in enumerate(lines):
        color, dashes = style.look_of(number)
        ax.plot(ratios.index, ratios[name], dashes, marker="o", markersize=4, color=color, label=name)
        if f"{name} low" in ratios:
            ax.fill_between(ratios.index, ratios[f"{name} low"], ratios[f"{name} high"], color=color, alpha=0.2)
    _draw_points(ax, points, lines, "ratio")
    _log_axis_of_workers(ax, ratios.index)
    ax.set_ylabel("times faster without waiting")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def _draw_points(ax, points: dict[str, pd.DataFrame] | None, lines: list[str], column: str) -> None:
    """`points`: label -> values in `column`, and `low` and `high`."""
    for number, (name, table) in enumerate((points or {}).items()):
        values = table[column]
        look = {"color": style.trial_color(lines.index(name))} if name in lines else {"color": "black", "label": name}
        errors = [(values - table.low).clip(0), (table.high - values).clip(0)]  # rounding
        ax.errorbar(table.index, values, errors, fmt="Ds^"[number % 3], capsize=3, **look)


def _log_axis_of_workers(ax, workers) -> None:
    ax.set_xscale("log", base=2)
    ax.set(xlabel="workers", xticks=workers, xticklabels=workers)
