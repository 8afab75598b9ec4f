"""Errors over epochs and over time: of a trial, of a run, and of whole methods."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from async_hpo.plots import style

if TYPE_CHECKING:
    from async_hpo.runs import Run


def learning_curve(reports: pd.DataFrame, metric: str = "validation_error") -> Figure:
    """One trial: its metric after each epoch. `reports` has the columns `epoch` and `metric`."""
    figure, ax = plt.subplots()
    ax.plot(reports.epoch, reports[metric], marker="o", color=style.TRIAL)
    ax.set(xlabel="epoch", ylabel=style.label(metric), ylim=(0, 1), xticks=reports.epoch)
    return figure


def incumbent(run: "Run") -> Figure:
    """The best metric so far over wall-clock time, whatever a reader's own search minimizes or maximizes. Nothing is
    drawn where no report had a number."""
    figure, ax = plt.subplots()
    best = run.incumbent()
    until_the_end = pd.concat([best, best.tail(1).assign(time=run.wallclock_time)])
    ax.step(until_the_end.time, until_the_end[run.metric], where="post", color=style.TRIAL)
    ax.set(xlabel="wall-clock time [s]", ylabel=f"best {style.label(run.metric)}", xlim=(0, run.wallclock_time))
    return figure


def comparison(bands: dict[str, pd.DataFrame], real: dict[str, list[pd.DataFrame]] | None = None) -> Figure:
    """Incumbent trajectories of several methods: median and quartile band of replays, real runs as thin steps. `bands`:
    method -> `compare.bands`; `real`: method -> its runs' incumbents, with columns `time` and `validation_error`.

    Raises:
        ValueError: there is no method.
    """
    figure, ax = plt.subplots(figsize=style.size(3.4))
    for number, (name, band) in enumerate(bands.items()):
        color, dashes = style.look_of(number)
        _band(ax, band, name, color, linestyle=dashes)
        for best in (real or {}).get(name, []):
            ax.step(best.time, best.validation_error, where="post", color=color, linewidth=0.8)
    ends = pd.concat(bands.values())
    low, high = ends.low.min(), ends.high.quantile(0.9)  # the first reports say little, and stand far above
    margin = 0.25 * (high - low) or 0.01  # methods that never improve still need a height
    ax.set(xlabel="wall-clock time [s]", ylabel="best validation error", ylim=(low - margin, high + margin))
    ax.set_xlim(0, ends.time.max())
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def _band(ax, band: pd.DataFrame, label: str, color, linestyle: str) -> None:
    """The columns `low`, `median` and `high` over `time`."""
    ax.plot(band.time, band["median"], color=color, label=label, linestyle=linestyle)
    ax.fill_between(band.time, band.low, band.high, color=color, alpha=0.15, linewidth=0)
