"""The comparison's arithmetic and book-keeping, on events of trials written by hand, and one real measurement."""

import json

import psutil
import pytest

from async_hpo import runs
from benchmarks import bench, events
from benchmarks.systems import BENCHMARKS, COMPARISONS


def event(kind, time, **values):
    return {"event": kind, "time": time, "pid": 1, **values}


def test_gaps_are_from_an_end_to_the_start_that_takes_its_place():
    found = [
        event("start", 100.5), event("start", 101), event("end", 103),
        event("start", 103.25), event("end", 104), event("start", 106),
    ]  # fmt: skip
    result = bench.summary("overhead", found, clock=100, budget=10, n_workers=2)
    assert result == {"finished": 2, "first_start": 0.5, "gap_median": 1.125, "gap_max": 2.0}


def test_images_of_unfinished_epochs_count():
    found = [event("start", 1), event("images", 2, n=300), event("images", 5, n=200)]
    assert bench.summary("real work", found, clock=0, budget=10, n_workers=2)["images_per_second"] == 50


def test_reports_are_counted_after_the_ramp():
    found = [event("received", time, n=10 * time) for time in range(9)]
    assert bench.summary("scale", found, clock=0, budget=8, n_workers=2)["reports_per_second"] == 10


def test_a_run_without_a_trial_is_told_as_it_is():
    result = bench.summary("overhead", [], clock=0, budget=10, n_workers=2)
    assert result["finished"] == 0 and result["first_start"] is None and result["gap_median"] is None


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
    n_systems = sum(len(systems) for *_, systems in COMPARISONS[comparison].values())
    assert (
        len(measured) == bench.REPETITIONS * n_systems and measured[:n_systems] == measured[n_systems : 2 * n_systems]
    )
    assert len(json.loads(finished.read_text())["measurements"]) == len(measured) and not under_way.exists()


def test_an_unknown_benchmark_is_refused():
    with pytest.raises(SystemExit, match="no benchmark speed; there are: overhead, real work, scale"):
        bench.main("benchmarks", "speed")
    with pytest.raises(SystemExit, match="no comparison speed; there are: benchmarks, cluster"):
        bench.main("speed")


def test_one_real_measurement_leaves_nothing_behind(monkeypatch):
    objective, argument, _, systems = BENCHMARKS["overhead"]
    monkeypatch.setitem(BENCHMARKS, "overhead", (objective, argument, 4, systems))
    result = bench.measure("overhead", "ForkserverBackend, no sleep")
    assert 4 <= result["finished"] <= 6 and result["gap_max"] < 0.5
    broken = bench.measure("overhead", "no such system")
    assert "KeyError: 'no such system'" in broken["error"]
    assert not [
        process.pid for process in psutil.process_iter(["environ"]) if "BENCH_FOLDER" in (process.info["environ"] or {})
    ]


@pytest.mark.parametrize("comparison", COMPARISONS)
def test_the_recorded_comparison_is_whole(comparison):
    recorded = json.loads((runs.RECORDINGS / f"{comparison}.json").read_text())
    keys = {(m["benchmark"], m["system"], m["repetition"]) for m in recorded["measurements"]}
    assert keys == {
        (benchmark, system, repetition)
        for benchmark, (*_, systems) in COMPARISONS[comparison].items()
        for system in systems
        for repetition in range(bench.REPETITIONS)
    }
    assert set(recorded["machine"]) == {"cores", "memory_GiB"}
    assert recorded["seconds"] <= 60 * 60


def test_events_of_several_writers_are_read_in_order(monkeypatch, tmp_path):
    monkeypatch.setenv("BENCH_EVENTS", str(tmp_path / "events"))
    events.log("start")
    events.log("images", n=3)
    assert [(e["event"], e.get("n")) for e in events.read(tmp_path / "events")] == [("start", None), ("images", 3)]
