"""A digest of what a recording was made from: the objective, its space, the images and their split, a table.

It is computed from syntax trees: comments, docstrings, annotations and the texts of errors may change, code may not.
"""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from async_hpo import paths

_CODE = Path(__file__).parents[1]
#: No result depends on where the images come from, or where files lie.
_LEFT_OUT = {"async_hpo.fetch", "async_hpo.paths"}


def digest(names: Iterable[str]) -> str:
    """One digest of objects, and of all in this repository that they use, directly or through others.

    Args:
        names: "module:object", such as "async_hpo.chapter:lenet_config_space"; or a file in `recordings/`, "cnn.csv".

    Raises:
        LookupError: there is no such object or file.
    """
    found: dict[str, Any] = {}
    todo = [*names]
    while todo:
        name = todo.pop()
        if name not in found:
            found[name], used = _definition(name) if ":" in name else (_content(name), set())
            todo += used
    return hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()[:16]


def _content(name: str) -> str:
    path = paths.RECORDINGS / name
    if not path.is_file():
        raise LookupError(f"there is no {path}")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _definition(name: str) -> tuple[list, set[str]]:
    """An object's syntax trees, as tuples, and the names of the objects that it uses."""
    module, _, item = name.partition(":")
    defined, imported = _module(module)
    if item not in defined:
        raise LookupError(f"there is no {item} in {module}")
    ours = imported | {name: f"{module}:{name}" for name in defined}
    nodes = [node for statement in defined[item] for node in ast.walk(statement)]
    used = {ours[node.id] for node in nodes if isinstance(node, ast.Name) and node.id in ours}
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            used |= {*_imports(node).values()}
    return [_plain(statement) for statement in defined[item]], used


@cache
def _module(name: str) -> tuple[dict[str, list[ast.stmt]], dict[str, str]]:
    """A module's definitions, name -> statements, and what it imports of this repository, name -> "module:object"."""
    tree = _ResultAlone().visit(ast.parse(_file(name).read_text("utf-8")))
    defined: dict[str, list[ast.stmt]] = {}
    imported: dict[str, str] = {}
    for statement in tree.body:
        if isinstance(statement, ast.ImportFrom):
            imported |= _imports(statement)
        for defining in _names_defined(statement):
            defined.setdefault(defining, []).append(statement)
    return defined, imported


def _file(module: str) -> Path:
    return _CODE.joinpath(*module.split(".")).with_suffix(".py")


def _imports(node: ast.ImportFrom) -> dict[str, str]:
    module = node.module or ""
    if module in _LEFT_OUT or not _file(module).is_file():
        return {}
    return {alias.asname or alias.name: f"{module}:{alias.name}" for alias in node.names}


def _names_defined(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return [statement.name]
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    return [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]


class _ResultAlone(ast.NodeTransformer):
    """Takes out of a tree what changes no result."""

    def visit_Assert(self, node):
        return None

    def visit_Raise(self, node):
        return ast.Raise()  # without the error's text

    def visit_arg(self, node):
        node.annotation = None
        return node

    def visit_AnnAssign(self, node):
        self.generic_visit(node)
        return ast.Assign([node.target], node.value) if node.value else None

    def visit_FunctionDef(self, node):
        node.returns = None
        if ast.get_docstring(node) is not None:
            del node.body[0]
        return self.generic_visit(node)

    visit_ClassDef = visit_FunctionDef


def _plain(node: Any) -> Any:
    """A tree as tuples, the same on every Python: `ast.dump` is not (3.13 leaves out empty fields)."""
    if isinstance(node, ast.AST):
        return type(node).__name__, [(k, _plain(v)) for k, v in ast.iter_fields(node) if v not in (None, [])]
    return [_plain(child) for child in node] if isinstance(node, list) else repr(node)
