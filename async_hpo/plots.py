"""Every figure's one home. Functions draw what `runs`, `schedule` and `compare` compute, and return the figure."""

import colorsys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib_inline.backend_inline import set_matplotlib_formats

if TYPE_CHECKING:  # they take seconds to import
    from async_hpo.data import FashionMNIST
    from async_hpo.runs import Run

WIDTH = 6.4  # inches: text keeps 8 px or more where a phone shrinks the figure to its width
IDLE: dict[str, Any] = {"facecolor": "#e8e8e8", "edgecolor": "#9a9a9a", "hatch": "////", "linewidth": 0.0}
FAILED: dict[str, Any] = {"hatch": "xxx", "edgecolor": "white"}
INK = "#1f4e79"
WAITING = "#c2410c"
LINES = ("-", "--", ":", "-.")  # methods differ in more than colour
STYLE = Path(__file__).with_name("style.mplstyle")


def use_style() -> None:
    """Set fonts and colours for every figure of the book, and SVG as the notebooks' format."""
    set_matplotlib_formats("svg")
    plt.style.use(STYLE)


def trial_color(trial_id: int) -> tuple[float, float, float]:
    """A colour of its own for every trial, far from its neighbours' in hue, and dark enough to read white text on it
    and the colour itself on white (contrast 4.5, WCAG 2 AA)."""
    rgb = colorsys.hsv_to_rgb((0.6 + trial_id * 0.618034) % 1, 0.8, 1)
    luminance = sum(weight * value**2.2 for weight, value in zip((0.2126, 0.7152, 0.0722), rgb, strict=True))
    darker = min(0.75, (0.17 / luminance) ** (1 / 2.2))
    return tuple(darker * value for value in rgb)


def one_image_per_class(data: "FashionMNIST") -> Figure:
    """The first training image of each class."""
    X, y = data.tensors["train"]
    figure, axes = plt.subplots(2, 5, figsize=(WIDTH, 2.9))
    for label, ax in enumerate(axes.flat):
        ax.imshow(X[(y == label).nonzero()[0, 0], 0], cmap="gray_r")
        ax.set_title(data.text_labels([label])[0], fontsize=11)
        ax.set_axis_off()
    return figure


def learning_curve(reports: pd.DataFrame, metric: str = "validation_error") -> Figure:
    """One trial: its metric after each epoch. `reports` has the columns `epoch` and `metric`."""
    figure, ax = plt.subplots()
    ax.plot(reports.epoch, reports[metric], marker="o", color=INK)
    ax.set(xlabel="epoch", ylabel=_label(metric), ylim=(0, 1), xticks=reports.epoch)
    return figure


def learning_curves(run: "Run") -> Figure:
    """All trials: their metric over wall-clock time, one colour a trial, its number at the last report. Dotted, from a
    trial's order to its first report: it is in progress, and nothing is known yet."""
    figure, ax = plt.subplots()
    starts = run.trials.set_index("trial_id").start
    for trial_id, reports in run.reports.groupby("trial_id"):
        color, first = trial_color(trial_id), reports.iloc[0]
        ax.plot([starts[trial_id], first.time], [first[run.metric]] * 2, linestyle=":", color=color)
        ax.plot(reports.time, reports[run.metric], marker=".", color=color)
        last = reports.iloc[-1]
        ax.annotate(
            trial_id, (last.time, last[run.metric]), (4, 0), textcoords="offset points", color=color, va="center"
        )
    ax.set(xlabel="wall-clock time [s]", ylabel=_label(run.metric), xlim=(0, run.wallclock_time * 1.03), ylim=(0, 1))
    return figure


def gantt(run: "Run") -> Figure:
    """Which worker ran which trial when: start-up pale, training in the trial's colour, idle time hatched."""
    return gantts({"": run})


def gantts(named: dict[str, "Run"]) -> Figure:
    """Several runs on one time axis, one above the other (see `gantt`); the keys are the titles."""
    n_workers = {title: run.n_workers for title, run in named.items()}
    until = max(run.wallclock_time for run in named.values())
    figure, axes = _stacked(n_workers, until, 0.9 + 0.3 * (len(named) - 1), 0.5, 0.6)
    for title, run in named.items():
        _draw_run(axes[title], run)
    keys = [Patch(color=INK, label="training"), Patch(color=INK, alpha=0.35, label="start-up")]
    figure.legend(handles=[*keys, Patch(**IDLE, label="idle")], loc="outside upper center", ncols=3)
    return figure


def nodes(run: "Run") -> Figure:
    """Which node ran which trial when, for a run whose reports have a field `node` and nodes that run one trial at a
    time. Hatched: failed trials, and the time between a node's trials."""
    node_of = run.reports.groupby("trial_id").node.first()
    trials = run.trials[run.trials.trial_id.isin(node_of.index)].assign(node=lambda t: t.trial_id.map(node_of))
    rows, failures = list(trials.sort_values("start").node.unique()), set(run.failed.trial_id)
    figure, ax = plt.subplots(figsize=(WIDTH, 1.5 + 0.5 * len(rows)))
    for row, node in enumerate(rows):
        here = trials[trials.node == node]
        _bar(ax, row, here.start.min(), here.end.max(), **IDLE)
        for trial in here.itertuples():
            failed = trial.trial_id in failures
            extra: dict[str, Any] = FAILED | {"linewidth": 0.0} if failed else {}
            _bar(ax, row, trial.start, trial.end, **{"color": trial_color(trial.trial_id)} | extra)
            if not failed:
                _write_number(ax, trial, row, run)
    _worker_rows(ax, len(rows), run.wallclock_time)
    ax.set(ylabel="node", yticklabels=rows)
    keys = [Patch(color=INK, label="trial"), Patch(facecolor=INK, label="failed trial", **FAILED)]
    figure.legend(handles=[*keys, Patch(**IDLE, label="idle")], loc="outside upper center", ncols=3)
    return figure


def _draw_run(ax, run: "Run") -> None:
    ax.barh(range(run.n_workers), run.wallclock_time, height=0.8, **IDLE)
    for trial in run.trials.itertuples():
        color = trial_color(trial.trial_id)
        _bar(ax, trial.worker, trial.start, trial.end, color="white")
        _bar(ax, trial.worker, trial.start, trial.end, color=color, alpha=0.35)
        if trial.train_start == trial.train_start:  # NaN: it never reported
            _bar(ax, trial.worker, trial.train_start, trial.end, color=color)
        _write_number(ax, trial, trial.worker, run)


def _bar(ax, row: int, start: float, end: float, height: float = 0.8, **style) -> None:
    ax.barh(row, end - start, left=start, height=height, **style)


def _stacked(n_workers: dict[str, int], until: float, margin: float, per_row: float, between: float):
    """Axes with a row a worker, one above the other on one time axis: title -> axes. Sizes in inches and in rows."""
    heights = [n + between for n in n_workers.values()]
    size = (WIDTH, margin + per_row * sum(heights))
    figure, axes = plt.subplots(len(n_workers), sharex=True, squeeze=False, figsize=size, height_ratios=heights)
    for ax, (title, n) in zip(axes.flat, n_workers.items(), strict=True):
        _worker_rows(ax, n, until)
        ax.set_title(title, loc="left", fontsize=11)
        ax.label_outer()
    return figure, dict(zip(n_workers, axes.flat, strict=True))


def _write_number(ax, trial, row: int, run: "Run") -> None:
    if trial.end - trial.start > 0.04 * run.wallclock_time:  # else it would not fit
        at = ((trial.start + trial.end) / 2, row)
        ax.text(*at, trial.trial_id, ha="center", va="center", color="white", fontweight="bold")


def _worker_rows(ax, n_workers: int, until: float) -> None:
    ax.set(xlabel="wall-clock time [s]", ylabel="worker", xlim=(0, until), yticks=range(n_workers))
    ax.set_ylim(n_workers - 0.5, -0.5)
    ax.grid(axis="y", visible=False)


def incumbent(run: "Run") -> Figure:
    """The best metric so far over wall-clock time, as steps; points where it improved."""
    figure, ax = plt.subplots()
    best = run.incumbent()
    improved = best[best[run.metric].diff() != 0]  # the first one has no difference, which is not 0
    until_the_end = pd.concat([best, best.tail(1).assign(time=run.wallclock_time)])
    ax.step(until_the_end.time, until_the_end[run.metric], where="post", color=INK)
    ax.plot(improved.time, improved[run.metric], "o", color=INK)
    ax.set(xlabel="wall-clock time [s]", ylabel=f"best {_label(run.metric)}", xlim=(0, run.wallclock_time), ylim=(0, 1))
    return figure


def seconds_per_epoch(seconds: pd.Series) -> Figure:
    """Seconds an epoch takes, by batch size (the index)."""
    figure, ax = plt.subplots(figsize=(WIDTH, 2.4))
    bars = ax.barh([str(batch_size) for batch_size in seconds.index], seconds, color=INK, height=0.6)
    ax.bar_label(bars, fmt="%.1f s", padding=4)
    ax.set(xlabel="time per epoch [s]", ylabel="batch size", xlim=(0, seconds.max() * 1.15))
    ax.grid(axis="y", visible=False)
    return figure


def images_per_second(rates: pd.Series, limit: float) -> Figure:
    """Training images per second after each step (the index, in order), and the limit as a line."""
    figure, ax = _bars(rates, "training images per second")
    ax.axvline(limit, color="black", linestyle="--", linewidth=1)
    ax.annotate(f"limit {limit:,.0f}", (limit, -0.5), (-4, 2), textcoords="offset points", ha="right", va="bottom")
    ax.set(xlim=(0, max(limit, rates.max()) * 1.05), ylim=(len(rates) - 0.5, -1.1))
    return figure


def compared(measured: pd.DataFrame, column: str, xlabel: str, ours: str) -> Figure:
    """Medians as bars, the range of all measurements as a line across each bar's end. `measured`: a row a measurement,
    with the columns `system` and `column`; systems whose name begins with `ours` get the accent colour."""
    groups = measured.groupby("system", sort=False)[column]
    medians, lowest, highest = groups.median(), groups.min(), groups.max()
    figure, ax = _bars(medians, xlabel, [INK if name.startswith(ours) else "#6b7280" for name in medians.index])
    ax.hlines(range(len(medians)), lowest, highest, color="black", linewidth=1.5)
    ax.set(xlim=(0, highest.max() * 1.05))
    return figure


def scaling(measured: pd.DataFrame, ideal: float) -> Figure:
    """Reports per second against the number of workers, both on log scales: `measured` (columns `workers` and
    `reports_per_second`, a row a measurement), and `ideal`, the reports per second that one worker's trials make."""
    figure, ax = plt.subplots()
    workers = measured.workers.unique()
    ax.plot(workers, ideal * workers, color="black", linestyle="--", linewidth=1, label="all that trials report")
    ax.plot(measured.workers, measured.reports_per_second, "o", color=INK, label="received by the tuner")
    _log_axis_of_workers(ax, workers)
    ax.set_yscale("log", base=10)
    ax.set_ylabel("reports per second")
    ax.legend()
    return figure


def _log_axis_of_workers(ax, workers) -> None:
    ax.set_xscale("log", base=2)
    ax.set(xlabel="workers", xticks=workers, xticklabels=workers)


def _bars(values: pd.Series, xlabel: str, colors: str | list[str] = INK):
    figure, ax = plt.subplots(figsize=(WIDTH, 1.2 + 0.4 * len(values)))
    bars = ax.barh(values.index, values, color=colors, height=0.7)
    ax.bar_label(bars, fmt="{:,.0f}", color="white", label_type="center")
    ax.set(xlabel=xlabel, ylim=(len(values) - 0.5, -0.5))
    ax.locator_params(axis="x", nbins=6)  # long numbers need the room
    ax.grid(axis="y", visible=False)
    return figure, ax


def seconds_of_a_trial(splits: pd.DataFrame) -> Figure:
    """What a worker did during a trial, in seconds: a bar a column, a part a row."""
    figure, ax = plt.subplots(figsize=(WIDTH, 1.6 + 0.5 * splits.shape[1]))
    left = pd.Series(0.0, index=splits.columns)
    for number, (part, seconds) in enumerate(splits.iterrows()):
        ax.barh(splits.columns, seconds, left=left, color=trial_color(number), height=0.7, label=part)
        left += seconds
    ax.invert_yaxis()
    ax.set(xlabel="wall-clock time [s]")
    ax.grid(axis="y", visible=False)
    figure.legend(loc="outside upper center", ncols=3)
    return figure


def collapsed(named: dict[str, pd.DataFrame], targets: dict[str, float]) -> Figure:
    """Incumbent trajectories over a log axis of the workers' time taken together: medians as steps, quartiles as bands.
    Where workers share the work perfectly, all lie on one another. `named`: number of workers -> `compare.bands`, whose
    `time` is workers x seconds. `targets`: label -> an error, a dashed line; the axis ends above the largest."""
    figure, ax = plt.subplots()
    for number, (name, band) in enumerate(named.items()):
        color = plt.colormaps["viridis"](0.9 * number / max(1, len(named) - 1))  # their order shows
        _band(ax, band, name, color, drawstyle="steps-post")
    for name, error in targets.items():
        ax.axhline(error, color="black", linestyle="--", linewidth=1)
        ax.annotate(
            name, (1, error), (-4, 2), xycoords=("axes fraction", "data"), textcoords="offset points", ha="right"
        )
    ax.set_xscale("log")
    lowest, highest = min(band.low.min() for band in named.values()), max(targets.values())
    ax.set(xlabel="workers x wall-clock time [s]", ylabel="best validation error", ylim=(0.9 * lowest, 1.5 * highest))
    ax.legend(title="workers", ncols=2)
    return figure


def _band(ax, band: pd.DataFrame, label: str, color, drawstyle: str = "default", linestyle: str = "-") -> None:
    """The columns `low`, `median` and `high` over `time`."""
    step = "post" if drawstyle == "steps-post" else None
    ax.plot(band.time, band["median"], color=color, label=label, drawstyle=drawstyle, linestyle=linestyle)
    ax.fill_between(band.time, band.low, band.high, step=step, color=color, alpha=0.15, linewidth=0)


def speed_up(named: dict[str, pd.DataFrame], points: dict[str, pd.DataFrame] | None = None) -> Figure:
    """Speed-up against the number of workers (the index), on log axes, with the ideal line. `named`: line -> columns
    `speed-up`, `low` and `high` (see `compare.speed_up`); `points`: the same of single values, with their intervals,
    in the colour of the line that they are called after, else black with a label."""
    figure, ax = plt.subplots()
    for number, (name, table) in enumerate(named.items()):
        color, style = trial_color(number), LINES[number % len(LINES)]
        ax.plot(table.index, table["speed-up"], style, marker="o", markersize=4, color=color, label=name)
        ax.fill_between(table.index, table.low, table.high, color=color, alpha=0.2, linewidth=0)
    ax.plot(table.index, table.index, color="black", linestyle=":", label="ideal")
    _draw_points(ax, points, list(named), "speed-up")
    _log_axis_of_workers(ax, table.index)
    ax.set_yscale("log", base=2)
    ax.set(ylabel="speed-up", yticks=table.index, yticklabels=table.index)
    ax.legend()
    return figure


def _draw_points(ax, points: dict[str, pd.DataFrame] | None, lines: list[str], column: str) -> None:
    """`points`: label -> values in `column`, and `low` and `high`."""
    for number, (name, table) in enumerate((points or {}).items()):
        values = table[column]
        look = {"color": trial_color(lines.index(name))} if name in lines else {"color": "black", "label": name}
        errors = [(values - table.low).clip(0), (table.high - values).clip(0)]  # rounding
        ax.errorbar(table.index, values, errors, fmt="Ds^"[number % 3], capsize=3, linestyle="none", **look)


def slowed_by_waiting(ratios: pd.DataFrame, points: dict[str, pd.DataFrame] | None = None) -> Figure:
    """How many times faster workers are that don't wait, against the number of workers (the index). `ratios` has a line
    a column; columns named `<line> low` and `<line> high` are a band. `points`: as in `speed_up`, of `ratio`."""
    figure, ax = plt.subplots()
    lines = [name for name in ratios if not name.endswith((" low", " high"))]
    for number, name in enumerate(lines):
        color, style = trial_color(number), LINES[number % len(LINES)]
        ax.plot(ratios.index, ratios[name], style, marker="o", markersize=4, color=color, label=name)
        if f"{name} low" in ratios:
            ax.fill_between(ratios.index, ratios[f"{name} low"], ratios[f"{name} high"], color=color, alpha=0.2)
    _draw_points(ax, points, lines, "ratio")
    _log_axis_of_workers(ax, ratios.index)
    ax.set_ylabel("times faster without waiting")
    ax.legend()
    return figure


def schedules(plans: dict[str, pd.DataFrame]) -> Figure:
    """Plans of the same trials, one above the other, on one time axis; waiting in its own colour. `plans`: title -> a
    plan of `schedule.schedule`; the longest wait of each is labelled where there is room."""
    n_workers = {title: plan.worker.max() + 1 for title, plan in plans.items()}
    until = max(plan.end.max() for plan in plans.values())
    figure, axes = _stacked(n_workers, until, 0.9, 0.3, 0.9)
    for title, plan in plans.items():
        ax = axes[title]
        ax.barh(range(n_workers[title]), plan.end.max(), height=0.84, color=WAITING)
        for row in plan.itertuples():
            _bar(ax, row.worker, row.start, row.end, 0.84, color=INK, edgecolor="white")
        waits = plan.groupby("worker").start.shift(-1) - plan.end
        if waits.max() > 0.04 * until:
            before = plan.loc[waits.idxmax()]
            at = (before.end + waits.max() / 2, before.worker)
            ax.text(*at, "waits", ha="center", va="center", color="white", fontweight="bold", fontsize=9)
    return figure


def _label(metric: str) -> str:
    return metric.replace("_", " ")


def comparison(bands: dict[str, pd.DataFrame], real: dict[str, list[pd.DataFrame]] | None = None) -> Figure:
    """Incumbent trajectories of several methods: median and quartile band of replays, real runs as thin steps. `bands`:
    method -> `compare.bands`; `real`: method -> its runs' incumbents, with columns `time` and `validation_error`."""
    figure, ax = plt.subplots()
    for number, (name, band) in enumerate(bands.items()):
        color = trial_color(number)
        _band(ax, band, name, color, linestyle=LINES[number % len(LINES)])
        for best in (real or {}).get(name, []):
            ax.step(best.time, best.validation_error, where="post", color=color, linewidth=0.8)
    ends = pd.concat(bands.values())
    low, high = ends.low.min(), ends.high.quantile(0.9)  # the first reports say little, and stand far above
    margin = 0.25 * (high - low) or 0.01  # methods that never improve still need a height
    ax.set(xlabel="wall-clock time [s]", ylabel="best validation error", ylim=(low - margin, high + margin))
    ax.set_xlim(0, ends.time.max())
    ax.legend()
    return figure
