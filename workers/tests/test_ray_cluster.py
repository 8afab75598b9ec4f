"""What RayBackend, and a trial of it, do without a cluster."""

import logging
import multiprocessing
import os
import subprocess
import sys
import threading
import types
from pathlib import Path

import pytest
import ray
from backend_helpers import LONG, SPACE, report_epochs, wait_for
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


def test_what_it_can_not_do_is_refused_by_name(nodes):
    backend = RayBackend(report_epochs, SPACE)
    with pytest.raises(NotImplementedError, match="RayBackend can't pause a trial"):
        backend.pause_trial(0)
    with pytest.raises(NotImplementedError, match="RayBackend can't copy the checkpoint"):
        backend.start_trial({"x": 0.5}, checkpoint_trial_id=0)
    assert backend.trial_ids == []


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

    def _put(self, trial_id, node_id, name, content, reports):
        assert (trial_id, node_id) == (7, "here")
        self.texts[name] += content
        self.reports += reports
        return len(self.reports) < self.n


@pytest.fixture
def trial(monkeypatch):
    context = types.SimpleNamespace(get_node_id=lambda: "here")
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    monkeypatch.setattr(ray, "get", lambda value: value)
    inbox = FakeInbox(2)
    return inbox, ray_trial.Output(7, inbox)


def test_a_trial_sends_its_reports_at_once_and_is_stopped_at_one(trial):
    (inbox, output), call = trial, Reporter.__call__
    with output:
        print("hello", end=" ")
        report = Reporter()
        report(epoch=1)
        assert [one["epoch"] for one in inbox.reports] == [1]
        with pytest.raises(ray_trial.Stopped):
            report(epoch=2)
        print("the end", end="")
    assert inbox.reports[1]["st_worker_iter"] == 1
    assert inbox.texts["std.out"].startswith(b"hello [tune-metric]: {") and inbox.texts["std.out"].endswith(b"the end")
    assert Reporter.__call__ is call


def test_what_child_processes_and_libraries_print_is_sent_while_the_trial_runs(trial):
    inbox, output = trial
    with output:
        os.write(1, b"by a library\n")
        subprocess.run([sys.executable, "-c", "import os; print('by a child'); os.write(2, bytes([255]))"])
        child = multiprocessing.get_context("fork").Process(target=Reporter(), kwargs={"epoch": 1})
        child.start()
        wait_for(lambda: inbox.reports and inbox.texts["std.err"], LONG, "all of it")
    assert inbox.texts["std.out"].startswith(b"by a library\nby a child\n[tune-metric]") and child.exitcode == 0
    assert inbox.reports[0]["epoch"] == 1 and inbox.texts["std.err"] == b"\xff"


def test_a_thread_that_an_earlier_trial_left_can_not_report(trial):
    inbox, output = trial
    may_report = threading.Event()

    def report_late():
        may_report.wait(LONG)
        with pytest.raises(SystemExit):
            Reporter()(epoch=1)

    thread = threading.Thread(target=report_late)
    thread.start()
    with output:
        may_report.set()
        thread.join()
    assert not inbox.reports and inbox.texts == {"std.out": b"", "std.err": b""}


def test_of_a_long_output_an_excerpt_is_sent_and_every_report(trial):
    inbox, output = trial
    inbox.n = 9
    with output:
        for epoch in range(5):
            os.write(1, b"so much\n" * 2**18)
            Reporter()(epoch=epoch)
    text = inbox.texts["std.out"]
    assert [one["epoch"] for one in inbox.reports] == [*range(5)] and text.count(b"[tune-metric]") == 5
    assert len(text) < 2**22 + 2**17 and b"bytes are left out" in text and text.endswith(b"so much\n")


def test_the_next_trial_starts_where_this_one_did(tmp_path, monkeypatch):
    monkeypatch.setenv("BEFORE", "yes")
    before, logger = Path.cwd(), logging.getLogger("of a trial")
    with ray_trial._as_it_was():
        os.chdir(tmp_path)
        os.environ["DURING"] = os.environ.pop("BEFORE")
        logger.addHandler(logging.NullHandler())
        child = subprocess.Popen(["sleep", "600"])
    assert Path.cwd() == before and os.environ["BEFORE"] == "yes" and "DURING" not in os.environ
    assert not logger.handlers and child.wait() != 0
