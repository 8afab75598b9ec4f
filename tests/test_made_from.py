"""What outputs are made from: what a digest sees, and what it does not."""

import ast

import nbformat
import pytest

from tools import made_from
from tools.made_from import OWN_CODE, changed, digest_of, parts_of

PACKAGE = {
    "runs.py": """
        import os
        LIMIT = 3
        os.environ["SET"] = "at import"
        def read(name: str) -> int:
            \"\"\"Read.\"\"\"
            return parse(name) + LIMIT  # a comment
        def parse(name):
            return len(name)
        def unused():
            return 1
    """,
    "data.py": """
        SEED = 0
        class Data:
            def __init__(self):
                self.images = load()
        def load():
            return SEED
    """,
    "chapter.py": """
        from async_hpo.runs import shorten
        space = {"epochs": shorten(10, to=2)}
        def objective():
            from async_hpo.data import Data
            return Data()
    """,
    "__init__.py": """
        def __getattr__(name):
            from async_hpo.data import Data
            return Data
    """,
}


@pytest.fixture
def package(monkeypatch, tmp_path):
    """A small package in place of the book's; call it with a file and a replacement to change it."""
    (tmp_path / "async_hpo").mkdir()
    (tmp_path / "recordings").mkdir()
    for name, text in PACKAGE.items():
        (tmp_path / "async_hpo" / name).write_text(_dedent(text))
    monkeypatch.setattr(made_from, "ROOT", tmp_path)
    monkeypatch.setattr(made_from, "RECORDINGS", tmp_path / "recordings")
    _forget()
    yield lambda name, old, new: _change(tmp_path / "async_hpo" / name, old, new)
    _forget()


def _dedent(text):
    return "\n".join(line[8:] for line in text.strip("\n").splitlines())


def _change(path, old, new):
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    _forget()


def _forget():
    made_from._source.cache_clear()
    made_from._digest_of.cache_clear()


def notebook_of(*sources):
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])


def own_code(*sources):
    return parts_of(notebook_of(*sources))[OWN_CODE]


READS = notebook_of("from async_hpo import runs", "runs.read('x')")
TRAINS = notebook_of("from async_hpo.chapter import objective, space\nobjective()", "space")


@pytest.mark.parametrize(
    "notebook, name, old, new, part",
    [
        (READS, "runs.py", "len(name)", "len(name) + 1", "async_hpo.runs:parse"),
        (READS, "runs.py", "LIMIT = 3", "LIMIT = 4", "async_hpo.runs:LIMIT"),
        (READS, "runs.py", "at import", "before", "async_hpo.runs:"),
        (TRAINS, "data.py", "SEED = 0", "SEED = 1", "async_hpo.data:SEED"),
        (TRAINS, "data.py", "self.images", "self.pictures", "async_hpo.data:Data"),
        (TRAINS, "chapter.py", "shorten(10", "shorten(11", "async_hpo.chapter:space"),
    ],
)
def test_a_notebook_depends_on_what_it_uses_directly_or_through_others(package, notebook, name, old, new, part):
    before = parts_of(notebook)
    package(name, old, new)
    assert changed(before, parts_of(notebook)) == [part]


@pytest.mark.parametrize(
    "name, old, new",
    [
        ("runs.py", "# a comment", "# another"),
        ("runs.py", "Read.", "Read it."),
        ("runs.py", "name: str) -> int", "name)"),
        ("runs.py", "return 1", "return 2"),
        ("chapter.py", "to=2", "to=3"),
    ],
)
def test_what_changes_no_output_is_left_out(package, name, old, new):
    before = parts_of(READS), parts_of(TRAINS)
    package(name, old, new)
    assert (parts_of(READS), parts_of(TRAINS)) == before


def test_names_that_are_passed_on_or_written_in_a_text_are_found(package):
    lazily, named = notebook_of("from async_hpo import Data\nData()"), notebook_of("preload = ['async_hpo.data:load']")
    before = parts_of(lazily), parts_of(named)
    package("data.py", "SEED = 0", "SEED = 1")
    for notebook, parts in zip((lazily, named), before, strict=True):
        assert changed(parts, parts_of(notebook)) == ["async_hpo.data:SEED"]


def test_the_back_ends_are_no_part_of_a_notebook_but_have_a_digest():
    """See the docstring of `made_from`: `async_hpo` and `async_hpo.backends` hand them on when asked for."""
    for package in ("async_hpo", "async_hpo.backends"):
        source = f"from {package} import ForkserverBackend, RayBackend\nForkserverBackend(f, {{}})\nRayBackend(f, {{}})"
        assert parts_of(notebook_of(source)).keys() == {OWN_CODE}
    assert digest_of("async_hpo.backends.forkserver_backend:ForkserverBackend")


def test_a_source_that_is_shown_counts_with_its_comments(package):
    shown = notebook_of("import inspect\nfrom async_hpo import runs", "inspect.getsource(runs.read)")
    before = parts_of(shown)
    package("runs.py", "# a comment", "# another")
    assert changed(before, parts_of(shown)) == ["source of async_hpo.runs:read"]


def test_recordings_that_are_named_count(package):
    folder = made_from.RECORDINGS
    (folder / "cnn.csv").write_text("1")
    (folder / "search-2026-11-24-00-14-32-600").mkdir()
    (folder / "search-2026-11-24-00-14-32-600" / "trials.csv").write_text("1")
    (folder / "other.csv").write_text("1")
    reads = notebook_of("read_table('cnn')", "find_run('search')")
    before = parts_of(reads)
    for path in folder.rglob("*.csv"):
        path.write_text("2")
    assert changed(before, parts_of(reads)) == ["recordings/cnn.csv", "recordings/search-2026-11-24-00-14-32-600"]
    assert "recordings/search-2026-11-24-00-14-32-600" not in parts_of(reads, writes="search")


def test_own_code_is_code_and_not_comments():
    written = own_code("x = 1  # a comment\nprint( x )", "%matplotlib inline", "f'{x:.2f}'")
    assert written == own_code("# other\nx = 1\nprint(x)", "%matplotlib inline", 'f"{x:.2f}"')
    for other in ("x = 2\nprint(x)", "x = 1\nprint(x, x)", "x = 1"):
        assert written != own_code(other, "%matplotlib inline", "f'{x:.2f}'")
    assert written != own_code("x = 1\nprint(x)", "f'{x:.2f}'")


@pytest.mark.parametrize(
    "more",
    [
        "assert x > 0, 'not positive'",
        "for y in (1, 2):\n    assert x < y + 1",
        "if paths.idle_machine('quick'):\n    assert x\n    fast = True",
    ],
)
def test_checks_are_no_part_of_own_code(more):
    assert own_code("x = 1", more) == own_code("x = 1", "")


def test_the_short_value_is_no_part_of_own_code():
    assert own_code("x = shorten(10, to=2)") == own_code("x = paths.shorten(10, to=3)") == own_code("x = 10")
    assert own_code("x = shorten(10, to=2)") != own_code("x = shorten(11, to=2)")


def test_digests_are_the_same_on_every_python():
    """A fixed value: `ast` of Python 3.11 to 3.14 must agree on it."""
    source = "def f(a, *b: int, c=1) -> None:\n    class C: pass\n    return [x for x in b if x] or f'{a!r:>{c}}'"
    assert own_code(source) == "b3493c81436235fa"


def a_function():
    return A_VALUE


A_VALUE = 1


def test_objects_of_any_module_have_a_digest():
    both = digest_of(f"{__name__}:a_function", f"{__name__}:A_VALUE")
    assert digest_of(f"{__name__}:a_function") == both != digest_of(f"{__name__}:A_VALUE")
    with pytest.raises(LookupError, match=f"there is no {__name__}:nothing"):
        digest_of(f"{__name__}:nothing")


def test_every_module_of_the_package_can_be_read():
    for path in (made_from.ROOT / "async_hpo").rglob("*.py"):
        module = ".".join(path.relative_to(made_from.ROOT).with_suffix("").parts).removesuffix(".__init__")
        names = {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}
        assert names <= set(made_from._source(module).definitions)
