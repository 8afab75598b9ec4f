"""What is RayBackend's own, beside the contract in test_backends.py: on real Ray nodes, all on this machine."""

import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest
import ray
from helpers import (
    SPACE,
    alive,
    assert_failed_alone,
    assert_nothing_lost_or_doubled,
    program,
    report_epochs,
    results_of,
    run_tuner,
    start_program,
    wait_for,
    wait_for_results,
)
from ray.cluster_utils import Cluster
from syne_tune.config_space import uniform

from async_hpo import RayBackend, runs
from async_hpo.chapter import hpo_objective_lenet_synetune

pytestmark = pytest.mark.usefixtures("folder")

SLOW = SPACE | {"n_epochs": 30, "pause": 0.1}
NODE = {"num_cpus": 1, "node_ip_address": "127.0.0.1"}


@pytest.fixture
def cluster():
    """Three nodes with a place for one trial each; this process is connected to the first."""
    ray.shutdown()
    cluster = Cluster(initialize_head=True, head_node_args=NODE | {"node_name": "first"})
    for name in ("second", "third"):
        cluster.add_node(**NODE, node_name=name)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="module", autouse=True)
def no_cluster_left():
    yield
    ray.shutdown()


def backend_on(cluster, objective=report_epochs, space=SLOW, **options):
    return RayBackend(objective, space, address=cluster.address, preload=[__name__], **options)


def wait_for_trial(backend, trial_id):
    """Until it has made a few reports."""
    wait_for(lambda: trial_id in backend._trials and len(backend._trials[trial_id].reports()) >= 3, 60, "reports")


def report_pid(x, n_epochs, pause):
    from syne_tune import Reporter

    report = Reporter()
    for epoch in range(1, n_epochs + 1):
        time.sleep(pause)
        report(epoch=epoch, error=x, pid=os.getpid())


def pids_of(backend):
    return [int(trial.reports()[0]["pid"]) for trial in backend._trials.values()]


def wait_for_report(backend):
    wait_for(lambda: backend.fetch_status_results(backend.trial_ids)[1], 30, "a report")


# --- nodes and workers that die --------------------------------------------------------------------------------------


def test_trials_run_on_every_node(cluster):
    run_tuner(backend_on(cluster, space=SPACE | {"pause": 0.2}), max_trials=6, n_workers=3)
    run = runs.load_run("test")
    assert_nothing_lost_or_doubled(run)
    assert set(run.reports.node) == {"first", "second", "third"}


def test_a_killed_worker_fails_one_trial(cluster):
    backend = backend_on(cluster, report_pid)
    tuning = threading.Thread(target=run_tuner, args=[backend], kwargs={"max_trials": 4, "n_workers": 3})
    tuning.start()
    wait_for_trial(backend, 0)
    os.kill(pids_of(backend)[0], signal.SIGKILL)
    tuning.join()
    assert_failed_alone(runs.load_run("test"), 0)
    assert "process was killed" in backend.stderr(0)[-1]


def test_a_node_is_removed_and_another_one_joins(cluster):
    backend = backend_on(cluster)
    backend.warm_up()
    samples = watch(backend)
    tuning = threading.Thread(target=run_tuner, args=[backend], kwargs={"max_trials": 12, "n_workers": 3})
    tuning.start()
    label = {node["NodeID"]: node["NodeName"] for node in ray.nodes()}
    (second,) = (node for node in cluster.worker_nodes if label[node.node_id] == "second")
    wait_for_trial(backend, 0)
    cluster.remove_node(second, allow_graceful=False)
    wait_for_trial(backend, 4)
    cluster.add_node(**NODE, node_name="fourth")
    tuning.join()
    run = runs.load_run("test")
    assert_nothing_lost_or_doubled(run)
    (failed,) = run.trials.trial_id[run.trials.status == "Failed"]
    assert backend.node(failed) == "second" and "node died" in backend.stderr(failed)[-1]
    assert (run.reports.trial_id == failed).sum() >= 1, "reports before the node's end are kept"
    nodes = {backend.node(trial_id) for trial_id in range(3, max(backend._trials) + 1)}
    assert nodes - {None} == {"first", "third", "fourth"}
    assert {places for _, places in samples} == {2, 3}
    waiting = sum(running > places for running, places in samples)
    assert waiting < 0.1 * len(samples), "no trial is called running that waits for a place, except for a moment"


def watch(backend):
    """Each time the tuner looks: how many trials are called running, and how many places there are."""
    samples = []
    fetch = backend.fetch_status_results

    def fetch_and_count(trial_ids):
        found = fetch(trial_ids)
        samples.append((len(backend._running()), backend.places()))
        return found

    backend.fetch_status_results = fetch_and_count
    return samples


def test_more_workers_than_places_are_refused_with_both_numbers(cluster):
    with pytest.raises(ValueError, match="4 workers, but the cluster can run 3 trials at a time"):
        run_tuner(backend_on(cluster), n_workers=4)
    with pytest.raises(ValueError, match=r"1 workers, but the cluster can run 0 .* 1 CPU and 1 GPU"):
        run_tuner(backend_on(cluster, num_gpus=1), n_workers=1)
    backend = backend_on(cluster)  # without a tuner
    for _ in range(3):
        backend.start_trial({"x": 0.5, "n_epochs": 9, "pause": 0.1})
    with pytest.raises(ValueError, match="4 workers, but"):
        backend.start_trial({"x": 0.5, "n_epochs": 9, "pause": 0.1})
    backend.stop_all()


def test_two_tuners_at_once_on_one_cluster(folder):
    ray.shutdown()
    cluster = Cluster(initialize_head=True, head_node_args=NODE | {"num_cpus": 4})
    try:
        text = program("RayBackend", folder, address=cluster.address)
        processes = [start_program(folder, f"{name}-1", 8, text) for name in ("one", "two")]
        for process in processes:
            _, err = process.communicate(timeout=90)
            assert process.returncode == 0, err
    finally:
        cluster.shutdown()
    pids = []
    for name in ("one", "two"):
        run = runs.load_run(name)
        assert_nothing_lost_or_doubled(run)
        assert run.reports.trial_id.nunique() == 2
        pids.append(set(run.reports.pid))
    assert not pids[0] & pids[1]
    assert not alive([int(pid) for pid in pids[0] | pids[1]])


def test_trials_end_with_their_driver_and_the_cluster_stays(cluster, folder):
    text = program("RayBackend", folder, address=cluster.address)
    process = start_program(folder, "program", 300, text)
    results = wait_for_results(folder, "program")
    trials = [int(pid) for pid in results.pid.unique()]
    assert len(alive(trials)) == 2
    process.kill()
    process.communicate()
    wait_for(lambda: not alive(trials), 10, "the end of the trials")
    assert len(results_of(folder, "program")) >= len(results)
    run_tuner(backend_on(cluster, space=SPACE), max_trials=3, n_workers=3)
    assert (runs.load_run("test").trials.status == "Completed").sum() >= 3


# --- stopping --------------------------------------------------------------------------------------------------------


def test_a_stopped_trial_ends_at_its_report_and_its_process_stays_warm():
    backend = RayBackend(report_pid, SLOW, preload=[__name__])
    backend.start_trial({"x": 0.5, "n_epochs": 1000, "pause": 0.05})
    wait_for_report(backend)
    backend.stop_trial(0)
    start = time.monotonic()
    backend.stop_all()
    assert time.monotonic() - start < 1
    backend.start_trial({"x": 0.5, "n_epochs": 1000, "pause": 0.05})
    wait_for_report(backend)
    backend.stop_all()
    assert alive(pids_of(backend))


@pytest.mark.parametrize(("kind", "stays_warm"), [("busy", True), ("asleep", False), ("stubborn", False)])
def test_a_trial_that_hangs_is_stopped_by_force(kind, stays_warm):
    """What can be interrupted is: Python code can, but not a wait in the system, and not what catches everything."""

    def objective(x):
        from syne_tune import Reporter

        Reporter()(epoch=1, error=x, pid=os.getpid())
        while True:
            try:
                time.sleep(600 if kind == "asleep" else 0.01)
            except BaseException:
                if kind != "stubborn":
                    raise

    backend = RayBackend(objective, SPACE, preload=[__name__])
    backend.start_trial({"x": 0.5})
    wait_for_report(backend)
    start = time.monotonic()
    backend.stop_all()
    assert 5 <= time.monotonic() - start < 8
    assert bool(alive(pids_of(backend))) == stays_warm


def test_what_child_processes_and_libraries_print_arrives_too():
    def objective(x):
        print("by Python", flush=True)
        os.write(1, b"by a library\n")
        subprocess.run([sys.executable, "-c", "import sys; print('by a child'); print('oh', file=sys.stderr)"])
        os.write(1, "ü".encode()[:1])
        report_epochs(x, n_epochs=1)

    backend = RayBackend(objective, SPACE, preload=[__name__])
    backend.start_trial({"x": 0.5})
    wait_for(lambda: backend.fetch_status_results([0])[0][0][1] == "Completed", 30, "the end")
    assert [line.strip() for line in backend.stdout(0)[:3]] == ["by Python", "by a library", "by a child"]
    assert backend.stderr(0) == ["oh\n"]


def test_lines_arrive_while_the_trial_runs():
    def objective(x):
        print("hello")
        time.sleep(600)

    backend = RayBackend(objective, SPACE, preload=[__name__])
    backend.start_trial({"x": 0.5})
    wait_for(lambda: backend.fetch_status_results([0]) and backend.stdout(0) == ["hello\n"], 5, "the line")
    backend.stop_all()


# --- the same numbers ------------------------------------------------------------------------------------------------


def test_the_learning_curve_is_the_one_of_a_process_of_its_own():
    space = {"learning_rate": uniform(0.01, 1), "batch_size": 256, "max_epochs": 1}
    config = {"learning_rate": 0.1, "batch_size": 256, "max_epochs": 1}
    backend = RayBackend(hpo_objective_lenet_synetune, space)
    backend.warm_up()
    found = []
    for trial_id in range(2):
        backend.start_trial(config)
        wait_for(lambda i=trial_id: backend.fetch_status_results([i])[0][i][1] == "Completed", 60, "the end")
        found.append([report["validation_error"] for report in backend._trials[trial_id].reports()])
    here = runs.run_here(hpo_objective_lenet_synetune, config)
    assert found == [list(here.validation_error)] * 2


# --- bad input -------------------------------------------------------------------------------------------------------


def test_what_it_cannot_do_is_refused_by_name():
    backend = RayBackend(report_epochs, SLOW, preload=[__name__])
    backend.start_trial({"x": 0.5, "n_epochs": 20, "pause": 0.1})
    with pytest.raises(NotImplementedError, match="RayBackend can't pause a trial"):
        backend.pause_trial(0)
    with pytest.raises(NotImplementedError, match="RayBackend can't copy the checkpoint"):
        backend.start_trial({"x": 0.5, "n_epochs": 2, "pause": 0.1}, checkpoint_trial_id=0)
    backend._trial_dict[0].status = "InProgress"
    backend.stop_all()


def test_a_trial_needs_something():
    with pytest.raises(ValueError, match="needs CPUs or GPUs"):
        RayBackend(report_epochs, SLOW, num_cpus=0)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1", "nowhere.invalid:6379"])
def test_an_address_where_nothing_answers(address):
    ray.shutdown()
    start = time.monotonic()
    with pytest.raises(ConnectionError, match=f"No Ray cluster answers at {address} "):
        RayBackend(report_epochs, SLOW, address=address)
    assert time.monotonic() - start < 10


def test_an_address_where_something_else_answers():
    ray.shutdown()
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        port = server.stdout.readline().split("port ")[1].split()[0]
        start = time.monotonic()
        with pytest.raises(ConnectionError, match=f"No Ray cluster .* at 127.0.0.1:{port}"):
            RayBackend(report_epochs, SLOW, address=f"127.0.0.1:{port}")
        assert time.monotonic() - start < 10
    finally:
        server.kill()


def test_a_package_that_the_nodes_lack(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "here_only.py").write_text("")
    backend = RayBackend(report_epochs, SLOW, address=cluster.address, preload=["here_only"])
    start = time.monotonic()
    with pytest.raises(RuntimeError, match=r"can start on node (first|second|third): .*No module named 'here_only'"):
        backend.warm_up()
    assert time.monotonic() - start < 10


def test_a_cluster_of_its_own_is_closed_to_others():
    ray.shutdown()
    before = set(psutil.Process().children(recursive=True))
    RayBackend(report_epochs, SLOW, preload=[__name__])
    started = set(psutil.Process().children(recursive=True)) - before
    listening = {
        connection.laddr.ip.removeprefix("::ffff:")
        for process in started
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_a_cluster_of_its_own_asks_for_a_token_and_reports_to_nobody(tmp_path):
    text = """
from async_hpo import RayBackend
RayBackend(print, {}, preload=[])
from ray._raylet import AuthenticationMode, get_authentication_mode
from ray._common.usage.usage_lib import usage_stats_enabled
print(get_authentication_mode() == AuthenticationMode.TOKEN, usage_stats_enabled())
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    found = subprocess.run(
        [sys.executable, "-c", text], env=environment | {"HOME": str(tmp_path)}, capture_output=True, text=True
    )
    assert found.stdout.split()[-2:] == ["True", "False"], found.stderr
    assert (tmp_path / ".ray" / "auth_token").exists()
