"""Recorded trials replayed in real time, and the book's record of it."""

import json
import time

import joblib
import pandas as pd
import pytest

from async_hpo import ForkserverBackend, tables
from async_hpo.schedule import schedule
from async_hpo.sleeping import replay_in_real_time
from tools import replays
from tools.replays import PATH, Plan


@pytest.fixture
def ordered(monkeypatch):
    """Trial -> when its order was given. Syne Tune's own stamp is later: on a busy machine its trial runs by then."""
    times, start_trial = {}, ForkserverBackend.start_trial

    def noted(self, *args, **options):
        before = time.time()
        trial = start_trial(self, *args, **options)
        times[trial.trial_id] = before
        return trial

    monkeypatch.setattr(ForkserverBackend, "start_trial", noted)
    return times


@pytest.mark.parametrize("synchronous", [False, True])
def test_a_replay_reports_what_was_recorded_when_it_was(folder, ordered, synchronous):
    table, drawn = tables.read_table("cnn"), [5, 3, 5, 2]
    run = replay_in_real_time("cnn", drawn, n_workers=2, synchronous=synchronous, compression=50)
    trials = run.trials.set_index("trial_id")
    for trial_id, recorded in enumerate(drawn):
        expected = table[table.trial == recorded]
        reports = run.reports[run.reports.trial_id == trial_id]
        assert reports.validation_error.tolist() == expected.validation_error.tolist()
        assert reports.epoch.tolist() == expected.epoch.tolist()
        since_order = (reports.st_worker_timestamp - ordered[trial_id]).to_numpy()
        assert (since_order >= expected.seconds.to_numpy() / 50 - 0.005).all(), "never before it is due"
    waited = trials.start[2] >= max(trials.end[0], trials.end[1]) - 0.005
    assert waited if synchronous else trials.start[2] >= min(trials.end[0], trials.end[1]) - 0.005


@pytest.mark.filterwarnings("error:.*workers share")
def test_trials_that_sleep_may_be_more_than_cores(folder, monkeypatch):
    monkeypatch.setattr(joblib, "cpu_count", lambda: 1)  # two at a time are too many, on a slow machine, too
    n_workers = 2
    run = replay_in_real_time("cnn", [5] * n_workers, n_workers=n_workers)
    assert len(run.finished) >= n_workers


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Two quick runs, recorded elsewhere."""
    monkeypatch.setattr(Plan, "n_trials", 5)
    monkeypatch.setattr(Plan, "compression", 50.0)
    monkeypatch.setattr(replays, "PATH", tmp_path / "replays.jsonl")
    monkeypatch.setattr(replays, "plans", lambda: iter([Plan(0, 2, False), Plan(0, 2, True)]))
    return tmp_path / "replays.jsonl"


def test_recording_goes_on_where_it_was(small, folder, capsys):
    replays.record(minutes=0)
    assert "0 of 2 runs" in capsys.readouterr().out and not small.exists()
    replays.record(minutes=10)
    rows = [json.loads(line) for line in small.read_text().splitlines()]
    assert [row["synchronous"] for row in rows] == [False, True]
    for row in rows:
        # On a busy machine another worker may be free first: no order takes less than half of another (Graham, 1966).
        # And Syne Tune says when it started a trial once it has: a trial may have slept for milliseconds by then.
        assert row["seconds"] >= row["predicted"] / 2 and 0 <= row["predicted_idle"] < 1
        assert 0 < row["half"] <= row["seconds"] and row["trials"] == 5
    small.write_text(json.dumps(rows[0]) + "\n")
    replays.record(minutes=10)
    first, second = small.read_text().splitlines()
    assert json.loads(first) == rows[0] and json.loads(second)["synchronous"], "only what was missing"
    assert "2 of 2 runs" in capsys.readouterr().out and not folder.exists(), "no run is left behind"


def test_the_recorded_replays_are_whole_and_of_the_table_and_schedule_of_today():
    rows = [json.loads(line) for line in PATH.read_text().splitlines()]
    of = {Plan(row["sequence"], row["workers"], row["synchronous"]): row for row in rows}
    assert {*of} == {*replays.plans()} and len(of) == len(rows), "make record"
    for plan, row in of.items():
        assert (row["trials"], row["compression"]) == (plan.n_trials, plan.compression)
        assert row.items() >= replays.predict(plan).items(), (
            f"{plan} is of another table: delete {PATH.name}, make record"
        )
    rows = pd.DataFrame(rows)
    longer = (rows.seconds / rows.predicted - 1).groupby([rows.workers, rows.synchronous]).mean()
    for (workers, waiting), one in longer.items():
        assert 0 <= one < (0.05 if waiting and workers > 16 else 0.03), longer


@pytest.mark.idle
def test_64_workers_with_trials_of_a_second_need_little_more_than_predicted(folder):
    table, n_workers, n_trials = tables.read_table("cnn"), 64, 320
    durations = tables.durations(table)
    compression = durations.mean()
    drawn = tables.draw(table, n_trials, seed=0)
    run = replay_in_real_time("cnn", drawn.tolist(), n_workers, compression=compression)
    seconds = run.seconds_of_first(n_trials) - run.trials.start.min()
    assert seconds < 1.08 * schedule(durations[drawn], n_workers, False).end.max() / compression
