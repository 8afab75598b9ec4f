"""`make record`: tables of trials, and their replays. Here the objective is quick; processes are real."""

import json

import pandas as pd
import pytest
from syne_tune.config_space import loguniform, randint

from async_hpo import digest, paths, tables
from async_hpo.schedule import schedule
from tools import real_time, record
from tools.notebooks import ROOT
from tools.real_time import PLANS, Plan, replay_in_real_time
from tools.record import TABLES, Table

SPACE = {"x": loguniform(1e-4, 1), "n": randint(1, 1000), "max_epochs": 3}
N_TRIALS = 5


def objective(x, n, max_epochs):
    import time

    from syne_tune import Reporter

    report = Reporter()
    for epoch in range(1, max_epochs + 1):
        time.sleep(0.02)
        report(epoch=epoch, validation_error=x / epoch)


def other_objective(x, n, max_epochs):
    if n == record.configurations(QUICK)[3]["n"]:
        raise RuntimeError("before the first report")
    objective(x, n, max_epochs)


QUICK = Table(f"{__name__}:objective", f"{__name__}:SPACE", N_TRIALS)
OTHER = QUICK._replace(objective=f"{__name__}:other_objective")


@pytest.fixture
def table(monkeypatch, tmp_path, folder):
    """Where the table `quick` is to be."""
    monkeypatch.setattr(digest, "_CODE", ROOT / "tests")  # where objective and space are defined
    monkeypatch.setattr(paths, "RECORDINGS", tmp_path)
    monkeypatch.setattr(record, "FASHION_MNIST", ("builtins:dict", "builtins:len"))  # nothing in place of the images
    monkeypatch.setitem(TABLES, "quick", QUICK)
    return tmp_path / "quick.csv"


@pytest.mark.slow
def test_recording_goes_on_where_it_was(table, folder, monkeypatch, capsys):
    written, write = [], record.write

    def interrupted(rows, name):
        write(rows, name)
        written.append(name)
        if len(written) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(record, "write", interrupted)
        record.record("quick")
    first = tables.read_table(table)
    assert first.trial.nunique() == 2, "no finished trial is lost"

    old = first[first.trial == first.trial.max()].assign(seconds=1000.0 * first.epoch)
    record.write(old, "quick")  # some are missing before it and behind it
    record.record("quick")
    whole = tables.read_table(table)
    assert list(whole.trial.unique()) == [*range(N_TRIALS)] and len(whole) == 3 * N_TRIALS
    found = whole.groupby("trial")[["config_x", "config_n"]].first()
    wanted = record.configurations(QUICK)
    assert found.to_numpy().tolist() == [[config["x"], config["n"]] for config in wanted]
    assert whole.validation_error.tolist() == [round(row.config_x / row.epoch, 4) for row in whole.itertuples()]
    pd.testing.assert_frame_equal(whole[whole.seconds >= 1000].reset_index(drop=True), old.reset_index(drop=True))

    capsys.readouterr()
    record.record("quick")
    assert capsys.readouterr().out == f"quick: {N_TRIALS} of {N_TRIALS} trials recorded\n"
    assert len([*folder.glob("record-quick-*")]) == 2


@pytest.mark.slow
def test_a_trial_that_fails_adds_nothing_and_stops_no_other(table, monkeypatch):
    monkeypatch.setitem(TABLES, "quick", OTHER)
    record.record("quick")
    assert list(tables.read_table(table).trial.unique()) == [0, 1, 2, 4]


def test_a_table_of_another_objective_is_refused(table, monkeypatch):
    record.write(pd.DataFrame({"trial": [0], "epoch": [1]}), "quick")
    before = table.read_text()
    monkeypatch.setitem(TABLES, "quick", OTHER)
    with pytest.raises(SystemExit, match=r"quick\.csv was recorded from another objective or space: delete it"):
        record.record("quick")
    assert table.read_text() == before


def test_a_table_depends_on_objective_space_and_initial_configuration(table):
    others = [OTHER, QUICK._replace(space=OTHER.objective), QUICK._replace(initial=f"{__name__}:N_TRIALS")]
    assert len({table.digest for table in (QUICK, *others)}) == 4
    assert QUICK._replace(n_trials=6).digest == QUICK.digest, "more trials of the same sequence"


@pytest.mark.parametrize("name", TABLES)
def test_recorded_tables_belong_to_the_objective_and_space_of_today(name):
    assert record.made_from(record.path_of(name)) == TABLES[name].digest, f"delete {name}.csv, make record"


# --- replays ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("synchronous", [False, True])
def test_a_replay_reports_what_was_recorded_when_it_was(folder, synchronous):
    table, drawn = tables.read_table("cnn"), [5, 3, 5, 2]
    run = replay_in_real_time(drawn, n_workers=2, synchronous=synchronous, compression=50)
    for trial_id, recorded in enumerate(drawn):
        expected = table[table.trial == recorded]
        reports = run.reports[run.reports.trial_id == trial_id]
        assert reports.validation_error.tolist() == expected.validation_error.tolist()
        assert reports.epoch.tolist() == expected.epoch.tolist()
        early = expected.seconds.to_numpy() / 50 - reports.st_worker_time.to_numpy()
        assert (early <= 0.005).all(), "never before it is due"
    trials = run.trials.set_index("trial_id")
    free = max(trials.end[[0, 1]]) if synchronous else min(trials.end[[0, 1]])
    assert trials.start[2] >= free - 0.005


@pytest.mark.slow
def test_replaying_goes_on_where_it_was(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(Plan, "n_trials", 5)
    monkeypatch.setattr(Plan, "compression", 50.0)
    monkeypatch.setattr(real_time, "PATH", tmp_path / "replays.jsonl")
    plans = [Plan(0, 2, False), Plan(0, 2, True)]
    monkeypatch.setattr(real_time, "PLANS", plans)
    real_time.record()
    rows = real_time.read()
    assert [*rows] == plans
    for row in rows.values():
        # On a busy machine another worker may be free first: no order takes less than half of another (Graham, 1966).
        # And Syne Tune says when it started a trial once it has: a trial may have slept for milliseconds by then.
        assert row["seconds"] >= row["predicted"] / 2
        assert 0 < row["half"] <= row["seconds"] and row["trials"] == 5
    real_time.PATH.write_text(json.dumps(rows[plans[0]]) + "\n")
    real_time.record()
    again = real_time.read()
    assert [*again] == plans and again[plans[0]] == rows[plans[0]], "only what was missing"
    assert not folder.exists(), "no run is left behind"


def test_the_recorded_replays_are_whole_and_of_the_table_and_schedule_of_today():
    of = real_time.read()
    assert {*of} == {*PLANS}, "make record"
    for plan, row in of.items():
        assert (row["trials"], row["compression"]) == (plan.n_trials, plan.compression)
        if plan.sequence < 3:  # another table would change every prediction
            assert row.items() >= real_time.predict(plan).items(), f"delete {real_time.PATH.name}, make record"
    rows = pd.DataFrame(of.values())
    longer = (rows.seconds / rows.predicted - 1).groupby([rows.workers, rows.synchronous]).mean()
    for (workers, waiting), one in longer.items():
        assert 0 <= one < (0.05 if waiting and workers > 16 else 0.03), longer


@pytest.mark.idle
def test_64_workers_with_trials_of_a_second_need_little_more_than_predicted(folder):
    table, n_workers, n_trials = tables.read_table("cnn"), 64, 320
    durations = tables.durations(table)
    compression = durations.mean()
    drawn = tables.draw(table, n_trials, seed=0)
    run = replay_in_real_time(drawn.tolist(), n_workers, compression=compression)
    seconds = run.seconds_of_first(n_trials) - run.trials.start.min()
    assert seconds < 1.08 * schedule(durations[drawn], n_workers, False).end.max() / compression
