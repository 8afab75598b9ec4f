"""A server process that prepares once and forks itself for each piece of work, on documented calls only (Linux).

The driver (the process that makes a `Server`) sends a message for each piece of work over a socket: the end of a pipe
for what becomes of it, and a file with the pickled call. The server forks; the fork returns from `serve`, does the
work, and ends as any Python process does. Work ends with the driver and with the server, however they end.
"""

import atexit
import contextlib
import ctypes
import gc
import io
import json
import os
import pickle
import pkgutil
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import weakref
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn, cast

import psutil

LOST = 255  # the exit code of work whose server was killed
_LONGEST_MESSAGE = 50_000  # bytes
_PR_SET_PDEATHSIG = 1  # prctl(2): the signal that a process gets when its parent ends

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
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the server
        program = f"import json, sys; sys.path[:] = json.loads(sys.argv[1]); import {__name__} as s; s.main()"
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
        return self._process.pid

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def wait_until_ready(self) -> None:
        """Raises RuntimeError with the traceback if preparing failed, or the end of what the server printed."""
        if self._ready:
            return
        problem = self._socket.recv(_LONGEST_MESSAGE)
        self._ready = problem == _READY
        if not self._ready:
            reason = problem.decode() if problem else self._last_words()
            self.stop()
            raise RuntimeError(reason)

    def _last_words(self) -> str:
        code = self._process.wait()
        self._output.seek(max(0, os.fstat(self._output.fileno()).st_size - _LONGEST_MESSAGE))
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
        except BrokenPipeError:
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
        except BrokenPipeError:  # the server has ended, and its work with it
            _kill_group(pid)

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
        return self._status

    @property
    def pid(self) -> int:
        """Of the process, which leads a group of its own; 0 if the server was lost before it could fork."""
        while not self._pid and self.returncode is None:
            self._read(None)
        return self._pid

    def poll(self) -> int | None:
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
                _kill_group(self._pid)  # children that it has left
            self._end(LOST)
        return True

    def _end(self, code: int) -> None:
        self.returncode = code
        os.close(self._status)

    def kill(self) -> None:
        if self.poll() is None and self.pid:
            self._server.kill(self.pid)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


# --- in the server ---------------------------------------------------------------------------------------------------

_READY = b"ready"


class _Running(NamedTuple):
    pid: int
    status: int  # the writing end of the pipe


def main() -> None:
    """The server from its start to its end; and the work in each fork of it."""
    atexit.register(_end)  # before anything else is: what is registered first runs last
    libc = ctypes.CDLL(None)
    _, _, number, prepare, arguments = sys.argv
    sys.argv[:] = [""]
    driver, exits = socket.socket(fileno=int(number)), _Exits()
    try:
        with exits:
            pkgutil.resolve_name(prepare)(*json.loads(arguments))
    except BaseException:  # an exit, too, is no reason to end without a word
        driver.send(traceback.format_exc()[-_LONGEST_MESSAGE:].encode(errors="replace"))
        return
    gc.collect()
    gc.freeze()  # what is here now stays: a fork's garbage collector does not touch it, so that its pages stay shared
    driver.send(_READY)
    if work := _serve(driver, os.getppid(), libc):
        _do(*work)
    exits.give_back()


class _Exits:
    """What libraries leave to the exit while the server prepares is the server's. A fork must not do it once more:
    it would remove the server's temporary folders."""

    def __enter__(self) -> "_Exits":
        self._functions: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = []
        self._register = atexit.register
        atexit.register = self._record  # type: ignore[assignment]  # it is as generic as that
        return self

    def _record(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Callable[..., Any]:
        if getattr(function, "__module__", None) in ("logging", "weakref", "multiprocessing.util"):
            return self._register(function, *arguments, **options)  # Python's own: they know what a fork is
        self._functions.append((function, arguments, options))
        return function

    def __exit__(self, *_: object) -> None:
        atexit.register = self._register
        finalizers = [thing for thing in gc.get_objects() if isinstance(thing, weakref.finalize)]
        self._finalizers = [one for one in finalizers if one.alive and one.atexit]
        for one in self._finalizers:
            one.atexit = False

    def give_back(self) -> None:
        for one in self._finalizers:
            one.atexit = True
        for function, arguments, options in self._functions:
            atexit.register(function, *arguments, **options)


def _serve(driver: socket.socket, driver_pid: int, libc: Any) -> tuple[int, int] | None:
    """Fork when the driver says so. Returns in the server when the driver has ended; in a fork, its status and call."""
    server_pid = os.getpid()
    running: dict[int, _Running] = {}  # by file descriptors of the processes
    driver_fd = os.pidfd_open(driver_pid)  # the socket is not enough: processes that the driver has forked hold it, too
    with selectors.DefaultSelector() as selector:
        selector.register(driver, selectors.EVENT_READ)
        selector.register(driver_fd, selectors.EVENT_READ)
        while True:
            for fd in [key.fd for key, _ in selector.select()]:
                if fd in running:
                    selector.unregister(fd)
                    _reap(fd, running.pop(fd))
                    continue
                message, fds, _, _ = socket.recv_fds(driver, 100, 2) if fd == driver.fileno() else (b"", [], 0, None)
                if not message:
                    for work in running.values():
                        _kill(work.pid)
                    return None
                if message != b"start":
                    if int(message) in {work.pid for work in running.values()}:
                        _kill(int(message))
                    continue
                status, call = fds
                if (pid := os.fork()) == 0:
                    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
                    if os.getppid() != server_pid:  # it was killed before that
                        os._exit(LOST)
                    os.setsid()
                    for pidfd, work in running.items():
                        os.close(pidfd)
                        os.close(work.status)
                    os.close(driver_fd)
                    driver.close()
                    return status, call
                os.close(call)
                os.write(status, b"%d\n" % pid)
                pidfd = os.pidfd_open(pid)
                running[pidfd] = _Running(pid, status)
                selector.register(pidfd, selectors.EVENT_READ)


def _reap(pidfd: int, work: _Running) -> None:
    _kill_group(work.pid)  # what it left behind, while its number is its own
    code = os.waitstatus_to_exitcode(os.waitpid(work.pid, 0)[1])
    os.close(pidfd)
    with contextlib.suppress(BrokenPipeError):  # the driver knows: the work has said so itself
        os.write(work.status, b"%d\n" % code)
    os.close(work.status)


def _kill(pid: int) -> None:
    for child in psutil.Process(pid).children(recursive=True):  # they may lead groups of their own
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    _kill_group(pid)


# --- in a fork of it -------------------------------------------------------------------------------------------------

_status: int | None = None  # where a fork tells its end
_worker = _code = 0


def _do(status: int, call: int) -> NoReturn:
    global _status, _worker, _code
    _status, _worker = status, os.getpid()
    os.set_inheritable(status, False)
    os.register_at_fork(after_in_child=lambda: os.close(status))  # only the work itself says that it ends
    try:
        with open(call, "rb") as file:
            function, arguments = pickle.load(file)
        function(*arguments)
    except SystemExit as error:
        _code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    except BaseException:
        _code = 1
        traceback.print_exc()
    sys.exit(_code)


def _end() -> None:
    """The last that runs at a fork's exit, after threads and all that `atexit` has: tells the driver that it is done.

    Taking the memory apart takes Python and the kernel tens of milliseconds more, for which the driver need not wait.
    """
    if os.getpid() != _worker:  # the server, or a process that the work has forked
        return
    writers = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)
    for stream in [thing for thing in gc.get_objects() if isinstance(thing, writers)]:
        with contextlib.suppress(Exception):  # closed, or not for writing
            stream.flush()
    ctypes.CDLL(None).fflush(None)  # of libraries in C
    torch = sys.modules.get("torch")
    if not (torch and torch.cuda.is_initialized()):  # else it is done when the memory of the GPU is free again
        os.write(cast(int, _status), b"%d\n" % _code)
    os._exit(_code)
