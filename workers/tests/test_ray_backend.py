"""What is RayBackend's own, beside the contract in test_backends.py: on one cluster of three nodes, on this machine."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import dill
import psutil
import pytest
import ray
from backend_helpers import (
    LONG,
    SPACE,
    Run,
    alive,
    assert_failed_alone,
    assert_nothing_lost_or_doubled,
    in_background,
    meet,
    program,
    report_epochs,
    report_until,
    reports_of,
    results_of,
    run_tuner,
    start_program,
    wait_for,
    wait_for_end,
    wait_for_results,
    wait_for_trial,
    wait_until_ended,
)
from syne_tune_workers import RayBackend, ray_backend, ray_cluster

pytestmark = [pytest.mark.usefixtures("folder"), pytest.mark.cluster]

NODE = {"num_cpus": 1, "node_ip_address": "127.0.0.1"}
NODE |= {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}  # fewer processes to start


@pytest.fixture(scope="module")
def three_nodes():
    """With a place for one trial each."""
    ray.shutdown()
    cluster, _ = ray_cluster.local_cluster(["first", "second"], **NODE)
    add_node(cluster, node_name="third", num_gpus=2)  # none that a trial could use
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def add_node(cluster, **options):
    ray_cluster.try_again(lambda: cluster.add_node(**NODE, **options))


@pytest.fixture
def cluster(three_nodes):
    three_nodes.wait_for_nodes(timeout=LONG)  # a node that a test has removed is still believed in for a while
    return three_nodes


def backend_on(cluster, objective=report_epochs, space=SPACE, **options):
    return RayBackend(objective, space, address=cluster.address, preload=[__name__], **options)


def endless_on(cluster, go, **options):
    return backend_on(cluster, report_until, SPACE | {"file": str(go)}, **options)


def started_on(cluster, objective, **constants):
    """A back-end, and a trial of it that runs and has reported."""
    backend = backend_on(cluster, objective, SPACE | constants)
    backend.start_trial({"x": 0.5} | constants)
    wait_for_report(backend)
    return backend


def wait_for_report(backend):
    wait_for(lambda: backend.fetch_status_results(backend.trial_ids)[1], LONG, "a report")


def pids_of(backend):
    return [int(reports_of(backend, trial_id)[0]["pid"]) for trial_id in backend._trials]


# --- nodes and workers that die --------------------------------------------------------------------------------------


@pytest.mark.parametrize("whose", ["trial", "worker"])
def test_a_killed_process_fails_one_trial(cluster, go, whose):
    backend = endless_on(cluster, go)
    tuning = in_background(backend, max_trials=4, n_workers=3)
    wait_for_trial(backend, 0)
    (trial,) = pids_of(backend)[:1]
    os.kill(trial if whose == "trial" else backend._trials[0].pid, signal.SIGKILL)
    wait_for(lambda: backend._trials[0].status == "Failed", LONG, "its end")
    wait_until_ended([trial])
    go.touch()
    assert_failed_alone(Run(tuning.result()), 0)
    assert "process was killed" in backend.stderr(0)[-1]


def test_a_trial_without_a_place_is_refused(cluster, go):
    """Without a tuner, too."""
    backend, config = endless_on(cluster, go), {"x": 0.5, "file": str(go)}
    for _ in range(3):
        backend.start_trial(config)
    with pytest.raises(ValueError, match="4 workers, but the cluster can run 3 trials at a time"):
        backend.start_trial(config)
    backend.stop_all()


def test_each_trial_gets_gpus_of_its_own(cluster, tmp_path):
    def objective(x, folder):
        from syne_tune import Reporter

        meet(folder, 2)
        Reporter()(epoch=1, error=x, gpus=os.environ["CUDA_VISIBLE_DEVICES"])

    config = {"x": 0.5, "folder": str(tmp_path / "met")}
    backend = backend_on(cluster, objective, config, num_cpus=0.5, num_gpus=1)
    assert backend.places() == 2
    trials = [backend.start_trial(config).trial_id for _ in range(2)]
    assert [wait_for_end(backend, trial_id)[0] for trial_id in trials] == ["Completed"] * 2
    assert {report["gpus"] for i in trials for report in reports_of(backend, i)} == {"0", "1"}
    assert {backend.node(i) for i in trials} == {"third"}


def test_two_tuners_share_a_cluster_which_outlives_them(cluster, folder):
    """One of them is killed, and its trials end with it; the other one goes on."""
    processes, pids = {}, {}
    for name, n in {"one": 1, "two": 2}.items():
        text = program("RayBackend", folder, n_workers=n, address=cluster.address)
        processes[name] = start_program(folder, name, text)
    for (name, process), n in zip(processes.items(), (1, 2), strict=True):
        pids[name] = {int(pid) for pid in wait_for_results(folder, name, process, n).pid}
    assert len(alive(pids["one"] | pids["two"])) == 3
    processes["two"].kill()
    processes["two"].communicate()
    wait_until_ended(pids["two"])
    assert alive(pids["one"])
    (folder / "stop").touch()
    _, err = processes["one"].communicate(timeout=LONG)
    assert processes["one"].returncode == 0, err
    assert_nothing_lost_or_doubled(results_of(folder, "one"))
    wait_until_ended(pids["one"])
    assert len(Run(run_tuner(backend_on(cluster), max_trials=3, n_workers=3)).finished) >= 3


def test_a_package_that_the_nodes_lack(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "here_only.py").write_text("")
    backend = RayBackend(report_epochs, SPACE, address=cluster.address, preload=["here_only"])
    with pytest.raises(RuntimeError, match=r"can start on node (first|second|third): .*No module named 'here_only'"):
        backend.warm_up()


def test_a_node_is_removed_and_another_one_joins(cluster, go):
    """The run goes on with two nodes, then with three, and trials are started on all that are there."""
    backend, stop, samples = endless_on(cluster, go), go.with_name("stop"), []
    backend.warm_up()
    tuning = in_background(backend, stop=lambda status: stop.exists(), n_workers=3)
    for trial_id in range(3):
        wait_for_trial(backend, trial_id)
    nodes = [backend.node(trial_id) for trial_id in range(3)]
    assert sorted(nodes) == ["first", "second", "third"]
    lost = nodes.index("second")
    fetch = backend.fetch_status_results

    def fetch_and_count(trial_ids):
        found = fetch(trial_ids)
        samples.append((backend._trials[lost].status, len(backend._tasks), backend.places()))
        return found

    backend.fetch_status_results = fetch_and_count
    (number,) = (node["NodeID"] for node in ray_cluster.alive_nodes() if node["NodeName"] == "second")
    node = next(node for node in cluster.worker_nodes if node.node_id == number)
    cluster.remove_node(node, allow_graceful=False)
    wait_for(lambda: backend._trials[lost].status == "Failed", LONG, "the end of its trial")
    go.touch()

    def nodes_of_later_trials():
        return {trial.node for trial_id, trial in [*backend._trials.items()] if trial_id >= 3} - {None}

    wait_for(lambda: nodes_of_later_trials() == {"first", "third"}, LONG, "trials on the other nodes")
    go.unlink()
    add_node(cluster, node_name="fourth")
    wait_for(lambda: nodes_of_later_trials() == {"first", "third", "fourth"}, LONG, "a trial on the new node")
    stop.touch()
    run = Run(tuning.result())
    assert_failed_alone(run, lost)
    assert {*run.reports.node[run.reports.trial_id == lost]} == {"second"}
    assert "node died" in backend.stderr(lost)[-1]
    assert {places for _, _, places in samples} == {2, 3}
    waiting = [status for status, running, places in samples if running > places]
    assert set(waiting) <= {"InProgress"}, "none is called running that waits for a place"


# --- trials that are stopped, and drivers that end -------------------------------------------------------------------


@pytest.mark.parametrize("stopped", ["the trial catches all", "the trial", "the server", "the worker"])
def test_a_trial_ends_when_it_is_stopped_whatever_it_does(cluster, monkeypatch, stopped):
    """Or whichever of its processes does nothing any more."""

    def objective(x):
        from syne_tune import Reporter

        Reporter()(epoch=1, error=x, pid=os.getpid())
        while True:
            with contextlib.suppress(BaseException):
                time.sleep(LONG)

    # Only a worker that does nothing any more is killed from outside: another one may be slow.
    monkeypatch.setattr(ray_backend, "GRACE", 1 if stopped == "the worker" else LONG)
    backend = started_on(cluster, objective)
    trial = psutil.Process(*pids_of(backend))
    server, _, worker, *_ = trial.parents()
    assert worker.pid == backend._trials[0].pid
    processes = {"the trial": trial, "the server": server, "the worker": worker}
    if stopped in processes:
        processes[stopped].suspend()
    backend.stop_all()
    wait_until_ended([trial.pid])
    assert stopped != "the trial catches all" or alive([server.pid, worker.pid]) == [server.pid, worker.pid], "warm"


def test_checkpoints_are_refused_where_the_cluster_has_other_machines(cluster, monkeypatch):
    def objective(x, st_checkpoint_dir):
        pass

    monkeypatch.setattr(ray_cluster.socket, "gethostname", lambda: "another")
    with pytest.raises(ValueError, match="takes an st_checkpoint_dir, but the cluster has other machines"):
        backend_on(cluster, objective)


LOADS = """
import os, sys, time
import dill, psutil
backend = dill.loads(open(sys.argv[1], "rb").read())
trial_id = backend.start_trial({"x": 0.5}).trial_id
while (status := backend.fetch_status_results([trial_id])[0][trial_id][1]) == "InProgress":
    time.sleep(0.05)
processes = psutil.Process().children(recursive=True)
connections = [one for process in processes for one in process.net_connections("tcp") if one.status == "LISTEN"]
from ray._raylet import AuthenticationMode, get_authentication_mode
from ray._common.usage.usage_lib import usage_stats_enabled
print(status, *sorted({one.laddr.ip.removeprefix("::ffff:") for one in connections}), usage_stats_enabled())
print(get_authentication_mode() == AuthenticationMode.TOKEN, flush=True)
if os.fork() == 0:
    try:
        backend.start_trial({"x": 0.5})
    except RuntimeError as error:
        print(error, flush=True)
    os._exit(0)
os.wait()
"""


def test_a_loaded_back_end_starts_a_cluster_that_is_closed_and_reports_to_nobody(cluster, tmp_path):
    """As a new one does. A fork of its process says why it can't use that."""

    def objective(x):
        from syne_tune import Reporter

        Reporter()(epoch=1, error=x)

    backend = RayBackend(objective, SPACE)
    backend.warm_up()
    (tmp_path / "saved").write_bytes(dill.dumps(backend))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    environment |= {"HOME": str(tmp_path)}
    command = [sys.executable, "-c", LOADS, tmp_path / "saved"]
    found = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    run, asks_for_a_token, fork = found.stdout.splitlines()
    assert run == "Completed 127.0.0.1 False"
    assert asks_for_a_token == "True" and (tmp_path / ".ray" / "auth_token").exists()
    assert "is a fork of process" in fork and "'spawn'" in fork
