"""A trial on a node of a Ray cluster: what runs in Ray's worker processes, and the inbox that holds what they send.

Ray uses a worker process again and again. So a trial does not run in it, but in a fork of a warm server that belongs to
it, as with `ForkserverBackend`: a task starts the trial, sends on what it prints, and ends with it.
"""

import contextlib
import fcntl
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import ray
from syne_tune.backend.trial_status import Status

from . import servers, sources, worker
from .processes import FreshProcesses, Server, Work, kill_tree, wait_for_news
from .reports import Excerpt

#: Seconds in which the processes of all nodes must be ready. Many, because Ray runs them at niceness 15: on a node that
#: computes something else, they get a thirtieth of a core.
SECONDS_TO_WARM_UP = 600.0
#: Seconds after which what a trial printed is on its way to the driver.
INTERVAL = 0.05
#: Seconds after which a trial that prints nothing asks whether it is to go on.
SECONDS_TO_STOP = 0.2
STREAMS = "std.out", "std.err"


@dataclass
class Setup:
    """What the trials of a back-end have in common: their function, and what their processes prepare."""

    name: str  # no other one has it
    function: bytes
    preload: tuple[str, ...]
    share: tuple[worker.Share, ...]
    values: list[Any]  # that were made for `share`
    paths: list[str]  # where the driver finds modules
    num_cpus: float


@ray.remote
class Inbox:
    """Holds what trials print and report until the driver takes it, and tells trials to stop. On the driver's node."""

    def __init__(self) -> None:
        self._content: list[tuple[Any, ...]] = []
        self._stopped: set[int] = set()
        self._arrived = Counter[str]()

    def put(
        self, number: int, where: tuple[str, int], name: str, content: bytes, reports: list[dict[str, Any]]
    ) -> bool:
        """Take the next piece of a trial's file, and the reports that it has. Returns whether the trial is to go on.

        Args:
            number: of the task.
            where: the node, and the number of the worker process there.
        """
        self._content.append((number, where, name, content, reports))
        return number not in self._stopped

    def empty(self) -> list[tuple[Any, ...]]:
        """The arguments of each `put` since the last call, in order."""
        content, self._content = self._content, []
        return content

    def stop(self, number: int) -> None:
        """Let `put` tell this task to end."""
        self._stopped.add(number)

    def arrived(self, where: str, n_new: int = 0) -> int:
        """How many processes have come to this place, with these new ones."""
        self._arrived[where] += n_new
        return self._arrived[where]


@ray.remote(max_retries=0)
def warm_up(setup: Setup, inbox: Any, name: str, n: int) -> None:
    """Waits until `n` tasks of this name are warm on this node, so that each is in a process of its own."""
    place = f"{name} {ray.get_runtime_context().get_node_id()}"
    folder = Path(tempfile.gettempdir()) / f"syne-tune-{place.replace(' ', '-')}"
    folder.mkdir(exist_ok=True)
    try:
        server = _server(setup, folder)
        log = folder / str(os.getpid())
        if server.start(worker.run, _job(setup, None, log, log)).wait() != 0:
            raise RuntimeError(log.read_text(encoding="utf-8", errors="replace"))
    finally:  # the others need not wait for a process that fails
        ray.get(inbox.arrived.remote(place, 1))
    until = time.monotonic() + SECONDS_TO_WARM_UP / 2
    while time.monotonic() < until and ray.get(inbox.arrived.remote(place)) < n:
        time.sleep(0.05)
    shutil.rmtree(folder, ignore_errors=True)  # each has mapped what it needs of it


@ray.remote(max_retries=0)
def run(number: int, arguments: bytes, setup: Setup, inbox: Any) -> tuple[str, str]:
    """A trial, from its first line to its last. Returns its status, and why it failed if it can't say that itself."""
    with tempfile.TemporaryDirectory() as folder:
        server = _ready.get(setup.name)
        if server is None or not server.is_alive():  # a process that was not there when the others got warm
            server = _server(setup, Path(folder))
        output = [_Stream(Path(folder) / name) for name in STREAMS]
        job = _job(setup, arguments, *(stream.path for stream in output))
        where = ray.get_runtime_context().get_node_id(), os.getpid()

        def put(*piece: Any) -> bool:
            return bool(ray.get(inbox.put.remote(number, where, *piece)))

        goes_on = put(STREAMS[0], b"", [])  # the driver learns where the trial is
        with _ended(server.start(worker.run, job)) as work:
            asked = time.monotonic()
            while goes_on and work.poll() is None:
                wait_for_news([work], INTERVAL)
                pieces = [piece for stream in output for piece in stream.new()]
                if not pieces and time.monotonic() > asked + SECONDS_TO_STOP:
                    pieces = [(STREAMS[0], b"", [])]
                for piece in pieces:
                    goes_on, asked = put(*piece), time.monotonic()
        for stream in output:
            for piece in stream.rest():
                put(*piece)
    if not goes_on:
        return Status.stopped, ""
    return (Status.failed if work.returncode else Status.completed), work.reason()


@ray.remote(max_retries=0)
def kill(pid: int) -> None:
    """Kill a worker process of this node, whatever it does, with its server and its trial."""
    kill_tree(pid)


@contextlib.contextmanager
def _ended(work: Work) -> Iterator[Work]:
    try:
        yield work
    finally:
        work.end()


_ready: dict[str, Server | FreshProcesses] = {}  # name of a setup -> the server of this process


def _server(setup: Setup, folder: Path) -> Server | FreshProcesses:
    """A server on today's code. What is shared lies in this folder of the node meanwhile, once for all processes."""
    sys.path += [path for path in setup.paths if path not in sys.path]

    def made() -> str:
        file = folder / "shared"
        with open(folder / "lock", "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not file.exists():
                joblib.dump(setup.values, folder / "part")
                (folder / "part").rename(file)
        return str(file)

    _ready[setup.name] = servers.current(setup.preload, setup.share, made)
    return _ready[setup.name]


def _job(setup: Setup, arguments: bytes | None, stdout: Path, stderr: Path) -> worker.Job:
    threads = {"OMP_NUM_THREADS": str(max(1, int(setup.num_cpus)))}
    environment = dict(os.environ) | threads
    return worker.Job(
        setup.function, arguments, str(stdout), str(stderr), environment, os.getcwd(), sources.search_path()
    )


class _Stream:
    """A file of what a trial prints: reports are sent at once, the rest soon, and of a lot an excerpt, so that no trial
    costs the driver more than that."""

    def __init__(self, path: Path):
        self.path, self._excerpt = path, Excerpt()
        path.touch()

    def new(self) -> Iterator[tuple[str, bytes, list[dict[str, Any]]]]:
        """What is to be sent of what came since the last call."""
        with open(self.path, "rb") as file:
            file.seek(self._excerpt.length)
            while content := file.read(2**20):
                kept, reports = self._excerpt.feed(content)
                if kept:
                    yield self.path.name, kept, reports if self.path.name == STREAMS[0] else []

    def rest(self) -> Iterator[tuple[str, bytes, list[dict[str, Any]]]]:
        """When the trial has ended: what is new, and the end of what was left out."""
        yield from self.new()
        with open(self.path, "rb") as file:
            file.seek(max(0, self._excerpt.length - Excerpt.TAIL))
            if tail := self._excerpt.end(file.read(Excerpt.TAIL)):
                yield self.path.name, tail, []
