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
    _Server(driver, os.getppid(), libc).serve()
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


class _Spare(NamedTuple):
    """A fork that waits for its work. Forking takes 20 ms where PyTorch is loaded: it is done while trials work."""

    pid: int
    channel: socket.socket

    def take(self, status: int, call: int) -> bool:
        """Hand it its work; False if somebody has killed it."""
        with self.channel, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            socket.send_fds(self.channel, [b"start"], [status, call])
            return True
        os.waitpid(self.pid, 0)
        return False


class _Server:
    """Hands work to a fork when the driver says so."""

    def __init__(self, driver: socket.socket, driver_pid: int, libc: Any):
        self._driver, self._libc, self._pid = driver, libc, os.getpid()
        # The socket is not enough to see the driver end: processes that it has forked hold the socket, too.
        self._driver_fd = os.pidfd_open(driver_pid)
        self._running: dict[int, _Running] = {}  # by file descriptors of the processes
        self._selector = selectors.DefaultSelector()
        self._selector.register(driver, selectors.EVENT_READ)
        self._selector.register(self._driver_fd, selectors.EVENT_READ)

    def serve(self) -> None:
        """Returns when the driver has ended, or has retired it and the last work has ended."""
        self._spare, retired = self._fork(), False
        while self._running or not retired:
            for fd in [key.fd for key, _ in self._selector.select()]:
                if fd in self._running:
                    self._selector.unregister(fd)
                    _reap(fd, self._running.pop(fd))
                    continue
                message, fds = b"", list[int]()
                if fd != self._driver_fd:
                    message, fds, _, _ = socket.recv_fds(self._driver, 100, 2)
                if not message:  # the driver has ended
                    for work in self._running.values():
                        _kill(work.pid)
                    return
                if message == b"start":
                    self._start(*fds)
                elif message == b"retire":
                    retired = True
                elif int(message) in {work.pid for work in self._running.values()}:
                    _kill(int(message))

    def _start(self, status: int, call: int) -> None:
        fork = self._spare or self._fork()
        while fork and not fork.take(status, call):
            fork = self._fork()
        os.close(call)
        if fork:
            os.write(status, b"%d\n" % fork.pid)
            pidfd = os.pidfd_open(fork.pid)
            self._running[pidfd] = _Running(fork.pid, status)
            self._selector.register(pidfd, selectors.EVENT_READ)
        else:  # this work is lost, not those that run
            os.close(status)
        self._spare = self._fork()

    def _fork(self) -> _Spare | None:
        """None if the machine has no process left. Does not return in the fork, which does its work and ends."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            pid = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            return None
        if pid:
            theirs.close()
            return _Spare(pid, ours)
        _leave(self._pid, self._libc)
        self._selector.close()
        for others in (self._driver_fd, *self._running, *(work.status for work in self._running.values())):
            os.close(others)
        self._driver.close()
        ours.close()
        with theirs:
            message, fds, _, _ = socket.recv_fds(theirs, 100, 2)
        if not message:  # the server has ended
            os._exit(0)
        status, call = fds
        _do(status, call)


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
