"""What RayBackend, and a trial of it, do without a cluster."""

import multiprocessing
import os
import subprocess
import sys
import time
import types

import cloudpickle
import pytest
import ray
from backend_helpers import LONG, SPACE, report_epochs
from syne_tune import Reporter
from syne_tune_workers import RayBackend, ray_backend, ray_cluster, ray_trial

pytestmark = pytest.mark.usefixtures("folder")


# --- places ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def nodes(monkeypatch):
    """What Ray would say of a cluster."""

    def node(number, name, alive=True, **resources):
        return {"NodeID": number, "NodeName": name, "NodeManagerAddress": "me", "Alive": alive, "Resources": resources}

    nodes = [node("a" * 9, "first", CPU=3.0), node("b" * 9, "me", CPU=2.0, GPU=4.0), node("c", "gone", False, CPU=9.0)]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    monkeypatch.setattr(ray_backend, "connect", lambda address: None)


@pytest.mark.parametrize(("needs", "places"), [((1, 0), 5), ((2, 0), 2), ((0.5, 1), 4), ((0, 2), 2), ((1, 5), 0)])
def test_more_workers_than_places_are_refused_with_both_numbers(nodes, needs, places):
    backend = RayBackend(report_epochs, SPACE, *needs)
    assert backend.places() == places
    backend.check_workers(places)
    with pytest.raises(
        ValueError, match=f"{places + 1} workers, but the cluster can run {places} trials .*{needs[0]} CPU"
    ):
        backend.check_workers(places + 1)


def test_the_places_of_a_lost_node_are_busy(nodes):
    """Also when no trial runs: several may end between two looks of the tuner."""
    backend = RayBackend(report_epochs, SPACE)
    backend.check_workers(4, asynchronous=True)
    assert backend.busy_trial_ids() == []
    backend._lost_nodes.add("b" * 9)
    backend.check_workers(4)  # the run goes on
    assert len(backend.busy_trial_ids()) == 1
    backend.check_workers(4, asynchronous=False)
    assert backend.busy_trial_ids() == [], "synchronously, the tuner waits until nothing is busy"


def test_nodes_are_called_by_their_names(nodes):
    assert [ray_cluster.label(number) for number in ("a" * 9, "b" * 9)] == ["first", "me (bbbbbb)"]


@pytest.mark.parametrize("needs", [(0, 0), (-1, 1), (1, -1)])
def test_a_trial_needs_something(needs):
    with pytest.raises(ValueError, match="needs CPUs or GPUs"):
        RayBackend(report_epochs, SPACE, *needs)


# --- addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1", "nowhere.invalid:6379"])
def test_an_address_where_nothing_answers(address):
    ray.shutdown()
    with pytest.raises(ConnectionError, match=f"No Ray cluster answers at {address} "):
        RayBackend(report_epochs, SPACE, address=address)


def test_an_address_where_something_else_answers():
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        port = server.stdout.readline().split("port ")[1].split()[0]
        test_an_address_where_nothing_answers(f"127.0.0.1:{port}")
        server.kill()


# --- a trial, in this process ----------------------------------------------------------------------------------------


class FakeInbox:
    """Takes what a trial sends, and tells it to stop after `n` reports."""

    def __init__(self, n):
        self.n, self.reports, self.texts = n, [], {"std.out": b"", "std.err": b""}
        self.put = types.SimpleNamespace(remote=self._put)

    def _put(self, number, where, name, content, reports):
        assert (number, where) == (7, ("here", os.getpid()))
        self.texts[name] += content
        self.reports += reports
        return len(self.reports) < self.n


@pytest.fixture
def run_trial(monkeypatch):
    context = types.SimpleNamespace(get_node_id=lambda: "here")
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    monkeypatch.setattr(ray, "get", lambda value: value)

    def run(objective, n):
        setup = ray_trial.Setup("a name", cloudpickle.dumps(objective), (), (), [], [], 1)
        inbox = FakeInbox(n)
        return ray_trial.run._function(7, cloudpickle.dumps({}), setup, inbox), inbox

    return run


def test_what_a_trial_and_its_children_print_is_sent_until_it_is_stopped(run_trial):
    def objective():
        print("hello")
        os.write(1, b"by a library\n")
        subprocess.run([sys.executable, "-c", "import os; print('by a child'); os.write(2, bytes([255]))"])
        child = multiprocessing.get_context("fork").Process(target=Reporter(), kwargs={"epoch": 1})
        child.start()
        child.join()
        print("before the end", end="")
        report = Reporter()
        report(epoch=2)
        time.sleep(LONG)

    ended, inbox = run_trial(objective, 2)
    assert ended == ("Stopped", "") and [report["epoch"] for report in inbox.reports] == [1, 2]
    assert inbox.texts["std.out"].startswith(b"hello\nby a library\nby a child\n[tune-metric]")
    assert b"before the end" in inbox.texts["std.out"] and inbox.texts["std.err"] == b"\xff"


def test_of_a_long_output_an_excerpt_is_sent_and_every_report(run_trial):
    def objective():
        for epoch in range(5):
            os.write(1, b"so much\n" * 2**18)
            Reporter()(epoch=epoch)
        os.write(1, b"the end")
        os.kill(os.getpid(), 9)

    ended, inbox = run_trial(objective, 9)
    text = inbox.texts["std.out"]
    assert ended[0] == "Failed" and "killed by SIGKILL" in ended[1]
    assert [one["epoch"] for one in inbox.reports] == [*range(5)] and text.count(b"[tune-metric]") == 5
    assert len(text) < 2**22 + 2**17 and b"bytes are left out" in text and text.endswith(b"the end")
