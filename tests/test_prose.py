"""No typed numbers: what the text of a page says in digits, the page prints, or its code sets."""

import re

import matplotlib.pyplot as plt
import nbformat
import pytest

from tools import figures
from tools.notebooks import ROOT, notebooks, read

#: Page -> numbers that it may say all the same, and why.
ALLOWED: dict[str, dict[str, str]] = {
    "objective": {"60,000": "the data set's", "1970": "Unix time"},
    "visualization": {"0.9": "chance, among ten classes"},
    "overhead": {"50,000": "the split of the data", "10,000": "of it, too", "60,000": "the data set's"},
    "cluster": {"6379": "Ray's port"},
    "stragglers": {"1024": "the space's of exercise 1.1", "1.9": "an example", "5.3": "an example"},
    "exercises": dict.fromkeys(["0.01", "0.02", "0.2", "0.11"], "steps to think about"),
    "benchmark": {"30": "the budget, in benchmarks/", "45": "a budget, too"},
    "dropout_mlp": {"512": "the middle of the space"},
    "environment": {"2023": "a year"},
}
#: A text's numbers are those of so many cells before it and after it,
NEAR = 8
#: and of those that it refers to.
SAID_BY = {
    "vis-13": ["vis-01"],
    "str-00": ["str-17"],
    "str-16c": ["str-12"],
    "spd-00": ["spd-13"],
    "spd-rep-13": ["spd-rep-3"],
    "spd-20": ["spd-17b"],
}
EVERYWHERE = {
    "0": "a limit",
    "1": "a limit",
    "2": "the cores of the machine that the book is for",
    "95": "of 100, an interval's level",
    "100": "of which 95",
    "0.16": "Syne Tune's version",
}
NUMBER = re.compile(r"(?<![\w./-])(\d{1,3}(?:,\d{3})+|\d+(?:\.\d+)?)(?![\w/]|\.\d)")
NOT_PROSE = (
    r"`[^`]*`",
    r"\[[^\]]* et al\., \d{4}\]",
    r"\[([Ee]xercise|Solution) \d\.\d",
    r"\(https?://[^)]*\)",
    r"\]\([^)]*\)",
    r"(?m)^\s*\|.*$",  # tables are definitions
    r"\*\*Run time:\*\*.*",  # a test of its own compares it
    r"(?m)^#.*$",
    r"(?m)^\s*\d+\. ",  # of a list
    r"(?m)^\*Expected run time:(.+\n?)+",
)


def prose_of(cells):
    for cell in cells:
        if cell.cell_type == "markdown":
            text = "\n".join(_without_code(cell.source))
            for pattern in NOT_PROSE:
                text = re.sub(pattern, " ", text)
            yield text


def _without_code(source):
    """Lines outside fences, and inside those that frame text."""
    frames_text = None  # in no fence
    for line in source.splitlines():
        if line.startswith("```"):
            frames_text = (
                line.startswith(("```{admonition}", "```{note}", "```{margin}")) if frames_text is None else None
            )
        elif frames_text in (None, True):
            yield line


def said_by_cells(cells):
    """All numbers of code, its outputs and its alt text."""
    texts = []
    for cell in (cell for cell in cells if cell.cell_type == "code"):
        texts += [cell.source, str(cell.metadata.get("mystnb", {}))]
        for output in cell.outputs:
            data = output.get("data", {})
            texts += [
                output.get("text", ""),
                data.get("text/plain", ""),
                re.sub(r"<style.*?</style>|<[^>]*>", " ", data.get("text/html", ""), flags=re.DOTALL),
            ]
    found = re.findall(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?(?:e-?\d+)?", " ".join(texts))
    return {float(number.replace(",", "")) for number in found}


def is_said(number, values):
    """Whether one of the values is this number, after rounding; as a share or as a percentage."""
    digits = len(number.partition(".")[2])
    wanted = float(number.replace(",", ""))
    return any(round(factor * value, digits) == wanted for value in values for factor in (1, 100))


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
def test_numbers_of_the_text_are_those_of_the_cells_around_it(path):
    cells, allowed = read(path).cells, EVERYWHERE | ALLOWED.get(path.stem, {})
    missing, typed_at = {}, {}
    for place, cell in enumerate(cells):
        typed = [(number, text) for text in prose_of([cell]) for number in NUMBER.findall(text)]
        typed_at[cell.id] = {number for number, _ in typed}
        around = cells[max(0, place - NEAR) : place + NEAR + 1]
        values = said_by_cells([*around, *(one for one in cells if one.id in SAID_BY.get(cell.id, []))])
        missing |= {
            number: _around(number, text)
            for number, text in typed
            if number not in allowed and not is_said(number, values)
        }
    assert not missing
    assert set(ALLOWED.get(path.stem, {})) <= set.union(*typed_at.values()), "allowed, and not there"


def test_a_number_that_other_cells_say_is_missed_here():
    text, code = nbformat.v4.new_markdown_cell("It took 7.2 s."), nbformat.v4.new_code_cell("x = 7.2")
    assert [*prose_of([text])] == ["It took 7.2 s."] and is_said("7.2", said_by_cells([text, code]))
    assert not is_said("7.2", said_by_cells([text]))


def test_numbers_of_the_first_page_are_those_of_the_pages_that_it_cites():
    text = (ROOT / "book" / "index.md").read_text().partition("## Where do you start?")[0]
    for pattern in NOT_PROSE:
        text = re.sub(pattern, " ", text)
    cited = [read(ROOT / "notebooks" / f"{name}.ipynb").cells for name in ("stragglers", "speedup")]
    values = set.union(*map(said_by_cells, cited))
    figure, description = figures.three_schedules()
    plt.close(figure)
    values |= {float(number.replace(",", "")) for number in NUMBER.findall(description)}
    typed = NUMBER.findall(text)
    assert len(typed) > 10 and not [number for number in typed if not is_said(number, values)]


def _around(number, text):
    at = re.search(rf"(?<![\w.]){re.escape(number)}", text).start()
    return " ".join(text[max(0, at - 40) : at + 40].split())


def test_a_wrong_number_is_found():
    assert is_said("1.27", {1.2701}) and is_said("41", {0.4099}) and is_said("20,297", {20296.6})
    assert not is_said("1.27", {1.2801}) and not is_said("42", {0.4099, 41.0})
    assert NUMBER.findall("a factor of 2.10, 50,000 images, 41 % and x1 of v0.16.0, in 3.11") == [
        "2.10",
        "50,000",
        "41",
        "3.11",
    ]
