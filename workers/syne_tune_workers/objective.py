"""A function as a trial: its arguments, how it travels to another process, and the reports in what it prints."""

import ast
import hashlib
import inspect
import io
import json
import os
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
from syne_tune.constants import ST_CHECKPOINT_DIR, ST_METRIC_TAG, ST_WORKER_TIMESTAMP


def check_arguments(function: Callable[..., Any], config_space: dict[str, Any]) -> tuple[str, set[str]]:
    """Compare an objective's arguments with the configuration space.

    Returns:
        The function's name, and the names of its arguments.

    Raises:
        ValueError: one lacks what the other has, an argument cannot be given by name, or a call would not run.
    """
    name = getattr(function, "__name__", repr(function))
    if not callable(function):
        raise ValueError(f"The objective is a function, not {name}.")
    for is_kind, kind, mend in _CALLS_THAT_DO_NOT_RUN:
        if is_kind(function) or is_kind(type(function).__call__):
            raise ValueError(f"{name} is {kind}: a call makes one and runs none of it. {mend}.")
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


_CALLS_THAT_DO_NOT_RUN = (
    (inspect.iscoroutinefunction, "a coroutine (async def)", "Write def, and asyncio.run(...) inside it"),
    (inspect.isgeneratorfunction, "a generator (it has yield)", "Call Syne Tune's Reporter in place of yield"),
    (inspect.isasyncgenfunction, "an asynchronous generator", "Write def, and call Syne Tune's Reporter"),
)


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


_TAG = f"[{ST_METRIC_TAG}]: ".encode()
_LONGEST_REPORT = 100_000  # bytes; Syne Tune's `Reporter` makes none above half of it
_AT_ONCE = 2**20  # bytes of a file in memory


class Reports:
    """Finds the reports of Syne Tune's `Reporter` in what a trial prints, which may come in pieces.

    Each byte is looked at once, and no more than the beginning of one report is kept: what else a trial prints, in any
    encoding, with or without line ends, costs next to nothing. What bears the tag but is no report is skipped.
    """

    def __init__(self) -> None:
        self._open = b""  # after the last line end: may be the beginning of a report

    def feed(self, content: bytes) -> list[dict[str, Any]]:
        """The reports that are complete with this piece, in order."""
        # Threads that report at the same time may share a line.
        texts = [text for line in self.lines(content) for text in line.split(_TAG)]
        return [report for text in texts if (report := _parse(text)) is not None]

    def lines(self, content: bytes) -> list[bytes]:
        """Their lines, from the tag on, and those of what bears the tag but is none."""
        content, found, at = self._open + content, [], 0
        while (begin := content.find(_TAG, at)) >= 0 and (end := content.find(b"\n", begin)) >= 0:
            found.append(content[begin : end + 1])
            at = end + 1
        if begin < 0:
            begin = max(at, len(content) - len(_TAG) + 1)  # the tag itself may be cut
        self._open = content[begin:] if len(content) - begin <= _LONGEST_REPORT else b""
        return found


class Excerpt:
    """What is kept of a stream that may be long: its first `MOST` bytes, the reports after them, and its end."""

    MOST, TAIL = 2**22, 2**16

    def __init__(self) -> None:
        self.length = 0  # of the stream so far
        self._reports = Reports()

    def feed(self, content: bytes) -> bytes:
        """What is to be kept of the stream's next piece."""
        room = max(0, self.MOST - self.length)
        self.length += len(content)
        self._reports.lines(content[:room])  # of which the last may end beyond
        return content[:room] + b"".join(self._reports.lines(content[room:]))

    def end(self, last: bytes) -> bytes:
        """What is to be kept when the stream has ended. `last`: its last `TAIL` bytes, or more."""
        if self.length <= self.MOST:
            return b""
        begin = max(self.MOST, self.length - self.TAIL)
        tail = re.sub(re.escape(_TAG) + rb"[^\n]*\n?", b"", last[begin - self.length :])
        left_out = begin - self.MOST
        return (f"\n[Here {left_out:,} bytes are left out.]\n".encode() if left_out else b"") + tail


def _parse(text: bytes) -> dict[str, Any] | None:
    try:
        report = json.loads(text)
    except (ValueError, RecursionError):  # not JSON, not UTF-8, or too large for Python
        return None
    is_report = isinstance(report, dict) and isinstance(report.get(ST_WORKER_TIMESTAMP), float)
    return report if is_report else None


class Log:
    """A file of a trial's standard output, from which the reports are read."""

    def __init__(self, path: Path):
        self._path, self._position = path, 0
        self._file: io.FileIO | None = None
        self._reports = Reports()

    def new_reports(self) -> list[dict[str, Any]]:
        """Those that were written since the last call: what comes while it reads, the next call returns."""
        if self._file is None:
            self._file = io.FileIO(self._path)
            self._file.seek(self._position)
        found, end = [], os.fstat(self._file.fileno()).st_size
        while content := self._file.read(max(0, min(_AT_ONCE, end - self._position))):
            self._position += len(content)
            found += self._reports.feed(content)
        return found

    def close(self) -> None:
        """Let go of the file, until the next call of `new_reports`."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_file": None}
