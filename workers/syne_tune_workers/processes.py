"""Warm processes: a server prepares once, and each piece of work is a fork of it (Linux); elsewhere, a fresh process.

The driver (the process that makes a `Server`) and the server talk over one `multiprocessing.Pipe`. The driver sends
("start", number, function, arguments), ("kill", number) and ("retire",); the server answers with what its preparation
came to, and then with (number, pid, exit code), twice for each piece of work: as it starts, and as it has ended. One
fork always waits for the next piece of work, so that it starts at once. Work ends with the driver and with the server,
however they end.
"""

import atexit
import contextlib
import ctypes
import gc
import io
import itertools
import multiprocessing
import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import connection
from typing import Any, NoReturn

import psutil

from . import sources

#: The returncode of work whose server was killed, or could not fork for it. No process has it as its exit code.
LOST = 1000
_LAST_WORDS = 50_000  # bytes of what a server printed
_PATIENCE = 10.0  # seconds for a server to do what it was told: many times what a busy machine needs
_PR_SET_PDEATHSIG = 1  # prctl(2): the signal that a process gets when its parent ends


class Server:
    """Calls `prepare(*arguments)` once, in a process of its own, and forks that for each `start`.

    Args:
        prepare: the name of a function, `module:function`.
        arguments: of it; they are pickled.
        environment: variables that differ from the driver's.
    """

    def __init__(self, prepare: str, arguments: tuple[Any, ...] = (), environment: Mapping[str, str] | None = None):
        self._channel, theirs = multiprocessing.Pipe()
        self._handle = self._channel.fileno()
        self._lock, self._numbers = threading.RLock(), itertools.count()
        self._works: dict[int, Work] = {}
        self._files: dict[str, int] | None = None
        self._retired = False
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the server
        program = f"import sys; sys.path[:] = {sources.search_path()!r}; import {__name__} as processes; "
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", f"{program}processes.serve({theirs.fileno()})"],
                pass_fds=[theirs.fileno()],
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                start_new_session=True,  # an interrupt of the driver's reaches the driver alone
            )
        self._send(prepare, arguments)

    @property
    def pid(self) -> int:
        """Of the server's guard: it ends with it."""
        return self._process.pid

    def is_alive(self) -> bool:
        """Whether work can start on it."""
        self.hear()
        return not (self._retired or self._channel.closed)

    def is_current(self) -> bool:
        """Whether it runs, and has the code that is on disk now: of modules that are not installed."""
        files = self._files or {}
        return self.is_alive() and all(sources.modified(file) == when for file, when in files.items())

    def wait_until_ready(self) -> None:
        """Raises RuntimeError with the traceback if preparing failed, or the end of what the server printed."""
        if self._files is not None:
            return
        connection.wait([self._channel])  # an interrupt here loses nothing
        answer = self._receive()
        if not isinstance(answer, dict):
            reason = answer or self.last_words()
            self.stop()
            raise RuntimeError(reason)
        self._files = answer

    def last_words(self) -> str:
        """What it printed at last, and its exit code; empty if it has not ended."""
        try:
            code = self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return ""
        end = os.fstat(self._output.fileno()).st_size
        printed = os.pread(self._output.fileno(), _LAST_WORDS, max(0, end - _LAST_WORDS)).decode(errors="replace")
        return f"{printed}\nThe process that prepares, and that trials are forks of, ended with exit code {code}.\n"

    def start(self, function: Callable[..., Any], *arguments: Any) -> "Work":
        """Fork, and call `function(*arguments)` there."""
        with self._lock:
            number = next(self._numbers)
            self._works[number] = work = Work(self, number, self._handle)
            self._send("start", number, function, arguments)
        return work

    def kill(self, number: int) -> None:
        """Kill work, its process group, and all processes that came from it."""
        with self._lock:
            self._send("kill", number)

    def retire(self) -> None:
        """Let it end with the last of its work. No other starts on it: it might end before it reads of that."""
        with self._lock:
            self._retired = True
            self._send("retire")

    def stop(self) -> None:
        """End the server, and its work."""
        with self._lock:
            self._channel.close()
            try:
                self._process.wait(timeout=_PATIENCE)
            except subprocess.TimeoutExpired:
                kill_tree(self._process.pid)
                self._process.wait()
            self.hear()

    def hear(self) -> None:
        """Take what the server has said of its work until now."""
        with self._lock:
            ended = self._channel.closed
            while not ended and self._channel.poll():
                if (message := self._receive()) is None:
                    ended = True
                else:
                    number, pid, code = message
                    if work := self._works.get(number):
                        work.pid, work.returncode = pid, code
                    if code is not None:
                        self._works.pop(number, None)
            if ended:
                self._channel.close()
                for work in self._works.values():
                    kill_group(work.pid)  # its children may have survived the server
                    work.returncode = LOST
                self._works.clear()

    def _send(self, *message: Any) -> None:
        with self._whole_messages():
            self._channel.send(message)

    def _receive(self) -> Any:
        """None if the server has ended."""
        with self._whole_messages():
            return self._channel.recv()

    @contextlib.contextmanager
    def _whole_messages(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, OSError):  # the server has ended, which `hear` tells its work
            pass
        except BaseException:  # an interrupt may have left half a message: what follows could not be understood
            self.stop()
            raise


class Work:
    """A process that a server has started, or is about to.

    Attributes:
        pid: of the process, which leads a group of its own; 0 as long as the server has not said it.
        handle: a file descriptor that can be read when there is something new to `poll`; see `wait_for_news`.
        returncode: None while it runs, then the exit code, minus the number of the signal that killed it, or `LOST`.
    """

    def __init__(self, server: "Server | FreshProcesses", number: int, handle: int, pid: int = 0):
        self._server, self._number, self.handle, self.pid = server, number, handle, pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Look whether it has ended. Returns `returncode`."""
        if self.returncode is None:
            self._server.hear()
        return self.returncode

    def wait(self) -> int:
        """Wait for the end. Returns `returncode`."""
        while (code := self.poll()) is None:
            wait_for_news([self], 0.1)  # not for ever: another thread may hear of it
        return code

    def kill(self) -> None:
        """End it, and all processes that came from it; nothing if it has ended."""
        if self.returncode is None:
            self._server.kill(self._number)

    def end(self) -> int:
        """Kill it, and wait for that. A server that does not answer is killed, too, and all its work with it. Returns
        `returncode`."""
        self.kill()
        patience = time.monotonic() + _PATIENCE
        while (code := self.poll()) is None:
            wait_for_news([self], 0.1)
            if time.monotonic() > patience:  # somebody has stopped it, with SIGSTOP
                self._server.stop()
        return code

    def reason(self) -> str:
        """Why it failed, where it could not say that itself; else empty."""
        if self.returncode == LOST:
            lost = "The server process was killed, and its trials with it; or the machine can start no more processes."
            return self._server.last_words() + lost
        if self.returncode is not None and self.returncode < 0:
            name = {number.value: number.name for number in signal.Signals}.get(-self.returncode, -self.returncode)
            return f"The trial's process was killed by {name}: from outside, or out of memory."
        return ""


def wait_for_news(works: Sequence[Work], timeout: float) -> None:
    """Return when there is something new to `poll`, or after `timeout` seconds."""
    with contextlib.suppress(OSError):  # a channel that was closed meanwhile
        connection.wait({work.handle for work in works}, timeout)


def kill_group(pid: int) -> None:
    """End all processes of a group; nothing where there is none."""
    with contextlib.suppress(ProcessLookupError, PermissionError, AttributeError):  # Windows has no groups
        if pid:
            os.killpg(pid, signal.SIGKILL)


def kill_tree(pid: int) -> None:
    """End a process, its group, and all processes that came from it; nothing if there is none of this number."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(pid).children(recursive=True):  # they may lead groups of their own
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
    kill_group(pid)
    with contextlib.suppress(ProcessLookupError):  # a fork of just now leads no group yet
        os.kill(pid, signal.SIGKILL)


# --- in the server ---------------------------------------------------------------------------------------------------


def serve(number: int) -> None:
    """The server from its start to its end, and the work in each fork of it.

    Args:
        number: file descriptor of the channel to the driver.
    """
    guard = _fork_from_guard(number)
    at_exit = _Exit()
    driver = connection.Connection(number)
    prepare, arguments = driver.recv()
    try:
        with at_exit.noting():
            pkgutil.resolve_name(prepare)(*arguments)
    except BaseException:  # an exit, too, is no reason to end without a word
        driver.send(traceback.format_exc())
        return
    gc.collect()
    gc.freeze()  # a fork's garbage collector does not touch what is here now, so its pages stay shared
    driver.send(sources.own_files())
    _Forks(driver, guard, at_exit).serve()


def _fork_from_guard(number: int) -> int:
    """Go on in a fork of this process, which is its guard from now on: returns the guard's number.

    What kills a driver's children when it ends, as Ray does, hits the guard. The server sees that, and ends its work as
    it should: with all that came from it.
    """
    driver, guard = os.getppid(), os.getpid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a driver may ignore it, and its children inherit that
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    pid = os.fork()
    if pid == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked - {signal.SIGCHLD})
        return guard
    os.close(number)
    while os.getppid() == driver:
        signal.sigtimedwait([signal.SIGCHLD], 1.0)
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            if code < 0:
                os.kill(guard, -code)  # it ends as the server did
            os._exit(code)
    os._exit(0)


class _Exit:
    """What a process does at its exit, with a server and its forks told apart.

    A fork leaves alone what was registered while the server prepared: it would remove the server's temporary folders.
    And it ends before Python takes the memory apart: with PyTorch loaded, that takes longer than a fork does.
    """

    def __init__(self) -> None:
        self._fork = self._code = 0
        atexit.register(self._end)  # before anything else: what is registered first runs last

    @contextlib.contextmanager
    def noting(self) -> Iterator[None]:
        """Note what is registered meanwhile: there is no public list of it."""
        self._functions: list[Callable[..., Any]] = []
        register = atexit.register

        def noting(function: Callable[..., Any], *arguments: Any, **options: Any) -> Callable[..., Any]:
            # These modules of Python's own know what a fork is.
            if getattr(function, "__module__", None) not in ("logging", "weakref", "multiprocessing.util"):
                self._functions.append(function)
            return register(function, *arguments, **options)

        atexit.register = noting  # type: ignore[assignment]
        try:
            yield
        finally:
            atexit.register = register
            self._finalizers = _all_of(weakref.finalize)

    def call(self, function: Callable[..., Any], arguments: tuple[Any, ...], tell: Callable[[int], Any]) -> NoReturn:
        """Do a fork's work, and let it end as any Python process does: with its threads and its own exit functions.

        Then `tell` gets the exit code: the kernel takes tens of milliseconds more to free the memory of PyTorch.
        """
        self._tell = tell
        for registered in self._functions:
            atexit.unregister(registered)
        for finalizer in self._finalizers:
            finalizer.atexit = False
        self._fork = os.getpid()
        try:
            function(*arguments)
        except SystemExit as error:
            self._code = error.code if isinstance(error.code, int) else int(error.code is not None)
            if isinstance(error.code, str):
                print(error.code, file=sys.stderr)
        except BaseException:
            self._code = 1
            traceback.print_exc()
        sys.exit(self._code)

    def _end(self) -> None:
        if os.getpid() != self._fork:  # the server, or a process that the work has forked
            return
        for stream in _all_of(io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom):
            with contextlib.suppress(Exception):  # closed, or not for writing
                stream.flush()
        ctypes.CDLL(None).fflush(None)  # of libraries in C
        torch = sys.modules.get("torch")
        if not (torch and torch.cuda.is_initialized()):  # else it has ended when the memory of the GPU is free again
            with contextlib.suppress(OSError):  # the work may have closed all files
                self._tell(self._code & 0xFF)
        os._exit(self._code & 0xFF)


def _all_of(*types: type) -> list[Any]:
    # By the type, since `isinstance` asks the object, too, which may be a proxy of something that is gone.
    return [thing for thing in gc.get_objects() if issubclass(type(thing), types)]


class _Forks:
    """Forks the server when the driver says so, and tells it how the forks end."""

    def __init__(self, driver: "connection.Connection", guard: int, at_exit: _Exit):
        self._driver, self._guard, self._at_exit = driver, guard, at_exit
        self._running: dict[int, int] = {}  # number of the work -> its process
        self._told: set[int] = set()  # those of them whose end the driver knows
        self._spare: tuple[int, connection.Connection] | None = None  # made while trials run: it takes PyTorch 20 ms
        self._woken, self._wakes = os.pipe()  # by the end of a fork
        self._ends, self._tells = os.pipe()  # forks tell their ends: a line each, its number and exit code

    def serve(self) -> None:
        """Returns when the driver has ended, or has retired it and the last work has ended."""
        for end in (self._woken, self._wakes):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._wakes)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        retired = False
        while self._running or not retired:
            self._spare = self._spare or self._fork()
            match self._next_message():
                case None:
                    pass
                case "end", *_:
                    for pid in self._running.values():
                        kill_tree(pid)
                    return
                case "start", number, function, arguments:
                    self._start(number, function, arguments)
                case "kill", number:
                    if number in self._running:
                        kill_tree(self._running[number])
                    else:  # it has ended; the driver may have been interrupted as it heard of that
                        self._tell(number, 0, LOST)
                case "retire", *_:
                    retired = True
            self._reap()

    def _next_message(self) -> tuple[Any, ...] | None:
        """Wait for the driver's next message or its end; None if a fork has ended meanwhile, or a second has passed."""
        ready = connection.wait([self._driver, self._woken, self._ends], 1.0)
        if self._woken in ready:
            os.read(self._woken, 10_000)
        if self._ends in ready:
            for line in os.read(self._ends, 2**16).splitlines():  # all that a pipe holds
                number, code = map(int, line.split())
                if number in self._running:  # else it was reaped before this was read
                    kill_group(self._running[number])  # what it leaves behind; itself, it is about to exit
                    self._told.add(number)
                    self._tell(number, self._running[number], code)
        # The channel is not enough to see the driver end: processes that it has forked hold it, too.
        if os.getppid() != self._guard:
            return ("end",)
        try:
            return tuple(self._driver.recv()) if self._driver in ready else None
        except (EOFError, OSError):
            return ("end",)

    def _start(self, number: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        while fork := self._spare or self._fork():
            self._spare, (pid, channel) = None, fork
            self._tell(number, pid, None)  # first: if the server is lost, its driver ends what it knows of
            with channel, contextlib.suppress(OSError):  # somebody has killed it while it waited
                channel.send((number, function, arguments))
                self._running[number] = pid
                return
            os.waitpid(pid, 0)
        self._tell(number, 0, LOST)  # the machine can start no more processes: this work is lost, not those that run

    def _fork(self) -> "tuple[int, connection.Connection] | None":
        """A fork that waits for its work on this channel; None if the machine can start no more processes."""
        server, (ours, theirs) = os.getpid(), multiprocessing.Pipe()
        try:
            pid = os.fork()
        except OSError:
            return None
        if pid:
            theirs.close()
            return pid, ours
        self._leave(server)
        ours.close()
        try:
            number, function, arguments = theirs.recv()
        except EOFError:  # the server has ended
            os._exit(0)
        theirs.close()
        self._at_exit.call(function, arguments, lambda code: os.write(self._tells, b"%d %d\n" % (number, code)))

    def _leave(self, server: int) -> None:
        """A fork ends with the server, and leads a group of its own."""
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != server:  # it was killed before that
            os._exit(1)
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._driver.close()
        for end in (self._woken, self._wakes, self._ends):
            os.close(end)

    def _reap(self) -> None:
        for number, pid in [*self._running.items()]:
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                kill_group(pid)  # before `waitpid`: until then no other process gets the number
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                del self._running[number]
                if number in self._told:
                    self._told.remove(number)
                else:
                    self._tell(number, pid, code)

    def _tell(self, number: int, pid: int, code: int | None) -> None:
        with contextlib.suppress(OSError):  # the driver has ended, which the next message says
            self._driver.send((number, pid, code))


# --- where forking is missing (Windows) or unsafe (macOS, whose system libraries run threads) ------------------------


class FreshProcesses:
    """In place of a `Server`: each piece of work is a process that prepares for itself."""

    def __init__(self, prepare: str, arguments: tuple[Any, ...] = ()):
        self._preparation = prepare, arguments
        self._lock, self._running = threading.Lock(), dict[int, tuple[Any, Work]]()
        what = f"Forking is missing or unsafe on {sys.platform}: each trial starts as a fresh process."
        warnings.warn(what, stacklevel=5)

    def is_alive(self) -> bool:
        """Work can always start, on the code that is on disk then."""
        return True

    is_current = is_alive

    def wait_until_ready(self) -> None:
        """The exit code of the work tells whether its preparation failed."""

    def stop(self) -> None:
        """The processes end with their driver by themselves."""

    retire = stop

    def last_words(self) -> str:
        """None: a process prepares for itself, and tells what goes wrong."""
        return ""

    def start(self, function: Callable[..., Any], *arguments: Any) -> Work:
        """Call `function(*arguments)` in a process of its own, which prepares first."""
        process = multiprocessing.get_context("spawn").Process(
            target=_fresh, args=(*self._preparation, function, arguments), daemon=True
        )
        process.start()
        pid = process.pid or 0
        work = Work(self, pid, process.sentinel, pid)
        with self._lock:
            self._running[pid] = process, work
        return work

    def hear(self) -> None:
        """Look which have ended."""
        with self._lock:
            for pid, (process, work) in [*self._running.items()]:
                if (code := process.exitcode) is not None:
                    work.returncode = code
                    process.close()  # and with it the file that waits for its end
                    del self._running[pid]

    def kill(self, number: int) -> None:
        """Kill work, and its process group."""
        with self._lock:
            if number in self._running:
                kill_group(number)
                self._running[number][0].kill()


def _fresh(
    prepare: str, preparation: tuple[Any, ...], function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    multiprocessing.current_process().daemon = False  # a daemon may not have children, and trials may
    if hasattr(os, "setsid"):
        os.setsid()
    threading.Thread(target=_end_with_driver, daemon=True).start()
    try:
        pkgutil.resolve_name(prepare)(*preparation)
        function(*arguments)
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()


def _end_with_driver() -> None:
    driver = multiprocessing.parent_process()
    if driver is not None:
        connection.wait([driver.sentinel])
    kill_group(os.getpid())
    os._exit(1)
