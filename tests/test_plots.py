"""Every figure: what data it draws, that it can be read on a phone, and that it can be written."""

import colorsys

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
BAND = pd.DataFrame({"time": [1, 10, 100], "low": [0.5, 0.3, 0.2], "median": [0.6, 0.4, 0.25], "high": [NAN, 0.5, 0.3]})
REAL = pd.DataFrame({"time": [3.0, 50.0], "validation_error": [0.7, 0.35]})
TABLE = pd.DataFrame({"speed-up": [1, 3], "low": [1, 2.5], "high": [1, 4]}, index=[1, 4])
POINT = pd.DataFrame({"speed-up": [1.9], "low": [1.8], "high": [1.95]}, index=[2])
MEASURED = pd.DataFrame({"system": ["Ray", "PythonBackend, short polling"] * 2, "rate": [30.0, 10.0, 50.0, 20.0]})
DURATIONS = [3.0, 4.0, 9.0, 2.0, 8.0, 1.0]
PLANS = {"one": schedule(DURATIONS, 1), "two lines " * 8: schedule(DURATIONS, 3, synchronous=True)}
PUBLIC = pd.DataFrame({"suite": ["fcnet", "fcnet", "hpobench", "hpobench"], "workers": [2, 512] * 2})
PUBLIC = PUBLIC.assign(table=PUBLIC.suite + "_car", ratio=[1.3, 5.0, 1.8, 9.0], formula=[1.4, 6.0, 1.9, 80.0])
SCALE = pd.DataFrame({"workers": [1, 1, 64], "reports_per_second": [9.0, 10.0, 300.0]})
SPLITS = pd.DataFrame({"Ray": [1.0, 2.0, 3.0], "Fork": [0.5, 0.0, 4.0]}, index=["start", "training", "gap"])


def run_of(trials=TRIALS, reports=REPORTS, n_workers=2, wallclock_time=100.0):
    return Run("hand-1", "validation_error", n_workers, wallclock_time, reports, trials)


DRAWN = {
    "compared": lambda: plots.compared(MEASURED, "rate", "training images per second", ours="Py"),
    "comparison": lambda: plots.comparison({"random search": BAND, "local": BAND}, {"local": [REAL]}),
    "gantts": lambda: plots.gantts({"first": run_of(), "second": run_of(TRIALS[:1], REPORTS, 1, 50.0)}),
    "incumbent": lambda: plots.incumbent(run_of()),
    "learning_curve": lambda: plots.learning_curve(pd.DataFrame({"epoch": [1, 2], "validation_error": [0.6, 0.4]})),
    "nodes": lambda: plots.nodes(run_of()),
    "on_public_tables": lambda: plots.on_public_tables(PUBLIC, "suite", "ratio", "formula", "times faster"),
    "scaling": lambda: plots.scaling(SCALE, ideal=10.0),
    "schedules": lambda: plots.schedules(PLANS),
    "seconds_of_a_trial": lambda: plots.seconds_of_a_trial(SPLITS),
    "speed_up": lambda: plots.speed_up({"easy": TABLE, "hard": TABLE * 2}, {"easy": POINT, "hard": POINT * 2}),
}
OWN = {name: lambda make=make: make()[0] for name, make in figures.FIGURES.items()}


@pytest.mark.parametrize("draw", [*DRAWN.values(), *OWN.values()], ids=[*DRAWN, *OWN])
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
    one, other = (formatter.format(DRAWN["gantts"]())[0]["image/svg+xml"] for _ in range(2))
    assert one == other and "<dc:date>" not in one
    assert f'width="{72 * plt.rcParams["figure.figsize"][0]:g}pt"' in one, "not cut to what is drawn"


def test_a_pages_own_figures_say_what_they_show(tmp_path):
    figures.draw(tmp_path)
    assert all("<dc:description>" in (tmp_path / f"{name}.svg").read_text() for name in figures.FIGURES)


def test_trials_colours_differ_and_every_colour_is_legible_on_white():
    of_trials = [plots.trial_color(trial_id) for trial_id in range(201)]
    every = {colors.WAITING, colors.OTHERS, *colors.CYCLE, *map(to_hex, of_trials)}
    assert len({*map(to_hex, of_trials)}) == 201 and min(contrast(color, "#ffffff") for color in every) >= 4.5
    hues = [colorsys.rgb_to_hsv(*color)[0] for color in of_trials]
    for distance, apart in ((1, 0.35), (2, 0.2), (3, 0.1)):
        assert all(apart <= abs(a - b) <= 1 - apart for a, b in zip(hues, hues[distance:], strict=False))


@pytest.mark.parametrize("name", ["gantts", "nodes", "schedules", "seconds_of_a_trial"])
def test_the_legends_colours_are_those_of_bars(name):
    figure = DRAWN[name]()
    of_bars = {to_hex(bar.get_facecolor()) for ax in figure.axes for bar in ax.patches if bar.get_width()}
    of_keys = {to_hex(patch.get_facecolor()) for patch in figure.legends[0].findobj(Rectangle)}
    assert of_keys and of_keys <= of_bars


def bars(ax, color=None, hatch=None):
    """Left end, row and width of each bar, of those of this colour or pattern."""
    return [
        tuple(round(float(value), 6) for value in (bar.get_x(), bar.get_y() + bar.get_height() / 2, bar.get_width()))
        for bar in ax.patches
        if bar.get_hatch() == hatch and color in (None, to_hex(bar.get_facecolor()))
    ]


IDLE, FAILED = look.IDLE["hatch"], look.FAILED["hatch"]
TRAINING = [to_hex(plots.trial_color(trial_id)) for trial_id in range(4)]
START_UP = [look.paler(plots.trial_color(trial_id), look.START_UP) for trial_id in range(4)]


def test_gantts():
    first, second = DRAWN["gantts"]().axes
    assert bars(first, hatch=IDLE) == [(0, 0, 100), (0, 1, 100)] and bars(second, hatch=IDLE) == [(0, 0, 50)]
    assert [bars(first, color) for color in TRAINING] == [[(10, 0, 30)], [(20, 1, 70)], [], [(71, 0, 2)]]
    # All of trial 2 is start-up: it never reported.
    assert [bars(first, color) for color in START_UP] == [[(0, 0, 10)], [(5, 1, 15)], [(45, 0, 15)], [(70, 0, 1)]]
    assert [text.get_text() for text in first.texts] == ["0", "1", "2"], "3 does not fit"
    assert [ax.get_title(loc="left") for ax in (first, second)] == ["first", "second"]
    assert second.get_xlim() == first.get_xlim() == (0, 100)


def test_nodes():
    reports = pd.concat([REPORTS, pd.DataFrame([(2, 58.0, 0.9, "b")], columns=REPORTS.columns)])
    (ax,) = plots.nodes(run_of(TRIALS.assign(worker=0), reports)).axes
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a", "b"]
    assert bars(ax, hatch=IDLE) == [(0, 0, 73), (5, 1, 85)], "from a node's first trial to its last"
    assert bars(ax, hatch=FAILED) == [(45, 1, 15)] and bars(ax, TRAINING[0]) == [(0, 0, 40)]
    assert [text.get_text() for text in ax.texts] == ["0", "1"], "a failed trial has none, and 3 does not fit"
    assert not bars(DRAWN["nodes"]().axes[0], hatch=FAILED), "trial 2 never said where it ran"


@pytest.mark.parametrize("trials", [TRIALS.assign(train_start=NAN, status="Failed"), TRIALS[:0]], ids=["all", "none"])
def test_a_run_without_reports_is_drawn_too(trials):
    """As `read_run` reads one: no report ever named a node, either."""
    run = run_of(trials, pd.DataFrame(columns=["trial_id", "validation_error", "time"]))
    for figure, drawn in (plots.gantts({"": run}), list(trials.end - trials.start)), (plots.nodes(run), []):
        figure.draw_without_rendering()
        assert [width for *_, width in bars(figure.axes[0])] == drawn


def test_schedules():
    for ax, plan, workers in zip(DRAWN["schedules"]().axes, PLANS.values(), (1, 3), strict=True):
        assert bars(ax, look.WAITING) == [(0, worker, plan.end.max()) for worker in range(workers)]
        assert bars(ax, look.TRIAL) == [(row.start, row.worker, row.end - row.start) for row in plan.itertuples()]


def test_compared():
    (ax,) = DRAWN["compared"]().axes
    assert bars(ax) == [(0, 0, 40), (0, 1, 15)] and bars(ax, look.TRIAL) == [(0, 1, 15)], "medians, as ordered"
    ranges = [segment.tolist() for segment in ax.collections[0].get_segments()]
    assert ranges == [[[30, 0], [50, 0]], [[10, 1], [20, 1]]]


def test_seconds_of_a_trial():
    (ax,) = DRAWN["seconds_of_a_trial"]().axes
    assert bars(ax) == [(0, 0, 1), (0, 1, 0.5), (1, 0, 2), (0.5, 1, 0), (3, 0, 3), (0.5, 1, 4)]
    assert bars(ax, look.TRIAL) == [(1, 0, 2), (0.5, 1, 0)] and bars(ax, look.WAITING) == [(3, 0, 3), (0.5, 1, 4)]


@pytest.mark.parametrize(
    "name, lines",
    [
        ("learning_curve", [[(1, 0.6), (2, 0.4)]]),
        ("incumbent", [[(20, 0.8), (30, 0.8), (40, 0.5), (90, 0.4), (100, 0.4)]]),
        ("scaling", [[(1, 10), (64, 640)], [(1, 9), (1, 10), (64, 300)]]),
        ("on_public_tables", [[(2, 1.3), (512, 5)], [(2, 1.4), (512, 6)], [(2, 1.8), (512, 9)], [(2, 1.9), (512, 80)]]),
        ("comparison", [*[[(1, 0.6), (10, 0.4), (100, 0.25)]] * 2, [(3, 0.7), (50, 0.35)]]),
        ("speed_up", [[(1, 1), (4, 3)], [(1, 2), (4, 6)], [(1, 1), (4, 4)], [(2, 1.9)], [(2, 3.8)]]),
    ],
)
def test_lines(name, lines):
    drawn = [line for ax in DRAWN[name]().axes for line in ax.lines]
    without_caps = [line for line in drawn if line.get_marker() != "_"]
    assert [[*zip(*line.get_data(), strict=True)] for line in without_caps] == lines


def band_at(ax, x):
    """The heights of a figure's first band above x."""
    corners = ax.collections[0].get_paths()[0].vertices
    return sorted({height for place, height in corners if place == x})


def test_comparison():
    (ax,) = DRAWN["comparison"]().axes
    random, local, steps = ax.lines
    assert steps.get_color() == local.get_color() != random.get_color()
    assert random.get_linestyle() != local.get_linestyle(), "methods differ in more than colour"
    assert band_at(ax, 10) == [0.3, 0.5]
    low, high = ax.get_ylim()
    assert low < 0.2 and 0.45 < high < 0.6, "not as high as the first reports"
    low, high = plots.comparison({"random": BAND.assign(low=0.4, median=0.4, high=0.4)}).axes[0].get_ylim()
    assert low < 0.4 < high, "methods that never improve still have a height"


def test_speed_up():
    (ax,) = DRAWN["speed_up"]().axes
    assert band_at(ax, 4) == [2.5, 4]
    assert [point.get_color() for point, *_ in ax.containers] == [line.get_color() for line in ax.lines[:2]]
    assert ax.containers[0][2][0].get_segments()[0].tolist() == [[2, pytest.approx(1.8)], [2, pytest.approx(1.95)]]
