"""A trial on a node of a Ray cluster: what runs in Ray's worker processes."""

import contextlib
import ctypes
import importlib
import logging
import os
import resource
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cloudpickle
import psutil
import ray
from syne_tune.backend.trial_status import Status

from . import sources, worker
from .ray_output import Output, Stopped

#: Seconds in which the processes of all nodes must be ready. Many, because Ray runs them at niceness 15: on a node that
#: computes something else, they get a thirtieth of a core.
SECONDS_TO_WARM_UP = 600.0


@dataclass
class Work:
    """What every trial of a back-end needs to know."""

    function: bytes
    preload: tuple[str, ...]
    share: tuple[worker.Share, ...]
    paths: list[str]  # where the driver finds modules
    num_cpus: float


@ray.remote
class Inbox:
    """Holds what trials print until the driver takes it, and tells trials to stop. On the driver's node."""

    def __init__(self) -> None:
        self.content: list[tuple[int, str, str, bytes]] = []
        self.stopped: set[int] = set()
        self.arrived: Counter[str] = Counter()

    def put(self, trial_id: int, node_id: str, name: str, content: bytes) -> bool:
        """Returns whether the trial is to go on."""
        self.content.append((trial_id, node_id, name, content))
        return trial_id not in self.stopped

    def take(self) -> list[tuple[int, str, str, bytes]]:
        """What came since the last call, in order: trial, number of its node, name of the file, content."""
        content, self.content = self.content, []
        return content

    def stop(self, trial_id: int) -> None:
        """Let `put` tell this trial to end."""
        self.stopped.add(trial_id)

    def arrive(self, node_id: str) -> None:
        """A process of this node has prepared, or failed to."""
        self.arrived[node_id] += 1

    def have_arrived(self, node_id: str) -> int:
        """How many processes of this node have arrived."""
        return self.arrived[node_id]


@ray.remote(max_retries=0)
def warm_up(work: Work, shared: list[Any], inbox: Any, n: int) -> str:
    """Waits until `n` of these tasks are warm on this node, so that each is in a process of its own.

    Returns the traceback of what went wrong, if anything did.
    """
    problem = ""
    try:
        _prepare(work, shared)
        cloudpickle.loads(work.function)
    except Exception:
        problem = traceback.format_exc()
    node_id = ray.get_runtime_context().get_node_id()
    ray.get(inbox.arrive.remote(node_id))  # one with a problem, too: the others need not wait for it
    until = time.monotonic() + SECONDS_TO_WARM_UP / 2
    while not problem and time.monotonic() < until and ray.get(inbox.have_arrived.remote(node_id)) < n:
        time.sleep(0.05)
    return problem


@ray.remote(max_retries=0)
def run(trial_id: int, arguments: bytes, work: Work, shared: list[Any], inbox: Any) -> str:
    """A trial, from its first line to its last. Returns its status."""
    status: str = Status.completed
    with _as_it_was(), Output(trial_id, inbox), _no_child_left():
        try:
            _prepare(work, shared)
            cloudpickle.loads(work.function)(**cloudpickle.loads(arguments))
        except Stopped:
            status = Status.stopped
        except BaseException as error:  # an exit, too, must not end the process
            if not isinstance(error, SystemExit) or error.code:
                traceback.print_exception(error)
                status = Status.failed
    return status


_ready: set[Any] = set()  # what this process has prepared


def _prepare(work: Work, shared: list[Any]) -> None:
    sys.path += [path for path in work.paths if path not in sys.path]
    _forget_edited_modules()
    _set_allocator()
    for name in work.preload:
        if name not in _ready:
            worker.prepare([name])
            _ready.add(name)
    for pair, value in zip(work.share, shared, strict=True):
        if pair not in _ready:
            worker.take(pair, value)
            _ready.add(pair)
    worker.draw_own_numbers()
    worker.set_threads(max(1, int(work.num_cpus)))
    worker.check_reports()


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
    """Undo what a trial has done to its process. What it did to the memory of modules stays."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        for undo in (_restore_folder, _restore_environment, _restore_python, _restore_system, _restore_logging):
            stack.callback(undo())
        yield


def _restore_folder() -> Callable[[], None]:
    folder = os.open(".", os.O_RDONLY)

    def undo() -> None:
        os.fchdir(folder)
        os.close(folder)

    return undo


def _restore_environment() -> Callable[[], None]:
    environment = dict(os.environ)

    def undo() -> None:
        os.environ.clear()
        os.environ.update(environment)

    return undo


def _restore_python() -> Callable[[], None]:
    values = {name: getattr(sys, name) for name in ("stdin", "excepthook", "displayhook", "path", "argv")}
    paths, arguments, depth = sys.path[:], sys.argv[:], sys.getrecursionlimit()

    def undo() -> None:
        for name, value in values.items():
            setattr(sys, name, value)
        sys.path[:], sys.argv[:] = paths, arguments
        sys.setrecursionlimit(depth)

    return undo


def _restore_system() -> Callable[[], None]:
    os.umask(umask := os.umask(0o077))
    limits = {kind: resource.getrlimit(kind) for kind in _LIMITS}
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}

    def undo() -> None:
        for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
            signal.setitimer(timer, 0)
        for number, handler in handlers.items():
            if handler is not None and signal.getsignal(number) != handler:  # None: not from Python
                signal.signal(number, handler)
        for kind, limit in limits.items():
            with contextlib.suppress(ValueError, OSError):  # what was lowered for good stays
                resource.setrlimit(kind, limit)
        os.umask(umask)

    return undo


_LIMITS = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]


def _restore_logging() -> Callable[[], None]:
    def known() -> list[logging.Logger]:
        return [logging.getLogger(), *(logging.getLogger(name) for name in [*logging.root.manager.loggerDict])]

    before = {logger: (logger.handlers[:], logger.level, logger.propagate) for logger in known()}

    def undo() -> None:
        for logger in known():
            logger.handlers[:], level, logger.propagate = before.get(logger, ([], logging.NOTSET, True))
            if logger.level != level:  # else not: it clears the caches of all loggers
                logger.setLevel(level)

    return undo


@contextlib.contextmanager
def _no_child_left() -> Iterator[None]:
    """End the processes that the trial has started: its own process goes on."""
    before = set(psutil.Process().children(recursive=True))
    try:
        yield
    finally:
        for child in set(psutil.Process().children(recursive=True)) - before:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
