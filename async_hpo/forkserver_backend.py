"""Warm processes on one machine: each trial is a fork of a server process that has imported what it needs.

Syne Tune's `PythonBackend` starts a fresh interpreter for each trial, which imports torch and d2l and reads the images
anew. Here a server process does that once, and a trial is a fork of it: it starts in milliseconds, shares the images'
memory, and is isolated all the same.
"""

import atexit
import contextlib
import inspect
import io
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from multiprocessing import connection, context, reduction, spawn, util
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple, cast

import cloudpickle
import joblib
import numpy as np
from syne_tune.backend import LocalBackend
from syne_tune.backend.trial_status import Status, TrialResult
from syne_tune.constants import ST_CHECKPOINT_DIR
from syne_tune.report import retrieve
from syne_tune.util import dump_json_with_numpy

# A training step allocates and frees a few MB again and again. By default glibc returns them to the kernel each time,
# and pays a page fault for each page that comes back. Read when a process starts; 32 MB is the first one's maximum.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(32 * 2**20), "MALLOC_TRIM_THRESHOLD_": str(2**30)}

#: How long (seconds) the driver waits for a trial to end before it looks for new reports.
MAX_WAIT = 0.1


class ForkserverBackend(LocalBackend):
    """Runs trials of a Python function as forks of one warm server process.

    Takes the place of Syne Tune's `PythonBackend`. Logs, checkpoints, pause, resume, stop and the rotation of GPUs are
    `LocalBackend`'s. A trial that raises, or is killed, fails alone, with the reason at the end of its `std.err`.
    Trials end with the driver (the process that made this object), however it ends. They share no state: each starts
    from the server's memory as it was after `warm_up`.

    The end of a trial wakes the tuner unless it sleeps: give it a short `sleep_time` (0 is fine, its default is 5 s).

    On Linux. Elsewhere fork is missing or unsafe: there each trial is a fresh process that prepares for itself, and
    scripts need `if __name__ == "__main__":` around the run, as with all of Python's `multiprocessing`.

    Args:
        tune_function: the objective. It calls Syne Tune's `Reporter`; it may be a closure, or defined in a notebook.
            An argument called `st_checkpoint_dir` gets the trial's own checkpoint folder (a path, not yet made).
        config_space: its keys are the function's arguments.
        preload: what the server prepares: names of modules to import, and `module:function` to call, in this order.
            By default torch, d2l and the images of Fashion-MNIST.
        rotate_gpus, num_gpus_per_trial, gpus_to_use, delete_checkpoints: as in `LocalBackend`.

    Raises:
        ValueError: the function can't be sent to another process, or its arguments and `config_space` don't match.
    """

    def __init__(
        self,
        tune_function: Callable[..., None],
        config_space: dict[str, Any],
        preload: Sequence[str] = ("async_hpo.data:load",),
        rotate_gpus: bool = True,
        num_gpus_per_trial: int = 1,
        gpus_to_use: list[int] | None = None,
        delete_checkpoints: bool = False,
    ):
        if isinstance(preload, str):
            raise ValueError(f"preload is a list of names, such as [{preload!r}], not a string")
        super().__init__(
            entry_point=__file__,
            rotate_gpus=rotate_gpus,
            num_gpus_per_trial=num_gpus_per_trial,
            gpus_to_use=gpus_to_use,
            delete_checkpoints=delete_checkpoints,
        )
        self.config_space = config_space
        self.preload = tuple(preload)
        self._name, self._parameters = check_arguments(tune_function, config_space)
        self._function = pickle_function(tune_function)
        self._logs: dict[int, Log] = {}
        self._most_workers, self._crowd_told = 0, False
        self._checked_on: int | None = None  # the server (by its process ID) on which a start was tried

    def warm_up(self) -> None:
        """Start the server, wait until it has prepared everything, and check that a trial can start.

        Call it before `tuner.run()`: the wait is then no part of the run's budget. Otherwise the first trial pays.
        Called again, it returns at once.

        Raises:
            RuntimeError: preparing failed, or the function can't be loaded in another process; the message says why.
        """
        server = _server(self.preload)
        if self._checked_on == server.running():
            return
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "log"
            process = self._start(_Job(self._function, None, str(log), str(log), dict(os.environ)), log)
            if process.wait() != 0:
                server.stop()  # the next call starts over
                lines = log.read_text().rstrip().splitlines() or ["no reason given"]
                raise RuntimeError("\n".join([f"No trial of {self._name} can start: {lines[-1]}", *lines]))
        self._checked_on = server.running()

    def _start(self, job: "_Job", stderr: Path) -> "TrialProcess":
        process = _server(self.preload).process(target=_run, args=(job, self.preload))
        process.start()
        return TrialProcess(process, stderr)

    def _schedule(self, trial_id: int, config: dict[str, Any]) -> None:
        self.warm_up()
        self._prepare_for_schedule()
        folder = self.trial_path(trial_id).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        dump_json_with_numpy(config, folder / "config.json")
        arguments = {key: native(value) for key, value in config.items() if key in self.config_space}
        if ST_CHECKPOINT_DIR in self._parameters:
            arguments[ST_CHECKPOINT_DIR] = str(self.checkpoint_trial_path(trial_id).absolute())
        environment = dict(os.environ)
        self._allocate_gpu(trial_id, environment)
        stdout, stderr = folder / "std.out", folder / "std.err"
        for path in (stdout, stderr):
            path.touch()
        job = _Job(self._function, cloudpickle.dumps(arguments), str(stdout), str(stderr), environment)
        self.trial_subprocess[trial_id] = self._start(job, stderr)
        self._logs.setdefault(trial_id, Log(stdout))
        self._busy_trial_id_candidates.add(trial_id)

    def fetch_status_results(self, trial_ids: list[int]):
        # A free worker is noticed at once, not at the next poll.
        connection.wait([fd for trial_id in trial_ids for fd in self.trial_subprocess[trial_id].sentinels()], MAX_WAIT)
        return super().fetch_status_results(trial_ids)

    def _all_trial_results(self, trial_ids: list[int]) -> list[TrialResult]:
        # As in LocalBackend, which reads and parses the whole log at every poll.
        results = []
        for trial_id in trial_ids:
            status = self._read_status(trial_id)  # before the log is read: nothing reported before the end is missed
            if status != Status.in_progress:
                self._deallocate_gpu(trial_id)
            reports = self._logs[trial_id].reports()
            end = self.trial_subprocess[trial_id].end or time.time()
            result = self._trial_dict[trial_id].add_results(reports, status, datetime.fromtimestamp(end))
            results.append(result)
        self._warn_if_crowded(sum(result.status == Status.in_progress for result in results))
        return results

    def _warn_if_crowded(self, n_workers: int) -> None:
        if n_workers <= self._most_workers:
            return
        self._most_workers = n_workers
        places, kind = (self.num_gpus, "GPUs") if self.num_gpus else (joblib.cpu_count(), "cores")
        if n_workers * (self.num_gpus_per_trial if self.num_gpus else 1) > places and not self._crowd_told:
            self._crowd_told = True
            warnings.warn(f"{n_workers} workers share {places} {kind}: each trial gets slower.", stacklevel=2)

    def _kill_process(self, trial_id: int) -> None:
        process = self.trial_subprocess[trial_id]
        if process.poll() is None:
            process.killed = True
            super()._kill_process(trial_id)
            process.wait()  # its worker is free when this returns

    def __str__(self) -> str:
        return f"forkserver {self._name}"


# --- in the driver ---------------------------------------------------------------------------------------------------


@dataclass
class _Job:
    """What a trial's process needs to know. `arguments` (pickled) is None in a trial start that only checks."""

    function: bytes
    arguments: bytes | None
    stdout: str
    stderr: str
    environment: dict[str, str]


class TrialProcess:
    """A trial's process, with as much of `subprocess.Popen`'s interface as `LocalBackend` needs.

    Attributes:
        pid: of the process, and of its group: what the trial starts belongs to it.
        returncode: None while it runs, then 0, the exit code, or minus the signal's number.
        killed: we did it.
        end: Unix time (seconds) at which the end was seen, else None.
    """

    def __init__(self, process: BaseProcess, stderr: Path):
        assert process.pid is not None  # it has been started
        self.pid, self.killed, self._stderr = process.pid, False, stderr
        self.returncode: int | None = None
        self.end: float | None = None
        self._process: BaseProcess | None = process
        self._done: int | None = getattr(process, "done", None)

    def poll(self) -> int | None:
        if self.returncode is None and (code := self._exitcode()) is not None:
            self.returncode, self.end = code, time.time()
            self._kill_group()
            self._process = None  # lets go of its pipes
            if code < 0 and not self.killed:
                name = signal.Signals(-code).name
                self._explain(f"The trial's process was killed by {name}: from outside, or out of memory.")
            elif code == _SERVER_LOST:
                self._explain("The server process was killed, and its trials with it.")
        return self.returncode

    def sentinels(self) -> list[int]:
        """File descriptors of which one is ready when the trial has ended; empty if its process isn't ours."""
        if self._process is None:
            return []
        return [self._process.sentinel, *([] if self._done is None else [self._done])]

    def _exitcode(self) -> int | None:
        if self._process is None:
            return _NOT_OURS
        if self._done is not None and connection.wait([self._done], 0) and os.read(self._done, 1):
            return 0
        return self._process.exitcode

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError, AttributeError):  # empty; Windows has no killpg
            os.killpg(self.pid, signal.SIGKILL)

    def _explain(self, reason: str) -> None:
        with open(self._stderr, "a") as file:
            file.write(reason + "\n")

    def wait(self, timeout: float | None = None) -> int | None:
        if self._process is not None:
            self._process.join(timeout)
        return self.poll()

    def kill(self) -> None:
        self._kill_group()
        if self._process is not None:
            self._process.kill()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_process": None}  # saved with the tuner; the process stays its driver's


_SERVER_LOST = 255  # what multiprocessing answers when the server can't tell the exit code
_NOT_OURS = 1  # a trial that ran when its tuner was saved: its process belonged to another driver


class Log:
    """The reports in a file of a trial's standard output; reads only what is new."""

    def __init__(self, path: Path):
        self._path, self._position = path, 0
        self._reports: list[dict[str, Any]] = []

    def reports(self) -> list[dict[str, Any]]:
        with open(self._path, "rb") as file:
            file.seek(self._position)
            new, _, _ = file.read().rpartition(b"\n")  # whole lines only
        if new:
            self._position += len(new) + 1
            self._reports += retrieve([new.decode(errors="replace")])
        return list(self._reports)


def check_arguments(function: Callable, config_space: dict[str, Any]) -> tuple[str, set[str]]:
    """Compare an objective's arguments with the configuration space.

    Returns:
        The function's name, and the names of its arguments.

    Raises:
        ValueError: one lacks what the other has.
    """
    name = getattr(function, "__name__", repr(function))
    parameters = inspect.signature(function).parameters.values()
    named = {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    needed = {p.name for p in parameters if p.name in named and p.default is p.empty} - {ST_CHECKPOINT_DIR}
    if missing := needed - set(config_space):
        raise ValueError(f"{name} needs {_listed(missing)}, which the configuration space lacks: add it there.")
    takes_all = any(p.kind == p.VAR_KEYWORD for p in parameters)
    if not takes_all and (unknown := set(config_space) - named):
        raise ValueError(f"The configuration space has {_listed(unknown)}, which {name} does not take: remove it.")
    return name, named


def _listed(names: set[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names))


def pickle_function(function: Callable) -> bytes:
    """Pickle an objective, by value where it can't be imported elsewhere.

    Raises:
        ValueError: it refers to something that can't be pickled.
    """
    try:
        return cloudpickle.dumps(function)
    except Exception as error:
        name = getattr(function, "__name__", repr(function))
        raise ValueError(
            f"{name} can't be sent to another process ({error}). It refers to something outside that can't be pickled: "
            "create that inside the function."
        ) from error


def native(value: Any) -> Any:
    """A number of Python's in place of one of NumPy's."""
    return value.item() if isinstance(value, np.generic) else value


# --- the server ------------------------------------------------------------------------------------------------------
# Python's own fork server (multiprocessing.forkserver). Its public interface has one server per driver, for whoever
# comes first; a backend needs one with its own preparation and its own environment, so the classes are used directly.

_servers: dict[tuple[str, ...], "_Server | _NoServer"] = {}


def _server(preload: tuple[str, ...]) -> "_Server | _NoServer":
    """The server that prepares `preload`: one per driver, however many back-ends share it."""
    if preload not in _servers:
        _servers[preload] = _Server(preload) if sys.platform == "linux" else _NoServer()
    return _servers[preload]


class _NoServer:
    """Fresh processes, where forking is missing (Windows) or unsafe (macOS: system libraries run threads)."""

    told = False

    def __init__(self):
        if not _NoServer.told:
            _NoServer.told = True
            warnings.warn(
                f"Forking is missing or unsafe on {sys.platform}: each trial starts as a fresh process.", stacklevel=4
            )

    def process(self, **options) -> BaseProcess:
        return context.SpawnProcess(daemon=True, **options)

    def running(self) -> int:
        return 0

    def stop(self) -> None:
        pass


if sys.platform != "win32":
    from multiprocessing import forkserver, popen_forkserver

    class _Fork(NamedTuple):
        """A forked process, by the driver's ends of its pipes."""

        status: int  # to read: its process ID, later its exit code
        data: int  # to write: its work
        done: int  # to read: a byte when its work is done; ending takes another 20 ms

    class _Server(forkserver.ForkServer):
        _forkserver_pid: int  # private in the base class, as `_stop` is: the stubs lack both
        _stop: Callable[[], None]

        def __init__(self, preload: tuple[str, ...]):
            super().__init__()
            self.preload = preload
            self.set_forkserver_preload([__name__, "async_hpo.preload"])
            self._spare: _Fork | None = None
            self._spare_of: int | None = None
            self._taking = threading.Lock()
            atexit.register(self.stop)

        def process(self, **options) -> BaseProcess:
            return _ForkedProcess(self.preload, daemon=True, **options)

        def running(self) -> int:
            """Start the server if it doesn't run, and return its process ID."""
            self.ensure_running()
            return self._forkserver_pid

        def take(self) -> "_Fork":
            """A forked process that waits for its work.

            Forking takes some 20 ms, for torch is large: the next one is forked while this one works.
            """
            with self._taking:
                self._discard_spare(unless=self.running())
                ready = self._spare or self._fork()
                self._spare, self._spare_of = self._fork(), self.running()
                return ready

        def _fork(self) -> "_Fork":
            done, write_end = os.pipe()
            try:
                return _Fork(*self.connect_to_new_process([write_end]), done)
            finally:
                os.close(write_end)

        def _discard_spare(self, unless: int | None = None) -> None:
            if self._spare is not None and self._spare_of != unless:
                with contextlib.suppress(EOFError, ProcessLookupError):  # it died with the server
                    os.kill(forkserver.read_signed(self._spare.status), signal.SIGKILL)
                for fd in self._spare:
                    os.close(fd)
                self._spare = None

        def ensure_running(self) -> None:
            changes = ALLOCATOR | {
                "ASYNC_HPO_PRELOAD": json.dumps(self.preload),
                "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                "OMP_NUM_THREADS": "1",  # a thread pool started before a fork would hang the forked process
            }
            with environment(changes):
                super().ensure_running()

        def stop(self) -> None:
            self._discard_spare()
            self._stop()

    class _ForkedProcess(context.ForkServerProcess):
        _popen: "_Popen"  # what `_Popen` below returned

        def __init__(self, preload: tuple[str, ...], **options):
            super().__init__(**options)
            self.preload = preload

        @property
        def done(self) -> int:
            return self._popen.done

        def run(self) -> None:
            super().run()
            inherited = forkserver.get_inherited_fds()
            assert inherited is not None  # this is a fork of the server
            os.write(inherited[0], b"0")

        @staticmethod
        def _Popen(process_obj: BaseProcess) -> "_Popen":
            return _Popen(process_obj)

    class _Popen(popen_forkserver.Popen):
        def _launch(self, process_obj: _ForkedProcess) -> None:
            # As in the base class, but for the server, and without the driver's main script, which would run again.
            preparation = spawn.get_preparation_data(process_obj.name)
            preparation.pop("init_main_from_path", None)
            preparation.pop("init_main_from_name", None)
            buffer = io.BytesIO()
            context.set_spawning_popen(self)
            try:
                reduction.dump(preparation, buffer)
                reduction.dump(process_obj, buffer)
            finally:
                context.set_spawning_popen(None)
            server = _server(process_obj.preload)
            assert isinstance(server, _Server)  # it made this process
            self.sentinel, write_end, self.done = server.take()
            # The child waits for the end of this copy, which is the end of the driver.
            alive = os.dup(write_end)
            fds = (alive, self.sentinel, self.done)
            self.finalizer = util.Finalize(self, util.close_fds, fds)  # type: ignore[attr-defined]  # not in the stubs
            with open(write_end, "wb") as file:
                file.write(buffer.getbuffer())
            self.pid = forkserver.read_signed(self.sentinel)


@contextlib.contextmanager
def environment(changes: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(changes)
    try:
        yield
    finally:
        for name in changes:
            os.environ.pop(name)
        os.environ.update(before)


# --- in the trial ----------------------------------------------------------------------------------------------------


def _run(job: _Job, preload: tuple[str, ...]) -> None:
    """A trial's process, from its first line to its last; an exception goes to its standard error."""
    _redirect(job.stdout, job.stderr)
    _end_with_driver()
    os.environ.clear()
    os.environ.update(job.environment | {"ASYNC_HPO_PRELOAD": json.dumps(preload)})
    from async_hpo import preload as prepared  # in a fork: there already

    sys.excepthook = sys.__excepthook__
    if prepared.problem:
        sys.stderr.write(prepared.problem)
        sys.exit(1)
    _unshare()
    function = cloudpickle.loads(job.function)
    if job.arguments is not None:
        function(**cloudpickle.loads(job.arguments))
    for stream in (sys.stdout, sys.stderr):
        stream.flush()


def _redirect(stdout: str, stderr: str) -> None:
    for path, stream, number in ((stdout, sys.stdout, 1), (stderr, sys.stderr, 2)):
        with open(path, "ab") as file:
            os.dup2(file.fileno(), number)
        cast(io.TextIOWrapper, stream).reconfigure(line_buffering=True, encoding="utf-8", errors="replace")


def _end_with_driver() -> None:
    """Lead a process group, so that an interrupt of the driver's reaches the driver alone, and end with it."""
    multiprocessing.current_process().daemon = False  # the driver's word for "don't wait"; here: may have children
    if hasattr(os, "setsid"):
        os.setsid()

    def wait() -> None:
        driver = multiprocessing.parent_process()
        assert driver is not None  # this is its child
        connection.wait([driver.sentinel])
        if hasattr(os, "killpg"):
            os.killpg(0, signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _unshare() -> None:
    """What a fresh interpreter would have of its own."""
    if "numpy" in sys.modules:
        np.random.seed()  # a fork would repeat its siblings' draws
    n_threads = int(os.environ.get("OMP_NUM_THREADS") or 1)
    if n_threads > 1 and "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(n_threads)  # the server had one
