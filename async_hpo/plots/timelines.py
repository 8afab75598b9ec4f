"""Who ran what when: a row for each worker or node, wall-clock time from left to right."""

import textwrap
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.patches import Patch

from async_hpo.plots import style

if TYPE_CHECKING:  # it takes seconds to import
    from async_hpo.runs import Run


def gantt(run: "Run") -> Figure:
    """Which worker ran which trial when; see `gantts`."""
    return gantts({"": run})


def gantts(named: dict[str, "Run"]) -> Figure:
    """Which worker ran which trial when, in runs on one time axis: start-up pale, training in the trial's colour, idle
    time hatched. The keys are the titles."""
    n_workers = {title: run.n_workers for title, run in named.items()}
    until = max(run.wallclock_time for run in named.values())
    figure, axes = _stacked(n_workers, until, 0.9 + 0.3 * (len(named) - 1), 0.5, 0.6)
    for title, run in named.items():
        _draw_run(axes[title], run)
    trials = pd.concat([run.trials for run in named.values()])
    trained = trials[trials.train_start.notna()]
    _legend(figure, {"training": _keys(trained), "start-up": _keys(trials, style.START_UP)})
    return figure


def nodes(run: "Run") -> Figure:
    """Which node ran which trial when, for a run whose reports have a field `node` and nodes that run one trial at a
    time. Hatched: failed trials, and the time between a node's trials. A trial that never reported is on no node."""
    node_of = run.reports.groupby("trial_id").node.first() if len(run.reports) else pd.Series(dtype=object)
    trials = run.trials[run.trials.trial_id.isin(node_of.index)]
    failed = trials.trial_id.isin(run.failed.trial_id)
    trials = trials.assign(node=trials.trial_id.map(node_of), failed=failed)
    rows = list(trials.sort_values("start").node.unique())
    figure, ax = plt.subplots(figsize=style.size(1.4 + 0.45 * len(rows)))
    for row, node in enumerate(rows):
        here = trials[trials.node == node]
        _bar(ax, row, here.start.min(), here.end.max(), **style.IDLE)
        for trial in here.itertuples():
            color = style.trial_color(trial.trial_id)
            _bar(ax, row, trial.start, trial.end, facecolor=color, **style.FAILED if trial.failed else {})
            if not trial.failed:
                _write_number(ax, trial, row, run)
    _worker_rows(ax, max(1, len(rows)), run.wallclock_time)
    ax.set(ylabel="node", yticks=range(len(rows)), yticklabels=rows)
    _legend(figure, {"trial": _keys(trials[~failed]), "failed trial": _keys(trials[failed], **style.FAILED)})
    return figure


def schedules(plans: dict[str, pd.DataFrame]) -> Figure:
    """Plans of the same trials, one above the other, on one time axis. `plans`: title -> a plan of
    `schedule.schedule`."""
    n_workers = {title: plan.worker.max() + 1 for title, plan in plans.items()}
    until = max(plan.end.max() for plan in plans.values())
    figure, axes = _stacked(n_workers, until, 1.1, 0.3, 0.9)
    for title, plan in plans.items():
        axes[title].barh(range(n_workers[title]), plan.end.max(), height=0.84, color=style.WAITING)
        for row in plan.itertuples():
            _bar(axes[title], row.worker, row.start, row.end, 0.84, color=style.TRIAL, edgecolor="white")
    keys = [Patch(color=style.TRIAL, label="trial"), Patch(color=style.WAITING, label="idle")]
    figure.legend(handles=keys, loc="outside upper center", ncols=2)
    return figure


def _draw_run(ax, run: "Run") -> None:
    ax.barh(range(run.n_workers), run.wallclock_time, height=0.8, **style.IDLE)
    for trial in run.trials.itertuples():
        color = style.trial_color(trial.trial_id)
        reported = trial.train_start == trial.train_start  # else NaN: it never said when it began to train
        trains = trial.train_start if reported else trial.end
        _bar(ax, trial.worker, trial.start, trains, facecolor=style.paler(color, style.START_UP))
        if reported:
            _bar(ax, trial.worker, trains, trial.end, facecolor=color)
        _write_number(ax, trial, trial.worker, run, "white" if reported else "black")


def _bar(ax, row: int, start: float, end: float, height: float = 0.8, **look) -> None:
    ax.barh(row, end - start, left=start, height=height, **look)


def _stacked(n_workers: dict[str, int], until: float, margin: float, per_row: float, between: float):
    """Axes with a row a worker, one above the other on one time axis: title -> axes. Sizes in inches and in rows."""
    heights = [n + between for n in n_workers.values()]
    size = style.size(margin + per_row * sum(heights))
    figure, axes = plt.subplots(len(n_workers), sharex=True, squeeze=False, figsize=size, height_ratios=heights)
    for ax, (title, n) in zip(axes.flat, n_workers.items(), strict=True):
        _worker_rows(ax, n, until)
        ax.set_title(textwrap.fill(title, 60), loc="left")
        ax.label_outer()
    return figure, dict(zip(n_workers, axes.flat, strict=True))


def _write_number(ax, trial, row: int, run: "Run", color: str = "white") -> None:
    if trial.end - trial.start > 0.25 / ax.figure.get_figwidth() * run.wallclock_time:  # else it would not fit
        at = ((trial.start + trial.end) / 2, row)
        ax.text(*at, trial.trial_id, ha="center", va="center", color=color, fontweight="bold")


def _keys(trials: pd.DataFrame, share: float = 1, **look) -> tuple[Patch, ...]:
    """How these trials are drawn, for a legend: in three colours, as each trial has its own."""
    some = [style.trial_color(trial_id) for trial_id in sorted(set(trials.trial_id))[:3]]
    return tuple(Patch(facecolor=style.paler(color, share), **look) for color in some)


def _legend(figure: Figure, keys: dict[str, tuple[Patch, ...]]) -> None:
    shown: dict[str, Any] = {name: key for name, key in keys.items() if key} | {"idle": Patch(**style.IDLE)}
    side_by_side = {tuple: HandlerTuple(ndivide=None, pad=0)}
    figure.legend(shown.values(), shown, handler_map=side_by_side, loc="outside upper center", ncols=3)


def _worker_rows(ax, n_workers: int, until: float) -> None:
    ax.set(xlabel="wall-clock time [s]", ylabel="worker", xlim=(0, until), yticks=range(n_workers))
    ax.set_ylim(n_workers - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
