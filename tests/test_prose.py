"""No typed numbers: what the text of a page says in digits, the page shows in an output, or its code sets by name."""

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

import matplotlib.pyplot as plt
import nbformat
import pytest

from tools import figures
from tools.environment import NEWEST, OLDEST
from tools.notebooks import ROOT, notebooks, read, syntax_tree

#: Page -> numbers that it may say all the same, and why.
ALLOWED: dict[str, dict[str, str]] = {
    "objective": {
        "60,000": "the data set's",
        "1970": "Unix time",
        "0.9": "chance, among ten classes",
        "128": "a batch size, beside its bar",
    },
    "visualization": {"0.9": "chance, among ten classes"},
    "overhead": {
        "50,000": "the split of the data",
        "10,000": "of it, too",
        "60,000": "the data set's",
        "0.05": "what the step sets",
        "5": "a default of Syne Tune's",
    },
    "cluster": {"6379": "Ray's port"},
    "stragglers": {
        "1024": "the space's of exercise 1.1",
        "24": "the first figure's trials",
        "1.9": "an example",
        "5.3": "an example",
    },
    "exercises": {"4": "workers to try"} | dict.fromkeys(["0.01", "0.02", "0.2", "0.11"], "steps to think about"),
    "benchmark": {
        "30": "the budget, in benchmarks/",
        "45": "a budget, too",
        "60": "two workers' seconds in the first",
        "4.25": "a package's version",
    },
    "dropout_mlp": {"512": "the middle of the space"},
    "environment": {"2023": "a year"},
    "local_searcher": {"5,000": "suggestions, in the cell below", "0.05": "seconds, in a cell below"},
    "local_against_random": {"18": "minutes, three times the budget"},
    # Below "Where do you start?"; what is above it, other pages print.
    "index": {
        "64": "workers, on the page that it links",
        "2": "cores: a requirement",
        "300": "MB, as tools/environment.py says",
        "7": "GB, as it says, too",
    },
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
    "take-speedup": ["spd-rep-6"],
}
EVERYWHERE = {"95": "of 100, an interval's level", "0.16": "Syne Tune's version"}
#: What draws hyperparameters: the ends of its range are numbers that a page sets.
DISTRIBUTIONS = {"choice", "loguniform", "lograndint", "randint", "uniform"}
NUMBER = re.compile(r"(?<![\w./-])(\d{1,3}(?:,\d{3})+|\d+(?:\.\d+)?)(?![\w/]|\.\d)")
#: What follows a number that is a percentage; it may be the first of two.
PERCENT = re.compile(r"(?:,? (?:to|and|or) [\d.]+)* ?(?:%|per cent)")
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
            yield _prose("\n".join(_without_code(cell.source)))


def _prose(text):
    for pattern in NOT_PROSE:
        text = re.sub(pattern, " ", text)
    return text


def _without_code(source):
    """Lines outside fences, and of those that frame text their titles and what is inside."""
    frames_text = None  # in no fence
    for line in source.splitlines():
        if line.startswith("```"):
            frame = re.match(r"```\{(?:admonition|note|margin)\}(.*)", line)
            frames_text = bool(frame) if frames_text is None else None
            if frame:
                yield frame[1]
        elif frames_text in (None, True):
            yield line


class Typed(NamedTuple):
    number: str
    is_percentage: bool
    around: str


def typed_in(text: str) -> Iterator[Typed]:
    for found in NUMBER.finditer(text):
        around = text[max(0, found.start() - 40) : found.end() + 40]
        yield Typed(found[1], bool(PERCENT.match(text, found.end())), " ".join(around.split()))


def typed_by(cell) -> Iterator[Typed]:
    """The numbers of a cell's prose, or of its figure's alt text."""
    for text in [*prose_of([cell]), cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")]:
        yield from typed_in(text)


def said_by_cells(cells):
    """All numbers that are shown of code's outputs, and those that it sets by name.

    Not those of a tuner's long table, which is folded: it has nearly all of them.
    """
    texts, values = [], set()
    for cell in cells:
        tags = cell.metadata.get("tags", [])
        if cell.cell_type != "code" or "remove-cell" in tags:
            continue
        values |= set_by(syntax_tree(cell))
        for output in cell.outputs if "hide-output" not in tags else []:
            data = output.get("data", {})
            texts += [
                output.get("text", ""),
                data.get("text/plain", ""),
                re.sub(r"<style.*?</style>|<[^>]*>", " ", data.get("text/html", ""), flags=re.DOTALL),
            ]
    found = re.findall(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?(?:e-?\d+)?", " ".join(texts))
    return values | {float(number.replace(",", "")) for number in found}


def set_by(node: ast.AST) -> set[float]:
    """Literals that are assigned, passed by name, or a default: no slices, formats, quantiles, factors in formulas."""
    match node:
        case ast.keyword(arg="to"):  # what only tests run with
            return set()
        case ast.Assign(value=value) | ast.AnnAssign(value=value) | ast.keyword(value=value):
            here = literals(value)
        case ast.arguments(defaults=defaults, kw_defaults=by_name):
            here = set().union(*map(literals, [*defaults, *by_name]))
        case _:
            here = set()
    return here.union(*map(set_by, ast.iter_child_nodes(node)))


def literals(node: ast.AST | None) -> set[float]:
    match node:
        case ast.Constant(value=bool()):
            return set()
        case ast.Constant(value=int() | float() as value):
            return {float(value)}
        case ast.BinOp(left=part):  # 12 * 60: minutes
            return literals(part)
        case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Dict(values=parts):
            return set().union(*map(literals, parts))
        case ast.Call(func=ast.Name(id="shorten"), args=[full, *_]):
            return literals(full)
        case ast.Call(func=ast.Name(id=name), args=ends) if name in DISTRIBUTIONS:
            return set().union(*map(literals, ends))
        case _:
            return set()


def is_said(typed, values):
    """Whether one of the values is this number, after rounding; a percentage may be said as a share."""
    digits = len(typed.number.partition(".")[2])
    wanted = float(typed.number.replace(",", ""))
    factors = (1, 100) if typed.is_percentage else (1,)
    return any(round(factor * value, digits) == wanted for value in values for factor in factors)


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
def test_numbers_of_the_text_are_those_of_the_cells_around_it(path):
    cells, allowed = read(path).cells, ALLOWED.get(path.stem, {})
    missing, all_typed = {}, set()
    said = {cell.id: said_by_cells([cell]) for cell in cells}
    for place, cell in enumerate(cells):
        typed = [one for one in typed_by(cell) if one.number not in EVERYWHERE]
        all_typed |= {one.number for one in typed}
        around = [one.id for one in cells[max(0, place - NEAR) : place + NEAR + 1]]
        values = set().union(*(said[name] for name in [*around, *SAID_BY.get(cell.id, [])]))
        missing |= {
            f"{cell.id}: {one.number}": one.around
            for one in typed
            if one.number not in allowed and not is_said(one, values)
        }
    assert not missing
    assert set(allowed) <= all_typed, "allowed, and not there"


def test_a_number_that_other_cells_say_is_missed_here():
    text, code = nbformat.v4.new_markdown_cell("It took 7.2 s."), nbformat.v4.new_code_cell("x = 7.2")
    (typed,) = typed_by(text)
    assert typed == ("7.2", False, "It took 7.2 s.") and is_said(typed, said_by_cells([text, code]))
    assert not is_said(typed, said_by_cells([text]))


def test_what_no_reader_sees_says_nothing():
    output = nbformat.v4.new_output("stream", text="8 trials")
    cell = nbformat.v4.new_code_cell("x = 7", outputs=[output])
    assert said_by_cells([cell]) == {7, 8}
    cell.metadata.tags = ["hide-output"]
    assert said_by_cells([cell]) == {7}
    cell.metadata.tags = ["remove-cell"]
    assert said_by_cells([cell]) == set()


def test_code_says_what_it_sets_and_no_other_literal():
    code = """
n_trials = shorten(7, to=2)
seconds = shorten(12 * 60, to=900)
space = {"lr": loguniform(1e-3, 0.1), "batch_size": 256}
def run(k, n_workers=4, *, compression: int = 20): return k / 33
search(run, 44, seed=5)
values[:55].quantile([0.66, 0.77])
print(f"{seconds:.8f}")
assert seconds < 99
"""
    assert set_by(ast.parse(code)) == {7, 12, 0.001, 0.1, 256, 4, 20, 5}


@pytest.fixture(scope="module")
def first_page():
    """Above and below "Where do you start?"."""
    above, _, below = (ROOT / "book" / "index.md").read_text().partition("## Where do you start?")
    return above, below


def test_numbers_of_the_first_page_are_those_of_the_pages_that_it_cites(first_page):
    cited = [read(ROOT / "notebooks" / f"{name}.ipynb").cells for name in ("stragglers", "speedup")]
    values = set.union(*map(said_by_cells, cited))
    figure, description = figures.three_schedules()
    plt.close(figure)
    values |= {float(number.replace(",", "")) for number in NUMBER.findall(description)}
    typed = [*typed_in(_prose(first_page[0]))]
    assert len(typed) > 10 and not [one for one in typed if not is_said(one, values)]


def test_numbers_of_how_to_run_it_are_requirements(first_page):
    text = _prose(first_page[1].replace("```", ""))  # its commands' sizes, too
    versions = {f"3.{minor}" for minor in range(OLDEST[1], NEWEST[1] + 1)}
    assert set(NUMBER.findall(text)) == ALLOWED["index"].keys() | versions
    sizes = re.findall(r"\d+ [MG]B", text)
    assert sizes and not [size for size in sizes if size not in (ROOT / "tools" / "environment.py").read_text()]


def test_the_page_for_own_searches_types_no_numbers():
    text = _prose("\n".join(_without_code((ROOT / "book" / "further.md").read_text())))
    assert not set(NUMBER.findall(text)) - EVERYWHERE.keys()


def test_a_wrong_number_is_found():
    def is_in(text, values):
        (typed,) = typed_in(text)
        return is_said(typed, values)

    assert is_in("1.27 s", {1.2701}) and is_in("41 %", {0.4099}) and is_in("20,297 images", {20296.6})
    assert not is_in("1.27 s", {1.2801}) and not is_in("42 %", {0.4099, 41.0}) and not is_in("41 s", {0.4099})
    assert [one.is_percentage for one in typed_in("0.7 to 9.5 %, 3 and 4")] == [True, True, False, False]
    assert NUMBER.findall("a factor of 2.10, 50,000 images, 41 % and x1 of v0.16.0, in 3.11") == [
        "2.10",
        "50,000",
        "41",
        "3.11",
    ]
