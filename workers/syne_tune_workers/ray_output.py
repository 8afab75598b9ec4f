"""What a trial on a node of a Ray cluster prints, on its way to the driver."""

import contextlib
import io
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from typing import IO, Any

import ray
from syne_tune.constants import ST_METRIC_TAG

from .objective import Excerpt

#: Seconds after which what a trial printed, without a report, is on its way to the driver.
PRINT_INTERVAL = 0.2
STREAMS = {1: "std.out", 2: "std.err"}  # file descriptor -> file


class Stopped(BaseException):
    """Ends a trial at its report. No `except Exception` of an objective catches it."""


class Output:
    """Takes what the trial and its child processes print, and sends it on: reports at once, the rest soon, and of a lot
    an excerpt, so that no trial costs the driver more than that.

    When the driver is gone, so is its inbox, and Ray ends this process.
    """

    def __init__(self, trial_id: int, inbox: Any):
        self._inbox, self._trial_id = inbox, trial_id
        self._node_id = ray.get_runtime_context().get_node_id()
        self._sending, self._closed = threading.Lock(), threading.Event()

    def __enter__(self) -> "Output":
        self._before = {fd: os.dup(fd) for fd in STREAMS}, sys.stdout, sys.stderr
        self._open = contextlib.ExitStack()
        self._files = {fd: self._open.enter_context(tempfile.TemporaryFile()) for fd in STREAMS}  # noqa: SIM115
        self._excerpts = {fd: Excerpt() for fd in STREAMS}
        for fd, file in self._files.items():
            os.dup2(file.fileno(), fd)
        text: dict[str, Any] = {"line_buffering": True, "encoding": "utf-8", "errors": "replace"}
        self._stdout = sys.stdout = _Stdout(open(1, "wb", closefd=False), self._report, **text)
        self._stderr = sys.stderr = io.TextIOWrapper(open(2, "wb", closefd=False), **text)
        self._put("std.out", b"")  # the driver learns where the trial is
        threading.Thread(target=self._send_soon, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        # The trial may have closed these, or put others in their place.
        with contextlib.suppress(ValueError, OSError):
            self._stdout.close_quietly()
        with contextlib.suppress(ValueError, OSError):
            self._stderr.flush()
        descriptors, sys.stdout, sys.stderr = self._before
        for fd, before in descriptors.items():
            os.dup2(before, fd)
            os.close(before)
        self._send_new()
        with self._sending:
            for fd, name in STREAMS.items():
                if tail := self._excerpts[fd].end(self._read(fd, max(0, self._excerpts[fd].length - Excerpt.TAIL))):
                    self._send(name, tail)
            self._open.close()

    def _send_soon(self) -> None:
        while not self._closed.wait(PRINT_INTERVAL):
            self._send_new()

    def _report(self) -> None:
        if not self._send_new():
            raise Stopped

    def _send_new(self) -> bool:
        """Returns whether the trial is to go on."""
        goes_on = True
        with self._sending:
            for fd, name in STREAMS.items():
                while content := self._read(fd, self._excerpts[fd].length):
                    if kept := self._excerpts[fd].feed(content):
                        goes_on = self._send(name, kept)
        return goes_on

    def _read(self, fd: int, position: int) -> bytes:
        with contextlib.suppress(ValueError):  # closed meanwhile
            return os.pread(self._files[fd].fileno(), 2**20, position)
        return b""

    def _send(self, name: str, content: bytes) -> bool:
        return bool(ray.get(self._put(name, content)))

    def _put(self, name: str, content: bytes) -> Any:
        return self._inbox.put.remote(self._trial_id, self._node_id, name, content)


class _Stdout(io.TextIOWrapper):
    """Standard output that calls `on_report` when Syne Tune's `Reporter` flushes it, after each line of its own."""

    def __init__(self, buffer: IO[bytes], on_report: Callable[[], None], **options: Any):
        super().__init__(buffer, **options)
        self._on_report, self._reporting = on_report, False

    def write(self, text: str) -> int:
        self._reporting = self._reporting or ST_METRIC_TAG in text
        return super().write(text)

    def flush(self) -> None:
        super().flush()
        if self._reporting:
            self._reporting = False
            self._on_report()

    def close_quietly(self) -> None:
        self._reporting = False
        self.flush()
