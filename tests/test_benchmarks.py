"""The comparison's arithmetic and book-keeping, on events of trials written by hand, and one real measurement."""

import json
import os
import signal
import subprocess
import time
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


def test_gaps_are_from_an_end_to_the_start_that_takes_its_place():
    found = [
        event("start", 100.5), event("start", 101), event("end", 103),
        event("start", 103.25), event("end", 104), event("start", 106),
    ]  # fmt: skip
    result = bench.summary(set(), found, clock=100, budget=10, n_workers=2)
    assert result == {"finished": 2, "first_start": 0.5, "latency_median": 1.125, "latency_max": 2.0}


def test_images_of_unfinished_epochs_count():
    found = [event("start", 1), event("images", 2, n=300), event("images", 5, n=200)]
    result = bench.summary(BENCHMARKS["real work"].measures, found, clock=0, budget=10, n_workers=2)
    assert result["images_per_second"] == 50


def test_reports_are_counted_after_the_ramp():
    """Which ends 3 s after the clock's start; from there it is 60 reports in 5 s."""
    received = [0, 100, 200, 300, 320, 330, 340, 350, 360]
    found = [event("received", 100 + time, n=n) for time, n in enumerate(received)]
    result = bench.summary(BENCHMARKS["scale"].measures, found, clock=100, budget=8, n_workers=2)
    assert result["reports_per_second"] == 12


def test_a_benchmark_has_numbers_of_its_own_and_no_others():
    found = [event("start", 1), event("images", 2, n=300), event("received", 4, n=1), event("received", 5, n=2)]
    always = {"finished", "first_start", "latency_median", "latency_max"}
    for benchmark, own in [
        ("overhead", set()),
        ("real work, cluster", {"images_per_second"}),
        ("scale", {"reports_per_second"}),
    ]:
        assert set(bench.summary(find(benchmark).measures, found, clock=0, budget=10, n_workers=2)) == always | own


def test_a_run_without_a_trial_is_told_as_it_is():
    result = bench.summary(set(), [], clock=0, budget=10, n_workers=2)
    assert result["finished"] == 0 and result["first_start"] is None and result["latency_median"] is None


@pytest.fixture
def results(monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "UNDER_WAY", tmp_path / "under way")
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(bench, "version", lambda name: "1.0")
    monkeypatch.setattr(bench, "prepare", lambda: None)
    return tmp_path


@pytest.mark.parametrize("comparison", COMPARISONS)
def test_an_interrupted_comparison_goes_on_where_it_was(monkeypatch, results, comparison):
    under_way, finished = (results / folder / f"{comparison}.json" for folder in ("under way", "results"))
    measured = []

    def measure(benchmark, system):
        if len(measured) == 5:
            raise KeyboardInterrupt
        measured.append((benchmark, system))
        return {"finished": 1}

    monkeypatch.setattr(bench, "measure", measure)
    with pytest.raises(KeyboardInterrupt):
        bench.main(comparison)
    assert len(json.loads(under_way.read_text())["measurements"]) == 5 and not finished.exists()
    monkeypatch.setattr(bench, "measure", lambda *key: measured.append(key) or {"finished": 1})
    bench.main(comparison)
    n_systems = sum(len(benchmark.systems) for benchmark in COMPARISONS[comparison].values())
    assert (
        len(measured) == bench.REPETITIONS * n_systems and measured[:n_systems] == measured[n_systems : 2 * n_systems]
    )
    assert len(json.loads(finished.read_text())["measurements"]) == len(measured) and not under_way.exists()


def test_only_what_is_chosen_is_measured_and_the_rest_with_the_next_call(monkeypatch, results, capsys):
    measured = []
    monkeypatch.setattr(bench, "measure", lambda *key: measured.append(key) or {"finished": 7})
    bench.main("benchmarks", "overhead")
    overhead = [("overhead", system) for system in BENCHMARKS["overhead"].systems]
    assert measured == overhead * bench.REPETITIONS and not (results / "results").exists()
    kept = json.loads((results / "under way" / "benchmarks.json").read_text())["measurements"]
    assert [m["repetition"] for m in kept[:: len(overhead)]] == [0, 1, 2]
    assert kept[0] == {"benchmark": "overhead", "system": overhead[0][1], "repetition": 0, "finished": 7}
    n_all = bench.REPETITIONS * sum(len(benchmark.systems) for benchmark in BENCHMARKS.values())
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith(f"1 of {n_all}: ") and json.loads(first.split(": ", 1)[1]) == kept[0]
    bench.main("benchmarks")
    assert len(measured) == n_all == len(set(measured)) * bench.REPETITIONS


def test_a_comparison_says_where_and_with_what_it_was_measured(results):
    found = bench.load("benchmarks")
    assert found["budgets"] == {"overhead": 30, "real work": 45, "scale": 8}
    assert found["versions"]["torch"] == "1.0" and found["versions"]["python"].count(".") == 2
    assert found["machine"]["cores"] == psutil.cpu_count() and found["machine"]["memory_GiB"] >= 1
    assert found["measurements"] == [] and found["seconds"] == 0


def test_a_comparison_under_way_is_of_one_state_of_the_objectives(monkeypatch, results):
    monkeypatch.setattr(bench, "measure", lambda *key: {})
    bench.main("benchmarks", "overhead")
    under_way = results / "under way" / "benchmarks.json"
    begun = json.loads(under_way.read_text())
    assert bench.load("benchmarks") == begun and begun["digest"] == digest(bench.OBJECTIVES)
    under_way.write_text(json.dumps(begun | {"digest": "other"}))
    with pytest.raises(SystemExit, match="was begun with other objectives: delete it"):
        bench.main("benchmarks")


def test_the_time_of_all_calls_is_added_up(monkeypatch, results):
    clock = iter(range(0, 10_000, 60))  # a minute passes from one look at it to the next
    monkeypatch.setattr(bench, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(bench, "measure", lambda *key: {})
    bench.main("cluster", "overhead, cluster")
    bench.main("cluster")
    recorded = json.loads((results / "results" / "cluster.json").read_text())
    assert recorded["seconds"] == 60 * len(recorded["measurements"])
    assert [path.name for path in (results / "results").iterdir()] == ["cluster.json"], "no part of a file"


@pytest.fixture
def sleeper(tmp_path):
    """A process in a measurement's folder, which outlives its driver."""
    process = subprocess.Popen(["sleep", "1000"], env=os.environ | {"BENCH_FOLDER": str(tmp_path)})
    wait_for(lambda: psutil.Process(process.pid).status() == psutil.STATUS_SLEEPING, 600, "a process to sleep")
    yield process
    process.kill()
    process.wait()


def test_only_processes_of_this_measurement_are_killed(sleeper, tmp_path):
    bench._end(str(tmp_path / "other"))
    assert sleeper.poll() is None
    bench._end(str(tmp_path))
    assert sleeper.wait() == -signal.SIGKILL


def test_the_clock_starts_when_the_driver_says_so(sleeper, tmp_path):
    log = tmp_path / "events"
    log.write_text("".join(json.dumps(event(kind, time)) + "\n" for kind, time in [("other", 1.0), ("clock", 2.0)]))
    assert bench._wait_for_clock(str(log), sleeper) == 2


def test_a_driver_that_ends_or_takes_too_long_has_no_clock(monkeypatch, sleeper, tmp_path):
    (tmp_path / "events").touch()
    with monkeypatch.context() as patch:
        patch.setattr(bench, "START_LIMIT", 0.1)
        assert bench._wait_for_clock(str(tmp_path / "events"), sleeper) is None
    sleeper.kill()
    sleeper.wait()
    assert bench._wait_for_clock(str(tmp_path / "events"), sleeper) is None


def test_cpu_and_memory_of_the_processes_that_are_still_there(monkeypatch, sleeper, tmp_path):
    """The budget is over: nothing is waited for, and this driver sleeps."""
    log = tmp_path / "events"
    log.touch()
    assert bench._watch(sleeper.pid, str(log), clock=0.0, budget=10.0) == {"driver_cpu": 0.0, "worker_MB": None}
    gone = subprocess.Popen(["true"])
    gone.wait()
    pids = [("start", os.getpid()), ("start", gone.pid), ("end", sleeper.pid)]
    log.write_text("".join(json.dumps({"event": kind, "time": 1.0, "pid": pid}) + "\n" for kind, pid in pids))
    megabytes = psutil.Process().memory_full_info().uss / 1e6
    assert bench._memory(str(log)) == pytest.approx(megabytes, rel=0.2), "of this process, the one trial left"


def test_an_unknown_benchmark_is_refused():
    with pytest.raises(SystemExit, match="no benchmark speed; there are: overhead, real work, scale"):
        bench.main("benchmarks", "speed")
    with pytest.raises(SystemExit, match="no comparison speed; there are: benchmarks, cluster"):
        bench.main("speed")


@pytest.fixture
def own_folders(monkeypatch, tmp_path):
    """Where measurements of this test, and of no other on this machine, have their folders."""
    monkeypatch.setattr(bench.tempfile, "tempdir", str(tmp_path))
    return str(tmp_path)


def assert_nothing_runs(own_folders):
    def gone():  # in a moment: a process that was killed takes a little to end
        environments = [process.info["environ"] or {} for process in psutil.process_iter(["environ"])]
        return not any(e.get("BENCH_FOLDER", "").startswith(own_folders) for e in environments)

    wait_for(gone, 120, "the end of the measurement's processes")


@pytest.fixture
def four_seconds(monkeypatch):
    """The budget of the overhead benchmark."""
    monkeypatch.setitem(BENCHMARKS, "overhead", BENCHMARKS["overhead"]._replace(budget=4))


@pytest.mark.slow
def test_one_real_measurement_leaves_nothing_behind(monkeypatch, own_folders, four_seconds):
    monkeypatch.setattr(bench, "START_LIMIT", 600)
    result = bench.measure("overhead", "ForkserverBackend, no sleep")
    assert "error" not in result and set(result) == {"finished", "first_start", "latency_median", "latency_max"}
    assert_nothing_runs(own_folders)


@pytest.mark.slow
def test_a_measurement_that_fails_is_told_and_leaves_nothing_behind(own_folders):
    broken = bench.measure("overhead", "no such system")
    assert "KeyError: 'no such system'" in broken["error"]
    assert_nothing_runs(own_folders)


@pytest.mark.slow
@pytest.mark.idle
def test_one_real_measurement_finishes_what_fits_into_its_budget(four_seconds):
    result = bench.measure("overhead", "ForkserverBackend, no sleep")
    assert 4 <= result["finished"] <= 6
    assert result["latency_median"] <= 0.03 and result["latency_max"] < 0.5


@pytest.mark.parametrize("comparison", COMPARISONS)
def test_the_recorded_comparison_is_whole(comparison):
    recorded = json.loads((paths.RECORDINGS / f"{comparison}.json").read_text())
    keys = {(m["benchmark"], m["system"], m["repetition"]) for m in recorded["measurements"]}
    assert keys == {
        (benchmark, system, repetition)
        for benchmark, chosen in COMPARISONS[comparison].items()
        for system in chosen.systems
        for repetition in range(bench.REPETITIONS)
    }
    assert set(recorded["machine"]) == {"cores", "memory_GiB"}
    assert recorded["seconds"] <= 60 * 60


@pytest.mark.parametrize("comparison", COMPARISONS)
def test_the_recorded_comparison_is_of_todays_objectives(comparison):
    recorded = json.loads((paths.RECORDINGS / f"{comparison}.json").read_text())
    assert recorded["digest"] == digest(recorded["of"]), f"{comparison}.json is older: measure it anew"


def test_events_of_several_writers_are_read_in_order(monkeypatch, tmp_path):
    path = tmp_path / "events"
    monkeypatch.setenv("BENCH_EVENTS", str(path))
    before = time.time()
    events.log("start")
    events.log("images", n=3)
    late = event("end", before + 1e6)
    path.write_text(json.dumps(late) + "\n" + path.read_text() + json.dumps(event("clock", 1.0)) + "\n")
    found = events.read(path)
    assert [(e["event"], e.get("n")) for e in found] == [("clock", None), ("start", None), ("images", 3), ("end", None)]
    assert found[1]["pid"] == os.getpid() and before <= found[1]["time"] <= time.time()


def test_images_are_logged_every_few_batches_and_at_an_epochs_end(monkeypatch, tmp_path):
    monkeypatch.setenv("BENCH_EVENTS", str(tmp_path / "events"))
    monkeypatch.setattr(events, "FLUSH", 3)
    batches = [("X", [0] * n) for n in (10, 10, 10, 10, 10, 10, 10, 4)]
    loader = events._Counted(batches)
    assert list(loader) == batches == list(loader) and len(loader) == 8
    assert [e["n"] for e in events.read(tmp_path / "events")] == [30, 30, 14] * 2


@pytest.fixture
def d2l(monkeypatch):
    from d2l import torch as d2l

    monkeypatch.setattr(d2l.DataModule, "train_dataloader", lambda data: [("X", [0, 1])])
    yield d2l
    del d2l.DataModule.uncounted


def test_images_are_counted_once_however_often_counting_is_asked_for(monkeypatch, tmp_path, d2l):
    monkeypatch.setenv("BENCH_EVENTS", str(tmp_path / "events"))
    for _ in range(2):
        events.count_images()
    assert list(d2l.DataModule().train_dataloader()) == [("X", [0, 1])]
    assert [e["n"] for e in events.read(tmp_path / "events")] == [2]
