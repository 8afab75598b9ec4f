"""The same trials on a Ray cluster: this machine, or many.

A trial is a Ray task (Moritz et al., 2018, "Ray: A Distributed Framework for Emerging AI Applications", OSDI). Ray uses
its worker processes again and again, so imports stay warm, and the images lie once on each node, in Ray's object store.
"""

import contextlib
import ctypes
import io
import ipaddress
import os
import pkgutil
import socket
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, cast

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when Ray is imported: no report to its makers

import cloudpickle
import psutil
import ray
from ray._private import ray_constants
from ray.exceptions import NodeDiedError, RayError, WorkerCrashedError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from syne_tune.backend.trial_backend import TrialBackend
from syne_tune.backend.trial_status import Status, TrialResult
from syne_tune.constants import ST_METRIC_TAG
from syne_tune.util import dump_json_with_numpy, experiment_path

from async_hpo.forkserver_backend import ALLOCATOR, MAX_WAIT, Log, check_arguments, native, pickle_function

#: Seconds that a stopped trial has until its next report. Then it is interrupted, which ends Python code and leaves its
#: process warm; a second later the process is killed.
GRACE = 5.0
_SECONDS_TO_END = 1.0  # for a trial that has been interrupted
#: Seconds after which what a trial printed, without a report, is on its way to the driver.
PRINT_INTERVAL = 0.2
_SECONDS_TO_CONNECT = 5.0
_SECONDS_TO_WARM_UP = 120.0
_IMAGES = "async_hpo.data:load"


class RayBackend(TrialBackend):
    """Runs trials of a Python function as tasks on a Ray cluster.

    Takes the place of `ForkserverBackend` or of Syne Tune's `PythonBackend`; scheduler, tuner and callbacks stay. A
    trial that raises, or whose worker process or node dies, fails alone, with the reason at the end of its `std.err`,
    its reports kept. It is not tried again: for random search the next configuration is as good. When a node dies, the
    run goes on with those that are left; a node that joins is used.

    A stopped trial ends at its next report, and its process stays warm for the next one; see `GRACE` for a trial that
    does not report. Each report has a field `node`, where it came from. Trials that use the same process one after the
    other share its memory, unlike those of `ForkserverBackend`.

    Give the tuner a short `sleep_time` (0 is fine): the end of a trial wakes it. Tuners may share a cluster, but don't
    know of each other: together they should not have more workers than it has places.

    Args:
        tune_function: the objective. It calls Syne Tune's `Reporter`; it may be a closure, or defined in a notebook.
        config_space: its keys are the function's arguments.
        num_cpus, num_gpus: what a trial needs of a node.
        address: of a running cluster, "host:port"; this machine must be one of its nodes. By default the cluster to
            which this process is connected or, if there is none, a new one: this machine, not open to others.
        preload: what worker processes prepare: names of modules to import, and `module:function` to call. By default
            torch, d2l and the images of Fashion-MNIST, which travel from this machine to the nodes.

    Raises:
        ValueError: the function can't be sent to another process, or its arguments and `config_space` don't match.
        ConnectionError: no cluster answers at `address`.
    """

    def __init__(
        self,
        tune_function: Callable[..., None],
        config_space: dict[str, Any],
        num_cpus: float = 1,
        num_gpus: float = 0,
        address: str | None = None,
        preload: Sequence[str] = (_IMAGES,),
    ):
        if isinstance(preload, str):
            raise ValueError(f"preload is a list of names, such as [{preload!r}], not a string")
        if num_cpus < 0 or num_gpus < 0 or not num_cpus + num_gpus:
            raise ValueError(f"a trial needs CPUs or GPUs, not num_cpus={num_cpus} and num_gpus={num_gpus}")
        super().__init__()
        self.config_space = config_space
        self.num_cpus, self.num_gpus, self.preload = num_cpus, num_gpus, tuple(preload)
        self._name, _ = check_arguments(tune_function, config_space)
        self._function = pickle_function(tune_function)
        self._path = Path(experiment_path())
        self._trials: dict[int, _Trial] = {}
        self._shared: _Shared | None = None
        self._most_places = self._n_workers = 0
        self._lost_nodes: set[str | None] = set()  # Ray itself believes in a dead node for another 20 s
        _connect(address)

    # --- before the run ----------------------------------------------------------------------------------------------

    def places(self) -> int:
        """How many trials the cluster can run at a time, as it is now."""
        return sum(
            self._places_on(node["Resources"]) for node in _alive_nodes() if node["NodeID"] not in self._lost_nodes
        )

    def _places_on(self, resources: dict[str, float]) -> int:
        needed = {"CPU": self.num_cpus, "GPU": self.num_gpus}
        return min(int(resources.get(kind, 0) / n) for kind, n in needed.items() if n)

    def check_workers(self, n_workers: int) -> None:
        """Raise ValueError if the cluster can't run so many trials at a time: Ray would let the others wait, unseen."""
        self._most_places = max(self._most_places, self.places())  # a cluster that has lost a node goes on
        if n_workers > self._most_places:
            needs = f"{self.num_cpus} CPU" + (f" and {self.num_gpus} GPU" if self.num_gpus else "")
            raise ValueError(
                f"{n_workers} workers, but the cluster can run {self._most_places} trials at a time (each needs "
                f"{needs}): use fewer workers, or a larger cluster."
            )
        self._n_workers = max(self._n_workers, n_workers)

    def warm_up(self) -> None:
        """Let as many processes of every node as it has places prepare, and check that they can load the function.

        Call it before `tuner.run()`: the wait is then no part of the run's budget. Called again, it returns at once.

        Raises:
            RuntimeError: a node can't prepare, or can't load the function; the message names the node and says why.
        """
        if self._shared is not None:
            return
        shared = _Shared.make(_Work(self._function, self.preload, [path for path in sys.path if path], self.num_cpus))
        waiting = {}
        for node in _alive_nodes():
            on_node = {"num_cpus": 0, "scheduling_strategy": NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)}
            n = self._places_on(node["Resources"])
            meeting = _Meeting.options(**on_node).remote(n)  # type: ignore[attr-defined]  # mypy sees the bare class
            for _ in range(n):
                waiting[_warm_up.options(**on_node).remote(shared.work, shared.images, meeting)] = node
        until = time.monotonic() + _SECONDS_TO_WARM_UP
        for ref, node in waiting.items():
            try:
                problem = ray.get(ref, timeout=max(until - time.monotonic(), 0))
            except RayError as error:
                problem = str(error)
            if problem:
                *_, last = problem.rstrip().splitlines()
                raise RuntimeError(f"No trial of {self._name} can start on node {_label(node)}: {last}\n{problem}")
        self._shared = shared

    # --- Syne Tune's contract ----------------------------------------------------------------------------------------

    def _schedule(self, trial_id: int, config: dict[str, Any]) -> None:
        self.warm_up()
        # Without `TrialGuard` a tuner does not wait for the place of a trial that is being stopped.
        self.check_workers(1 + sum(trial.status == Status.in_progress for trial in self._running().values()))
        folder = self.trial_path(trial_id)
        folder.mkdir(parents=True, exist_ok=True)
        dump_json_with_numpy(config, folder / "config.json")
        arguments = {key: native(value) for key, value in config.items() if key in self.config_space}
        task = _run.options(num_cpus=self.num_cpus, num_gpus=self.num_gpus)
        shared = self._shared
        assert shared is not None  # since `warm_up`
        ref = task.remote(trial_id, cloudpickle.dumps(arguments), shared.work, shared.images, shared.inbox)
        self._trials[trial_id] = _Trial(ref, folder)

    def _running(self) -> dict[int, "_Trial"]:
        return {trial_id: trial for trial_id, trial in self._trials.items() if trial.ref is not None}

    def fetch_status_results(self, trial_ids: list[int]):
        # A free worker is noticed at once, not at the next poll.
        if running := [trial.ref for trial in self._running().values()]:
            ray.wait(running, timeout=MAX_WAIT)
        return super().fetch_status_results(trial_ids)

    def _all_trial_results(self, trial_ids: list[int]) -> list[TrialResult]:
        self._update()
        results = []
        for trial_id in trial_ids:
            if trial_id in self._trial_dict:  # else the cluster refused it
                trial = self._trials[trial_id]
                end = datetime.fromtimestamp(trial.end or time.time())
                results.append(self._trial_dict[trial_id].add_results(trial.reports(), trial.status, end))
        return results

    def _update(self) -> None:
        """Look which trials have ended, then fetch what they printed: nothing printed before the end is missed."""
        running = {trial.ref: trial for trial in self._running().values()}
        ended, _ = ray.wait([*running], num_returns=len(running), timeout=0) if running else ([], [])
        outcomes = {ref: _outcome(ref) for ref in ended}
        if self._shared is not None:
            for trial_id, node_id, name, content in ray.get(self._shared.inbox.take.remote()):
                self._trials[trial_id].add(node_id, name, content)
        for ref, (status, reason) in outcomes.items():
            trial = running.pop(ref)
            trial.finish(status, reason)
            if reason == _NODE_DIED:
                self._lost_nodes.add(trial.node_id)
        for trial in running.values():
            trial.stop_if_late()

    def _stop_trial(self, trial_id: int, result: dict | None = None) -> None:
        trial = self._trials[trial_id]
        if trial.status == Status.in_progress:
            trial.status, trial.end, trial.stop_by = Status.stopped, time.time(), time.monotonic() + GRACE
            assert self._shared is not None  # a trial in progress was started by this driver
            self._shared.inbox.stop.remote(trial_id)

    def stop_all(self) -> None:
        """Stop all trials, and wait until none runs."""
        super().stop_all()
        while self._running():
            self.fetch_status_results([])

    def pause_trial(self, trial_id: int, result: dict | None = None) -> None:
        # Not in `_pause_trial`, which is called when the trial's status has changed already.
        raise NotImplementedError(_NO_CHECKPOINTS.format("pause"))

    def resume_trial(self, trial_id: int, new_config: dict | None = None) -> TrialResult:
        raise NotImplementedError(_NO_CHECKPOINTS.format("resume"))

    def copy_checkpoint(self, src_trial_id: int, tgt_trial_id: int) -> None:
        raise NotImplementedError(_NO_CHECKPOINTS.format("copy the checkpoint of"))

    def delete_checkpoint(self, trial_id: int) -> None:
        pass  # there are none

    def busy_trial_ids(self) -> list[tuple[int, str]]:
        """As of the last `fetch_status_results`: Syne Tune loses a trial that starts while it knows less than this."""
        busy = [(trial_id, Status.in_progress) for trial_id in self._running()]
        # The places of a lost node count as busy, so that no trial is called running that waits for one. But with
        # synchronous scheduling the tuner waits until nothing is.
        lost = max(0, self._n_workers - self.places()) if busy else 0
        return busy + [(-1, Status.in_progress)] * lost

    def node(self, trial_id: int) -> str | None:
        """The node that the trial ran on; None if it has not started yet."""
        trial = self._trials.get(trial_id)
        return trial.node if trial else None

    def stdout(self, trial_id: int) -> list[str]:
        return self._lines(trial_id, "std.out")

    def stderr(self, trial_id: int) -> list[str]:
        return self._lines(trial_id, "std.err")

    def _lines(self, trial_id: int, name: str) -> list[str]:
        with open(self.trial_path(trial_id) / name, encoding="utf-8", errors="replace") as file:
            return file.readlines()

    def trial_path(self, trial_id: int) -> Path:
        """The trial's folder on the driver's machine: what it printed, and its configuration."""
        return self._path / str(trial_id)

    def set_path(self, results_root: str | None = None, tuner_name: str | None = None) -> None:
        if results_root is not None:
            self._path = Path(results_root)

    def entrypoint_path(self) -> Path:
        return Path(__file__)

    def set_entrypoint(self, entry_point: str) -> None:
        raise NotImplementedError("RayBackend runs a function, not a script")

    def __str__(self) -> str:
        return f"ray {self._name}"

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_shared": None}  # saved with the tuner; what lies in the cluster is its driver's


_NO_CHECKPOINTS = (
    "RayBackend can't {} a trial: its checkpoint would have to be where every node can read it. Use a scheduler that "
    "only starts and stops trials, such as RandomSearch or ASHA with stopping, or ForkserverBackend on one machine."
)


# --- in the driver ---------------------------------------------------------------------------------------------------


class _Trial:
    """A trial as its driver knows it. `ref` is None when its task has ended, or belonged to another driver."""

    def __init__(self, ref, folder: Path):
        self.ref, self.status = ref, Status.in_progress
        self.node: str | None = None  # what it is called
        self.node_id: str | None = None  # its number
        self.end: float | None = None  # Unix time, seconds
        self.stop_by = float("inf")  # on the monotonic clock
        self._interrupted = False
        self._folder, self._log = folder, Log(folder / "std.out")
        for name in _STREAMS.values():
            (folder / name).write_bytes(b"")

    def add(self, node_id: str, name: str, content: bytes) -> None:
        if self.node is None:
            self.node, self.node_id = _label_of(node_id), node_id
        with open(self._folder / name, "ab") as file:
            file.write(content)

    def reports(self) -> list[dict[str, Any]]:
        return [report | {"node": self.node} for report in self._log.reports()]

    def stop_if_late(self) -> None:
        if time.monotonic() > self.stop_by:
            ray.cancel(self.ref, force=self._interrupted)
            self._interrupted, self.stop_by = True, time.monotonic() + _SECONDS_TO_END

    def finish(self, status: str, reason: str) -> None:
        self.ref = None
        if self.status == Status.in_progress:
            self.status, self.end = status, time.time()
            with open(self._folder / "std.err", "a") as file:
                file.write(reason)

    def __getstate__(self) -> dict[str, Any]:
        lost = {"status": Status.failed, "end": time.time()} if self.status == Status.in_progress else {}
        return self.__dict__ | {"ref": None} | lost


_NODE_DIED = "The trial's node died, or left the cluster.\n"


def _outcome(ref) -> tuple[str, str]:
    try:
        return ray.get(ref), ""
    except NodeDiedError:
        return Status.failed, _NODE_DIED
    except WorkerCrashedError:
        return Status.failed, "The trial's process was killed: from outside, or out of memory.\n"
    except RayError as error:
        return Status.failed, f"{error}\n"


def _connect(address: str | None) -> None:
    if ray.is_initialized():
        here = ray.get_runtime_context().gcs_address
        if address not in (None, here):
            raise ConnectionError(f"This process is connected to the cluster at {here}: ray.shutdown() ends that.")
        return
    if address is not None:
        _check_answers(address)
    own = {"address": "local", "include_dashboard": False}
    try:
        with _loopback() if address is None or _is_loopback(address) else contextlib.nullcontext():
            ray.init(**(own if address is None else {"address": address}), log_to_driver=False, logging_level="ERROR")
    except (RayError, RuntimeError, ConnectionError, ValueError) as error:
        where = "on this machine" if address is None else f"at {address}"
        hint = "" if address is None else ". Has it the same token, and the same versions of Ray and Python?"
        raise ConnectionError(f"No Ray cluster can be used {where}: {error}{hint}") from error


@contextlib.contextmanager
def _loopback():
    """Ray replaces 127.0.0.1 by the machine's address in its network, unless it believes that it can't run clusters."""
    before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    with contextlib.suppress(OSError, ValueError):
        return ipaddress.ip_address(socket.getaddrinfo(host, None)[0][4][0]).is_loopback
    return False


def _check_answers(address: str) -> None:
    """Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS_TO_CONNECT) as connection:
            connection.sendall(_HTTP2_GREETING)
            if connection.recv(9)[3:4] != _HTTP2_SETTINGS and "RAY_USE_TLS" not in os.environ:
                raise ConnectionError("what answers is something else")
    except (OSError, ValueError, OverflowError) as error:
        raise ConnectionError(
            f"No Ray cluster answers at {address} ({error}). `ray start --head` prints the address of its cluster."
        ) from None


_HTTP2_SETTINGS = b"\x04"  # a frame's fourth byte; either side's first frame is of this type (RFC 9113, section 3.4)
_HTTP2_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + _HTTP2_SETTINGS + b"\0\0\0\0\0"


def _alive_nodes() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _label(node: dict[str, Any]) -> str:
    """The name that was given to the node, or else its address and the beginning of its number."""
    if node["NodeName"] != node["NodeManagerAddress"]:
        return node["NodeName"]
    return f"{node['NodeManagerAddress']} ({node['NodeID'][:6]})"


def _label_of(node_id: str) -> str:
    return next((_label(node) for node in ray.nodes() if node["NodeID"] == node_id), node_id)


@dataclass
class _Work:
    """What every trial of a back-end needs to know."""

    function: bytes
    preload: tuple[str, ...]
    paths: list[str]  # where the driver finds modules
    num_cpus: float


@dataclass
class _Shared:
    """What the trials of a back-end share: work and images, in the object store, and the inbox."""

    work: Any
    images: Any
    inbox: Any

    @classmethod
    def make(cls, work: _Work) -> "_Shared":
        images = None
        if _IMAGES in work.preload:
            from async_hpo import data

            images = {part: (X.numpy(), y.numpy()) for part, (X, y) in data.load().items()}
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        inbox = _Inbox.options(num_cpus=0, scheduling_strategy=here).remote()  # type: ignore[attr-defined]  # likewise
        return cls(ray.put(work), ray.put(images), inbox)


# --- between driver and trials ---------------------------------------------------------------------------------------


@ray.remote
class _Inbox:
    """Holds what trials print until the driver takes it, and tells trials to stop. On the driver's node."""

    def __init__(self):
        self.content: list[tuple[int, str, str, bytes]] = []
        self.stopped: set[int] = set()

    def put(self, trial_id: int, node_id: str, name: str, content: bytes) -> bool:
        """Returns whether the trial is to go on."""
        self.content.append((trial_id, node_id, name, content))
        return trial_id not in self.stopped

    def take(self) -> list[tuple[int, str, str, bytes]]:
        content, self.content = self.content, []
        return content

    def stop(self, trial_id: int) -> None:
        self.stopped.add(trial_id)


@ray.remote
class _Meeting:
    """Keeps `n` tasks until all have come, so that each of them is in a process of its own."""

    def __init__(self, n: int):
        self.missing = n

    def arrive(self) -> None:
        self.missing -= 1

    def everyone_is_here(self) -> bool:
        return self.missing <= 0


# --- on a node -------------------------------------------------------------------------------------------------------

_STREAMS = {1: "std.out", 2: "std.err"}  # file descriptor -> file
_ready: set[str] = set()  # what this process has prepared


class _Stopped(BaseException):
    """Ends a trial at its report. No `except Exception` of an objective catches it."""


@ray.remote(max_retries=0)
def _warm_up(work: _Work, images: dict | None, meeting) -> str:
    """Returns the traceback of what went wrong, if anything did."""
    try:
        _prepare(work, images)
        cloudpickle.loads(work.function)
    except Exception:
        return traceback.format_exc()
    ray.get(meeting.arrive.remote())
    until = time.monotonic() + _SECONDS_TO_WARM_UP / 2
    while time.monotonic() < until and not ray.get(meeting.everyone_is_here.remote()):
        time.sleep(0.05)
    return ""


@ray.remote(max_retries=0)
def _run(trial_id: int, arguments: bytes, work: _Work, images: dict | None, inbox) -> str:
    """A trial, from its first line to its last. Returns its status."""
    with _Output(trial_id, inbox), _no_child_left():
        try:
            _prepare(work, images)
            cloudpickle.loads(work.function)(**cloudpickle.loads(arguments))
        except _Stopped:
            return Status.stopped
        except BaseException as error:  # an exit, too, must not end the process
            if isinstance(error, SystemExit) and not error.code:
                return Status.completed
            traceback.print_exception(error)
            return Status.failed
    return Status.completed


def _prepare(work: _Work, images: dict | None) -> None:
    sys.path += [path for path in work.paths if path not in sys.path]
    _set_allocator()
    for name in work.preload:
        if name not in _ready:
            if name == _IMAGES:
                assert images is not None  # see `_Shared.make`
                _use(images)
            else:
                found = pkgutil.resolve_name(name)
                if ":" in name:
                    found()
            _ready.add(name)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(max(1, int(work.num_cpus)))


def _use(images: dict) -> None:
    import torch

    from async_hpo import data

    with warnings.catch_warnings(action="ignore"):  # of arrays that can't be written to: so they can be shared
        data.use({part: (torch.from_numpy(X), torch.from_numpy(y)) for part, (X, y) in images.items()})


def _set_allocator() -> None:
    """What `ALLOCATOR` says, in a process that has started already."""
    options = {"MALLOC_TRIM_THRESHOLD_": -1, "MALLOC_MMAP_THRESHOLD_": -3}  # as in glibc's malloc.h
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        for name, value in ALLOCATOR.items():
            ctypes.CDLL("libc.so.6").mallopt(options[name], int(value))


@contextlib.contextmanager
def _no_child_left():
    """End the processes that the trial has started: its own process goes on."""
    before = set(psutil.Process().children(recursive=True))
    try:
        yield
    finally:
        for child in set(psutil.Process().children(recursive=True)) - before:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()


class _Output:
    """Takes what the trial and its child processes print, and sends it on: reports at once, the rest soon."""

    def __init__(self, trial_id: int, inbox):
        self._inbox, self._trial_id = inbox, trial_id
        self._node_id = ray.get_runtime_context().get_node_id()
        self._sending, self._closed = threading.Lock(), threading.Event()

    def __enter__(self):
        self._before = {fd: os.dup(fd) for fd in _STREAMS}, sys.stdout, sys.stderr
        self._open = contextlib.ExitStack()
        self._files = {fd: self._open.enter_context(tempfile.TemporaryFile()) for fd in _STREAMS}  # noqa: SIM115
        self._sent = dict.fromkeys(_STREAMS, 0)
        for fd, file in self._files.items():
            os.dup2(file.fileno(), fd)
        text: dict[str, Any] = {"line_buffering": True, "encoding": "utf-8", "errors": "replace"}
        sys.stdout = _Stdout(open(1, "wb", closefd=False), self._report, **text)
        sys.stderr = io.TextIOWrapper(open(2, "wb", closefd=False), **text)
        self._send("std.out", b"")  # the driver learns where the trial is
        threading.Thread(target=self._send_soon, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._closed.set()
        cast(_Stdout, sys.stdout).close_quietly()
        sys.stderr.flush()
        descriptors, sys.stdout, sys.stderr = self._before
        for fd, before in descriptors.items():
            os.dup2(before, fd)
            os.close(before)
        self._send_new()
        with self._sending:
            self._open.close()

    def _send_soon(self) -> None:
        while not self._closed.wait(PRINT_INTERVAL):
            self._send_new()

    def _report(self) -> None:
        if not self._send_new():
            raise _Stopped

    def _send_new(self) -> bool:
        """Returns whether the trial is to go on."""
        goes_on = True
        with self._sending:
            for fd, name in _STREAMS.items():
                while content := self._read(fd):
                    goes_on = self._send(name, content)
                    self._sent[fd] += len(content)
        return goes_on

    def _read(self, fd: int) -> bytes:
        with contextlib.suppress(ValueError):  # closed meanwhile
            return os.pread(self._files[fd].fileno(), 2**20, self._sent[fd])
        return b""

    def _send(self, name: str, content: bytes) -> bool:
        return ray.get(self._inbox.put.remote(self._trial_id, self._node_id, name, content))


class _Stdout(io.TextIOWrapper):
    """Standard output that calls `on_report` when Syne Tune's `Reporter` flushes it, after each line of its own."""

    def __init__(self, buffer, on_report: Callable[[], None], **options):
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
