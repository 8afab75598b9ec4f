"""The server process of `forkserver`, from its start to its end, and what happens in each fork of it."""

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
import sys
import traceback
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn, cast

import psutil

from . import sources
from .forkserver import LONGEST_MESSAGE, LOST, READY, kill_group, send

_PR_SET_PDEATHSIG = 1  # prctl(2): the signal that a process gets when its parent ends


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
        send(driver, traceback.format_exc()[-LONGEST_MESSAGE:])
        return
    gc.collect()
    gc.freeze()  # what is here now stays: a fork's garbage collector does not touch it, so that its pages stay shared
    send(driver, READY + json.dumps(sources.own_files()))
    if work := _serve(driver, os.getppid(), libc):
        _do(*work)
    exits.give_back()


class _Exits:
    """What libraries leave to the exit while the server prepares is the server's. A fork must not do it once more:
    it would remove the server's temporary folders."""

    def __enter__(self) -> "_Exits":
        self._functions: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = []
        self._register = atexit.register
        # `atexit` tells nobody what is registered; a public list of it would replace this.
        atexit.register = self._record  # type: ignore[assignment]  # it is as generic as that
        return self

    def _record(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Callable[..., Any]:
        if getattr(function, "__module__", None) in ("logging", "weakref", "multiprocessing.util"):
            # Python's own, told by their names alone, know what a fork is.
            return self._register(function, *arguments, **options)
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
    retired = False
    driver_fd = os.pidfd_open(driver_pid)  # the socket is not enough: processes that the driver has forked hold it, too
    with selectors.DefaultSelector() as selector:
        selector.register(driver, selectors.EVENT_READ)
        selector.register(driver_fd, selectors.EVENT_READ)
        while running or not retired:
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
                if message == b"retire":
                    retired = True
                    continue
                if message != b"start":
                    if int(message) in {work.pid for work in running.values()}:
                        _kill(int(message))
                    continue
                status, call = fds
                if (pid := os.fork()) == 0:
                    _leave(server_pid, libc)
                    for others in (driver_fd, *running, *(work.status for work in running.values())):
                        os.close(others)
                    driver.close()
                    return status, call
                os.close(call)
                os.write(status, b"%d\n" % pid)
                pidfd = os.pidfd_open(pid)
                running[pidfd] = _Running(pid, status)
                selector.register(pidfd, selectors.EVENT_READ)
    return None


def _leave(server_pid: int, libc: Any) -> None:
    """A fork ends with the server, and leads a group of its own."""
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server_pid:  # it was killed before that
        os._exit(LOST)
    os.setsid()


def _reap(pidfd: int, work: _Running) -> None:
    kill_group(work.pid)  # what it left behind, while its number is its own
    code = os.waitstatus_to_exitcode(os.waitpid(work.pid, 0)[1])
    os.close(pidfd)
    with contextlib.suppress(BrokenPipeError):  # the driver knows: the work has said so itself
        os.write(work.status, b"%d\n" % code)
    os.close(work.status)


def _kill(pid: int) -> None:
    for child in psutil.Process(pid).children(recursive=True):  # they may lead groups of their own
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    kill_group(pid)
    os.kill(pid, signal.SIGKILL)  # one that was just forked leads no group yet; it is not reaped, so the number is its


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
