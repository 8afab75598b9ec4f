"""`make record`: nothing recorded is lost, nothing is recorded twice. The objective is quick; processes are real."""

import pandas as pd
import pytest
import record
from syne_tune.config_space import loguniform, randint

from async_hpo import runs, simulation

SPACE = {"x": loguniform(1e-4, 1), "n": randint(1, 1000), "max_epochs": 3}


def objective(x, n, max_epochs):
    import time

    from syne_tune import Reporter

    report = Reporter()
    for epoch in range(1, max_epochs + 1):
        time.sleep(0.05)
        report(epoch=epoch, validation_error=x / epoch)


@pytest.fixture
def table(monkeypatch, tmp_path, folder):
    monkeypatch.setattr(runs, "RECORDINGS", tmp_path)
    monkeypatch.setitem(record.TABLES, "quick", record.Table(objective, SPACE, 7))
    return tmp_path / "quick.csv"


def test_recording_goes_on_where_it_was(table, capsys):
    record.record("quick", minutes=0.4 / 60)  # starts no trial after 0.4 s
    part = pd.read_csv(table)
    assert 2 <= part.trial.nunique() < 7
    record.record("quick", minutes=1)
    whole = simulation.read_table(table)
    assert list(whole.trial.unique()) == [*range(7)] and len(whole) == 21
    kept = whole[whole.trial.isin(part.trial)].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, part)
    wanted = record.configurations(record.TABLES["quick"])
    assert whole.groupby("trial")[["config_x", "config_n"]].first().to_numpy().tolist() == [
        [config["x"], config["n"]] for config in wanted
    ]
    capsys.readouterr()
    record.record("quick", minutes=1)
    assert capsys.readouterr().out == "quick: 7 of 7 trials recorded\n"


def test_what_a_killed_recording_had_finished_is_kept(table):
    record.record("quick", minutes=1)
    whole = table.read_text()
    table.unlink()  # as if the process had been killed before it wrote the table
    assert record.update("quick").trial.nunique() == 7 and table.read_text() == whole
