"""The figures that scripts bring to life, in a browser, on a tiny book of the real settings."""

import json
import lzma
import math
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from async_hpo import tables
from async_hpo.plots import colors
from async_hpo.schedule import expected_maximum, idle_share, schedule
from tools import translate
from tools.languages import SOURCE, TRANSLATIONS
from tools.languages import folder as folder_of
from tools.notebooks import ROOT
from tools.site import explorer
from tools.site.inline_figures import on_dark

slow = pytest.mark.slow
FIGURE = """
```{{figure}} _static/three-schedules.svg
:figclass: {}
:alt: Schedules.

A caption.
```
"""
PAGES = {"index": "explorer explorer-small", "whole": "explorer", "law": "law", "none": "another"}
SPREADS = ["constant", "uniform", "recorded", "exponential", "log-normal"]
OUR_SCRIPTS = re.compile("/({})".format("|".join(explorer.SCRIPTS)))
#: Names of others, which no language translates.
NAMES = re.compile("NAS-Bench-201: CIFAR-10|FCNet: slice localization|HPOBench: phoneme")
STATE = """() => {
    const {durations, panels, until, time, formula, playing} = document.querySelector("figure.explorer").explorer;
    return {durations, until, time, formula, playing: !!playing, plans: panels.map(({plan}) => plan)};
}"""


def build(folder):
    command = [sys.executable, "-m", "tools.build"]
    env = os.environ | {"PYTHONPATH": "", "GITHUB_REPOSITORY": ""}
    result = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """A book with a small explorer, a whole one, the law of the speed-up, and none of them, as a folder of pages."""
    folder = tmp_path_factory.mktemp("book")
    shutil.copytree(ROOT / "tools", folder / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "async_hpo" / "plots").mkdir(parents=True)
    shutil.copy(ROOT / "async_hpo" / "plots" / "colors.py", folder / "async_hpo" / "plots")
    shutil.copytree(ROOT / "book", folder / "book", ignore=shutil.ignore_patterns("*.md"))
    (folder / "recordings" / "public").mkdir(parents=True)
    for table in (explorer.OURS, *explorer.PUBLIC):
        shutil.copy(ROOT / table, folder / table)
    shutil.copytree(ROOT / "locale", folder / "locale", ignore=shutil.ignore_patterns("book", "notebooks", "*.mo"))
    shutil.copy(ROOT / "_config.yml", folder)
    chapters = "".join(f"- file: book/{name}\n" for name in PAGES if name != "index")
    (folder / "_toc.yml").write_text(f"format: jb-book\nroot: book/index\nchapters:\n{chapters}")
    for name, classes in PAGES.items():
        (folder / "book" / f"{name}.md").write_text(f"# Page\n{FIGURE.format(classes)}")
    build(folder)
    return folder


@pytest.fixture
def visit(chromium, book):
    """Opens a page of the book from its file; what goes wrong on it, or is asked of another host, fails the test."""

    @contextmanager
    def opened(name, before=None, language=SOURCE, **options):
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}} | options)
        page, wrong = context.new_page(), []
        page.on("pageerror", lambda error: wrong.append(error.stack) if OUR_SCRIPTS.search(error.stack or "") else None)
        page.on("console", lambda said: wrong.append(said.text) if OUR_SCRIPTS.search(said.location["url"]) else None)
        page.on("request", lambda asked: None if asked.url.startswith(("file:", "data:")) else wrong.append(asked.url))
        if before:
            before(page)
        page.goto((book / "_build" / "html" / folder_of(language) / "book" / f"{name}.html").as_uri())
        try:
            yield page
        finally:
            context.close()
        assert not wrong

    return opened


@pytest.fixture
def whole(visit):
    with visit("whole", reduced_motion="reduce") as page:
        yield page


@pytest.fixture
def law(visit):
    with visit("law") as page:
        yield page


def choose(page, **settings):
    if data := settings.pop("data", None):
        page.get_by_role("combobox", name="Data").select_option(data)
    if spread := settings.pop("spread", None):
        page.get_by_role("radio", name=spread).check(force=True)
    for name, value in settings.items():
        page.get_by_role("slider", name=name.capitalize()).fill(str(value))
    return page.evaluate(STATE)


def test_durations_on_the_page_are_those_of_the_table():
    expected = tables.durations(tables.read_table("cnn"))
    assert explorer.recorded_durations(ROOT / explorer.OURS) == list(expected)


def test_public_tables_are_light_on_the_page():
    groups = {table: explorer.public_durations(ROOT / table) for table in explorer.PUBLIC}
    for table, pairs in groups.items():
        seconds = pd.read_csv(ROOT / table).seconds
        assert sum(trials for trials, _ in pairs) == len(seconds)
        assert sum(trials * mean for trials, mean in pairs) == pytest.approx(seconds.sum(), rel=1e-6)
        assert pairs[-1] == (1, seconds.max())
    assert len(json.dumps(groups, separators=(",", ":"))) < 20_000


def test_colours_have_one_home():
    texts = [*ROOT.glob("async_hpo/**/*.*"), *ROOT.glob("tools/**/*.py"), *ROOT.glob("book/_static/*.[cj]s*")]
    named = re.compile(f"{colors.TRIAL}|{colors.WAITING}", re.IGNORECASE)
    assert [path.name for path in texts if path.suffix != ".pyc" and named.search(path.read_text())] == ["colors.py"]


@slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_are_those_of_the_figures(visit, scheme):
    with visit("whole", color_scheme=scheme, reduced_motion="reduce") as page:
        for part, color in (("trial", colors.TRIAL), ("wait", colors.WAITING)):
            fill = page.locator(f"path.explorer-{part}").first.evaluate("one => getComputedStyle(one).fill")
            assert to_hex([int(value) / 255 for value in re.findall(r"\d+", fill)]) == (
                color if scheme == "light" else on_dark(color)
            )


def times_of(spread):
    """What stands for a spread on the page of stragglers."""
    quantiles = (np.arange(100_000) + 0.5) / 100_000
    return {
        "constant": lambda: np.ones(1),
        "uniform": lambda: quantiles,
        "recorded": lambda: tables.durations(tables.read_table("cnn")).to_numpy(),
        "exponential": lambda: -np.log(1 - quantiles),
        "log-normal": lambda: np.exp([NormalDist().inv_cdf(share) for share in quantiles]),
    }[spread]()


@slow
@pytest.mark.parametrize("spread", SPREADS)
def test_schedules_and_the_formula_are_those_of_the_book(whole, spread):
    times, average = times_of(spread), tables.durations(tables.read_table("cnn")).mean()
    for workers in (1, 3, 8, 64):
        state = choose(whole, workers=workers, trials=150, spread=spread)
        durations = state["durations"]
        assert len(durations) == 150
        for plan, synchronous in zip(state["plans"], (True, False), strict=True):
            expected = schedule(durations, workers, synchronous)
            assert [trial["worker"] for trial in plan] == list(expected.worker)
            for column in ("start", "end"):
                assert [trial[column] for trial in plan] == pytest.approx(list(expected[column]), abs=1e-9)

        formula, ratio = state["formula"], expected_maximum(times, workers) / times.mean()
        assert formula["ratio"] == pytest.approx(ratio, rel=1e-9 if len(times) < 100 else 2e-3)
        assert formula["average"] == pytest.approx(average, rel=1e-3)
        assert whole.locator("[data-ratio=formula]").inner_text() == f"{formula['ratio']:.2f}"
        waiting, free = (max(trial["end"] for trial in plan) for plan in state["plans"])
        assert float(whole.locator("[data-ratio=here]").inner_text()) == pytest.approx(waiting / free, abs=0.0051)


@slow
@pytest.mark.parametrize("table", explorer.PUBLIC)
def test_durations_are_those_of_the_chosen_table(whole, table):
    seconds = pd.read_csv(ROOT / table).seconds
    choose(whole, data=table.split("/")[-1].split(".")[0], trials=500)
    for workers in (2, 8, 64):
        state = choose(whole, workers=workers, spread="recorded")
        assert state["formula"]["ratio"] == pytest.approx(expected_maximum(seconds, workers) / seconds.mean(), abs=0.01)
        ranks = np.searchsorted(seconds, state["durations"]) / len(seconds)
        assert np.quantile(ranks, [0, 0.1, 0.5, 0.9, 1]) == pytest.approx([0, 0.1, 0.5, 0.9, 1], abs=0.05)
        for spread in SPREADS:
            formula = choose(whole, spread=spread)["formula"]
            assert formula["average"] == pytest.approx(seconds.mean(), rel=1e-3)
    assert choose(whole, data="cnn", spread="recorded")["durations"][:64] == list(times_of("recorded")), "as before"


@slow
def test_trials_are_drawn_from_their_spread_and_again_the_same(visit):
    visits = []
    for _ in range(2):
        with visit("whole", reduced_motion="reduce") as page:
            first = {spread: choose(page, trials=500, spread=spread)["durations"] for spread in SPREADS}
            page.get_by_role("button", name="Other trials").click()
            visits.append((first, {spread: choose(page, spread=spread)["durations"] for spread in SPREADS}))
    assert visits[0] == visits[1], "the same state shows the same trials"
    recorded = times_of("recorded")
    for spread in SPREADS:
        first, other = (draw[spread] for draw in visits[0])
        assert (first != other) == (spread != "constant")
        scaled = times_of(spread) / times_of(spread).mean() * recorded.mean()
        for share in (0.1, 0.5, 0.9):  # seeds are fixed: no luck in it
            assert np.quantile(first + other, share) == pytest.approx(np.quantile(scaled, share), rel=0.15)
    first, other = (draw["recorded"] for draw in visits[0])
    assert first[:64] == list(recorded) and set(first + other) == set(recorded)


@slow
def test_numbers_count_up_to_what_the_schedule_says(whole):
    state = choose(whole, workers=5, trials=40, spread="exponential")
    for share in (0, 0.3, 0.7, 1):
        whole.get_by_role("slider", name="Time").fill(str(round(500 * share)))
        time = whole.evaluate(STATE)["time"]
        assert time == pytest.approx(share * state["until"])
        for plan, panel in zip(state["plans"], ("synchronous", "asynchronous"), strict=True):
            now = min(time, max(trial["end"] for trial in plan))
            busy = sum(max(0, min(now, trial["end"]) - trial["start"]) for trial in plan)
            finished = sum(trial["end"] <= now for trial in plan)
            idle = idle_share(busy, 5, now) if now else 0
            numbers = whole.locator(f".explorer-{panel} .explorer-numbers").inner_text().replace("\u00a0", " ")
            assert numbers.split("\n") == [
                f"{finished} of 40 trials",
                f"{100 * max(0, idle):.0f} % idle",
                f"{now:.0f} s",
            ]


#: What a control is called.
FOCUSED = "(e => e.getAttribute('aria-label') ?? (e.labels?.[0] ?? e).innerText.trim().split('\\n')[0])"


@slow
def test_all_of_it_works_from_the_keyboard(whole):
    whole.locator("article h1").click()
    visited = {}
    for _ in range(60):
        whole.keyboard.press("Tab")
        if whole.evaluate("!!document.activeElement.closest('.live-app')"):
            visited[whole.evaluate(f"{FOCUSED}(document.activeElement)")] = whole.evaluate(
                "(e => getComputedStyle(e.type == 'radio' ? e.parentElement : e).outlineStyle)(document.activeElement)"
            )
    buttons, settings = ["Play", "Step back", "Step", "Other trials"], ["Workers", "Trials", "Data", "recorded"]
    assert list(visited) == ["Time", *buttons, *settings]
    assert set(visited.values()) == {"solid"}, "where the keyboard is can be seen"

    whole.get_by_role("slider", name="Workers").focus()
    before = whole.evaluate(STATE)
    whole.keyboard.press("ArrowRight")
    after = whole.evaluate(STATE)
    assert before["plans"] != after["plans"] and max(trial["worker"] for trial in after["plans"][0]) == 8
    whole.get_by_role("slider", name="Trials").focus()
    whole.keyboard.press("Home")
    assert len(whole.evaluate(STATE)["durations"]) == 8
    whole.get_by_role("radio", name="recorded").focus()
    whole.keyboard.press("ArrowRight")
    assert whole.get_by_role("radio", name="exponential").is_checked()
    before = whole.evaluate(STATE)
    whole.get_by_role("combobox", name="Data").focus()
    whole.keyboard.press("ArrowDown")
    assert whole.evaluate(STATE)["formula"]["average"] > 10 * before["formula"]["average"]
    whole.keyboard.press("ArrowUp")
    assert whole.evaluate(STATE) == before

    state = whole.evaluate(STATE)
    whole.get_by_role("button", name="Step back").focus()
    whole.keyboard.press("Enter")
    ends = sorted({trial["end"] for plan in state["plans"] for trial in plan})
    assert whole.evaluate(STATE)["time"] == ends[-2]
    whole.get_by_role("button", name="Step", exact=True).focus()
    whole.keyboard.press("Space")
    assert whole.evaluate(STATE)["time"] == ends[-1]
    whole.get_by_role("slider", name="Time").focus()
    whole.keyboard.press("Home")
    assert whole.evaluate(STATE)["time"] == 0
    whole.get_by_role("button", name="Play").focus()
    whole.keyboard.press("Space")
    assert whole.evaluate(STATE)["playing"]
    whole.keyboard.press("Space")  # it says Pause now
    assert not whole.evaluate(STATE)["playing"]
    status = whole.get_by_role("status")
    status.filter(has_text=re.compile(r"^At \d+\ss: 9 synchronous workers: \d of 8 trials")).wait_for(state="attached")


@slow
@pytest.mark.parametrize("language", TRANSLATIONS)
def test_it_speaks_the_language_of_its_page(visit, language):
    """What it shows, what screen readers hear, and what it says when it is used."""
    catalogue = translate.read(ROOT / "locale" / language / "LC_MESSAGES" / "site.po", language)
    words = {message.id: message.string for message in catalogue if not message.fuzzy}
    if not all(words.get(word) for word in explorer.words(ROOT)):
        pytest.skip("some words of the explorer are not translated: make translate")
    with visit("whole", language=language, reduced_motion="reduce") as page:
        page.get_by_role("slider", name=words["Time"]).press("Home")
        page.get_by_role("status").filter(has_text=re.compile(r"\d")).wait_for(state="attached")
        app = page.locator(".live-app")
        names = "es => es.flatMap(e => [e.ariaLabel, e.getAttribute('aria-valuetext')].filter(Boolean))"
        said = [app.inner_text(), *page.locator(".live-app, .live-app *").evaluate_all(names)]
        assert words["Workers"] in said[0] and words["Scheduling explorer"] in said
        assert not re.findall("[A-Za-z]{2,}", NAMES.sub("", " ".join(said)))
    with visit("law", language=language) as page:
        page.get_by_role("slider", name=words["Workers"]).press("Home")
        page.get_by_role("status").filter(has_text=re.compile(r"\d")).wait_for(state="attached")
        app = page.locator(".live-app")
        said = [app.inner_text(), *page.locator(".live-app, .live-app *").evaluate_all(names)]
        assert words["Workers"] in said[0] and words["Speed-up explorer"] in said
        assert not re.findall("[A-Za-z]{2,}", " ".join(said))


@slow
def test_time_is_dragged_on_the_charts_by_mouse_and_by_touch(visit):
    for touch in (False, True):
        with visit("whole", viewport={"width": 390, "height": 844}, has_touch=touch, reduced_motion="reduce") as page:
            chart = page.locator(".explorer-asynchronous .explorer-chart")
            chart.scroll_into_view_if_needed()
            box = chart.bounding_box()
            x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
            if touch:
                page.touchscreen.tap(x, y)
            else:
                page.mouse.move(box["x"] + 5, y)
                page.mouse.down()
                page.mouse.move(x, y)
                page.mouse.up()
            state = page.evaluate(STATE)
            assert state["time"] == pytest.approx(state["until"] / 2, rel=0.02)
            page.get_by_role("slider", name="Workers").fill("64")
            assert page.evaluate("document.documentElement.scrollWidth") == 390, "nothing sticks out"


#: What is wider than its own box, or ends beyond the explorer's.
STICKING_OUT = """app => {
    const end = one => one.getBoundingClientRect().right;
    return [...app.querySelectorAll("button, label, legend, p:not([role=status]), span")]  // that one is for ears
        .filter(one => (one.clientWidth && one.scrollWidth > one.clientWidth) || end(one) > end(app) + 0.5)
        .map(one => one.innerText);
}"""


@slow
@pytest.mark.parametrize("language", [SOURCE, *TRANSLATIONS])
def test_all_words_and_numbers_fit_on_a_phone(visit, language):
    phone = {"language": language, "viewport": {"width": 390, "height": 844}}
    with visit("whole", **phone, reduced_motion="reduce") as page:
        app, spreads, sliders = page.locator(".live-app"), page.get_by_role("radio").all(), page.get_by_role("slider")
        assert len(spreads) == len(SPREADS)
        for data in page.locator("option").all():
            page.get_by_role("combobox").select_option(data.get_attribute("value"))
            for workers, trials in ((1, 500), (64, 200), (8, 64)):
                sliders.nth(1).fill(str(workers))
                sliders.nth(2).fill(str(trials))
                for spread in spreads:
                    spread.check(force=True)  # the chosen one is bold
                    assert not app.evaluate(STICKING_OUT)
        assert page.evaluate("document.documentElement.scrollWidth") == 390
    with visit("law", **phone) as page:
        for slider in page.get_by_role("slider").all():
            slider.press("End")
            assert not page.locator(".live-app").evaluate(STICKING_OUT)
        assert page.evaluate("document.documentElement.scrollWidth") == 390


@slow
def test_the_small_one_plays_once_by_itself(visit):
    with visit("index", before=lambda page: page.clock.install()) as page:
        page.wait_for_function(f"({STATE})().playing")
        page.clock.run_for(2000)
        state = page.evaluate(STATE)
        assert 0 < state["time"] < state["until"]
        page.clock.run_for(12_000)
        state = page.evaluate(STATE)
        assert state["time"] == state["until"] and not state["playing"]
        page.mouse.wheel(0, 2000)
        page.mouse.wheel(0, -2000)
        page.clock.run_for(1000)
        assert page.evaluate(STATE)["time"] == state["until"]
        assert page.locator("figure").inner_text().replace("\u00a0", " ").count("170 s") >= 1, "as in the text"


@slow
def test_nothing_moves_by_itself_for_who_wants_it_calm(visit):
    with visit("index", reduced_motion="reduce") as page:
        page.wait_for_timeout(500)
        state = page.evaluate(STATE)
        assert state["time"] == state["until"] and not state["playing"]
        page.get_by_role("button", name="Play").click()
        assert page.evaluate(STATE)["playing"], "when asked to, it does"


@slow
@pytest.mark.parametrize("name", ["index", "whole", "law"])
def test_it_is_a_figure_without_scripts_and_on_paper(visit, name):
    for options in ({"java_script_enabled": False}, {}):
        with visit(name, **options) as page:
            page.emulate_media(media="print" if not options else "screen")
            assert page.get_by_role("img", name="Schedules.").is_visible()
            assert page.get_by_text("A caption.").is_visible()
            assert not page.locator(".live-app").is_visible()


@slow
def test_other_pages_load_none_of_it_and_renewed_tables_reach_the_page(book, tmp_path):
    folder = shutil.copytree(book, tmp_path / "copy")
    build(folder)  # moved, all pages are read again: not so the next time
    html = folder / "_build" / "html" / "book"
    heads = {name: (html / f"{name}.html").read_text().split("<body")[0] for name in PAGES}
    assert "explorer.js" in heads["whole"] and "law.js" in heads["law"]
    assert not re.search(r"(explorer|law|live|schedule)\.(js|css)|recorded-durations", heads["none"])
    assert "explorer" not in heads["law"] and "law.js" not in heads["whole"]
    assert all("hpobench" not in head for name, head in heads.items() if name != "whole")
    table = folder / "recordings" / "cnn.csv"
    text = table.read_text()
    longest = max(explorer.recorded_durations(table))
    assert str(longest) in (html / "whole.html").read_text()
    table.write_text(text.replace(str(longest), "1234.5"))
    build(folder)
    assert "1234.5" in (html / "whole.html").read_text()
    (folder / explorer.PUBLIC[-1]).write_bytes(lzma.compress(b"seconds,error\n1,0.1\n4321.5,0.1\n"))
    build(folder)
    assert "[[1,1.0],[1,4321.5]]" in (html / "whole.html").read_text()


#: What the law's figure shows: its numbers, and where its point is, from 0 to 1 on both axes.
SHOWN = """() => {
    const text = name => document.querySelector(`[data-law=${name}]`).textContent;
    const number = name => Number(text(name).replace(/[^0-9.]/g, ""));
    const ideal = document.querySelector(".law-ideal").getAttribute("d").match(/[\\d.]+/g).map(Number);
    const [left, bottom, right, top] = [...ideal.slice(0, 2), ...ideal.slice(-2)];
    const { cx, cy } = document.querySelector("circle");
    return {
        good: number("good"), workers: number("workers"), speedUp: number("speedUp"), ideal: number("ideal"),
        efficiency: number("efficiency"),
        x: (cx.baseVal.value - left) / (right - left), y: (cy.baseVal.value - bottom) / (top - bottom),
    };
}"""


@slow
def test_the_law_is_that_of_the_text(law):
    seen = []
    for slider in law.get_by_role("slider").all():
        for position in range(int(slider.get_attribute("max")) + 1):
            slider.fill(str(position))
            seen.append(shown := law.evaluate(SHOWN))
            good, workers = shown["good"], shown["workers"]
            speed_up = (1 - (1 - 1 / good) ** workers) * good
            assert shown["speedUp"] == pytest.approx(speed_up, abs=0.051)
            assert shown["ideal"] == workers
            assert shown["efficiency"] == pytest.approx(100 * speed_up / workers, rel=0.051)
            assert [shown["x"], shown["y"]] == pytest.approx([math.log(n, 512) for n in (workers, speed_up)], abs=1e-3)
    assert {2, 20, 100, 1000} <= {shown["good"] for shown in seen}
    assert {2**power for power in range(10)} <= {shown["workers"] for shown in seen}


@slow
def test_the_law_works_from_the_keyboard(law):
    assert law.evaluate(SHOWN)["speedUp"] == 6.7 and law.evaluate(SHOWN)["efficiency"] == 84
    law.locator("article h1").click()
    visited = {}
    for _ in range(40):
        law.keyboard.press("Tab")
        if law.evaluate("!!document.activeElement.closest('.live-app')"):
            visited |= {law.evaluate(f"{FOCUSED}(document.activeElement)"): None}
            assert law.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert list(visited) == ["One configuration in 20 is good enough", "Workers 8"]
    law.get_by_role("slider", name="Workers").focus()
    for to, key in (("Home", "ArrowRight"), ("End", "ArrowLeft")):
        law.keyboard.press(to)
        seen = []
        while (workers := law.evaluate(SHOWN)["workers"]) not in seen:
            seen.append(workers)
            law.keyboard.press(key)
        assert seen[:8] in ([1, 2, 3, 4, 5, 6, 7, 8], [512, 456, 406, 362, 323, 287, 256, 228])
        assert {seen[0], seen[-1]} == {1, 512}, "each press of the key changes the number"
    law.keyboard.press("End")
    law.keyboard.press("ArrowLeft")
    said = "One configuration in 20 is good enough. Workers: 456. Speed-up: 20.0, ideal: 456. Efficiency: 4.4\u00a0%."
    law.get_by_role("status").filter(has_text=said).wait_for(state="attached")


@slow
@pytest.mark.idle
def test_sixty_frames_a_second_with_many_workers_and_trials(whole):
    choose(whole, workers=64, trials=500, spread="log-normal")
    times = whole.evaluate("""async () => {
        document.querySelector("[data-do=play]").click();
        const times = [];
        while (times.length < 240) times.push(await new Promise(requestAnimationFrame));
        return times;
    }""")
    assert whole.evaluate(STATE)["playing"]
    assert 239 / (times[-1] - times[0]) * 1000 > 58
