"""Every figure: what data it draws, that it can be read on a phone, and that it can be written."""

import colorsys
import subprocess
import sys

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from async_hpo import plots
from async_hpo.plots import colors
from async_hpo.plots import style as look
from async_hpo.runs import Run
from async_hpo.schedule import schedule
from tools import figures
from tools.site.inline_figures import contrast

NAN = float("nan")
PHONE = 350  # pixels


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
BAND = pd.DataFrame(
    {"time": [1.0, 10.0, 100.0], "low": [0.5, 0.3, 0.2], "median": [0.6, 0.4, 0.25], "high": [NAN, 0.5, 0.3]}
)
TABLE = pd.DataFrame({"speed-up": [1, 1.6, 4], "low": [1, 1.25, 3.2], "high": [1, 2, 5]}, index=[1, 2, 4])
POINT = pd.DataFrame({"speed-up": [1.9], "ratio": [1.9], "low": [1.8], "high": [1.95]}, index=[2])
MEASURED = pd.DataFrame(
    [("Ray", 30.0), ("PythonBackend, short polling", 10.0), ("Ray", 50.0), ("PythonBackend, short polling", 20.0)],
    columns=["system", "rate"],
)
PLANS = {
    "one": schedule([3.0, 4.0, 9.0, 2.0, 8.0, 1.0], 1),
    "three workers that wait for each other: 402 s, 41% of their time idle": schedule(
        [3.0, 4.0, 9.0, 2.0, 8.0, 1.0], 3, synchronous=True
    ),
}


PUBLIC = pd.DataFrame(
    [
        ("fcnet_slice_localization", 2, 1.3, 1.4),
        ("fcnet_slice_localization", 512, 5.0, 6.0),
        ("hpobench_car", 2, 1.8, 1.9),
        ("hpobench_car", 512, 9.0, 80.0),
        ("hpobench_kc1", 2, 1.7, 1.9),
        ("hpobench_kc1", 512, 8.0, 70.0),
    ],
    columns=["table", "workers", "ratio", "formula"],
)
PUBLIC = PUBLIC.assign(suite=PUBLIC.table.str.partition("_")[0])


def run_of(trials=TRIALS, reports=REPORTS, n_workers=2, wallclock_time=100.0):
    return Run("hand-1", "validation_error", n_workers, wallclock_time, reports, trials)


DRAWN = {
    "compared": lambda: plots.compared(MEASURED, "rate", "training images per second", ours="Py"),
    "comparison": lambda: plots.comparison({"random search": BAND, "Bayesian optimization": BAND}),
    "gantt": lambda: plots.gantt(run_of()),
    "gantts": lambda: plots.gantts({"asynchronous": run_of(), "synchronous": run_of()}),
    "incumbent": lambda: plots.incumbent(run_of()),
    "learning_curve": lambda: plots.learning_curve(pd.DataFrame({"epoch": [1, 2], "validation_error": [0.6, 0.4]})),
    "nodes": lambda: plots.nodes(run_of()),
    "on_public_tables": lambda: plots.on_public_tables(PUBLIC, "suite", "ratio", "formula", "times faster"),
    "scaling": lambda: plots.scaling(pd.DataFrame({"workers": [1, 64], "reports_per_second": [9.0, 500.0]}), 10.0),
    "schedules": lambda: plots.schedules(PLANS),
    "seconds_of_a_trial": lambda: plots.seconds_of_a_trial(
        pd.DataFrame({"D2L's own code": [1.0, 2.0, 3.0]}, index=["data and model", "training", "gap"])
    ),
    "speed_up": lambda: plots.speed_up({"half": TABLE, "best quarter": TABLE, "best 5 %": TABLE}, {"measured": POINT}),
}
OWN = {name: lambda make=make: make()[0] for name, make in figures.FIGURES.items()}
EVERY_FIGURE = pytest.mark.parametrize("draw", [*DRAWN.values(), *OWN.values()], ids=[*DRAWN, *OWN])


def test_every_figure_is_drawn_here():
    assert {*DRAWN} == {*plots.__all__} - {"trial_color", "use_style"}


@EVERY_FIGURE
def test_it_can_be_read_on_a_phone_and_nothing_is_cut_off(draw):
    figure = draw()
    figure.draw_without_rendering()
    width, height = figure.get_size_inches()
    assert width == plt.rcParams["figure.figsize"][0], "text is as large as in the others"
    shown = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    assert min(text.get_fontsize() for text in shown) / 72 / width * PHONE >= 8
    box = figure.get_tightbbox()  # inches
    assert min(box.x0, box.y0) > -0.01 and box.x1 < width + 0.01 and box.y1 < height + 0.01


def test_a_notebook_gets_the_same_text_for_the_same_figure():
    plots.use_style()
    formatter = InteractiveShell.instance().display_formatter
    one, other = (formatter.format(DRAWN["gantt"]())[0]["image/svg+xml"] for _ in range(2))
    assert one == other and "<dc:date>" not in one
    assert f'width="{72 * plt.rcParams["figure.figsize"][0]:g}pt"' in one, "not cut to what is drawn"


def test_a_pages_own_figures_are_the_same_files_again_and_say_what_they_show(tmp_path):
    folders = tmp_path / "one", tmp_path / "two"
    for folder in folders:
        folder.mkdir()
        figures.draw(folder)
    for name in figures.FIGURES:
        one, two = ((folder / f"{name}.svg").read_bytes() for folder in folders)
        assert one == two and b"<dc:description>" in one
    assert not plt.get_fignums(), "they are closed"


def test_importing_the_figures_imports_neither_torch_nor_d2l():
    code = "import sys, async_hpo.plots; print(sorted({'torch', 'torchvision', 'd2l', 'ray'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


# --- colours ---------------------------------------------------------------------------------------------------------


def test_white_and_a_page_are_legible_with_every_colour():
    every = [*colors.CYCLE, colors.WAITING, colors.OTHERS, *(to_hex(plots.trial_color(i)) for i in range(201))]
    assert not [color for color in every if contrast(color, "#ffffff") < 4.5]


def test_neighbours_are_far_apart_in_hue_and_no_two_early_trials_look_the_same():
    hues = [colorsys.rgb_to_hsv(*plots.trial_color(i))[0] for i in range(201)]
    for distance, apart in ((1, 0.35), (2, 0.2), (3, 0.1)):
        for one, other in zip(hues, hues[distance:], strict=False):
            assert min(abs(one - other), 1 - abs(one - other)) >= apart
    assert len({to_hex(plots.trial_color(i)) for i in range(201)}) == 201


@pytest.mark.parametrize("name", ["gantt", "gantts", "nodes", "schedules", "seconds_of_a_trial"])
def test_the_legends_colours_are_those_of_bars(name):
    figure = DRAWN[name]()
    of_bars = {to_hex(bar.get_facecolor()) for ax in figure.axes for bar in ax.patches if bar.get_width()}
    of_keys = {to_hex(patch.get_facecolor()) for patch in figure.legends[0].findobj(Rectangle)}
    assert of_keys and of_keys <= of_bars


# --- who ran when ----------------------------------------------------------------------------------------------------


def bars(ax, condition=lambda bar: True):
    """Left end, row and width of each bar."""
    return [
        tuple(round(float(value), 6) for value in (bar.get_x(), bar.get_y() + bar.get_height() / 2, bar.get_width()))
        for bar in ax.patches
        if condition(bar)
    ]


def idle(bar):
    return bar.get_hatch() == look.IDLE["hatch"]


def of(color):
    return lambda bar: not bar.get_hatch() and to_hex(bar.get_facecolor()) == to_hex(color)


def texts(ax):
    return [text.get_text() for text in ax.texts]


def assert_drawn(ax):
    """The run made by hand."""
    assert bars(ax, idle) == [(0, 0, 100), (0, 1, 100)]
    training = [bars(ax, of(plots.trial_color(trial_id))) for trial_id in range(4)]
    assert training == [[(10, 0, 30)], [(20, 1, 70)], [], [(71, 0, 2)]]
    start_up = [bars(ax, of(look.paler(plots.trial_color(trial_id), look.START_UP))) for trial_id in range(4)]
    assert start_up == [[(0, 0, 10)], [(5, 1, 15)], [(45, 0, 15)], [(70, 0, 1)]], "all of trial 2, which never reported"
    assert texts(ax) == ["0", "1", "2"], "3 does not fit"


def test_gantts_share_the_time_axis():
    short = run_of(TRIALS.iloc[:1], n_workers=1, wallclock_time=50.0)
    first, second = plots.gantts({"first": run_of(), "second": short}).axes
    assert_drawn(first)
    assert [ax.get_title(loc="left") for ax in (first, second)] == ["first", "second"]
    assert bars(second, idle) == [(0, 0, 50)] and second.get_xlim() == first.get_xlim() == (0, 100)
    assert_drawn(plots.gantt(run_of()).axes[0])


def test_nodes():
    reports = pd.concat([REPORTS, pd.DataFrame([(2, 58.0, 0.9, "b")], columns=REPORTS.columns)])
    (ax,) = plots.nodes(run_of(TRIALS.assign(worker=0), reports)).axes
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a", "b"]
    assert bars(ax, idle) == [(0, 0, 73), (5, 1, 85)], "from a node's first trial to its last"
    assert bars(ax, lambda bar: bar.get_hatch() == look.FAILED["hatch"]) == [(45, 1, 15)]
    assert bars(ax, of(plots.trial_color(0))) == [(0, 0, 40)]
    assert texts(ax) == ["0", "1"], "a failed trial has none, and 3 does not fit"


def test_nodes_leave_out_a_trial_that_never_said_where_it_ran():
    assert not bars(plots.nodes(run_of()).axes[0], lambda bar: bar.get_hatch() == look.FAILED["hatch"])


@pytest.mark.parametrize("trials", [TRIALS.assign(train_start=NAN, status="Failed"), TRIALS[:0]], ids=["all", "none"])
@pytest.mark.parametrize("plot", [plots.gantt, plots.nodes])
def test_a_run_without_reports_is_drawn_too(plot, trials):
    """As `read_run` reads one: no report ever named a node, either."""
    figure = plot(run_of(trials, pd.DataFrame(columns=["trial_id", "validation_error", "time"])))
    figure.draw_without_rendering()
    started = {width for *_, width in bars(figure.axes[0], lambda bar: not idle(bar))}
    assert started == (set(trials.end - trials.start) if plot is plots.gantt else set())


def test_schedules():
    for ax, plan, workers in zip(plots.schedules(PLANS).axes, PLANS.values(), (1, 3), strict=True):
        assert bars(ax, of(look.WAITING)) == [(0, worker, plan.end.max()) for worker in range(workers)]
        assert bars(ax, of(look.TRIAL)) == [(row.start, row.worker, row.end - row.start) for row in plan.itertuples()]


# --- curves ----------------------------------------------------------------------------------------------------------


def points(line):
    return list(zip(*(map(float, data) for data in line.get_data()), strict=True))


def lines(ax):
    """Label -> the line's points; those without a label are called after their number."""
    return {line.get_label(): points(line) for line in ax.lines}


def band_at(band, x):
    """The heights of a band (fill_between) above x."""
    vertices = band.get_paths()[0].vertices
    return sorted({round(float(height), 9) for place, height in vertices if place == x})


def test_learning_curve():
    (ax,) = DRAWN["learning_curve"]().axes
    assert points(ax.lines[0]) == [(1, 0.6), (2, 0.4)]
    assert list(ax.get_xticks()) == [1, 2] and ax.get_ylabel() == "validation error"


def test_incumbent():
    run = run_of()
    (ax,) = plots.incumbent(run).axes
    best = run.incumbent()
    assert points(ax.lines[0])[:-1] == list(zip(best.time, best.validation_error, strict=True))
    assert points(ax.lines[0])[-1] == (run.wallclock_time, best.validation_error.iloc[-1])
    low, high = ax.get_ylim()
    assert low <= best.validation_error.min() and best.validation_error.max() <= high


def test_comparison():
    real = {"local": [pd.DataFrame({"time": [3.0, 50.0], "validation_error": [0.7, 0.35]})]}
    (ax,) = plots.comparison({"random": BAND, "local": BAND}, real).axes
    random, local, steps = ax.lines
    assert points(random) == [(1, 0.6), (10, 0.4), (100, 0.25)] and points(steps) == [(3, 0.7), (50, 0.35)]
    assert steps.get_color() == local.get_color() != random.get_color()
    assert random.get_linestyle() != local.get_linestyle(), "methods differ in more than colour"
    assert band_at(ax.collections[0], 10) == [0.3, 0.5]
    low, high = ax.get_ylim()
    assert low < 0.2 and 0.45 < high < 0.6, "not as high as the first reports"


def test_methods_that_never_improve_still_have_a_height():
    low, high = plots.comparison({"random": BAND.assign(low=0.4, median=0.4, high=0.4)}).axes[0].get_ylim()
    assert low < 0.4 < high


def assert_error_bar(ax, x, low, high):
    (bar,) = ax.containers[0].lines[2]
    ((x0, y0), (x1, y1)) = bar.get_segments()[0]
    assert (x0, x1) == (x, x) and (y0, y1) == pytest.approx((low, high))


def test_speed_up():
    figure = plots.speed_up({"easy": TABLE, "hard": TABLE * 2}, {"measured": POINT, "hard": POINT * 2})
    (ax,) = figure.axes
    assert lines(ax)["easy"] == [(1, 1), (2, 1.6), (4, 4)] and lines(ax)["hard"] == [(1, 2), (2, 3.2), (4, 8)]
    assert lines(ax)["ideal"] == [(1, 1), (2, 2), (4, 4)]
    (measured, *_), (of_hard, *_) = ax.containers
    assert points(measured) == [(2, 1.9)] and measured.get_marker() != of_hard.get_marker()
    assert of_hard.get_color() == ax.lines[1].get_color() != measured.get_color()
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sorted(labels) == ["easy", "hard", "ideal", "measured"], "a line's own points need no other name"
    assert band_at(ax.collections[0], 4) == [3.2, 5] and band_at(ax.collections[1], 2) == [2.5, 4]
    assert_error_bar(ax, 2, 1.8, 1.95)
    assert [text.get_text() for text in ax.get_xticklabels()] == ["1", "2", "4"]


def test_on_public_tables():
    upper, lower = plots.on_public_tables(PUBLIC, "suite", "ratio", "formula", "times faster").axes
    assert [upper.get_title(), lower.get_title()] == ["fcnet", "hpobench"]
    assert [points(line) for line in upper.lines] == [[(2, 1.3), (512, 5)], [(2, 1.4), (512, 6)]]
    assert len(lower.lines) == 4, "two tables, and a reference each"
    assert upper.lines[0].get_color() != lower.lines[0].get_color()


def test_scaling():
    measured = pd.DataFrame({"workers": [1, 1, 64], "reports_per_second": [9.0, 10.0, 300.0]})
    ideal, received = plots.scaling(measured, ideal=10.0).axes[0].lines
    assert points(ideal) == [(1, 10), (64, 640)] and points(received) == [(1, 9), (1, 10), (64, 300)]


# --- bars ------------------------------------------------------------------------------------------------------------


def test_compared():
    (ax,) = plots.compared(MEASURED, "rate", "reports per second", ours="Py").axes
    assert bars(ax) == [(0, 0, 40), (0, 1, 15)], "medians, in the order given"
    assert bars(ax, of(look.TRIAL)) == [(0, 1, 15)]
    (ranges,) = ax.collections
    assert [segment.tolist() for segment in ranges.get_segments()] == [[[30, 0], [50, 0]], [[10, 1], [20, 1]]]


def test_seconds_of_a_trial():
    splits = pd.DataFrame({"Ray": [1.0, 2.0, 3.0], "Fork": [0.5, 0.0, 4.0]}, index=["start", "training", "gap"])
    (ax,) = plots.seconds_of_a_trial(splits).axes
    assert bars(ax) == [(0, 0, 1), (0, 1, 0.5), (1, 0, 2), (0.5, 1, 0), (3, 0, 3), (0.5, 1, 4)]
    assert bars(ax, of(look.TRIAL)) == [(1, 0, 2), (0.5, 1, 0)] and bars(ax, of(look.WAITING)) == [
        (3, 0, 3),
        (0.5, 1, 4),
    ]
