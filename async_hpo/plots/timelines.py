"""Who ran what when: a row for each worker or node, wall-clock time from left to right."""

from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from async_hpo.plots import style

if TYPE_CHECKING:  # it takes seconds to import
    from async_hpo.runs import Run


def gantt(run: "Run") -> Figure:
    """Which worker ran which trial when: start-up pale, training in the trial's colour, idle time hatched."""
    return gantts({"": run})


@style.for_pages_and_phones
def gantts(named: dict[str, "Run"]) -> Figure:
    """Several runs on one time axis, one above the other (see `gantt`); the keys are the titles.

    Raises:
        ValueError: there is no run.
    """
    n_workers = {title: run.n_workers for title, run in named.items()}
    until = max(run.wallclock_time for run in named.values())
    figure, axes = _stacked(n_workers, until, 0.9 + 0.3 * (len(named) - 1), 0.5, 0.6)
    for title, run in named.items():
        _draw_run(axes[title], run)
    keys = [Patch(color=style.INK, label="training"), Patch(color=style.INK, alpha=0.35, label="start-up")]
    figure.legend(handles=[*keys, Patch(**style.IDLE, label="idle")], loc="outside upper center", ncols=3)
    return figure


@style.for_pages_and_phones
def nodes(run: "Run") -> Figure:
    """Which node ran which trial when, for a run whose reports have a field `node` and nodes that run one trial at a
    time. Hatched: failed trials, and the time between a node's trials. A trial that never reported is on no node."""
    node_of = run.reports.groupby("trial_id").node.first() if len(run.reports) else pd.Series(dtype=object)
    trials = run.trials[run.trials.trial_id.isin(node_of.index)].assign(node=lambda t: t.trial_id.map(node_of))
    rows, failures = list(trials.sort_values("start").node.unique()), set(run.failed.trial_id)
    figure, ax = plt.subplots(figsize=(style.width(), 1.5 + 0.5 * len(rows)))
    for row, node in enumerate(rows):
        here = trials[trials.node == node]
        _bar(ax, row, here.start.min(), here.end.max(), **style.IDLE)
        for trial in here.itertuples():
            failed = trial.trial_id in failures
            extra: dict[str, Any] = style.FAILED | {"linewidth": 0.0} if failed else {}
            _bar(ax, row, trial.start, trial.end, **{"color": style.trial_color(trial.trial_id)} | extra)
            if not failed:
                _write_number(ax, trial, row, run)
    _worker_rows(ax, max(1, len(rows)), run.wallclock_time)
    ax.set(ylabel="node", yticks=range(len(rows)), yticklabels=rows)
    keys = [Patch(color=style.INK, label="trial"), Patch(facecolor=style.INK, label="failed trial", **style.FAILED)]
    figure.legend(handles=[*keys, Patch(**style.IDLE, label="idle")], loc="outside upper center", ncols=3)
    return figure


@style.for_pages_and_phones
def schedules(plans: dict[str, pd.DataFrame]) -> Figure:
    """Plans of the same trials, one above the other, on one time axis; waiting in its own colour. `plans`: title -> a
    plan of `schedule.schedule`; the longest wait of each is labelled where there is room."""
    n_workers = {title: plan.worker.max() + 1 for title, plan in plans.items()}
    until = max(plan.end.max() for plan in plans.values())
    figure, axes = _stacked(n_workers, until, 0.9, 0.3, 0.9)
    for title, plan in plans.items():
        ax = axes[title]
        ax.barh(range(n_workers[title]), plan.end.max(), height=0.84, color=style.WAITING)
        for row in plan.itertuples():
            _bar(ax, row.worker, row.start, row.end, 0.84, color=style.INK, edgecolor="white")
        waits = plan.groupby("worker").start.shift(-1) - plan.end
        if waits.max() > 0.42 / style.width() * until:  # else its label would not fit
            before = plan.loc[waits.idxmax()]
            at = (before.end + waits.max() / 2, before.worker)
            ax.text(*at, "waits", ha="center", va="center", color="white", fontweight="bold", fontsize=9.5)
    return figure


def _draw_run(ax, run: "Run") -> None:
    ax.barh(range(run.n_workers), run.wallclock_time, height=0.8, **style.IDLE)
    for trial in run.trials.itertuples():
        color = style.trial_color(trial.trial_id)
        _bar(ax, trial.worker, trial.start, trial.end, color="white")
        _bar(ax, trial.worker, trial.start, trial.end, color=color, alpha=0.35)
        if trial.train_start == trial.train_start:  # NaN: it never reported
            _bar(ax, trial.worker, trial.train_start, trial.end, color=color)
        _write_number(ax, trial, trial.worker, run)


def _bar(ax, row: int, start: float, end: float, height: float = 0.8, **look) -> None:
    ax.barh(row, end - start, left=start, height=height, **look)


def _stacked(n_workers: dict[str, int], until: float, margin: float, per_row: float, between: float):
    """Axes with a row a worker, one above the other on one time axis: title -> axes. Sizes in inches and in rows."""
    heights = [n + between for n in n_workers.values()]
    size = (style.width(), margin + per_row * sum(heights))
    figure, axes = plt.subplots(len(n_workers), sharex=True, squeeze=False, figsize=size, height_ratios=heights)
    for ax, (title, n) in zip(axes.flat, n_workers.items(), strict=True):
        _worker_rows(ax, n, until)
        ax.set_title(style.wrapped(title), loc="left", fontsize="medium")
        ax.label_outer()
    return figure, dict(zip(n_workers, axes.flat, strict=True))


def _write_number(ax, trial, row: int, run: "Run") -> None:
    if trial.end - trial.start > 0.25 / style.width() * run.wallclock_time:  # else it would not fit
        at = ((trial.start + trial.end) / 2, row)
        ax.text(*at, trial.trial_id, ha="center", va="center", color="white", fontweight="bold")


def _worker_rows(ax, n_workers: int, until: float) -> None:
    ax.set(xlabel="wall-clock time [s]", ylabel="worker", xlim=(0, until), yticks=range(n_workers))
    ax.set_ylim(n_workers - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
