"""Every figure, by what it draws: artists and their data, no pixels."""

import colorsys
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from matplotlib.colors import to_hex, to_rgb
from matplotlib.text import Text

from async_hpo import plots
from async_hpo.plots import style as look
from async_hpo.runs import Run
from async_hpo.schedule import schedule
from tools import figures

NAN = float("nan")


@pytest.fixture(autouse=True)
def style():
    with plt.style.context(look.STYLE):
        yield
    plt.close("all")


#: 2 workers, 100 s. Trial 2 fails without a report, trial 3 is too short for its number.
TRIALS = pd.DataFrame(
    [
        (0, 0, 0.0, 10.0, 40.0, "Completed"),
        (1, 1, 5.0, 20.0, 90.0, "Completed"),
        (2, 0, 45.0, NAN, 60.0, "Failed"),
        (3, 0, 70.0, 71.0, 73.0, "Completed"),
    ],
    columns=["trial_id", "worker", "start", "train_start", "end", "status"],
)
REPORTS = pd.DataFrame(
    [(0, 20.0, 0.8, "a"), (1, 30.0, 0.9, "b"), (0, 40.0, 0.5, "a"), (3, 73.0, NAN, "a"), (1, 90.0, 0.4, "b")],
    columns=["trial_id", "time", "validation_error", "node"],
)


def run_of(trials=TRIALS, reports=REPORTS, n_workers=2, wallclock_time=100.0):
    return Run("hand-1", "validation_error", n_workers, wallclock_time, reports, trials)


def bars(ax):
    """Left end, row and width of each bar."""
    return [
        tuple(round(float(value), 6) for value in (bar.get_x(), bar.get_y() + bar.get_height() / 2, bar.get_width()))
        for bar in ax.patches
    ]


def bars_where(ax, condition):
    return [place for place, bar in zip(bars(ax), ax.patches, strict=True) if condition(bar)]


def hatched(bar):
    return bar.get_hatch() == look.IDLE["hatch"]


def pale(bar):
    return bar.get_alpha() == 0.35


def solid_in(trial_id):
    return lambda bar: bar.get_alpha() is None and same_color(bar.get_facecolor(), plots.trial_color(trial_id))


def same_color(one, other):
    return to_hex(one) == to_hex(other)


def numbers(ax):
    return {text.get_text(): text.get_position() for text in ax.texts}


def labels(legend):
    return [text.get_text() for text in legend.get_texts()]


def named(ax):
    """Each line's name at its end -> its colour."""
    return {text.get_text(): text.get_color() for text in ax.texts}


def points(line):
    return list(zip(*(map(float, data) for data in line.get_data()), strict=True))


def dashed(ax):
    return [line for line in ax.lines if line.get_linestyle() == "--"]


def band_at(band, x):
    """The heights of a band (fill_between) above x."""
    vertices = band.get_paths()[0].vertices
    return sorted({round(float(height), 9) for place, height in vertices if place == x})


# --- who ran when ----------------------------------------------------------------------------------------------------


def assert_drawn(ax, until=100):
    """The run made by hand."""
    assert bars_where(ax, hatched) == [(0, 0, 100), (0, 1, 100)]
    assert bars_where(ax, pale) == [(0, 0, 40), (5, 1, 85), (45, 0, 15), (70, 0, 3)]
    assert bars_where(ax, solid_in(0)) == [(10, 0, 30)]
    assert bars_where(ax, solid_in(1)) == [(20, 1, 70)]
    assert bars_where(ax, solid_in(2)) == [], "it never reported: start-up alone"
    assert bars_where(ax, solid_in(3)) == [(71, 0, 2)]
    assert numbers(ax) == {"0": (20, 0), "1": (47.5, 1), "2": (52.5, 0)}, "3 does not fit"
    assert ax.get_xlim() == (0, until) and ax.get_ylim() == (1.5, -0.5) and list(ax.get_yticks()) == [0, 1]


def test_gantt():
    figure = plots.gantt(run_of())
    (ax,) = figure.axes
    assert_drawn(ax)
    assert labels(figure.legends[0]) == ["training", "start-up", "idle"]
    # What is drawn later lies above: idle time, then white, then start-up, then training.
    kinds = ["idle" if hatched(bar) else "pale" if pale(bar) else to_hex(bar.get_facecolor()) for bar in ax.patches]
    assert kinds[:5] == ["idle", "idle", "#ffffff", "pale", to_hex(plots.trial_color(0))]
    training, start_up, idle = figure.legends[0].get_patches()
    assert training.get_alpha() is None and pale(start_up) and hatched(idle)


def test_gantts_share_the_time_axis():
    short = run_of(TRIALS.iloc[:1], n_workers=1, wallclock_time=50.0)
    figure = plots.gantts({"first": run_of(), "second": short})
    first, second = figure.axes
    assert_drawn(first)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["first", "second"]
    assert bars_where(second, hatched) == [(0, 0, 50)] and second.get_xlim() == (0, 100)
    assert second.get_ylim() == (0.5, -0.5) and second.get_xlabel() == "wall-clock time [s]" and not first.get_xlabel()


def test_nodes():
    trials = TRIALS.assign(worker=0)
    reports = pd.concat([REPORTS, pd.DataFrame([(2, 58.0, 0.9, "b")], columns=REPORTS.columns)])
    figure = plots.nodes(run_of(trials, reports))
    (ax,) = figure.axes
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a", "b"] and ax.get_ylabel() == "node"
    assert bars_where(ax, hatched) == [(0, 0, 73), (5, 1, 85)], "from a node's first trial to its last"
    assert bars_where(ax, lambda bar: bar.get_hatch() == "xxx") == [(45, 1, 15)]
    assert bars_where(ax, lambda bar: solid_in(0)(bar) and not bar.get_hatch()) == [(0, 0, 40)]
    assert set(numbers(ax)) == {"0", "1"}, "a failed trial has none, and 3 does not fit"
    assert labels(figure.legends[0]) == ["trial", "failed trial", "idle"]


def test_nodes_leave_out_a_trial_that_never_said_where_it_ran():
    figure = plots.nodes(run_of())
    assert not bars_where(figure.axes[0], lambda bar: bar.get_hatch() == "xxx")


@pytest.mark.parametrize("trials", [TRIALS.assign(train_start=NAN, status="Failed"), TRIALS[:0]], ids=["all", "none"])
@pytest.mark.parametrize("plot", [plots.gantt, plots.nodes, plots.learning_curves, plots.incumbent])
def test_a_run_without_reports_is_drawn_too(plot, trials):
    """As `read_run` reads one: no report ever named a node, either."""
    figure = plot(run_of(trials, pd.DataFrame(columns=["trial_id", "validation_error", "time"])))
    for one in (figure, look.phones_figure(figure)):
        one.draw_without_rendering()
        (ax,) = one.axes
        assert ax.get_xlabel() == "wall-clock time [s]" and not any(points(line) for line in ax.lines)
        started = {width for *_, width in bars_where(ax, lambda bar: not hatched(bar))}
        assert started == (set(trials.end - trials.start) if plot is plots.gantt else set())


def test_schedules():
    durations = [3.0, 4.0, 5.0, 2.0, 8.0, 1.0]
    plans = {"one": schedule(durations, 1), "three": schedule(durations, 3, synchronous=True)}
    figure = plots.schedules(plans)
    for ax, (title, plan), workers in zip(figure.axes, plans.items(), (1, 3), strict=True):
        assert ax.get_title(loc="left") == title
        waiting = bars_where(ax, lambda bar: same_color(bar.get_facecolor(), look.WAITING))
        assert waiting == [(0, worker, plan.end.max()) for worker in range(workers)]
        trials = bars_where(ax, lambda bar: same_color(bar.get_facecolor(), look.INK))
        assert trials == [(trial.start, trial.worker, trial.end - trial.start) for trial in plan.itertuples()]
        assert ax.get_xlim() == pytest.approx((0, 23))
    one, three = figure.axes
    (label,) = three.texts
    assert not one.texts and label.get_text() == "waits" and label.get_position() == (4, 0), "from 3 s to 5 s"
    assert contrast_with_white(to_rgb(look.WAITING)) > 4.5


def test_a_pages_own_figures_are_the_same_files_again_and_say_what_they_show(tmp_path):
    folders = tmp_path / "one", tmp_path / "two"
    for folder in folders:
        folder.mkdir()
        figures.draw(folder)
    for name in figures.FIGURES:
        for file in (f"{name}.svg", f"{name}-phone.svg"):
            one, two = ((folder / file).read_bytes() for folder in folders)
            assert one == two and b"<svg" in one and b"<dc:description>" in one and b"<dc:date>" not in one
    assert not plt.get_fignums(), "they are closed"


def test_importing_the_figures_imports_neither_torch_nor_d2l():
    code = "import sys, async_hpo.plots; print(sorted({'torch', 'torchvision', 'd2l', 'ray'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


@pytest.mark.idle
def test_it_is_imported_quickly():
    """In a fresh process, the quickest of three: the first may have to read the files from the disk."""

    def seconds():
        start = time.monotonic()
        subprocess.run([sys.executable, "-c", "import async_hpo.plots"], check=True)
        return time.monotonic() - start

    assert min(seconds() for _ in range(3)) <= 1.5


# --- colours ---------------------------------------------------------------------------------------------------------


def contrast_with_white(rgb):
    """By the definition of WCAG 2."""
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in rgb]
    return 1.05 / (0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)


def test_white_is_legible_on_every_trials_colour():
    assert contrast_with_white((0, 0, 0)) == pytest.approx(21) and contrast_with_white((1, 1, 1)) == pytest.approx(1)
    low = {i: contrast for i in range(201) if (contrast := contrast_with_white(plots.trial_color(i))) < 4.5}
    assert not low


def test_neighbours_are_far_apart_in_hue_and_no_two_early_trials_look_the_same():
    hues = [colorsys.rgb_to_hsv(*plots.trial_color(i))[0] for i in range(201)]
    for distance, apart in ((1, 0.35), (2, 0.2), (3, 0.1)):
        for one, other in zip(hues, hues[distance:], strict=False):
            assert min(abs(one - other), 1 - abs(one - other)) >= apart
    assert len({to_hex(plots.trial_color(i)) for i in range(201)}) == 201


def test_the_style_is_set():
    plt.rcParams["font.size"] = 5
    plots.use_style()
    assert (
        plt.rcParams["font.size"] == 11
        and not plt.rcParams["legend.frameon"]
        and plt.rcParams["svg.hashsalt"] == "async_hpo"
    )


# --- curves ----------------------------------------------------------------------------------------------------------


def test_one_image_per_class():
    class Data:
        # Image i is filled with i; its class is 9 - i % 10.
        tensors = {  # noqa: RUF012
            "train": (torch.arange(30.0).reshape(30, 1, 1, 1).expand(30, 1, 2, 2), 9 - torch.arange(30) % 10)
        }

        def text_labels(self, found):
            return [f"class {int(label)}" for label in found]

    figure = plots.one_image_per_class(Data())
    assert [ax.get_title() for ax in figure.axes] == [f"class {label}" for label in range(10)]
    assert [float(ax.images[0].get_array().max()) for ax in figure.axes] == list(range(9, -1, -1))


def test_learning_curve():
    reports = pd.DataFrame({"epoch": [1, 2, 3], "validation_error": [0.6, 0.4, 0.3]})
    (ax,) = plots.learning_curve(reports).axes
    assert points(ax.lines[0]) == [(1, 0.6), (2, 0.4), (3, 0.3)]
    assert list(ax.get_xticks()) == [1, 2, 3] and ax.get_ylim() == (0, 1) and ax.get_ylabel() == "validation error"


def test_learning_curves():
    (ax,) = plots.learning_curves(run_of()).axes
    before, curves = ax.lines[::2], ax.lines[1::2]
    assert points(curves[0]) == [(20, 0.8), (40, 0.5)] and points(curves[1]) == [(30, 0.9), (90, 0.4)]
    starts = TRIALS.set_index("trial_id").start
    assert points(before[0]) == [(starts[0], 0.8), (20, 0.8)] and points(before[1]) == [(starts[1], 0.9), (30, 0.9)]
    assert all(line.get_linestyle() == ":" for line in before)
    assert {text.get_text(): text.xy for text in ax.texts if text.get_text() != "3"} == {"0": (40, 0.5), "1": (90, 0.4)}
    for trial_id, line, text in zip((0, 1, 3), curves, ax.texts, strict=True):
        assert same_color(line.get_color(), plots.trial_color(trial_id))
        assert same_color(text.get_color(), plots.trial_color(trial_id))
    assert ax.get_xlim() == pytest.approx((0, 103))


def test_incumbent():
    reports = pd.DataFrame(
        [(0, 10.0, NAN), (0, 20.0, 0.8), (1, 30.0, 0.9), (0, 40.0, 0.5), (1, 50.0, 0.5)],
        columns=["trial_id", "time", "validation_error"],
    )
    (ax,) = plots.incumbent(run_of(reports=reports)).axes
    steps, dots = ax.lines
    assert points(steps) == [(20, 0.8), (30, 0.8), (40, 0.5), (50, 0.5), (100, 0.5)]
    assert steps.get_drawstyle() == "steps-post" and points(dots) == [(20, 0.8), (40, 0.5)]
    assert dots.get_linestyle() == "None" and dots.get_marker() == "o"
    assert ax.get_xlim() == (0, 100) and ax.get_ylabel() == "best validation error"


BAND = pd.DataFrame(
    {"time": [1.0, 10.0, 100.0], "low": [0.5, 0.3, 0.2], "median": [0.6, 0.4, 0.25], "high": [NAN, 0.5, 0.3]}
)


def test_collapsed():
    later = BAND[1:].assign(time=BAND.time * 2, low=BAND.low + 0.1)
    (ax,) = plots.collapsed({"1": BAND, "4": later}, {"half": 0.3, "best": 0.25}).axes
    one, four, *targets = ax.lines
    assert points(one) == [(1, 0.6), (10, 0.4), (100, 0.25)] and points(four)[0] == (20, 0.4)
    assert {line.get_drawstyle() for line in (one, four)} == {"steps-post"}
    assert dashed(ax) == targets and [set(line.get_ydata()) for line in targets] == [{0.3}, {0.25}]
    assert [(text.get_text(), text.xy[1]) for text in ax.texts[2:]] == [("half", 0.3), ("best", 0.25)]
    enters, begins = ax.texts[:2]
    assert enters.get_text() == "1" and enters.xy == pytest.approx((10, 0.45))
    assert begins.get_text() == "4 workers" and begins.xy == (20, 0.4)
    assert [text.get_color() for text in ax.texts[:2]] == [one.get_color(), four.get_color()]
    assert ax.get_xscale() == "log" and ax.get_ylim() == pytest.approx((0.18, 0.45))
    assert ax.get_xlabel() == "workers x wall-clock time [s]"
    assert not same_color(one.get_color(), four.get_color())
    assert min(contrast_with_white(to_rgb(line.get_color())) for line in (one, four)) > 4.5
    assert {0.2, 0.3} <= set(band_at(ax.collections[0], 100)) and same_color(
        ax.collections[0].get_facecolor()[0], one.get_color()
    )


def test_comparison():
    real = {"local": [pd.DataFrame({"time": [3.0, 50.0], "validation_error": [0.7, 0.35]})]}
    (ax,) = plots.comparison({"random": BAND, "local": BAND.assign(median=BAND["median"] - 0.05)}, real).axes
    random, local, steps = ax.lines
    assert points(random) == [(1, 0.6), (10, 0.4), (100, 0.25)] and points(steps) == [(3, 0.7), (50, 0.35)]
    assert steps.get_drawstyle() == "steps-post" and steps.get_linewidth() < local.get_linewidth()
    assert same_color(steps.get_color(), local.get_color()) and not same_color(local.get_color(), random.get_color())
    assert (random.get_linestyle(), local.get_linestyle()) == ("-", "--"), "methods differ in more than colour"
    assert band_at(ax.collections[0], 10) == [0.3, 0.5]
    assert named(ax) == {"random": random.get_color(), "local": local.get_color()}
    low, high = ax.get_ylim()
    assert low < 0.2 and 0.45 < high < 0.6 and ax.get_xlim() == (0, 100)


def test_methods_that_never_improve_still_have_a_height():
    flat = BAND.assign(low=0.4, median=0.4, high=0.4)
    (ax,) = plots.comparison({"random": flat}).axes
    assert ax.get_ylim() == pytest.approx((0.39, 0.41))


def test_speed_up():
    table = pd.DataFrame({"speed-up": [1, 1.6, 4], "low": [1, 1.25, 3.2], "high": [1, 2, 5]}, index=[1, 2, 4])
    measured = pd.DataFrame({"speed-up": [1.9], "low": [1.8], "high": [1.95]}, index=[2])
    replayed = pd.DataFrame({"seconds": [7.0], "speed-up": [3.9], "low": [3.5], "high": [4.1]}, index=[4])
    (ax,) = plots.speed_up({"easy": table, "hard": table * 2}, {"measured": measured, "hard": replayed}).axes
    easy, hard, ideal = ax.lines[:3]
    (point, *_), (of_hard, *_) = ax.containers
    assert points(of_hard) == [(4, 3.9)] and same_color(of_hard.get_color(), hard.get_color())
    assert same_color(point.get_color(), "black") and point.get_marker() != of_hard.get_marker()
    assert points(easy) == [(1, 1), (2, 1.6), (4, 4)] and points(hard) == [(1, 2), (2, 3.2), (4, 8)]
    assert points(ideal) == [(1, 1), (2, 2), (4, 4)] and ideal.get_linestyle() == "-"
    assert points(point) == [(2, 1.9)] and dashed(ax) == [hard]
    assert named(ax) == {
        "easy": easy.get_color(),
        "hard": hard.get_color(),
        "ideal": "black",
        "measured": "black",
    }
    assert band_at(ax.collections[0], 4) == [3.2, 5] and band_at(ax.collections[1], 2) == [2.5, 4]
    assert_error_bar(ax, 2, 1.8, 1.95)
    assert_log_axis_of(ax, [1, 2, 4])
    assert ax.get_yscale() == "log" and ax.get_ylabel() == "speed-up"
    assert len(plots.speed_up({"easy": table}).axes[0].lines) == 2, "measured values are optional"


def assert_error_bar(ax, x, low, high):
    (bar,) = ax.containers[0].lines[2]
    ((x0, y0), (x1, y1)) = bar.get_segments()[0]
    assert (x0, x1) == (x, x) and (y0, y1) == pytest.approx((low, high))


def assert_log_axis_of(ax, workers):
    assert ax.get_xscale() == "log" and ax.xaxis.get_transform().base == 2
    assert list(ax.get_xticks()) == workers
    assert [text.get_text() for text in ax.get_xticklabels()] == list(map(str, workers))


def test_slowed_by_waiting():
    ratios = pd.DataFrame({"cnn": [1.0, 1.3], "cnn low": [1.0, 1.2], "cnn high": [1.0, 1.5], "lenet": [1.0, 1.1]})
    ratios.index = [1, 2]
    measured_at_2 = pd.DataFrame({"ratio": [1.25], "low": [1.2], "high": [1.35]}, index=[2])
    (ax,) = plots.slowed_by_waiting(ratios, {"measured": measured_at_2}).axes
    cnn, lenet, measured = ax.lines[:3]
    assert points(cnn) == [(1, 1), (2, 1.3)] and points(lenet) == [(1, 1), (2, 1.1)] and points(measured) == [(2, 1.25)]
    assert measured.get_marker() == "D" and measured.get_linestyle() == "None" and dashed(ax) == [lenet]
    assert named(ax) == {"cnn": cnn.get_color(), "lenet": lenet.get_color(), "measured": "black"}
    assert_error_bar(ax, 2, 1.2, 1.35)
    band = ax.collections[0]
    assert band_at(band, 2) == [1.2, 1.5] and same_color(band.get_facecolor()[0], cnn.get_color())
    assert_log_axis_of(ax, [1, 2])
    assert len(plots.slowed_by_waiting(ratios).axes[0].lines) == 2, "measured values are optional"


# --- for phones, and names of lines -------------------------------------------------------------------------------


def test_a_figure_has_a_narrow_one_for_phones_with_the_same_data():
    figure = plots.learning_curves(run_of())
    narrow = look.phones_figure(figure)
    assert figure.get_size_inches()[0] == 6.4 and narrow.get_size_inches()[0] == look.PHONE_WIDTH
    both = zip(narrow.axes[0].lines, figure.axes[0].lines, strict=True)
    assert all(np.array_equal(one.get_xydata(), other.get_xydata(), equal_nan=True) for one, other in both)
    assert plt.get_fignums() == [figure.number], "a notebook shows the wide one alone"
    assert plt.rcParams["figure.figsize"] == [6.4, 3.6], "the style is as before"


def test_text_of_every_figure_for_phones_is_legible_there():
    """A phone 390 px wide shows 4 inches as 350 px or more: 1.2 px a point."""
    for figure in every_figure():
        narrow = look.phones_figure(figure)
        narrow.draw_without_rendering()
        sizes = {text.get_fontsize() for text in narrow.findobj(Text) if text.get_text() and text.get_visible()}
        assert min(sizes) * 1.2 >= 10.8, figure


def every_figure():
    band = {"one": BAND, "two": BAND.assign(median=BAND["median"] - 0.05)}
    speed = pd.DataFrame({"speed-up": [1, 1.6, 4], "low": [1, 1.25, 3.2], "high": [1, 2, 5]}, index=[1, 2, 4])
    ratios = pd.DataFrame({"cnn": [1.0, 1.3]}, index=[1, 2])
    systems = pd.DataFrame([("A long name of a system", 30.0), ("Ray", 10.0)], columns=["system", "rate"])
    return [
        plots.gantts({"above": run_of(), "below": run_of()}),
        plots.nodes(run_of()),
        plots.schedules({"a title as long as titles are: 402 s, 41% of its time idle": schedule([3.0, 4.0, 9.0], 2)}),
        plots.learning_curves(run_of()),
        plots.incumbent(run_of()),
        plots.collapsed(band, {"half": 0.3}),
        plots.comparison(band),
        plots.speed_up({"easy": speed}),
        plots.slowed_by_waiting(ratios),
        plots.compared(systems, "rate", "reports per second", ours="A"),
        plots.images_per_second(pd.Series([1500.0, 6000.0], index=["D2L", "in memory"]), 9000.0),
    ]


def test_nothing_of_a_figure_for_phones_lies_outside():
    for figure in every_figure():
        narrow = look.phones_figure(figure)
        narrow.draw_without_rendering()
        box = narrow.get_tightbbox()  # inches
        assert box.x0 > -0.05 and box.x1 < look.PHONE_WIDTH + 0.05, [ax.get_title(loc="left") for ax in narrow.axes]


def test_a_notebook_gets_both_drawings():
    plots.use_style()
    figure = plots.learning_curve(pd.DataFrame({"epoch": [1], "validation_error": [0.6]}))
    data, _ = InteractiveShell.instance().display_formatter.format(figure)
    assert "<svg" in data["image/svg+xml"] and "<svg" in data[look.PHONE_MIME]
    assert 'width="288pt"' in data[look.PHONE_MIME] and 'width="288pt"' not in data["image/svg+xml"]
    other, _ = InteractiveShell.instance().display_formatter.format(plt.figure())
    assert look.PHONE_MIME not in other, "a reader's own figure has no second drawing"


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ([0, 100, 50], [0, 100, 50]),
        ([50, 50], [45, 55]),
        ([52, 50, 0], [56, 46, 0]),
        ([0, 3, 6], [-7, 3, 13]),
        ([], []),
    ],
)
def test_names_keep_a_distance_and_stay_as_near_as_they_can(wanted, found):
    assert look.spread(np.array(wanted, dtype=float), 10).tolist() == pytest.approx(found)


def test_names_stand_where_lines_end_and_not_on_one_another():
    table = pd.DataFrame({"speed-up": [1.0, 2.0], "low": [1.0, 2.0], "high": [1.0, 2.0]}, index=[1, 2])
    figure = plots.speed_up({"one": table, "two": table, "three": table * 0.5})
    figure.draw_without_rendering()
    boxes = {text.get_text(): text.get_window_extent() for text in figure.axes[0].texts}
    right = figure.axes[0].bbox.x1
    assert all(box.x0 >= right for box in boxes.values())
    heights = sorted((box.y0, box.y1) for box in boxes.values())
    assert all(below[1] <= above[0] + 1 for below, above in pairwise(heights)), "pixels"
    assert boxes["three"].y1 < min(boxes["one"].y0, boxes["two"].y0)


def test_on_a_phone_names_are_above_and_bars_have_theirs_above_them():
    table = pd.DataFrame({"speed-up": [1.0, 2.0], "low": [1.0, 2.0], "high": [1.0, 2.0]}, index=[1, 2])
    narrow = look.phones_figure(plots.speed_up({"one": table}))
    assert labels(narrow.legends[0]) == ["one", "ideal"] and not narrow.axes[0].texts
    bars_narrow = look.phones_figure(plots.images_per_second(pd.Series([1.0], index=["in memory"]), 2.0))
    (ax,) = bars_narrow.axes
    assert list(ax.get_yticks()) == [] and "in memory" in numbers(ax)


# --- bars ------------------------------------------------------------------------------------------------------------


def test_seconds_per_epoch():
    (ax,) = plots.seconds_per_epoch(pd.Series([8.04, 2.0], index=[64, 256])).axes
    assert [text.get_text() for text in ax.get_yticklabels()] == ["64", "256"]
    assert bars(ax) == [(0, 0, 8.04), (0, 1, 2)]
    assert [text.get_text() for text in ax.texts] == ["8.0 s", "2.0 s"] and ax.get_xlim()[1] > 8.04


@pytest.mark.parametrize("limit", [9000.0, 3000.0])
def test_images_per_second(limit):
    (ax,) = plots.images_per_second(pd.Series([1500.0, 6000.0], index=["D2L", "in memory"]), limit).axes
    assert bars(ax) == [(0, 0, 1500), (0, 1, 6000)]
    assert [text.get_text() for text in ax.texts] == ["1,500", "6,000", f"limit {limit:,.0f}"]
    (line,) = dashed(ax)
    assert set(line.get_xdata()) == {limit} and ax.get_xlim()[1] > max(6000, limit)
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the first step is on top"


def test_compared():
    measured = pd.DataFrame(
        [("Ray", 30.0), ("Forkserver", 10.0), ("Ray", 50.0), ("Forkserver", 20.0), ("Ray", 35.0), ("Forkserver", 12.0)],
        columns=["system", "rate"],
    )
    (ax,) = plots.compared(measured, "rate", "reports per second", ours="Fork").axes
    assert [text.get_text() for text in ax.get_yticklabels()] == ["Ray", "Forkserver"], "in the order given"
    assert bars(ax) == [(0, 0, 35), (0, 1, 12)], "medians"
    assert [same_color(bar.get_facecolor(), look.INK) for bar in ax.patches] == [False, True]
    (ranges,) = ax.collections
    assert np.array(ranges.get_segments()).tolist() == [[[30, 0], [50, 0]], [[10, 1], [20, 1]]]
    assert ax.get_xlim() == pytest.approx((0, 52.5)) and ax.get_xlabel() == "reports per second"


def test_scaling():
    measured = pd.DataFrame({"workers": [1, 1, 8, 64], "reports_per_second": [9.0, 10.0, 75.0, 300.0]})
    (ax,) = plots.scaling(measured, ideal=10.0).axes
    ideal, received = ax.lines
    assert points(ideal) == [(1, 10), (8, 80), (64, 640)] and ideal.get_linewidth() < received.get_linewidth()
    assert points(received) == [(1, 9), (1, 10), (8, 75), (64, 300)] and received.get_linestyle() == "None"
    assert_log_axis_of(ax, [1, 8, 64])
    assert ax.get_yscale() == "log"


def test_seconds_of_a_trial():
    splits = pd.DataFrame({"Ray": [1.0, 2.0, 3.0], "Fork": [0.5, 0.0, 4.0]}, index=["start", "training", "gap"])
    figure = plots.seconds_of_a_trial(splits)
    (ax,) = figure.axes
    assert bars(ax) == [(0, 0, 1), (0, 1, 0.5), (1, 0, 2), (0.5, 1, 0), (3, 0, 3), (0.5, 1, 4)]
    colors = [to_hex(bar.get_facecolor()) for bar in ax.patches]
    assert colors[::2] == colors[1::2] and colors[2::2] == [look.INK, look.WAITING] and colors[0] not in colors[2:]
    assert labels(figure.legends[0]) == ["start", "training", "gap"] and ax.yaxis_inverted()
    assert [text.get_text() for text in ax.get_yticklabels()] == ["Ray", "Fork"]


def test_every_public_function_is_called_here():
    text = Path(__file__).read_text()
    assert not [name for name in plots.__all__ if f"plots.{name}(" not in text]
