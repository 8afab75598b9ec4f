"""A function as a trial: its arguments, and how it travels to another process."""

import ast
import hashlib
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

import cloudpickle
import numpy as np
from syne_tune.constants import ST_CHECKPOINT_DIR


def check_arguments(function: Callable[..., Any], config_space: dict[str, Any]) -> tuple[str, set[str]]:
    """Compare an objective's arguments with the configuration space.

    Returns:
        The function's name, and the names of its arguments.

    Raises:
        ValueError: one lacks what the other has, or an argument cannot be given by name.
    """
    name = getattr(function, "__name__", repr(function))
    if not callable(function):
        raise ValueError(f"The objective is a function, not {name}.")
    parameters = inspect.signature(function).parameters.values()
    if nameless := {p.name for p in parameters if p.kind == p.POSITIONAL_ONLY}:
        raise ValueError(f"{name} takes {_listed(nameless)} by position only (before a /), but is called by name.")
    named = {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    needed = {p.name for p in parameters if p.name in named and p.default is p.empty} - {ST_CHECKPOINT_DIR}
    if missing := needed - set(config_space):
        raise ValueError(f"{name} needs {_listed(missing)}, which the configuration space lacks: add it there.")
    takes_all = any(p.kind == p.VAR_KEYWORD for p in parameters)
    if not takes_all and (unknown := set(config_space) - named):
        raise ValueError(f"The configuration space has {_listed(unknown)}, which {name} does not take: remove it.")
    return name, named


def _listed(names: set[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names))


def pickle_function(function: Callable[..., Any]) -> bytes:
    """Pickle an objective, by value where it can't be imported elsewhere.

    Raises:
        ValueError: it refers to something that can't be pickled.
    """
    try:
        content: bytes = cloudpickle.dumps(function)
        return content
    except Exception as error:
        name = getattr(function, "__name__", repr(function))
        raise ValueError(
            f"{name} can't be sent to another process ({error}). It refers to something outside that can't be pickled: "
            "create that inside the function."
        ) from error


def fingerprint(function: Callable[..., Any]) -> str:
    """A digest that one function has in any process: of its source without comments, or of its code if it has none."""
    try:
        content = ast.dump(ast.parse(textwrap.dedent(inspect.getsource(function))))
    except (OSError, TypeError, SyntaxError):  # made by exec, an object that can be called, part of an expression
        code = getattr(function, "__code__", None)
        content = repr((code.co_code, code.co_names) if code else type(function))
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def as_python(value: Any) -> Any:
    """A number of Python's in place of one of NumPy's."""
    return value.item() if isinstance(value, np.generic) else value
