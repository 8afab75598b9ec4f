"""A trial on a node of a Ray cluster: what runs in Ray's worker processes."""

import contextlib
import ctypes
import functools
import importlib
import logging
import os
import pkgutil
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cloudpickle
import psutil
import ray
from syne_tune import Reporter
from syne_tune.backend.trial_status import Status

from . import sources, worker
from .reports import Excerpt

#: Seconds in which the processes of all nodes must be ready. Many, because Ray runs them at niceness 15: on a node that
#: computes something else, they get a thirtieth of a core.
SECONDS_TO_WARM_UP = 600.0
#: Seconds after which what a trial printed, without a report, is on its way to the driver.
PRINT_INTERVAL = 0.2
STREAMS = {1: "std.out", 2: "std.err"}  # file descriptor -> file


@dataclass
class Setup:
    """What the trials of a back-end have in common: their function, and what their processes prepare."""

    function: bytes
    preload: tuple[str, ...]
    shared: dict[worker.Share, Any]  # with the values that were made
    paths: list[str]  # where the driver finds modules
    num_cpus: float


@ray.remote
class Inbox:
    """Holds what trials print and report until the driver takes it, and tells trials to stop. On the driver's node."""

    def __init__(self) -> None:
        self._content: list[tuple[Any, ...]] = []
        self._stopped: set[int] = set()
        self._arrived: Counter[str] = Counter()

    def put(self, trial_id: int, node_id: str, name: str, content: bytes, reports: list[dict[str, Any]]) -> bool:
        """Take the next piece of a trial's file, and the reports that it has. Returns whether the trial is to go on."""
        self._content.append((trial_id, node_id, name, content, reports))
        return trial_id not in self._stopped

    def empty(self) -> list[tuple[Any, ...]]:
        """The arguments of each `put` since the last call, in order."""
        content, self._content = self._content, []
        return content

    def stop(self, trial_id: int) -> None:
        """Let `put` tell this trial to end."""
        self._stopped.add(trial_id)

    def arrived(self, node_id: str, n_new: int = 0) -> int:
        """How many processes of this node have prepared, or failed to, with these new ones."""
        self._arrived[node_id] += n_new
        return self._arrived[node_id]


@ray.remote(max_retries=0)
def warm_up(setup: Setup, inbox: Any, n: int) -> None:
    """Waits until `n` of these tasks are warm on this node, so that each is in a process of its own."""
    node_id = ray.get_runtime_context().get_node_id()
    try:
        _prepare(setup)
        cloudpickle.loads(setup.function)
    finally:  # the others need not wait for a process that fails
        ray.get(inbox.arrived.remote(node_id, 1))
    until = time.monotonic() + SECONDS_TO_WARM_UP / 2
    while time.monotonic() < until and ray.get(inbox.arrived.remote(node_id)) < n:
        time.sleep(0.05)


@ray.remote(max_retries=0)
def run(trial_id: int, arguments: bytes, setup: Setup, inbox: Any) -> str:
    """A trial, from its first line to its last. Returns its status.

    It shares its process with those before and after it. What it changes there stays, but for the working directory,
    the environment, the standard streams and the handlers of loggers; the processes that it has started end.
    """
    status: str = Status.completed
    with Output(trial_id, inbox), _as_it_was():
        try:
            _prepare(setup)
            cloudpickle.loads(setup.function)(**cloudpickle.loads(arguments))
        except Stopped:
            status = Status.stopped
        except BaseException as error:  # an exit, too, must not end the process
            if not isinstance(error, SystemExit) or error.code:
                traceback.print_exception(error)
                status = Status.failed
    return status


# --- a process, and the trials that share it -------------------------------------------------------------------------

_ready: set[Any] = set()  # what this process has prepared


def _prepare(setup: Setup) -> None:
    sys.path += [path for path in setup.paths if path not in sys.path]
    _forget_edited_modules()
    _set_allocator()
    worker.prepare([name for name in setup.preload if name not in _ready])
    for pair, value in setup.shared.items():
        if pair not in _ready:
            pkgutil.resolve_name(pair[1])(value)
    _ready.update(setup.preload, setup.shared)
    worker.draw_own_numbers()
    worker.set_threads(max(1, int(setup.num_cpus)))


_seen: dict[str, int] = {}  # file of a module -> when it was modified


def _forget_edited_modules() -> None:
    """So that they are imported anew, and with them all modules of the reader's: any may hold what they defined."""
    now = sources.own_files()
    if all(_seen.setdefault(file, when) == when for file, when in now.items()):
        return
    for name, module in [*sys.modules.items()]:
        file = str(getattr(module, "__file__", None))
        if file in now and os.path.dirname(file) != os.path.dirname(__file__):
            del sys.modules[name]
    _seen.clear()
    _ready.clear()
    importlib.invalidate_caches()


def _set_allocator() -> None:
    """What `ALLOCATOR` says, in a process that has started already."""
    options = {"MALLOC_TRIM_THRESHOLD_": -1, "MALLOC_MMAP_THRESHOLD_": -3}  # as in glibc's malloc.h
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        for name, value in worker.ALLOCATOR.items():
            ctypes.CDLL("libc.so.6").mallopt(options[name], int(value))


@contextlib.contextmanager
def _as_it_was() -> Iterator[None]:
    children, environment, folder = _children(), dict(os.environ), os.open(".", os.O_RDONLY)
    handlers = {logger: logger.handlers[:] for logger in _loggers()}
    try:
        yield
    finally:
        for child in _children() - children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        os.environ.clear()
        os.environ.update(environment)
        os.fchdir(folder)
        os.close(folder)
        for logger in _loggers():
            logger.handlers[:] = handlers.get(logger, [])


def _children() -> set[psutil.Process]:
    return {*psutil.Process().children(recursive=True)}


def _loggers() -> list[logging.Logger]:
    return [logging.getLogger(), *map(logging.getLogger, [*logging.root.manager.loggerDict])]


# --- what a trial prints and reports ---------------------------------------------------------------------------------


class Stopped(BaseException):
    """Ends a trial at its report. No `except Exception` of an objective catches it."""


class Output:
    """Takes what the trial and its child processes print, and sends it on: reports at once and as dicts, the rest soon,
    and of a lot an excerpt, so that no trial costs the driver more than that.

    When the driver is gone, so is its inbox, and Ray ends this process.
    """

    def __init__(self, trial_id: int, inbox: Any):
        self._put = functools.partial(inbox.put.remote, trial_id, ray.get_runtime_context().get_node_id())
        self._goes_on = True
        self._sending, self._closed = threading.Lock(), threading.Event()

    def __enter__(self) -> "Output":
        self._before = {fd: os.dup(fd) for fd in STREAMS}, sys.stdout, sys.stderr
        self._files = {fd: tempfile.TemporaryFile() for fd in STREAMS}  # noqa: SIM115
        self._excerpts = {fd: Excerpt() for fd in STREAMS}
        for fd, file in self._files.items():
            os.dup2(file.fileno(), fd)
        text: dict[str, Any] = {"buffering": 1, "encoding": "utf-8", "errors": "replace", "closefd": False}
        self._streams = [open(fd, "w", **text) for fd in STREAMS]  # noqa: SIM115
        sys.stdout, sys.stderr = self._streams
        self._call_reporter, Reporter.__call__ = Reporter.__call__, self._reporter()
        self._put("std.out", b"", [])  # the driver learns where the trial is
        threading.Thread(target=self._send_soon, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        Reporter.__call__ = self._call_reporter
        self._closed.set()
        for stream in self._streams:
            with contextlib.suppress(ValueError, OSError):  # the trial may have closed it
                stream.flush()
        descriptors, sys.stdout, sys.stderr = self._before
        for fd, before in descriptors.items():
            os.dup2(before, fd)
            os.close(before)
        self._send_new()
        with self._sending:
            for fd, file in self._files.items():
                if tail := self._excerpts[fd].end(self._read(fd, max(0, self._excerpts[fd].length - Excerpt.TAIL))):
                    self._send(fd, tail, [])
                file.close()

    def _reporter(self) -> Any:
        """`Reporter.__call__` for this trial."""
        call, process, thread = Reporter.__call__, os.getpid(), threading.current_thread()
        of_earlier_trials = {*threading.enumerate()} - {thread}

        def report(reporter: Reporter, **values: Any) -> None:
            if threading.current_thread() in of_earlier_trials:
                raise SystemExit  # ends this thread, without a word in the trial's standard error
            call(reporter, **values)  # prints it
            if os.getpid() == process:  # a fork of it can't use Ray: `_send_soon` finds the report
                self._send_new()
                if not self._goes_on:
                    raise Stopped

        return report

    def _send_soon(self) -> None:
        while not self._closed.wait(PRINT_INTERVAL):
            self._send_new()

    def _send_new(self) -> None:
        with self._sending:
            for fd in STREAMS:
                while content := self._read(fd, self._excerpts[fd].length):
                    self._send(fd, *self._excerpts[fd].feed(content))

    def _read(self, fd: int, position: int) -> bytes:
        with contextlib.suppress(ValueError):  # closed meanwhile
            return os.pread(self._files[fd].fileno(), 2**20, position)
        return b""

    def _send(self, fd: int, content: bytes, reports: list[dict[str, Any]]) -> None:
        if content:
            self._goes_on = ray.get(self._put(STREAMS[fd], content, reports if fd == 1 else []))
