"""Figures of the pages without code: drawn by `python -m tools.figures`, and at the end of `make record`."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from async_hpo import plots, tables
from async_hpo.plots import style
from async_hpo.schedule import idle_share, schedule
from tools.notebooks import ROOT

STATIC = ROOT / "book" / "_static"


def three_schedules() -> tuple[Figure, str]:
    """One worker, four that wait for each other, four that don't: the same recorded trials of networks of any size."""
    four = {"four workers that wait for each other": (4, True), "four workers that don't": (4, False)}
    return _schedules(24, {"one worker": (1, False)} | four)


def two_schedules() -> tuple[Figure, str]:
    """What the explorer shows at first on the page of stragglers, for paper and for pages without scripts."""
    return _schedules(64, {"eight synchronous workers": (8, True), "eight asynchronous workers": (8, False)})


def _schedules(n_trials: int, workers: dict[str, tuple[int, bool]]) -> tuple[Figure, str]:
    """The first recorded trials, put on workers: who -> how many they are, and whether they wait for each other."""
    durations = tables.durations(tables.read_table("cnn"))[:n_trials]
    plans = {}
    for who, (n, synchronous) in workers.items():
        plan = schedule(durations, n, synchronous)
        seconds = plan.end.max()
        idle = f", {idle_share(durations.sum(), n, seconds):.0%} of their time idle" if n > 1 else ""
        plans[f"{who}: {seconds:,.0f} s{idle}"] = plan
    return plots.schedules(plans), f"The first {n_trials} trials of cnn.csv; " + "; ".join(plans)


def a_trial() -> tuple[Figure, str]:
    """One worker's time, and what its parts are called. Not to scale."""
    figure, ax = plt.subplots(figsize=style.size(2.2))
    order, first, reports, next_order, next_line, next_first = 0.0, 2.0, (4.0, 6.0, 8.0), 10.2, 11.6, 12.6
    end = reports[-1]
    bar: dict[str, Any] = {"height": 0.8, "edgecolor": "white"}
    start_up = style.paler(style.TRIAL, style.START_UP)
    ax.barh(0, first - order, left=order, color=start_up, **bar)
    ax.barh(0, end - first, left=first, color=style.TRIAL, **bar)
    ax.barh(0, next_order - end, left=end, color=style.WAITING, **bar)
    ax.barh(0, next_first - next_order, left=next_order, color=start_up, **bar)
    ax.barh(0, 0.8, left=next_first, color=style.TRIAL, **bar)
    for text, at in (("start-up", 1.0), ("training and validation", 5.0), ("gap", 9.1)):
        ax.text(at, 0, text, ha="center", va="center", color="black" if text == "start-up" else "white")
    ax.plot(reports, [0.55] * 3, "v", color="black", markersize=6)
    marks = {order: "order", 5.0: "reports", end: "last report:\nthe end"}
    marks |= {next_order: "next\norder", next_line: "first\nline"}
    for at, text in marks.items():
        side = {order: "left", next_order: "right"}.get(at, "center")
        ax.text(at, 0.75, text, ha=side, va="bottom")
    for text, begin, until, height in (
        ("busy", order, end, -0.7),
        ("idle", end, next_order, -0.7),
        ("useful", first, end, -1.4),
        ("latency", end, next_line, -1.4),
    ):
        ax.annotate("", (begin, height), (until, height), arrowprops={"arrowstyle": "<->", "shrinkA": 0, "shrinkB": 0})
        ax.text((begin + until) / 2, height - 0.05, text, ha="center", va="top")
    ax.set(xlim=(-0.1, 13.5), ylim=(-2, 1.7))
    ax.set_axis_off()
    return figure, "A trial on a worker, not to scale: order, start-up, training, reports, end, gap, the next order"


def speed_up_law() -> tuple[Figure, str]:
    """The law of the speed-up, for four shares of good configurations. On a page, `book/_static/law.js` draws any."""
    figure, ax = plt.subplots(figsize=style.size(3.6))
    workers = np.geomspace(1, 512, 100)
    for number, n in enumerate((2, 20, 100, 1000)):
        speed_up = (1 - (1 - 1 / n) ** workers) * n
        color, dashes = style.look_of(number)
        ax.plot(workers, speed_up, dashes, color=color)
        ax.annotate(f"1 in {n:,}", (512, speed_up[-1]), (4, 0), textcoords="offset points", va="center", color=color)
    ax.plot(workers, workers, **style.IDEAL)
    ax.annotate("ideal", (64, 64), (-6, 0), textcoords="offset points", ha="right", va="center")
    ticks = 2 ** np.arange(10)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=2)
    ax.set(xlabel="workers", xticks=ticks, xticklabels=ticks, xlim=(1, 512))
    ax.set(ylabel="speed-up", yticks=ticks, yticklabels=ticks, ylim=(1, 512))
    return figure, "Speed-up of 1 to 512 workers if one configuration in 2, 20, 100 or 1,000 is good enough"


FIGURES = {make.__name__.replace("_", "-"): make for make in (three_schedules, two_schedules, a_trial, speed_up_law)}


def draw(folder: Path = STATIC) -> None:
    """Each as an SVG file. It carries no date: drawn again, it is the same file."""
    with plt.style.context(style.STYLE):
        for name, make in FIGURES.items():
            figure, description = make()
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Description": description})
            plt.close(figure)


if __name__ == "__main__":
    draw()
