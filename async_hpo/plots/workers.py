"""What more workers bring."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from async_hpo.plots import style
from async_hpo.plots.colors import CYCLE

#: The collections of public tables, and their colours.
SUITES = {"nasbench201": CYCLE[0], "fcnet": CYCLE[1], "hpobench": CYCLE[5]}


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
    _draw_points(ax, points or {}, list(named))
    _log_axis_of_workers(ax, table.index)
    ax.set_yscale("log", base=2)
    ax.set(ylabel="speed-up", yticks=table.index, yticklabels=table.index)
    figure.legend(loc="outside upper center", ncols=3)
    return figure


def on_public_tables(found: pd.DataFrame, panel: str, value: str, reference: str, ylabel: str) -> Figure:
    """A line a table of `recordings/public` against the number of workers, in the colour of its suite, on log axes.

    Args:
        found: columns `table`, `workers`, and those that the others name.
        panel: a panel for each of its values, with it as title.
        value, reference: on the y axis, as a line and as a dotted one.

    Raises:
        KeyError: a column is missing.
    """
    groups = found.groupby(panel, sort=False)
    figure, axes = plt.subplots(len(groups), 1, figsize=style.size(0.6 + 2.1 * len(groups)), sharex=True, squeeze=False)
    for (name, part), ax in zip(groups, axes[:, 0], strict=True):
        for table, one in part.groupby("table"):
            suite = str(table).partition("_")[0]
            ax.plot(one.workers, one[value], color=SUITES[suite], linewidth=1, label=suite)
            ax.plot(one.workers, one[reference], ":", color="black", linewidth=1, label=reference)
        _log_axis_of_workers(ax, found.workers.unique())
        ax.set(yscale="log", xlabel="", title=name)
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter(NullFormatter())
    axes[len(groups) // 2, 0].set_ylabel(ylabel)
    axes[-1, 0].set_xlabel("workers")
    lines = {line.get_label(): line for ax in axes[:, 0] for line in ax.lines}
    figure.legend(lines.values(), lines, loc="outside upper center", ncols=len(lines))
    return figure


def _draw_points(ax, points: dict[str, pd.DataFrame], lines: list[str]) -> None:
    for number, (name, table) in enumerate(points.items()):
        values = table["speed-up"]
        look = {"color": style.trial_color(lines.index(name))} if name in lines else {"color": "black", "label": name}
        errors = [(values - table.low).clip(0), (table.high - values).clip(0)]  # rounding
        ax.errorbar(table.index, values, errors, fmt="Ds^"[number % 3], capsize=3, **look)


def _log_axis_of_workers(ax, workers) -> None:
    ax.set_xscale("log", base=2)
    ax.set(xlabel="workers", xticks=workers, xticklabels=workers)
