"""A server process that prepares once and forks itself for each piece of work, on documented calls only (Linux).

The driver (the process that makes a `Server`) sends a message for each piece of work over a socket: the end of a pipe
for what becomes of it, and a file with the pickled call. The server forks; the fork returns from `serve`, does the
work, and ends as any Python process does. Work ends with the driver and with the server, however they end.
"""

import contextlib
import json
import os
import pickle
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

from . import sources

LOST = 255  # the exit code of work whose server was killed, or could not fork for it
LONGEST_MESSAGE = 50_000  # bytes; the kernel takes some 200,000, and refuses more
READY = "ready "  # what the server answers, and JSON: files of modules -> when they were modified


def send(channel: socket.socket, text: str) -> None:
    """Its size, and then a text of any size, in messages that are none too long."""
    content = text.encode(errors="replace")
    channel.send(b"%d" % len(content))
    for begin in range(0, len(content), LONGEST_MESSAGE):
        channel.send(content[begin : begin + LONGEST_MESSAGE])


# --- in the driver ---------------------------------------------------------------------------------------------------


class Server:
    """Calls `prepare(*arguments)` once, in a process of its own, and forks that for each `start`.

    Args:
        prepare: the name of a function, `module:function`.
        arguments: of it, such that JSON can hold them.
        environment: variables that differ from the driver's.
    """

    def __init__(self, prepare: str, arguments: tuple[Any, ...] = (), environment: Mapping[str, str] | None = None):
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ready: bool | None = None
        self._files: dict[str, int] = {}
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the server
        program = f"import json, sys; sys.path[:] = json.loads(sys.argv[1]); import {__package__}.server as s; s.main()"
        path = json.dumps([os.path.abspath(entry) for entry in sys.path])
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-c", program, path, str(theirs.fileno()), prepare, json.dumps(arguments)],
                    pass_fds=[theirs.fileno()],
                    env={**os.environ, **(environment or {})},
                    stdin=subprocess.DEVNULL,
                    stdout=self._output,
                    stderr=self._output,
                    start_new_session=True,  # an interrupt of the driver's reaches the driver alone
                )
        except BaseException:
            self._socket.close()
            raise

    @property
    def pid(self) -> int:
        """Of the server's process."""
        return self._process.pid

    def is_current(self) -> bool:
        """Whether it runs, and has the code that is on disk now: of modules that are not installed."""
        return self._process.poll() is None and all(
            sources.modified(file) == when for file, when in self._files.items()
        )

    def wait_until_ready(self) -> None:
        """Raises RuntimeError with the traceback if preparing failed, or the end of what the server printed."""
        if self._ready:
            return
        size = int(self._socket.recv(100) or 0)  # an interrupt until here loses nothing
        answer = self._receive(size)
        self._ready = answer.startswith(READY)
        if not self._ready:
            reason = answer or self._last_words()
            self.stop()
            raise RuntimeError(reason)
        self._files = json.loads(answer.removeprefix(READY))

    def _receive(self, size: int) -> str:
        """What `send` sent; empty if its process ended in the middle."""
        answer = b""
        try:
            while len(answer) < size and (piece := self._socket.recv(LONGEST_MESSAGE)):
                answer += piece
        except BaseException:
            self.stop()
            raise
        return answer.decode() if len(answer) == size else ""

    def _last_words(self) -> str:
        code = self._process.wait()
        self._output.seek(max(0, os.fstat(self._output.fileno()).st_size - LONGEST_MESSAGE))
        printed = self._output.read().decode(errors="replace")
        return f"{printed}\nThe process that prepares ended with exit code {code}."

    def start(self, function: Callable[..., Any], *arguments: Any) -> "Work":
        """Fork, and call `function(*arguments)` there."""
        status, theirs = os.pipe()
        try:
            with tempfile.TemporaryFile(buffering=0) as call:  # of any size, unlike a message
                call.write(pickle.dumps((function, arguments)))
                call.seek(0)
                socket.send_fds(self._socket, [b"start"], [theirs, call.fileno()])
        except ConnectionError:
            pass  # the server has ended: so does the pipe, and that is told where the work is looked for
        except BaseException:
            os.close(status)
            raise
        finally:
            os.close(theirs)
        return Work(self, status)

    def kill(self, pid: int) -> None:
        """Kill work, its process group, and all processes that came from it."""
        try:
            self._socket.send(b"%d" % pid)
        except ConnectionError:  # the server has ended, and its work with it
            kill_group(pid)

    def retire(self) -> None:
        """Let it end with the last of its work."""
        with contextlib.suppress(OSError):  # it has ended
            self._socket.send(b"retire")

    def stop(self) -> None:
        """End the server, and its work."""
        self._socket.close()
        self._process.wait()
        self._output.close()


class Work:
    """What was started. `fileno` is for `select` and its like: ready when there is something new to `poll`.

    Attributes:
        returncode: None while it runs, then the exit code, minus the number of the signal that killed it, or `LOST`.
    """

    def __init__(self, server: Server, status: int):
        self.returncode: int | None = None
        self._server, self._status, self._pid, self._words = server, status, 0, b""

    def fileno(self) -> int:
        """Of the pipe on which the server says what becomes of the work."""
        return self._status

    @property
    def pid(self) -> int:
        """Of the process, which leads a group of its own; 0 if the server was lost before it could fork, or can't."""
        while not self._pid and self.returncode is None:
            self._read(None)
        return self._pid

    def poll(self) -> int | None:
        """Look whether it has ended. Returns `returncode`."""
        return self.wait(0)

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the end, at most `timeout` seconds. Returns `returncode`."""
        end = None if timeout is None else time.monotonic() + timeout
        while self.returncode is None and self._read(None if end is None else max(0, end - time.monotonic())):
            pass
        return self.returncode

    def _read(self, timeout: float | None) -> bool:
        """Take what the pipe has, once; whether there was something."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._status, selectors.EVENT_READ)
            if not selector.select(timeout):
                return False
        words = os.read(self._status, 100)
        *lines, self._words = (self._words + words).split(b"\n")
        for number in map(int, lines):  # the first is the process's number, the second its exit code
            if self._pid:
                self._end(number)
                break
            self._pid = number
        if not words and self.returncode is None:
            if self._pid:
                kill_group(self._pid)  # children that it has left
            self._end(LOST)
        return True

    def _end(self, code: int) -> None:
        self.returncode = code
        os.close(self._status)

    def kill(self) -> None:
        """End it, its process group, and all processes that came from it; nothing if it has ended."""
        if self.poll() is None and self.pid:
            self._server.kill(self.pid)


def kill_group(pid: int) -> None:
    """End all processes of a group; nothing where there is none."""
    with contextlib.suppress(ProcessLookupError, PermissionError, AttributeError):  # Windows has no groups
        os.killpg(pid, signal.SIGKILL)
