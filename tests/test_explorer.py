"""The figures that scripts bring to life, in a browser, on a tiny book of the real settings."""

import lzma
import re
import shutil
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from scipy.special import ndtri
from test_build import small_book, succeed

from async_hpo import tables
from async_hpo.plots import colors
from async_hpo.schedule import expected_maximum, idle_share, schedule
from tools import translate
from tools.languages import NAMES, TRANSLATIONS, folder
from tools.notebooks import ROOT
from tools.site import explorer
from tools.site.inline_figures import on_dark

pytestmark = pytest.mark.slow
FIGURE = """# Page
```{{figure}} _static/three-schedules.svg
:figclass: {}
:alt: Schedules.

A caption.
```
"""
PAGES = {"index": "explorer explorer-small", "whole": "explorer", "law": "law", "none": "another"}
TABLES = {Path(table).name.split(".")[0]: ROOT / table for table in explorer.PUBLIC}
SPREADS = {  # quantiles of a spread, up to a factor
    "constant": np.ones_like,
    "uniform": lambda shares: shares,
    "exponential": lambda shares: -np.log(1 - shares),
    "log-normal": lambda shares: np.exp(ndtri(shares)),
}
STATE = """() => {
    const {durations, panels, until, time, formula, playing} = document.querySelector("figure.explorer").explorer;
    return {durations, until, time, formula, playing: !!playing, plans: panels.map(({plan}) => plan)};
}"""


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """A book with a small explorer, a whole one, the law of the speed-up, and none of them."""
    book = small_book(tmp_path_factory.mktemp("book"), {name: FIGURE.format(PAGES[name]) for name in PAGES})
    (book / "recordings" / "public").mkdir(parents=True)
    for table in (explorer.OURS, *explorer.PUBLIC):
        shutil.copy(ROOT / table, book / table)
    shutil.copytree(ROOT / "locale", book / "locale", ignore=shutil.ignore_patterns("book", "notebooks", "*.mo"))
    succeed(book)
    return book


@pytest.fixture
def visit(chromium, book):
    """Opens a page of the book from its file; an error of its scripts fails the test."""

    @contextmanager
    def opened(name, language="en", **options):
        with chromium.new_context(**{"viewport": {"width": 1280, "height": 900}} | options) as context:
            page, wrong = context.new_page(), []
            page.on("pageerror", lambda error: wrong.append(error.stack))
            page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
            page.goto((book / "_build" / "html" / folder(language) / "book" / f"{name}.html").as_uri())
            yield page
        assert not wrong

    return opened


@pytest.fixture
def whole(visit):
    with visit("whole", reduced_motion="reduce") as page:
        yield page


def choose(page, **settings):
    for name, value in settings.items():
        if name == "spread":
            page.locator(f"[value={value}]").check(force=True)
        elif name == "data":
            page.get_by_role("combobox").select_option(value)
        else:
            page.locator(f"[name={name}]").fill(str(value))
    return page.evaluate(STATE)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_are_those_of_the_figures(visit, scheme):
    with visit("whole", color_scheme=scheme, reduced_motion="reduce") as page:
        for part, color in (("trial", colors.TRIAL), ("wait", colors.WAITING)):
            fill = page.locator(f"path.explorer-{part}").first.evaluate("one => getComputedStyle(one).fill")
            shown = to_hex([int(value) / 255 for value in re.findall(r"\d+", fill)])
            assert shown == (color if scheme == "light" else on_dark(color))


def times_of(data, spread):
    """Many durations, sorted: a table's own, or those of another spread with the same mean."""
    table = tables.durations(tables.read_table("cnn")) if data == "cnn" else pd.read_csv(TABLES[data]).seconds
    if spread == "recorded":
        return np.sort(table)
    times = SPREADS[spread]((np.arange(100_000) + 0.5) / 100_000)
    return times / times.mean() * table.mean()


@pytest.mark.parametrize("data,spread", [*product(["cnn"], SPREADS), *product(["cnn", *TABLES], ["recorded"])])
def test_trials_schedules_and_the_formula_are_those_of_the_book(whole, data, spread):
    times, settings = times_of(data, spread), {"data": data, "spread": spread}
    for workers in (1, 3, 64):
        state = choose(whole, workers=workers, trials=150, **settings)
        assert len(state["durations"]) == 150
        for plan, synchronous in zip(state["plans"], (True, False), strict=True):
            expected = schedule(state["durations"], workers, synchronous)
            assert [trial["worker"] for trial in plan] == list(expected.worker)
            for column in ("start", "end"):
                assert [trial[column] for trial in plan] == pytest.approx(list(expected[column]), abs=1e-9)
        formula, ratio = state["formula"], expected_maximum(times, workers) / times.mean()
        assert formula["ratio"] == pytest.approx(ratio, rel=1e-9 if len(times) < 100 else 3e-3)
        assert formula["average"] == pytest.approx(times.mean(), rel=1e-3)
        assert whole.locator("[data-ratio=formula]").inner_text() == f"{formula['ratio']:.2f}"
        waiting, free = (max(trial["end"] for trial in plan) for plan in state["plans"])
        assert float(whole.locator("[data-ratio=here]").inner_text()) == pytest.approx(waiting / free, abs=0.0051)

    first = choose(whole, trials=500)["durations"]
    whole.get_by_role("button", name="Other trials").click()
    other = whole.evaluate(STATE)["durations"]
    whole.reload()
    assert choose(whole, trials=500, **settings)["durations"] == first, "the same again"
    assert (other != first) == (spread != "constant")
    ranks = np.searchsorted(times, first + other) / len(times)
    if spread != "constant":  # seeds are fixed: no luck in it
        assert np.quantile(ranks, (0.1, 0.5, 0.9)) == pytest.approx((0.1, 0.5, 0.9), abs=0.05)
    if (data, spread) == ("cnn", "recorded"):
        assert first[:64] == list(tables.durations(tables.read_table("cnn"))) and {*other} == {*times}


def test_numbers_count_up_to_what_the_schedule_says(whole):
    state = choose(whole, workers=5, trials=40, spread="exponential")
    for share in (0.3, 0.7, 1):
        whole.get_by_role("slider", name="Time").fill(str(round(500 * share)))
        for plan, panel in zip(state["plans"], ("synchronous", "asynchronous"), strict=True):
            now = min(share * state["until"], max(trial["end"] for trial in plan))
            busy = sum(max(0, min(now, trial["end"]) - trial["start"]) for trial in plan)
            finished, idle = sum(trial["end"] <= now for trial in plan), 100 * max(0, idle_share(busy, 5, now))
            numbers = whole.locator(f".explorer-{panel} .explorer-numbers").inner_text().replace("\u00a0", " ")
            assert numbers.split("\n") == [f"{finished} of 40 trials", f"{idle:.0f} % idle", f"{now:.0f} s"]


FOCUSED = """() => {
    const one = document.activeElement, words = (one.labels?.[0] ?? one).innerText.trim();
    const outlined = getComputedStyle(one.type == "radio" ? one.parentElement : one).outlineStyle == "solid";
    return one.closest(".live-app") && [one.ariaLabel ?? words.split("\\n")[0], outlined];
}"""


def tab_through(page):
    """The names of the controls that the keyboard reaches; where it is can be seen on each."""
    page.locator("article h1").click()
    outlined = {}
    for _ in range(60):
        page.keyboard.press("Tab")
        if focused := page.evaluate(FOCUSED):
            outlined |= [focused]
    assert all(outlined.values()), outlined
    return list(outlined)


def test_all_of_it_works_from_the_keyboard(whole):
    controls = ["Time", "Play", "Step back", "Step", "Other trials", "Workers", "Trials", "Data", "recorded"]
    assert tab_through(whole) == controls

    def press(role, name, key):
        whole.get_by_role(role, name=name, exact=True).press(key)
        return whole.evaluate(STATE)

    state = press("slider", "Workers", "ArrowRight")
    assert max(trial["worker"] for trial in state["plans"][0]) == 8
    assert len(press("slider", "Trials", "Home")["durations"]) == 8
    before = press("radio", "recorded", "ArrowRight")
    assert whole.get_by_role("radio", name="exponential").is_checked()
    assert press("combobox", "Data", "ArrowDown")["formula"]["average"] > 10 * before["formula"]["average"]
    assert press("combobox", "Data", "ArrowUp") == before
    ends = sorted({trial["end"] for plan in before["plans"] for trial in plan})
    assert press("button", "Step back", "Enter")["time"] == ends[-2]
    assert press("button", "Step", "Space")["time"] == ends[-1]
    assert press("slider", "Time", "Home")["time"] == 0
    assert press("button", "Play", "Space")["playing"]
    assert not press("button", "Pause", "Space")["playing"]
    status = whole.get_by_role("status")
    status.filter(has_text=re.compile(r"^At \d+\ss: 9 synchronous workers: \d of 8 trials")).wait_for(state="attached")


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_it_speaks_the_language_of_its_page(visit, language):
    """What it shows, what screen readers hear, and what it says when it is used."""
    catalogue = translate.read(ROOT / "locale" / language / "LC_MESSAGES" / "site.po", language)
    words = {message.id: message.string for message in catalogue if not message.fuzzy}
    if not all(words.get(word) for word in explorer.words(ROOT)):
        pytest.skip("some words of the explorer are not translated: make translate")
    for name, slider, title in (("whole", "Time", "Scheduling explorer"), ("law", "Workers", "Speed-up explorer")):
        with visit(name, language=language, reduced_motion="reduce") as page:
            page.get_by_role("slider", name=words[slider]).press("Home")
            page.get_by_role("status").filter(has_text=re.compile(r"\d")).wait_for(state="attached")
            names = "es => es.flatMap(e => [e.ariaLabel, e.getAttribute('aria-valuetext')].filter(Boolean))"
            said = [page.locator(".live-app").inner_text()]
            said += page.locator(".live-app, .live-app *").evaluate_all(names)
            assert words["Workers"] in said[0] and words[title] in said
            left = re.sub("NAS-Bench-201: CIFAR-10|FCNet: slice localization|HPOBench: phoneme", "", " ".join(said))
            assert not re.findall("[A-Za-z]{2,}", left)


def test_time_is_chosen_on_the_charts(whole):
    chart = whole.locator(".explorer-asynchronous .explorer-chart")
    chart.click(position={"x": chart.bounding_box()["width"] / 2, "y": 5})
    state = whole.evaluate(STATE)
    assert state["time"] == pytest.approx(state["until"] / 2, rel=0.02)


#: Words that are wider than their own box, or end beyond the explorer's.
STICKING_OUT = """app => {
    const end = one => one.getBoundingClientRect().right;
    return [...app.querySelectorAll("button, label, legend, p:not([role=status]), span")]
        .filter(one => (one.clientWidth && one.scrollWidth > one.clientWidth) || end(one) > end(app) + 0.5)
        .map(one => one.innerText);
}"""


@pytest.mark.parametrize("language", NAMES)
def test_all_words_and_numbers_fit_on_a_phone(visit, language):
    phone = {"language": language, "viewport": {"width": 390, "height": 844}, "reduced_motion": "reduce"}
    with visit("whole", **phone) as page:
        choose(page, workers=64, trials=500)
        for settings in product(["cnn", *TABLES], [*SPREADS, "recorded"]):
            choose(page, **dict(zip(("data", "spread"), settings, strict=True)))
            assert not page.locator(".live-app").evaluate(STICKING_OUT), settings
        assert page.evaluate("document.documentElement.scrollWidth") == 390
    with visit("law", **phone) as page:
        for slider in page.get_by_role("slider").all():
            slider.press("End")
        assert not page.locator(".live-app").evaluate(STICKING_OUT)
        assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_the_small_one_plays_once_by_itself_except_for_who_wants_it_calm(visit):
    with visit("index") as page:
        for expected in ("playing && time < until", "!playing && time === until"):
            state = f"const {{playing, time, until}} = ({STATE})()"
            page.wait_for_function(f"() => {{{state}; return {expected}}}", timeout=600_000)
    with visit("index", reduced_motion="reduce") as page:
        state = page.evaluate(STATE)
        assert state["time"] == state["until"] and not state["playing"]
        page.get_by_role("button", name="Play").click()
        assert page.evaluate(STATE)["playing"], "when asked to, it does"


@pytest.mark.parametrize("name", ["index", "whole", "law"])
@pytest.mark.parametrize("media,scripts", [("screen", False), ("print", True)])
def test_it_is_a_figure_without_scripts_and_on_paper(visit, name, media, scripts):
    with visit(name, java_script_enabled=scripts) as page:
        page.emulate_media(media=media)
        assert page.get_by_role("img", name="Schedules.").is_visible()
        assert page.get_by_text("A caption.").is_visible()
        assert not page.locator(".live-app").is_visible()


def test_other_pages_load_none_of_it_and_renewed_tables_reach_the_page(book, tmp_path):
    copy = shutil.copytree(book, tmp_path / "copy")
    succeed(copy)  # moved, all pages are read again: not so the next time
    html = copy / "_build" / "html" / "book"
    heads = {name: (html / f"{name}.html").read_text().split("<body")[0] for name in PAGES}
    assert not re.search(r"(explorer|law|live|schedule)\.(js|css)|recorded-durations", heads["none"])
    table = copy / explorer.OURS
    longest = str(max(explorer.recorded_durations(table)))
    assert longest in heads["whole"]
    table.write_text(table.read_text().replace(longest, "1234.5"))
    (copy / explorer.PUBLIC[-1]).write_bytes(lzma.compress(b"seconds,error\n1,0.1\n4321.5,0.1\n"))
    succeed(copy)
    page = (html / "whole.html").read_text()
    assert "1234.5" in page and "[[1,1.0],[1,4321.5]]" in page


SHOWN = """() => Object.fromEntries(["good", "workers", "speedUp", "efficiency"].map(name =>
    [name, Number(document.querySelector(`[data-law=${name}]`).textContent.replace(/[^0-9.]/g, ""))]))"""


def test_the_law_is_that_of_the_text(visit):
    with visit("law") as law:
        assert tab_through(law) == ["One configuration in 20 is good enough", "Workers 8"]
        seen = []
        for slider in law.get_by_role("slider").all():
            for position in range(int(slider.get_attribute("max")) + 1):
                slider.fill(str(position))
                seen.append(shown := law.evaluate(SHOWN))
                good, workers = shown["good"], shown["workers"]
                speed_up = (1 - (1 - 1 / good) ** workers) * good
                assert shown["speedUp"] == pytest.approx(speed_up, abs=0.051)
                assert shown["efficiency"] == pytest.approx(100 * speed_up / workers, rel=0.051)
        assert {2, 20, 100, 1000} <= {shown["good"] for shown in seen}
        assert {2**power for power in range(10)} <= {shown["workers"] for shown in seen}
        for key, expected in (("Home", 1), ("ArrowRight", 2), ("ArrowRight", 3), ("End", 512), ("ArrowLeft", 456)):
            law.get_by_role("slider", name="Workers").press(key)
            assert law.evaluate(SHOWN)["workers"] == expected, "each press of the key changes the number"
        law.get_by_role("status").filter(has_text="Workers: 456. Speed-up").wait_for(state="attached")
