"""`make record`: nothing recorded is lost, nothing is recorded twice. The objective is quick; processes are real."""

import json
import shutil

import pandas as pd
import pytest
from syne_tune.config_space import loguniform, randint

from async_hpo import paths, runs, tables
from tools import record
from tools.record import TABLES, Table

SPACE = {"x": loguniform(1e-4, 1), "n": randint(1, 1000), "max_epochs": 3}


def objective(x, n, max_epochs):
    import time

    from syne_tune import Reporter

    report = Reporter()
    for epoch in range(1, max_epochs + 1):
        time.sleep(0.02)
        report(epoch=epoch, validation_error=x / epoch)


def other_objective(x, n, max_epochs):
    objective(x, n, max_epochs)


def objective_that_fails(x, n, max_epochs):
    raise RuntimeError("before the first report")


N_TRIALS = 5


QUICK = Table(f"{__name__}:objective", f"{__name__}:SPACE", N_TRIALS)


@pytest.fixture
def table(monkeypatch, tmp_path, folder):
    """Where the table `quick` is to be."""
    return use(monkeypatch, tmp_path, folder)


def use(patch, recordings, experiments):
    patch.setenv("SYNETUNE_FOLDER", str(experiments))
    patch.setattr(paths, "RECORDINGS", recordings)
    patch.setitem(TABLES, "quick", QUICK)
    return recordings / "quick.csv"


@pytest.fixture(scope="module")
def made_once(tmp_path_factory):
    """A folder with the whole table, and the run that it was recorded in."""
    made = tmp_path_factory.mktemp("recorded")
    with pytest.MonkeyPatch.context() as patch:
        use(patch, made, made / "experiments")
        record.record("quick", minutes=10)
    return made


@pytest.fixture
def recorded(made_once, table, folder):
    """The whole table, and its run."""
    shutil.copytree(made_once / "experiments", folder)
    shutil.copy(made_once / "quick.csv", table)
    return table


def n_runs(folder):
    return len(list(folder.glob("record-quick-*")))


def as_if_killed_before_the_table_was_written(table, folder):
    table.unlink()
    for mark in folder.glob(f"*/{record.IN_TABLE}"):
        mark.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("kept", [[1, 3], [0, 1, 2, 3]], ids=["several missing", "fewer missing than workers"])
def test_recording_goes_on_where_it_was(recorded, folder, kept, capsys):
    whole = tables.read_table(recorded)
    assert list(whole.trial.unique()) == [*range(N_TRIALS)] and len(whole) == 3 * N_TRIALS
    wanted = record.configurations(TABLES["quick"])
    found = whole.groupby("trial")[["config_x", "config_n"]].first()
    assert found.to_numpy().tolist() == [[config["x"], config["n"]] for config in wanted]
    record.write(whole[whole.trial.isin(kept)], recorded, TABLES["quick"].digest)
    record.record("quick", minutes=10)
    again = tables.read_table(recorded)
    assert list(again.trial.unique()) == [*range(N_TRIALS)]
    assert len(runs.find_run("record-quick").trials) == N_TRIALS - len(kept)  # nothing else was trained
    before, after = (frame[frame.trial.isin(kept)].reset_index(drop=True) for frame in (whole, again))
    pd.testing.assert_frame_equal(before, after)
    capsys.readouterr()
    record.record("quick", minutes=10)
    assert capsys.readouterr().out == f"quick: {N_TRIALS} of {N_TRIALS} trials recorded\n"
    assert n_runs(folder) == 2


@pytest.mark.slow
def test_what_a_killed_recording_had_finished_is_kept(recorded, folder):
    whole = recorded.read_text()
    as_if_killed_before_the_table_was_written(recorded, folder)
    assert record.update("quick").trial.nunique() == N_TRIALS and recorded.read_text() == whole


@pytest.mark.slow
def test_trials_that_a_shorter_table_does_not_ask_for_are_left_out(recorded, folder, monkeypatch, capsys):
    whole = tables.read_table(recorded)
    as_if_killed_before_the_table_was_written(recorded, folder)
    monkeypatch.setitem(TABLES, "quick", QUICK._replace(n_trials=3))
    record.update("quick")
    (run,) = folder.iterdir()
    told = f"{run.name}: 2 trials of configurations that the table does not ask for, not used\n"
    assert capsys.readouterr().out == told
    pd.testing.assert_frame_equal(tables.read_table(recorded), whole[whole.trial < 3])


@pytest.mark.slow
def test_a_run_without_a_report_adds_nothing_and_stops_no_later_one(table, folder, monkeypatch, capsys):
    monkeypatch.setitem(TABLES, "quick", QUICK._replace(objective=f"{__name__}:{objective_that_fails.__name__}"))
    for _ in range(2):
        record.record("quick", minutes=10)
        out = capsys.readouterr().out
        assert out.startswith("quick: 0 of 5 trials recorded\n") and out.endswith("quick: 0 of 5 trials recorded\n")
    assert n_runs(folder) == 2 and not table.exists()


@pytest.mark.slow
def test_a_deleted_table_is_trained_anew(recorded, folder):
    recorded.unlink()
    assert record.update("quick").empty and not recorded.exists()
    record.record("quick", minutes=10)
    assert tables.read_table(recorded).trial.nunique() == N_TRIALS and n_runs(folder) == 2


@pytest.mark.slow
def test_runs_and_tables_of_another_objective_are_refused(recorded, folder, monkeypatch, capsys):
    before = recorded.read_text()
    monkeypatch.setitem(TABLES, "quick", TABLES["quick"]._replace(objective=f"{__name__}:other_objective"))
    with pytest.raises(SystemExit, match=r"quick\.csv was recorded from another objective or space: delete it"):
        record.record("quick", minutes=10)
    assert recorded.read_text() == before
    as_if_killed_before_the_table_was_written(recorded, folder)
    capsys.readouterr()
    assert record.update("quick").empty and not recorded.exists()
    (run,) = folder.iterdir()
    assert capsys.readouterr().out == f"{run.name}: of another objective or space, not used\n"


def test_a_run_of_an_older_version_is_refused(table, folder, capsys):
    run = folder / "record-quick-2026-01-01-00-00-00-000"
    run.mkdir(parents=True)
    times = {"st_tuner_creation_timestamp": 0, "st_tuner_start_timestamp": 0}
    (run / "metadata.json").write_text(json.dumps(times | {"metric_names": ["validation_error"], "n_workers": 2}))
    (run / runs.TRIALS_FILENAME).write_text("trial_id,status,start,end\n")
    assert record.update("quick").empty
    assert "of another objective or space, not used" in capsys.readouterr().out


def test_a_table_depends_on_objective_space_and_initial_configuration():
    others = [
        QUICK._replace(objective=f"{__name__}:other_objective"),
        QUICK._replace(space=f"{__name__}:other_objective"),
        QUICK._replace(initial=f"{__name__}:N_TRIALS"),
    ]
    assert len({table.digest for table in (QUICK, *others)}) == 4
    assert QUICK._replace(n_trials=6).digest == QUICK.digest, "more trials of the same sequence"


@pytest.mark.parametrize("name", TABLES)
def test_recorded_tables_belong_to_the_objective_and_space_of_today(name):
    assert record.made_from(record.path_of(name)) == TABLES[name].digest, f"delete {name}.csv, make record"
