"""The comparison's arithmetic and book-keeping, on events of trials written by hand, and real measurements."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import count
from types import SimpleNamespace

import psutil
import pytest
from backend_helpers import wait_for

from async_hpo import paths
from async_hpo.digest import digest
from benchmarks import bench, events
from benchmarks.systems import BENCHMARKS, COMPARISONS, find


def event(kind, time, **values):
    return {"event": kind, "time": time, "pid": 1, **values}


@pytest.mark.parametrize(
    "benchmark, own",
    [("overhead", {}), ("real work, cluster", {"images_per_second": 60}), ("scale", {"reports_per_second": 12})],
)
def test_numbers_of_a_run(benchmark, own):
    """A gap is from an end to the start that takes its place. Of the reports, 60 come in the 5 s after the ramp."""
    found = [event("start", 100.5), event("start", 101), event("end", 103), event("start", 103.25)]
    found += [event("end", 104), event("start", 106), event("images", 101, n=300), event("images", 105, n=180)]
    received = [0, 100, 200, 300, 320, 330, 340, 350, 360]
    found += [event("received", 100 + time, n=n) for time, n in enumerate(received)]
    result = bench.summary(find(benchmark).measures, found, clock=100, budget=8, n_workers=2)
    assert result == {"finished": 2, "first_start": 0.5, "latency_median": 1.125, "latency_max": 2.0} | own


def test_numbers_of_a_run_in_which_no_trial_began():
    result = bench.summary((), [], clock=100, budget=10, n_workers=2)
    assert result == {"finished": 0, "first_start": None, "latency_median": None, "latency_max": None}


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """The benchmarks and systems that are measured: none runs. Each takes a minute."""
    keys, clock = [], count(step=60)
    monkeypatch.setattr(bench, "UNDER_WAY", tmp_path / "under way")
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(bench, "prepare", lambda: None)
    monkeypatch.setattr(bench, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(bench, "measure", lambda *key: keys.append(key) or {"finished": 7})
    return keys


def systems(comparison):
    return [(name, system) for name, benchmark in COMPARISONS[comparison].items() for system in benchmark.systems]


def test_a_comparison_measures_what_is_chosen_and_goes_on_where_it_was(measured):
    under_way, finished = (folder / "benchmarks.json" for folder in (bench.UNDER_WAY, bench.RESULTS))
    bench.main("benchmarks", "overhead")
    assert measured == [key for key in systems("benchmarks") if key[0] == "overhead"] * bench.REPETITIONS, "in turn"
    assert json.loads(under_way.read_text()) == bench.load("benchmarks") and not finished.exists()
    bench.main("benchmarks")
    assert sorted(measured) == sorted(systems("benchmarks") * bench.REPETITIONS)
    results = json.loads(finished.read_text())
    assert len(results["measurements"]) == len(measured) and results["seconds"] == 60 * len(measured)
    assert not [*bench.UNDER_WAY.iterdir()] and [*bench.RESULTS.iterdir()] == [finished], "no part of a file"


def test_a_comparison_begun_with_other_objectives_is_refused(measured):
    bench.UNDER_WAY.mkdir()
    (bench.UNDER_WAY / "cluster.json").write_text(json.dumps(bench.load("cluster") | {"digest": "other"}))
    with pytest.raises(SystemExit, match="was begun with other objectives: delete it"):
        bench.main("cluster")


@pytest.mark.parametrize("comparison", COMPARISONS)
def test_the_recorded_comparison_is_whole_and_of_todays_objectives(comparison):
    recorded = json.loads((paths.RECORDINGS / f"{comparison}.json").read_text())
    keys = [(m["benchmark"], m["system"]) for m in recorded["measurements"]]
    assert keys == systems(comparison) * bench.REPETITIONS
    assert recorded["digest"] == digest(recorded["of"]), f"{comparison}.json is older: measure it anew"


def test_only_processes_of_this_measurement_are_killed(tmp_path):
    process = subprocess.Popen(["sleep", "1000"], env=os.environ | {"BENCH_FOLDER": str(tmp_path)})
    wait_for(lambda: psutil.Process(process.pid).status() == psutil.STATUS_SLEEPING, 600, "a process to sleep")
    bench._end(str(tmp_path / "other"))
    assert process.poll() is None
    bench._end(str(tmp_path))
    assert process.wait() == -signal.SIGKILL


NUMBERS = {"finished", "first_start", "latency_median", "latency_max"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "system, names",
    [("ForkserverBackend, no sleep", NUMBERS), ("Optuna, two processes", NUMBERS), ("no such system", {"error"})],
)
def test_a_real_measurement_leaves_nothing_behind(monkeypatch, tmp_path, system, names):
    monkeypatch.setattr(bench.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(bench, "START_LIMIT", 600)
    monkeypatch.setitem(BENCHMARKS, "overhead", BENCHMARKS["overhead"]._replace(budget=4))
    assert set(bench.measure("overhead", system)) == names

    def gone():  # in a moment: a process that was killed takes a little to end
        environments = [process.info["environ"] or {} for process in psutil.process_iter(["environ"])]
        return not any(e.get("BENCH_FOLDER", "").startswith(str(tmp_path)) for e in environments)

    wait_for(gone, 120, "the end of the measurement's processes")


@pytest.fixture
def log(monkeypatch, tmp_path):
    monkeypatch.setenv("BENCH_EVENTS", str(tmp_path / "events"))
    return tmp_path / "events"


def test_events_of_several_writers_are_read_in_order(log):
    events.log("images", n=3)
    late, early = (json.dumps(event(*one)) + "\n" for one in (("end", time.time() + 1e6), ("clock", 1.0)))
    log.write_text(late + log.read_text() + early)
    assert [(e["event"], e.get("n")) for e in events.read(log)] == [("clock", None), ("images", 3), ("end", None)]


def test_images_are_logged_once_every_few_batches_and_at_an_epochs_end(monkeypatch, log):
    batches = [("X", [0] * n) for n in (10, 10, 10, 10, 10, 10, 10, 4)]
    data_module = type("DataModule", (), {"train_dataloader": lambda self: batches})
    monkeypatch.setitem(sys.modules, "d2l", SimpleNamespace(torch=SimpleNamespace(DataModule=data_module)))
    monkeypatch.setattr(events, "FLUSH", 3)
    for _ in range(2):  # two trials in one process
        events.count_images()
        loader = data_module().train_dataloader()
        assert list(loader) == batches and len(loader) == 8
    assert [e["n"] for e in events.read(log)] == [30, 30, 14] * 2
