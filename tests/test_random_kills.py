"""Searches in which one process is killed or stopped, or can write no more, at a random moment.

Afterwards a reader of the files, who knows the guarantees in workers/README.md and nothing of the code, says which of
them was broken. `make kills` plays many seeds; these again:

    SEEDS="17 19" .venv/bin/python -m pytest -s tests/test_random_kills.py -k Ray      # 17 and 18
"""

import contextlib
import json
import math
import multiprocessing
import os
import random
import resource
import signal
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import journal
import pandas as pd
import psutil
import pytest
import syne_tune_workers
from backend_helpers import LONG, alive, wait_for
from journal import N_EPOCHS
from syne_tune.backend.trial_status import Status
from syne_tune.config_space import uniform
from syne_tune.optimizer.baselines import RandomSearch
from syne_tune_workers import processes, ray_cluster

from async_hpo.search import search

SECONDS = 1.5  # of a search, from its first report
NODE = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "include_dashboard": False}
#: Who may be hit in which way. Without room, a process writes as on a full disk; without files, it can open none.
FATES = {
    "ForkserverBackend": [
        *((whom, how) for whom in ("trial", "server", "tuner") for how in ("SIGKILL", "SIGSTOP", "SIGTERM")),
        *(("tuner", "SIGKILL"), ("trial", "no room"), ("tuner", "no room"), ("tuner", "no files")),
    ]
}
FATES["RayBackend"] = FATES["ForkserverBackend"][:-1]  # without files Ray ends the whole process
FATES["RayBackend"] += [*(("worker", how) for how in ("SIGKILL", "SIGSTOP", "SIGTERM")), ("node", "SIGKILL")]
CONTEXT = multiprocessing.get_context("forkserver")


class Plan(NamedTuple):
    """What a seed stands for."""

    seed: int
    backend: str
    whom: str
    how: str
    after: float  # seconds, from the first report
    trains: bool

    @classmethod
    def of(cls, backend: str, seed: int) -> "Plan":
        draw = random.Random(seed)
        whom, how = FATES[backend][seed % len(FATES[backend])]
        return cls(seed, backend, whom, how, draw.uniform(0, SECONDS), draw.random() < 0.2)


class Enough:
    """Ends a search some time after its first report, and when it is known what became of the trials by then.

    A busy machine may start late, and be slow to see that a process is gone. What has been stopped never ends.
    """

    def __init__(self):
        self.begin = math.inf  # on the monotonic clock
        self.trials: set[int] = set()

    def __call__(self, status) -> bool:
        if status.overall_metric_statistics.count:
            self.begin = min(self.begin, time.monotonic())
        seconds, seen = time.monotonic() - self.begin, status.last_trial_status_seen
        if seconds < SECONDS:
            self.trials = {*seen}
        in_doubt = any(seen[trial_id] == Status.in_progress for trial_id in self.trials)
        return seconds > 15 or (seconds > SECONDS + 1 and not in_doubt)


# --- the searches ----------------------------------------------------------------------------------------------------


def session(plan: Plan, folder: Path, address: str | None, **options) -> None:
    """A search, in a process of its own."""
    os.chdir(folder)
    log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ["SYNETUNE_FOLDER"] = str(folder / "experiments")
    processes._PATIENCE = 2
    space = {"x": uniform(1e-4, 1e-2), "journal": str(folder / "journal")}
    where = {"address": address} if address else {}
    preload = [journal.__name__, *(["torch"] if plan.trains else [])]
    backend = getattr(syne_tune_workers, plan.backend)(
        journal.trains if plan.trains else journal.sleeps, space, preload=preload, **where
    )
    search(backend, RandomSearch(space, metrics=["error"]), "kills", n_workers=2, **options)


def play(plan: Plan, cluster: Any = None) -> list[str]:
    """Run a search, let its fate come, and judge. Returns what was broken."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "journal").mkdir()
        try:
            return _play(plan, folder, cluster)
        except Exception as error:
            return [f"{error!r}: {(folder / 'log').read_text()[-2000:]}"]
        finally:
            for _, pids, _ in told_in(folder).values():
                for pid in alive(pids):
                    os.kill(pid, signal.SIGKILL)


def _play(plan: Plan, folder: Path, cluster: Any) -> list[str]:
    address = cluster.address if cluster else None
    # What is installed: Python 3.11 lets its server find nothing else.
    CONTEXT.set_forkserver_preload(["async_hpo.search", "pytest", "syne_tune_workers.ray_backend"])
    options = {"seconds": None, "stop_criterion": Enough()}
    tuner = CONTEXT.Process(target=session, args=(plan, folder, address), kwargs=options)
    tuner.start()
    wait_for(lambda: any(epochs for *_, epochs in told_in(folder).values()), LONG, "a report", tuner)
    time.sleep(plan.after)
    victim, at = strike(plan, folder, tuner.pid, cluster), time.monotonic()
    tuner.join(LONG)
    late = tuner.is_alive()
    if late:
        tuner.kill()
        tuner.join()
    broken = [*judge(plan, folder, tuner.exitcode, victim, at), *(["the search does not end"] if late else [])]
    if plan.whom == "tuner" and plan.how in ("SIGKILL", "SIGTERM") and not broken:
        before = read(folder)[1]
        ended = {trial_id for trial_id, status in before.items() if status == "Completed"}
        starts = {x: len(n) for x, (n, *_) in told_in(folder).items()}
        n_trials = len(before) + 2
        options = {"resume": True, "seconds": LONG, "n_trials": n_trials}
        again = CONTEXT.Process(target=session, args=(plan, folder, address), kwargs=options)
        again.start()
        again.join(LONG)
        broken += judge(plan, folder, again.exitcode, None, at)
        after, configs = read(folder)[1], config_of(folder)
        broken += [
            f"trial {n} is {after.get(n)}, not Completed" for n in range(n_trials) if after.get(n) != "Completed"
        ]
        for n in ended:
            if len(told_in(folder)[configs[n]][0]) > starts[configs[n]]:
                broken.append(f"trial {n} had ended, and was started again")
    return broken


def strike(plan: Plan, folder: Path, tuner: int, cluster: Any) -> float | None:
    """Let a process have its fate. Returns the `x` of the trial that is hit, itself or with its server or node."""
    running = [(x, alive(starts[-1:])) for x, (starts, _, epochs) in told_in(folder).items() if len(epochs) < N_EPOCHS]
    running = [(x, pids[0]) for x, pids in running if pids]
    if plan.whom != "tuner" and not running:
        return None  # all are between two trials
    x, pid = running[plan.seed % len(running)] if running else (None, 0)
    with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):  # it has just ended
        if plan.whom == "node":
            worker = psutil.Process(pid).parents()[2]  # after the server and its guard
            raylets = {node.all_processes["raylet"][0].process.pid: node for node in cluster.worker_nodes}
            if node := raylets.get(worker.ppid()):
                cluster.remove_node(node, allow_graceful=False)
                return x
            return None  # it runs on the head, whose end is the cluster's
        process = {"tuner": tuner, "trial": pid}.get(plan.whom) or psutil.Process(pid).parent().pid
        if plan.whom == "worker":
            process = psutil.Process(pid).parents()[2].pid
        if plan.how == "no room":
            resource.prlimit(process, resource.RLIMIT_FSIZE, (100, 100))
        elif plan.how == "no files":
            resource.prlimit(process, resource.RLIMIT_NOFILE, (5, 5))
        else:
            os.kill(process, signal.Signals[plan.how])
        if (plan.whom, plan.how) == ("tuner", "SIGSTOP"):
            time.sleep(1)
            os.kill(process, signal.SIGCONT)
        return None if plan.whom == "tuner" else x
    return None


# --- the judge -------------------------------------------------------------------------------------------------------


def told_in(folder: Path) -> dict[float, tuple[list[int], list[int], dict[int, float]]]:
    """`x` of a trial -> its processes, those with their children, and when it had made the report of an epoch."""
    found = {}
    for path in (folder / "journal").iterdir():
        lines = [line.split() for line in path.read_text().splitlines()]
        starts = [(int(pid), int(child)) for kind, pid, child in lines if kind == "start"]
        epochs = {int(epoch): float(at) for kind, epoch, at in lines if kind == "epoch"}
        found[float(path.name)] = [pid for pid, _ in starts], [pid for pair in starts for pid in pair], epochs
    return found


def run_of(folder: Path) -> Path:
    (run,) = (folder / "experiments").glob("kills-*")
    return run


def config_of(folder: Path) -> dict[int, float]:
    return {int(path.parent.name): json.loads(path.read_text())["x"] for path in run_of(folder).glob("*/config.json")}


def read(folder: Path) -> tuple[dict[int, list[int]], dict[int, str]]:
    """Trial -> the epochs of its reports, and how it ended."""
    results, trials = run_of(folder) / "results.csv.zip", run_of(folder) / "trials.csv"
    table = pd.read_csv(results) if results.exists() else pd.DataFrame({"trial_id": [], "epoch": []})
    status = pd.read_csv(trials).groupby("trial_id").status.last().to_dict() if trials.exists() else {}
    return {int(n): rows.epoch.astype(int).tolist() for n, rows in table.groupby("trial_id")}, status


def judge(plan: Plan, folder: Path, code: int | None, victim: float | None, at: float) -> list[str]:
    """Which guarantees were broken.

    Args:
        code: the tuner's exit code.
        victim: the trial that was hit, if one was.
        at: when, on the monotonic clock.
    """
    broken = []
    try:
        json.loads((run_of(folder) / "metadata.json").read_text())
        reports, statuses = read(folder)
    except Exception as error:  # whatever a reader finds in a file that is not whole
        return [f"a file is not whole: {error}"]
    whole = code == 0  # the tuner has ended as it should
    if not whole and plan.whom != "tuner":
        broken.append(f"the search ended with exit code {code}: {(folder / 'log').read_text()[-500:]}")
    told, configs = told_in(folder), config_of(folder)
    for n, x in configs.items():
        _, _, made = told.get(x, ([], [], {}))
        found, status = reports.get(n, []), statuses.get(n)
        if found != [*range(1, len(found) + 1)]:
            broken.append(f"trial {n}: reports {found}")
        if len(found) > len(made) + 1:  # one may have been made just before the end
            broken.append(f"trial {n}: {len(found)} reports, made {len(made)}")
        # A worker process or a node takes with it what was reported in its last moment.
        moment = 2 if plan.whom in ("worker", "node") and x == victim else 0
        lost = [epoch for epoch, when in made.items() if epoch not in found and (not moment or when < at - moment)]
        if whole and status in ("Completed", "Failed") and lost:
            broken.append(f"trial {n}, {status}: reports {found}, made {[*made]}")
        if status == "Failed" and not may_fail(plan, x, victim):
            said = (run_of(folder) / str(n) / "std.err").read_text()[-300:]
            broken.append(f"trial {n} failed, and nobody had touched it: {said}")
        if x == victim and plan.how in ("SIGKILL", "SIGTERM", "no room") and len(made) < N_EPOCHS:
            said = (run_of(folder) / str(n) / "std.err").read_text()
            if status != "Failed" or not said.strip():
                broken.append(f"trial {n} was hit and is {status}: {said[-300:]!r}")
    pids = [pid for _, pids, _ in told.values() for pid in pids]
    end = time.monotonic() + LONG
    while alive(pids) and time.monotonic() < end:
        time.sleep(0.1)
    return broken + [f"{psutil.Process(pid)} lives on" for pid in alive(pids)]


def may_fail(plan: Plan, x: float, victim: float | None) -> bool:
    if plan.whom == "server" and plan.backend == "ForkserverBackend":
        return victim is not None  # its trials are forks of it
    return (plan.whom == "tuner" and plan.how.startswith("no ")) or (x == victim and plan.how != "SIGSTOP")


# --- all of them -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def cluster_for(backend: str):
    """Three nodes on this machine, for Ray."""
    if backend != "RayBackend":
        yield None
        return
    cluster, _ = ray_cluster.local_cluster(["first", "second", "third"], **NODE)
    yield cluster
    cluster.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "seeds"),
    [("ForkserverBackend", (0, 17)), pytest.param("RayBackend", (13, 16), marks=pytest.mark.cluster)],
)
def test_no_guarantee_is_broken(backend, seeds):
    seeds = range(*map(int, os.environ.get("SEEDS", "{} {}".format(*seeds)).split()))
    with cluster_for(backend) as cluster, ThreadPoolExecutor(3) as pool:

        def play_and_tell(seed):
            plan, begin = Plan.of(backend, seed), time.monotonic()
            broken = play(plan, cluster)
            print(*plan, f"{time.monotonic() - begin:.0f} s", *(broken or ["holds"]), sep="; ", flush=True)
            while cluster and len(cluster.worker_nodes) < 2:
                ray_cluster.try_again(lambda: cluster.add_node(**NODE))
            return bool(broken)

        # One at a time on Ray, which lets nobody but the main thread add a node.
        n_broken = sum((map if cluster else pool.map)(play_and_tell, seeds))
    assert not n_broken, f"{n_broken} of {len(seeds)}"
