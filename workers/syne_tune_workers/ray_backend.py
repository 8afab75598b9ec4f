"""The same trials on a Ray cluster: this machine, or many.

A trial is a Ray task (Moritz et al., 2018, "Ray: A Distributed Framework for Emerging AI Applications", OSDI) that runs
it in a fork of a warm process on its node. What trials share travels to a node once, through Ray's object store.
"""

import itertools
import pkgutil
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import cloudpickle
import ray
from ray.exceptions import NodeDiedError, RayError, WorkerCrashedError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from syne_tune.backend.trial_status import Status
from syne_tune.constants import ST_CHECKPOINT_DIR

from . import ray_trial
from .function_backend import MAX_WAIT, FunctionBackend, FunctionTrial
from .ray_cluster import alive_nodes, connect, is_here, label
from .sources import search_path
from .worker import Share

#: Seconds in which a trial that was told to stop must end. Then its worker process is killed.
GRACE = 20.0


class RayBackend(FunctionBackend):
    """Runs trials of a Python function as tasks on a Ray cluster.

    Takes the place of `ForkserverBackend` or of Syne Tune's `PythonBackend`; scheduler, tuner and callbacks stay. A
    trial that raises, or whose worker process or node dies, fails alone, with the reason at the end of its `std.err`,
    its reports kept. It is not tried again: for random search the next configuration is as good. When a node dies, the
    run goes on with those that are left; a node that joins is used.

    Trials share no state: each is a fork of a process that has prepared, as with `ForkserverBackend`. Checkpoints, and
    so pause and resume, work where all nodes are on this machine. Each report has a field `node`, where it came from,
    unless the trial reports one of its own. Of what a trial prints, the driver gets the reports, the first 4 MiB of
    each stream and its last 64 KiB.

    Give the tuner a short `sleep_time` (0 is fine): the end of a trial wakes it. Tuners may share a cluster, but don't
    know of each other: together they should not have more workers than it has places.

    Args:
        tune_function: the objective. It calls Syne Tune's `Reporter`; it may be a closure, or defined in a notebook.
        config_space: its keys are the function's arguments.
        num_cpus, num_gpus: what a trial needs of a node.
        address: of a running cluster, "host:port"; this machine must be one of its nodes. By default the cluster to
            which this process is connected or, if there is none, a new one: this machine, not open to others.
        preload: what worker processes prepare: names of modules to import, and `module:function` to call.
        share: what all trials share: pairs (`module:function` that makes it, `module:function` that takes it). The
            first is called once, by the driver; what it returns travels to the nodes, and is taken in each process that
            prepares. NumPy's arrays lie in memory once on each node, and can't be written to.

    Raises:
        ValueError: the function can't be sent to another process, its arguments and `config_space` don't match, or it
            takes an `st_checkpoint_dir` and the cluster has other machines.
        ConnectionError: no cluster answers at `address`.
    """

    # Let the tuner ask `busy_trial_ids` before it starts a trial: it does not know that a stopped trial or a dead node
    # still holds a place.
    tuner_options: ClassVar[dict[str, Any]] = {"start_jobs_without_delay": False}

    def __init__(
        self,
        tune_function: Callable[..., None],
        config_space: dict[str, Any],
        num_cpus: float = 1,
        num_gpus: float = 0,
        address: str | None = None,
        preload: Sequence[str] = (),
        share: Sequence[Share] = (),
    ):
        if num_cpus < 0 or num_gpus < 0 or not num_cpus + num_gpus:
            raise ValueError(f"a trial needs CPUs or GPUs, not num_cpus={num_cpus} and num_gpus={num_gpus}")
        super().__init__(tune_function, config_space, preload, share)
        self.num_cpus, self.num_gpus, self.address = num_cpus, num_gpus, address
        self._name_of_setup = uuid.uuid4().hex
        self._setup: Any = None  # in the object store, once its processes are warm
        self._inbox: Any = None
        self._tasks: dict[int, _Trial] = {}  # by number: trials that hold a place
        self._numbers = itertools.count()
        self._lost_nodes: set[str | None] = set()  # Ray itself believes in a dead node for another 20 s
        self._most_places = self._n_workers = 0
        self._asynchronous = False
        connect(address)
        if ST_CHECKPOINT_DIR in self._parameters and not all(map(is_here, alive_nodes())):
            raise ValueError(
                f"{self._name} takes an {ST_CHECKPOINT_DIR}, but the cluster has other machines: a checkpoint would "
                "have to be where every node can read it. Use ForkserverBackend, or leave checkpoints out."
            )

    def places(self) -> int:
        """How many trials the cluster can run at a time, as it is now."""
        return sum(self._places_on(node) for node in alive_nodes() if node["NodeID"] not in self._lost_nodes)

    def _places_on(self, node: dict[str, Any]) -> int:
        needed = {"CPU": self.num_cpus, "GPU": self.num_gpus}
        return min(int(node["Resources"].get(kind, 0) / n) for kind, n in needed.items() if n)

    def check_workers(self, n_workers: int, asynchronous: bool | None = None) -> None:
        """Raise ValueError if the cluster has not got so many places: Ray would let the others wait, unseen."""
        connect(self.address)  # a back-end that was loaded is not yet
        self._most_places = max(self._most_places, self.places())  # a cluster that has lost a node goes on
        if n_workers > self._most_places:
            needs = f"{self.num_cpus} CPU" + (f" and {self.num_gpus} GPU" if self.num_gpus else "")
            raise ValueError(
                f"{n_workers} workers, but the cluster can run {self._most_places} trials at a time (each needs "
                f"{needs}): use fewer workers, or a larger cluster."
            )
        self._n_workers = max(self._n_workers, n_workers)
        self._asynchronous = self._asynchronous if asynchronous is None else asynchronous

    def warm_up(self) -> None:
        """Let as many processes of every node as it has places prepare, and check that they can start a trial.

        Call it before `tuner.run()`: the wait is then no part of the run's budget. Called again, it is quick.

        Raises:
            RuntimeError: a node can't prepare, or can't load the function; the message names the node and says why.
        """
        connect(self.address)
        if self._setup is None:
            values = [pkgutil.resolve_name(make)() for make, _ in self.share]
            fixed = self._name_of_setup, self._function, self.preload, self.share, values
            setup = ray.put(ray_trial.Setup(*fixed, search_path(), self.num_cpus))
            here = _on(ray.get_runtime_context().get_node_id())
            self._inbox = ray_trial.Inbox.options(**here).remote()  # type: ignore[attr-defined]
        else:
            setup = self._setup
        waiting: dict[Any, str] = {}
        name = uuid.uuid4().hex
        for node in alive_nodes():
            n, task = self._places_on(node), ray_trial.warm_up.options(**_on(node["NodeID"]))
            waiting |= {task.remote(setup, self._inbox, name, n): node["NodeID"] for _ in range(n)}
        for ref, node_id in waiting.items():
            try:
                ray.get(ref, timeout=ray_trial.SECONDS_TO_WARM_UP)
            except RayError as error:
                *_, last = str(error).rstrip().splitlines()
                message = f"No trial of {self._name} can start on node {label(node_id)}: {last}\n{error}"
                raise RuntimeError(message) from None
        self._setup = setup

    def _is_ready(self) -> bool:
        return self._setup is not None

    def _start(self, trial_id: int, folder: Path, arguments: dict[str, Any]) -> "_Trial":
        while trial_id in self._with_task():  # it was paused, and has not ended yet
            self.fetch_status_results([])
        # A tuner without this back-end's `tuner_options` does not wait for the place of a trial that is being stopped.
        self.check_workers(1 + sum(trial.status == Status.in_progress for trial in self._tasks.values()))
        task = ray_trial.run.options(num_cpus=self.num_cpus, num_gpus=self.num_gpus)
        number = next(self._numbers)
        ref = task.remote(number, cloudpickle.dumps(arguments), self._setup, self._inbox)
        self._tasks[number] = trial = _Trial(folder, number, ref)
        if trial_id in self._trials:
            trial.reports = self._trials[trial_id].reports  # those of before that the tuner has not got yet
        return trial

    def _with_task(self) -> list[int]:
        """Trials that hold a place: one that has been stopped does, until its task ends."""
        return [trial_id for trial_id, trial in self._trials.items() if trial.number in self._tasks]

    def _wait(self, trial_ids: list[int]) -> None:
        # A free worker is noticed at once, not at the next poll.
        if self._tasks:
            ray.wait([trial.ref for trial in self._tasks.values()], timeout=MAX_WAIT)

    def _update(self, trial_ids: list[int]) -> None:
        numbers = {trial.ref: number for number, trial in self._tasks.items()}
        ended, _ = ray.wait([*numbers], num_returns=len(numbers), timeout=0) if numbers else ([], [])
        outcomes = {numbers[ref]: _outcome(ref) for ref in ended}  # before what they printed is fetched
        if self._setup is not None:
            for number, *piece in ray.get(self._inbox.empty.remote()):
                if number in self._tasks:
                    self._tasks[number].receive(*piece)
        for number, (status, reason) in outcomes.items():
            trial = self._tasks.pop(number)
            if trial.status == Status.in_progress:
                trial.finish(status, reason)
            if reason == _NODE_DIED:
                self._lost_nodes.add(trial.node_id)
        for trial in self._tasks.values():
            if time.monotonic() > trial.stop_by:
                trial.kill()

    def _stop(self, trial_id: int, status: str) -> None:
        trial = self._trials[trial_id]
        trial.stop_by = time.monotonic() + GRACE
        trial.finish(status)
        self._inbox.stop.remote(trial.number)

    def stop_all(self) -> None:
        """Stop all trials, and wait until none runs."""
        super().stop_all()
        while self._tasks:
            self.fetch_status_results([])

    def busy_trial_ids(self) -> list[tuple[int, str]]:
        """Trials that hold a place, as of the last `fetch_status_results`.

        Syne Tune's tuner (0.16, `Tuner._schedule_new_tasks`) takes a shorter list than its own as news, replaces its
        own set by it, and so loses a trial that starts in the same moment: this must not know more than the tuner does.
        """
        busy = [(trial_id, Status.in_progress) for trial_id in self._with_task()]
        # The places of a lost node count as busy, so that no trial is called running that waits for one. But with
        # synchronous scheduling the tuner waits until nothing is busy.
        lost = max(0, self._n_workers - self.places()) if busy or self._asynchronous else 0
        return busy + [(-1, Status.in_progress)] * lost

    def node(self, trial_id: int) -> str | None:
        """The node that the trial ran on; None if it has not started yet."""
        trial = self._trials.get(trial_id)
        return trial.node if trial else None

    def __str__(self) -> str:
        return f"ray {self._name}"

    def __getstate__(self) -> dict[str, Any]:
        # Saved with the tuner. What lies in the cluster is its driver's.
        return self.__dict__ | {"_setup": None, "_inbox": None, "_tasks": {}}


class _Trial(FunctionTrial):
    """A trial and its task, which has a number of its own: a trial that was paused gets another one."""

    def __init__(self, folder: Path, number: int, ref: Any):
        super().__init__(folder)
        self.number, self.ref = number, ref
        self.node: str | None = None  # what it is called
        self.node_id: str | None = None  # its number
        self.pid = 0  # of Ray's worker process there
        self.stop_by = float("inf")  # on the monotonic clock
        for name in ray_trial.STREAMS:
            (folder / name).touch()

    def receive(self, where: tuple[str, int], name: str, content: bytes, reports: list[dict[str, Any]]) -> None:
        if self.node is None:
            self.node_id, self.pid = where
            self.node = label(self.node_id)
        with open(self.folder / name, "ab") as file:
            file.write(content)
        self.add([{"node": self.node} | report for report in reports])

    def kill(self) -> None:
        """Kill Ray's worker process, which does not answer: somebody has stopped it."""
        self.stop_by = time.monotonic() + GRACE
        if self.node_id is None:
            ray.cancel(self.ref, force=True)  # it has not begun
        else:
            ray_trial.kill.options(**_on(self.node_id)).remote(self.pid)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"ref": None, "number": -1}


_NODE_DIED = "The trial's node died, or left the cluster."
_REASONS = {
    NodeDiedError: _NODE_DIED,
    WorkerCrashedError: "The trial's process was killed: from outside, or out of memory.",
}


def _outcome(ref: Any) -> tuple[str, str]:
    try:
        status, reason = ray.get(ref)
        return status, reason
    except RayError as error:
        return Status.failed, _REASONS.get(type(error), str(error))


def _on(node_id: str) -> dict[str, Any]:
    """Options of what runs on this node beside trials."""
    return {"num_cpus": 0, "scheduling_strategy": NodeAffinitySchedulingStrategy(node_id, soft=False)}
