"""What is RayBackend's own, beside the contract in test_backends.py: on real Ray nodes, all on this machine.

First on one cluster of three nodes, then on this machine alone: starting Ray takes longer than a test.
"""

import os
import signal
import subprocess
import sys
import time

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
    two_cpus,
    wait_for,
    wait_for_end,
    wait_for_results,
    wait_for_trial,
    wait_until_ended,
)
from syne_tune_workers import RayBackend, ray_backend, ray_cluster
from syne_tune_workers.ray_cluster import local_cluster

pytestmark = [pytest.mark.usefixtures("folder"), pytest.mark.cluster]

NODE = {"num_cpus": 1, "node_ip_address": "127.0.0.1"}
QUIET = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}  # fewer processes to start


@pytest.fixture(scope="module", autouse=True)
def no_cluster_left():
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def three_nodes(no_cluster_left):
    """With a place for one trial each."""
    ray.shutdown()
    cluster, _ = local_cluster(["first", "second"], **NODE, **QUIET)
    add_node(cluster, node_name="third", num_gpus=2)  # none that a trial could use
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def add_node(cluster, **options):
    ray_cluster.try_again(lambda: cluster.add_node(**NODE, **options))


@pytest.fixture
def cluster(three_nodes):
    three_nodes.wait_for_nodes(timeout=LONG)  # a node that a test has removed is still believed in for a while
    if ray.is_initialized() and ray.get_runtime_context().gcs_address != three_nodes.address:
        ray.shutdown()
    return three_nodes


@pytest.fixture
def alone():
    """This machine, two trials at a time: the first back-end starts Ray, the others find it."""
    if ray.is_initialized() and len(ray.nodes()) > 1:
        ray.shutdown()
    with two_cpus():
        yield


def backend_on(cluster, objective=report_epochs, space=SPACE, **options):
    return RayBackend(objective, space, address=cluster.address, preload=[__name__], **options)


def endless_on(cluster, go, **options):
    return backend_on(cluster, report_until, SPACE | {"file": str(go)}, **options)


def backend_here(objective=report_epochs, space=SPACE):
    return RayBackend(objective, space, preload=[__name__])


def wait_for_report(backend):
    wait_for(lambda: backend.fetch_status_results(backend.trial_ids)[1], LONG, "a report")


def pids_of(backend):
    return [int(reports_of(backend, trial_id)[0]["pid"]) for trial_id in backend._trials]


# --- nodes and workers that die --------------------------------------------------------------------------------------


def test_trials_run_on_every_node(cluster, tmp_path):
    def objective(x, folder):
        meet(folder, 3)
        report_epochs(x, pause=0)

    backend = backend_on(cluster, objective, SPACE | {"folder": str(tmp_path / "met")})
    reports = Run(run_tuner(backend, max_trials=3, n_workers=3)).reports
    assert_nothing_lost_or_doubled(reports)
    assert set(reports.node[reports.trial_id < 3]) == {"first", "second", "third"}


def test_a_killed_worker_fails_one_trial(cluster, go):
    backend = endless_on(cluster, go)
    tuning = in_background(backend, max_trials=4, n_workers=3)
    wait_for_trial(backend, 0)
    os.kill(pids_of(backend)[0], signal.SIGKILL)
    wait_for(lambda: backend._trials[0].status == "Failed", LONG, "its end")
    go.touch()
    assert_failed_alone(Run(tuning.result()), 0)
    assert "process was killed" in backend.stderr(0)[-1]


def test_more_workers_than_places_are_refused_with_both_numbers(cluster, go):
    backend = endless_on(cluster, go)
    with pytest.raises(ValueError, match="4 workers, but the cluster can run 3 trials at a time"):
        run_tuner(backend, n_workers=4)
    config = {"x": 0.5, "file": str(go)}  # without a tuner
    for _ in range(3):
        backend.start_trial(config)
    with pytest.raises(ValueError, match="4 workers, but"):
        backend.start_trial(config)
    backend.stop_all()
    with pytest.raises(ValueError, match=r"1 workers, but the cluster can run 0 .* 1 CPU and 3 GPU"):
        backend_on(cluster, num_gpus=3).check_workers(1)


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


def test_two_tuners_at_once_on_one_cluster(cluster, folder):
    n_workers = {"one": 1, "two": 2}
    processes = []
    for name, n in n_workers.items():
        text = program("RayBackend", folder, n_workers=n, address=cluster.address)
        processes.append(start_program(folder, f"{name}-1", text))
    for (name, n), process in zip(n_workers.items(), processes, strict=True):
        wait_for_results(folder, f"{name}-1", process, n)
    (folder / "stop").touch()
    for process in processes:
        _, err = process.communicate(timeout=LONG)
        assert process.returncode == 0, err
    pids = []
    for name, n in n_workers.items():
        reports = results_of(folder, f"{name}-1")
        assert_nothing_lost_or_doubled(reports)
        assert reports.trial_id.nunique() == n
        pids.append(set(reports.pid))
    assert not pids[0] & pids[1]
    wait_until_ended([int(pid) for pid in pids[0] | pids[1]])


def test_trials_end_with_their_driver_and_the_cluster_stays(cluster, folder):
    text = program("RayBackend", folder, address=cluster.address)
    process = start_program(folder, "program", text)
    results = wait_for_results(folder, "program", process)
    trials = [int(pid) for pid in results.pid.unique()]
    assert len(alive(trials)) == 2
    process.kill()
    process.communicate()
    wait_until_ended(trials)
    assert len(Run(run_tuner(backend_on(cluster), max_trials=3, n_workers=3)).finished) >= 3


def test_a_package_that_the_nodes_lack(cluster, tmp_path, monkeypatch):
    backend = backend_that_lacks_a_package(cluster, tmp_path, monkeypatch)
    with pytest.raises(RuntimeError, match=r"can start on node (first|second|third): .*No module named 'here_only'"):
        backend.warm_up()


@pytest.mark.idle
def test_a_package_that_the_nodes_lack_is_told_at_once(cluster, tmp_path, monkeypatch):
    backend = backend_that_lacks_a_package(cluster, tmp_path, monkeypatch)
    start = time.monotonic()
    with pytest.raises(RuntimeError, match="No module named 'here_only'"):
        backend.warm_up()
    assert time.monotonic() - start < 10


def backend_that_lacks_a_package(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "here_only.py").write_text("")
    return RayBackend(report_epochs, SPACE, address=cluster.address, preload=["here_only"])


def test_a_node_is_removed_and_another_one_joins(cluster, go):
    run, backend, samples, removed = run_while_a_node_is_replaced(cluster, go, "second", "fourth")
    assert_nothing_lost_or_doubled(run.reports)
    (failed,) = run.failed.trial_id
    assert failed < 3 and backend.node(failed) == removed and "node died" in backend.stderr(failed)[-1]
    assert (run.reports.trial_id == failed).sum() >= 3, "reports before the node's end are kept"
    assert {places for _, _, places in samples} == {2, 3}
    waiting = [sample for sample in samples if sample[1] > sample[2]]
    assert all(status == "InProgress" for status, _, _ in waiting), "none is called running that waits for a place"


def test_the_places_of_a_lost_node_are_busy(cluster):
    """Also when no trial runs: several may end between two looks of the tuner."""
    backend = backend_on(cluster)
    backend.check_workers(3, asynchronous=True)
    backend._places.lost_nodes.add(ray_cluster.alive_nodes()[0]["NodeID"])
    assert len(backend.busy_trial_ids()) == 1
    backend.check_workers(3, asynchronous=False)
    assert backend.busy_trial_ids() == [], "synchronously, the tuner waits until nothing is busy"


@pytest.mark.idle
def test_a_lost_node_is_noticed_soon(cluster, go):
    removed = sorted(names_of_nodes() - {"first"})[-1]
    _, _, samples, _ = run_while_a_node_is_replaced(cluster, go, removed, "fifth")
    waiting = sum(running > places for _, running, places in samples)
    assert waiting < 0.1 * len(samples)


def run_while_a_node_is_replaced(cluster, go, removed, joining):
    """The run goes on with two nodes, then with three, and trials are started on all that are there.

    Returns:
        The run; the back-end; each time the tuner looked: the status of the removed node's first trial, how many trials
        are called running, and how many places there are; and the removed node's name.
    """
    backend = endless_on(cluster, go)
    backend.warm_up()
    stop = go.with_name("stop")
    others = names_of_nodes() - {removed}
    tuning = in_background(backend, stop=lambda status: stop.exists(), n_workers=3)
    for trial_id in range(3):
        wait_for_trial(backend, trial_id)
    (lost,) = (trial for trial in backend._trials.values() if trial.node == removed)
    samples = watch(backend, lost)
    cluster.remove_node(node_called(cluster, removed), allow_graceful=False)
    wait_for(lambda: lost.status == "Failed", LONG, "the end of its trial")
    go.touch()
    wait_for(lambda: nodes_of_later_trials(backend) == others, LONG, "trials on the other nodes")
    go.unlink()
    add_node(cluster, node_name=joining)
    wait_for(lambda: nodes_of_later_trials(backend) == others | {joining}, LONG, "a trial on the new node")
    stop.touch()
    return Run(tuning.result()), backend, samples, removed


def names_of_nodes():
    return {node["NodeName"] for node in ray.nodes() if node["Alive"]}


def node_called(cluster, name):
    (number,) = (node["NodeID"] for node in ray.nodes() if node["Alive"] and node["NodeName"] == name)
    return next(node for node in cluster.worker_nodes if node.node_id == number)


def nodes_of_later_trials(backend):
    return {trial.node for trial_id, trial in [*backend._trials.items()] if trial_id >= 3} - {None}


def watch(backend, trial):
    samples = []
    fetch = backend.fetch_status_results

    def fetch_and_count(trial_ids):
        found = fetch(trial_ids)
        samples.append((trial.status, len(backend._with_task()), backend.places()))
        return found

    backend.fetch_status_results = fetch_and_count
    return samples


# --- this machine alone ----------------------------------------------------------------------------------------------


def test_a_cluster_of_its_own_is_closed_to_others(alone):
    ray.shutdown()
    before = set(psutil.Process().children(recursive=True))
    backend_here()
    started = set(psutil.Process().children(recursive=True)) - before
    listening = {
        connection.laddr.ip.removeprefix("::ffff:")
        for process in started
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_a_stopped_trial_ends_at_its_report_and_its_process_stays_warm(alone, go, monkeypatch):
    monkeypatch.setattr(ray_backend, "GRACE", LONG)  # it is not interrupted
    backend = start_endless(go)
    backend.stop_trial(0)
    backend.stop_all()
    assert not backend._trials[0]._interrupted
    assert alive(pids_of(backend)) == pids_of(backend)
    backend.start_trial({"x": 0.5, "file": str(go)})
    wait_for_report(backend)
    go.touch()
    assert wait_for_end(backend, 1)[0] == "Completed"


@pytest.mark.idle
def test_a_stopped_trial_ends_within_a_second(alone, go):
    backend = start_endless(go)
    backend.stop_trial(0)
    start = time.monotonic()
    backend.stop_all()
    assert time.monotonic() - start < 1


def start_endless(go):
    backend = backend_here(report_until, SPACE | {"file": str(go)})
    backend.start_trial({"x": 0.5, "file": str(go)})
    wait_for_report(backend)
    return backend


#: What can be interrupted is: Python code can, but not a wait in the system, and not what catches everything.
HANGING = {"busy": "stays warm", "asleep": "is killed", "stubborn": "is killed"}


@pytest.mark.parametrize("kind", HANGING)
def test_a_trial_that_hangs_is_stopped_by_force(alone, monkeypatch, kind):
    monkeypatch.setattr(ray_backend, "GRACE", 1)
    if HANGING[kind] == "stays warm":
        monkeypatch.setattr(ray_backend, "_SECONDS_TO_END", LONG)  # it is interrupted, and not killed
    backend = start_hanging(kind)
    start = time.monotonic()
    backend.stop_all()
    assert time.monotonic() - start >= 1
    if HANGING[kind] == "stays warm":
        assert alive(pids_of(backend))
    else:
        wait_until_ended(pids_of(backend))


@pytest.mark.idle
@pytest.mark.parametrize("kind", HANGING)
def test_a_trial_that_hangs_has_its_grace_and_no_more(alone, kind):
    backend = start_hanging(kind)
    start = time.monotonic()
    backend.stop_all()
    assert 5 <= time.monotonic() - start < 8
    assert bool(alive(pids_of(backend))) == (HANGING[kind] == "stays warm")


def start_hanging(kind):
    def objective(x):
        from syne_tune import Reporter

        Reporter()(epoch=1, error=x, pid=os.getpid())
        while True:
            try:
                time.sleep(10 * LONG if kind == "asleep" else 0.01)
            except BaseException:
                if kind != "stubborn":
                    raise

    backend = backend_here(objective)
    backend.start_trial({"x": 0.5})
    wait_for_report(backend)
    return backend


def test_what_child_processes_and_libraries_print_arrives_too(alone):
    def objective(x):
        print("by Python", flush=True)
        os.write(1, b"by a library\n")
        subprocess.run([sys.executable, "-c", "import sys; print('by a child'); print('oh', file=sys.stderr)"])
        os.write(1, "ü".encode()[:1])
        report_epochs(x, n_epochs=1)

    backend = backend_here(objective)
    backend.start_trial({"x": 0.5})
    assert wait_for_end(backend, 0)[0] == "Completed"
    assert [line.strip() for line in backend.stdout(0)[:3]] == ["by Python", "by a library", "by a child"]
    assert backend.stderr(0) == ["oh\n"]


def chatter(x, epochs):
    from syne_tune import Reporter

    report = Reporter()
    for epoch in range(epochs):
        print("so much\n" * 500_000)
        report(epoch=epoch, error=x)
    print("the last words")


def test_of_a_trial_that_prints_a_lot_an_excerpt_arrives_and_every_report(alone):
    backend = backend_here(chatter, SPACE | {"epochs": 5})
    trial = backend.start_trial({"x": 0.5, "epochs": 5})
    wait_for_end(backend, trial.trial_id)
    assert [report["epoch"] for report in reports_of(backend, trial.trial_id)] == [*range(5)]
    printed = (backend.trial_path(trial.trial_id) / "std.out").read_bytes()
    assert printed.startswith(b"so much\n") and printed.endswith(b"the last words\n")
    assert len(printed) < 5_000_000 and b"bytes are left out" in printed


def test_lines_arrive_while_the_trial_runs(alone, go):
    def objective(x, file):
        print("hello")
        while not os.path.exists(file):
            time.sleep(0.05)
        report_epochs(x, n_epochs=1)

    backend = backend_here(objective, SPACE | {"file": str(go)})
    backend.start_trial({"x": 0.5, "file": str(go)})
    wait_for(lambda: backend.fetch_status_results([0]) and backend.stdout(0) == ["hello\n"], LONG, "the line")
    go.touch()
    assert wait_for_end(backend, 0)[0] == "Completed"


def test_what_it_cannot_do_is_refused_by_name_and_the_trial_goes_on(alone, go):
    backend = start_endless(go)
    with pytest.raises(NotImplementedError, match="RayBackend can't pause a trial"):
        backend.pause_trial(0)
    with pytest.raises(NotImplementedError, match="RayBackend can't copy the checkpoint"):
        backend.start_trial({"x": 0.5, "file": str(go)}, checkpoint_trial_id=0)
    assert backend._trial_dict[0].status == "InProgress" and backend.trial_ids == [0]
    go.touch()
    assert wait_for_end(backend, 0)[0] == "Completed"


def test_a_cluster_of_its_own_asks_for_a_token_and_reports_to_nobody(tmp_path):
    text = """
from syne_tune_workers import RayBackend
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


def test_a_back_end_that_was_loaded_is_as_closed_as_a_new_one_and_its_fork_says_why_it_is_none(tmp_path):
    saved = tmp_path / "saved"
    saves = SAVES.replace("SAVED", str(saved))
    loads = LOADS.replace("SAVED", str(saved))
    environment = os.environ | {"SYNETUNE_FOLDER": str(tmp_path)}
    for text in (saves, loads):
        found = subprocess.run([sys.executable, "-c", text], env=environment, capture_output=True, text=True)
        assert found.returncode == 0, found.stderr
    addresses, status, fork = found.stdout.splitlines()[-3:]
    assert addresses == "['127.0.0.1']" and status == "Completed"
    assert "is a fork of process" in fork and "'spawn'" in fork


SAVES = """
import dill
from syne_tune.config_space import uniform
from syne_tune_workers import RayBackend
def objective(x):
    from syne_tune import Reporter
    Reporter()(epoch=1, error=x)
backend = RayBackend(objective, {"x": uniform(0, 1)})
backend.warm_up()
open("SAVED", "wb").write(dill.dumps(backend))
"""
LOADS = """
import dill, os, psutil, sys, time
backend = dill.loads(open("SAVED", "rb").read())
trial_id = backend.start_trial({"x": 0.5}).trial_id
while (status := backend.fetch_status_results([trial_id])[0][trial_id][1]) == "InProgress":
    time.sleep(0.05)
processes = psutil.Process().children(recursive=True)
connections = [one for process in processes for one in process.net_connections("tcp") if one.status == "LISTEN"]
print(sorted({one.laddr.ip.removeprefix("::ffff:") for one in connections}))
print(status, flush=True)
if os.fork() == 0:
    try:
        backend.start_trial({"x": 0.5})
    except RuntimeError as error:
        print(error, flush=True)
    os._exit(0)
os.wait()
"""


# --- bad input -------------------------------------------------------------------------------------------------------


def test_a_trial_needs_something():
    with pytest.raises(ValueError, match="needs CPUs or GPUs"):
        RayBackend(report_epochs, SPACE, num_cpus=0)


def assert_nothing_answers(address):
    ray.shutdown()
    with pytest.raises(ConnectionError, match=f"No Ray cluster answers at {address} "):
        RayBackend(report_epochs, SPACE, address=address)


NOWHERE = ["127.0.0.1:1", "127.0.0.1", "nowhere.invalid:6379"]


@pytest.mark.parametrize("address", NOWHERE)
def test_an_address_where_nothing_answers(address):
    assert_nothing_answers(address)


def test_an_address_where_something_else_answers(web_server):
    assert_nothing_answers(web_server)


@pytest.mark.idle
@pytest.mark.parametrize("address", NOWHERE)
def test_an_address_where_nothing_answers_is_told_at_once(address):
    start = time.monotonic()
    assert_nothing_answers(address)
    assert time.monotonic() - start < 10


@pytest.mark.idle
def test_an_address_where_something_else_answers_is_told_at_once(web_server):
    start = time.monotonic()
    assert_nothing_answers(web_server)
    assert time.monotonic() - start < 10


@pytest.fixture
def web_server():
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield "127.0.0.1:" + server.stdout.readline().split("port ")[1].split()[0]
    finally:
        server.kill()
