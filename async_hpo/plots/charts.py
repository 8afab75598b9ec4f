"""Lines and bars: errors over time, amounts side by side, and the effect of more workers."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from async_hpo.plots import style
from async_hpo.plots.colors import CYCLE

if TYPE_CHECKING:
    from async_hpo.runs import Run

#: The collections of public tables, and their colours.
SUITES = {"nasbench201": CYCLE[0], "fcnet": CYCLE[1], "hpobench": CYCLE[5]}


# --- errors ----------------------------------------------------------------------------------------------------------


def learning_curve(reports: pd.DataFrame) -> Figure:
    """One trial: its error, a share, after each epoch. `reports` has the columns `epoch` and `validation_error`."""
    figure, ax = plt.subplots()
    ax.plot(reports.epoch, reports.validation_error, marker="o", color=style.TRIAL)
    ax.set(xlabel="epoch", ylabel="validation error", ylim=(0, 1), xticks=reports.epoch)
    return figure


def learning_curves(run: "Run") -> Figure:
    """The metric of every trial over wall-clock time, with a point a report, whatever a reader's own search reports."""
    figure, ax = plt.subplots()
    for trial_id, reports in run.reports.groupby("trial_id"):
        ax.plot(reports.time, reports[run.metric], ".-", color=style.trial_color(trial_id))
    ax.set(xlabel="wall-clock time [s]", ylabel=run.metric.replace("_", " "), xlim=(0, run.wallclock_time))
    return figure


def incumbent(run: "Run") -> Figure:
    """The best metric so far over wall-clock time, whatever a reader's own search minimizes or maximizes. Nothing is
    drawn where no report had a number."""
    figure, ax = plt.subplots()
    best = run.incumbent()
    until_the_end = pd.concat([best, best.tail(1).assign(time=run.wallclock_time)])
    ax.step(until_the_end.time, until_the_end[run.metric], where="post", color=style.TRIAL)
    label = f"best {run.metric.replace('_', ' ')}"
    ax.set(xlabel="wall-clock time [s]", ylabel=label, xlim=(0, run.wallclock_time))
    return figure


def comparison(bands: dict[str, pd.DataFrame], real: dict[str, list[pd.DataFrame]] | None = None) -> Figure:
    """Incumbent trajectories of several methods, one at least: `bands` holds the `compare.bands` of each method's
    replays, `real` the incumbents of its runs, drawn as thin steps (columns `time` and `validation_error`)."""
    figure, ax = plt.subplots(figsize=style.size(3.4))
    for number, (name, band) in enumerate(bands.items()):
        color, dashes = style.look_of(number)
        ax.plot(band.time, band["median"], color=color, label=name, linestyle=dashes)
        ax.fill_between(band.time, band.low, band.high, color=color, alpha=0.15, linewidth=0)
        for best in (real or {}).get(name, []):
            ax.step(best.time, best.validation_error, where="post", color=color, linewidth=0.8)
    ends = pd.concat(bands.values())
    low, high = ends.low.min(), ends.high.quantile(0.9)  # the first reports say little, and stand far above
    margin = 0.25 * (high - low) or 0.01  # methods that never improve still need a height
    ax.set(xlabel="wall-clock time [s]", ylabel="best validation error", ylim=(low - margin, high + margin))
    ax.set_xlim(0, ends.time.max())
    figure.legend(loc="outside upper center", ncols=2)
    return figure


# --- amounts ---------------------------------------------------------------------------------------------------------


def compared(measured: pd.DataFrame, column: str, xlabel: str, ours: str) -> Figure:
    """Medians as bars, the range of all measurements as a line across each bar's end. `measured` has a row a
    measurement, with the columns `system` and `column`; systems whose name begins with `ours` get the accent colour."""
    groups = measured.groupby("system", sort=False)[column]
    medians, rows = groups.median(), range(groups.ngroups)
    colors = [style.TRIAL if name.startswith(ours) else style.OTHERS for name in medians.index]
    figure, ax = plt.subplots(figsize=style.size(0.8 + 0.37 * len(medians)))
    ax.barh(rows, medians, color=colors, height=0.36)
    for row, (name, value) in enumerate(medians.items()):  # above the bar, where the longest name has room
        ax.annotate(f"{name}: {value:,.0f}", (0, row - 0.2), (2, 1), textcoords="offset points", va="bottom")
    ax.set(xlabel=xlabel, yticks=[], ylim=(len(medians) - 0.6, -0.8))
    ax.locator_params(axis="x", nbins=6)  # long numbers need the room
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.hlines(rows, groups.min(), groups.max(), color="black", linewidth=1.5)
    ax.set_xlim(0, measured[column].max() * 1.05)
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


# --- more workers ----------------------------------------------------------------------------------------------------


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


def speed_up(lines: dict[str, pd.DataFrame], points: dict[str, pd.DataFrame]) -> Figure:
    """Speed-up against the number of workers (the index), on log axes, with the ideal line. `lines` and `points` hold
    tables of `compare.speed_up` by label: lines with bands, and points with intervals in the colour of their line."""
    figure, ax = plt.subplots(figsize=style.size(3.6))
    for number, (name, table) in enumerate(lines.items()):
        color, dashes = style.look_of(number)
        ax.plot(table.index, table["speed-up"], dashes, marker="o", markersize=4, color=color, label=name)
        ax.fill_between(table.index, table.low, table.high, color=color, alpha=0.2, linewidth=0)
    workers = table.index
    ax.plot(workers, workers, label="ideal", **style.IDEAL)
    for number, (name, table) in enumerate(points.items()):
        color, _ = style.look_of([*lines].index(name))
        errors = [(table["speed-up"] - table.low).clip(0), (table.high - table["speed-up"]).clip(0)]  # rounding
        ax.errorbar(table.index, table["speed-up"], errors, fmt="Ds^"[number % 3], capsize=3, color=color)
    _log_axis_of_workers(ax, workers)
    ax.set_yscale("log", base=2)
    ax.set(ylabel="speed-up", yticks=workers, yticklabels=workers)
    figure.legend(loc="outside upper center", ncols=3)
    return figure


def on_public_tables(found: pd.DataFrame, panel: str, value: str, reference: str, ylabel: str) -> Figure:
    """A line a table of `recordings/public` against the number of workers, in the colour of its suite, on log axes.
    `found` has the columns `table`, `workers`, `panel` (a panel for each of its values), `value` (lines), and
    `reference` (dotted lines)."""
    groups = found.groupby(panel, sort=False)
    size = style.size(0.6 + 2.1 * len(groups))
    figure, axes = plt.subplots(len(groups), figsize=size, sharex=True, squeeze=False)
    for (name, part), ax in zip(groups, axes.flat, strict=True):
        for table, one in part.groupby("table"):
            suite = str(table).partition("_")[0]
            ax.plot(one.workers, one[value], color=SUITES[suite], linewidth=1, label=suite)
            ax.plot(one.workers, one[reference], ":", color="black", linewidth=1, label=reference)
        _log_axis_of_workers(ax, found.workers.unique())
        ax.set(yscale="log", title=name)
        ax.label_outer()
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter(NullFormatter())
    axes[len(groups) // 2, 0].set_ylabel(ylabel)
    lines = {line.get_label(): line for ax in axes.flat for line in ax.lines}
    figure.legend(lines.values(), lines, loc="outside upper center", ncols=len(lines))
    return figure


def _log_axis_of_workers(ax, workers) -> None:
    ax.set_xscale("log", base=2)
    ax.set(xlabel="workers", xticks=workers, xticklabels=workers)
