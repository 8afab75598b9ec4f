"""What a notebook's stored outputs, or a recorded table, were made from: a digest of each part.

The parts of a notebook are its own code cells; every function, class and value of the package that they use, directly
or through others, saved cells among them; and the recordings that they read. A digest is one of syntax trees: comments,
docstrings, annotations and layout may change, code may not. Left out is what changes no output of a full-budget run:
asserts, and the short value of `shorten(full, to=short)`.

What is used is found in the source: names, attributes of modules, and texts such as "async_hpo.data:load". So the two
back-ends are no part of a notebook, which gets them from `async_hpo/__init__.py`, by a function that imports what it is
asked for. That is wanted: a back-end changes no learning curve (tests compare them with those of a process of its own),
and a notebook would have to be executed again for each of its repairs. It does change times. What pages say about
speed is tested by itself (`make claims`), and a comparison that was measured keeps the back-ends' digest.
"""

import ast
import hashlib
import importlib.util
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from nbformat import NotebookNode

from tools import colab
from tools.notebooks import ROOT, code_cells, syntax_tree

PACKAGE = "async_hpo"
# Not that of `async_hpo.paths`, which reads SHORT_BUDGET when it is imported: `tools.execute` unsets that first.
RECORDINGS = ROOT / "book" / "recordings"
OWN_CODE = "code cells"


def parts_of(notebook: NotebookNode, writes: str | None = None) -> dict[str, str]:
    """Each part that the outputs of a notebook are made from -> its digest.

    Args:
        writes: the recording that the notebook makes itself: no part of it.
    """
    cells = [cell for cell in code_cells(notebook) if not colab.is_colab(cell)]
    trees = [_OutputAlone().visit(syntax_tree(cell)) for cell in cells]
    whole = ast.Module([statement for tree in trees for statement in tree.body], [])
    names = _Names("", _imports(whole, ""), set())
    parts = {OWN_CODE: _digest([_plain(tree) for tree in trees])}
    parts |= {name: _digest_of(name) for name in _closure(_uses(whole, names))}
    parts |= {f"source of {name}": _digest(_source_of(name)) for name in _shown(whole, names)}
    texts = {text for text in _texts(whole) if text != writes}
    return parts | {f"recordings/{path.name}": _digest(_content(path)) for path in _recordings(texts)}


def digest_of(*names: str) -> str:
    """One digest of objects, named as `module:object`, and of all of ours that they use.

    Raises:
        LookupError: a module defines no such object.
    """
    for name in names:
        _asked_for.add(name.partition(":")[0])
        if not _definition(name):
            raise LookupError(f"there is no {name}")
    return _digest({name: _digest_of(name) for name in _closure(names)})


def changed(stored: dict[str, str], now: dict[str, str]) -> list[str]:
    """The parts that differ, came or went."""
    return sorted(name for name in {*stored, *now} if stored.get(name) != now.get(name))


# --- what is used ----------------------------------------------------------------------------------------------------


class _Names(NamedTuple):
    """What names mean in a module: its own name, what it imports (name -> dotted path), and what it defines."""

    module: str
    imports: dict[str, str]
    defined: set[str]


class _Source(NamedTuple):
    names: _Names
    text: str
    definitions: dict[str, list[ast.stmt]]
    effects: list[ast.stmt]  # what is done when it is imported


def _closure(names: Iterable[str]) -> list[str]:
    found: set[str] = set()
    todo = [*names]
    while todo:
        name = todo.pop()
        if name in found:
            continue
        found.add(name)
        module = name.partition(":")[0]
        todo.append(f"{module}:")  # its effects
        if source := _source(module):
            for statement in _definition(name):
                todo += _uses(statement, source.names)
    return sorted(name for name in found if _definition(name))


def _uses(tree: ast.AST, names: _Names) -> set[str]:
    """The objects of ours that a tree refers to, as `module:object`."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in names.defined:
            found.add(f"{names.module}:{node.id}")
        elif isinstance(node, ast.Name | ast.Attribute):
            found |= _resolved(_dotted(node, names.imports))
        elif isinstance(node, ast.Constant) and re.fullmatch(rf"{PACKAGE}(\.\w+)+(:\w+)?", str(node.value)):
            found |= _named(str(node.value))
    return found


def _dotted(node: ast.AST, imports: dict[str, str]) -> str:
    """`runs.Run` -> `async_hpo.runs.Run`; empty for what is not imported."""
    if isinstance(node, ast.Attribute):
        value = _dotted(node.value, imports)
        return f"{value}.{node.attr}" if value else ""
    return imports.get(node.id, "") if isinstance(node, ast.Name) else ""


def _resolved(dotted: str) -> set[str]:
    """Where the object with a dotted path is defined, through modules that only pass it on."""
    parts = dotted.split(".")
    for n in range(len(parts) - 1, 0, -1):
        if source := _source(".".join(parts[:n])):
            if parts[n] in source.definitions:
                return {f"{source.names.module}:{parts[n]}"}
            passed_on = source.names.imports.get(parts[n], "")
            return set() if passed_on in ("", dotted) else _resolved(passed_on)
    return set()


def _named(text: str) -> set[str]:
    """A text that names a module (all of it is used) or `module:object`."""
    if ":" in text:
        return {text}
    source = _source(text)
    return {f"{text}:{name}" for name in source.definitions} if source else set()


def _definition(name: str) -> list[ast.stmt]:
    module, _, item = name.partition(":")
    if (source := _source(module)) is None:
        return []
    return source.definitions.get(item, []) if item else source.effects


@cache
def _source(module: str) -> _Source | None:
    """A module of the package, or one that was asked for; None for any other."""
    path = _path(module)
    if path is None:
        return None
    text = path.read_text()
    tree = _OutputAlone().visit(ast.parse(text))
    definitions, effects = defaultdict(list), []
    for statement in tree.body:
        names = set(_defines(statement))
        for name in names:
            definitions[name].append(statement)
        if not names and not isinstance(statement, ast.Import | ast.ImportFrom) and not _is_main(statement):
            effects.append(statement)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return _Source(_Names(module, _imports(tree, package), set(definitions)), text, dict(definitions), effects)


def _path(module: str) -> Path | None:
    top = module.split(".")[0]
    if top == PACKAGE:
        path = ROOT.joinpath(*module.split("."))
        return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)
    if module not in _asked_for:
        return None
    spec = importlib.util.find_spec(module)
    return Path(spec.origin) if spec and spec.origin else None


_asked_for: set[str] = set()  # other modules: of an objective that isn't the book's


def _imports(tree: ast.AST, package: str) -> dict[str, str]:
    """Name -> dotted path, of all that a module of `package` imports."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*above, *filter(None, [node.module])])
            found |= {alias.asname or alias.name: f"{source}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.asname: alias.name for alias in node.names if alias.asname}
            found |= {top: top for alias in node.names if not alias.asname for top in [alias.name.split(".")[0]]}
    return found


def _defines(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        for target in targets:
            parts = target.elts if isinstance(target, ast.Tuple) else [target]
            yield from (part.id for part in parts if isinstance(part, ast.Name))
    elif isinstance(statement, ast.If | ast.Try):
        for child in ast.iter_child_nodes(statement):
            if isinstance(child, ast.stmt):
                yield from _defines(child)


def _is_main(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and "__main__" in _texts(statement.test)


# --- digests ---------------------------------------------------------------------------------------------------------


class _OutputAlone(ast.NodeTransformer):
    """Takes out of a tree what changes no output of a full-budget run."""

    def visit_Assert(self, node):
        return None

    def visit_If(self, node):
        if isinstance(node.test, ast.Call) and _last_name(node.test.func) == "idle_machine":
            return None  # around asserts
        return self._unless_empty(node)

    def visit_For(self, node):
        return self._unless_empty(node)

    def _unless_empty(self, node):
        self.generic_visit(node)
        return node if node.body else None

    def visit_Call(self, node):
        self.generic_visit(node)
        return node.args[0] if _last_name(node.func) == "shorten" and node.args else node

    def visit_FunctionDef(self, node):
        node.returns = None
        return self._without_docstring(node)

    def visit_ClassDef(self, node):
        return self._without_docstring(node)

    def visit_Module(self, node):
        return self._without_docstring(node)

    def _without_docstring(self, node):
        if ast.get_docstring(node) is not None:
            del node.body[0]
        self.generic_visit(node)
        return node

    def visit_arg(self, node):
        node.annotation = None
        return node

    def visit_AnnAssign(self, node):
        self.generic_visit(node)
        return ast.copy_location(ast.Assign([node.target], node.value), node) if node.value else node


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


@cache
def _digest_of(name: str) -> str:
    return _digest([_plain(statement) for statement in _definition(name)])


def _plain(node: Any) -> Any:
    """A tree as tuples, the same on every Python: `ast.dump` is not (3.13 leaves out empty fields)."""
    if isinstance(node, ast.AST):
        fields = [(name, _plain(value)) for name, value in ast.iter_fields(node) if value not in (None, [])]
        return type(node).__name__, fields
    return [_plain(child) for child in node] if isinstance(node, list) else repr(node)


def _digest(value: Any) -> str:
    content = value if isinstance(value, bytes) else repr(value).encode()
    return hashlib.sha256(content).hexdigest()[:16]


def _texts(tree: ast.AST) -> set[str]:
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def _shown(tree: ast.AST, names: _Names) -> set[str]:
    """The objects whose source is shown, comments and docstring too."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _last_name(node.func) == "getsource"]
    return {name for call in calls for argument in call.args for name in _uses(argument, names)}


def _source_of(name: str) -> list[list[str]]:
    module, _, item = name.partition(":")
    if (source := _source(module)) is None:
        return []
    lines = source.text.splitlines()
    return [lines[node.lineno - 1 : node.end_lineno] for node in source.definitions.get(item, [])]


def _recordings(texts: set[str]) -> list[Path]:
    """The recordings that are named among texts: a file by its name or stem, a run by the name of its tuner."""
    return [
        path
        for path in sorted(RECORDINGS.iterdir())
        if texts & ({re.sub(r"-\d{4}(-\d\d){5}-\d+$", "", path.name)} if path.is_dir() else {path.name, path.stem})
    ]


def _content(path: Path) -> list[tuple[str, str]]:
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [(file.name, hashlib.sha256(file.read_bytes()).hexdigest()) for file in files if file.is_file()]
