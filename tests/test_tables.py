import math

import pandas as pd
import pytest

from async_hpo import paths, tables
from async_hpo.compare import time_to
from async_hpo.schedule import expected_maximum, schedule

TABLE = pd.DataFrame(
    [
        (0, 0.5, 1, 0.9, 1.0), (0, 0.5, 2, 0.4, 2.0),
        (1, 0.7, 1, 0.3, 3.0), (1, 0.7, 2, 0.5, 4.0),
        (2, 0.1, 1, 0.6, 0.5), (2, 0.1, 2, 0.2, 1.5),
    ],
    columns=["trial", "config_x", "epoch", "validation_error", "seconds"],
)  # fmt: skip


@pytest.fixture
def cnn():
    return tables.read_table("cnn")


def read(folder, table):
    path = folder / "table.csv"
    path.write_text("# made from 1, 2\n" + table.to_csv(index=False))
    return tables.read_table(path)


def test_a_table_comes_back_in_order(tmp_path):
    pd.testing.assert_frame_equal(read(tmp_path, TABLE.sample(frac=1, random_state=0)), TABLE)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t.drop(index=2), "trial 1: a value or"),
        (lambda t: t.drop(index=5), "trial 2: a value or"),
        (lambda t: t.assign(epoch=[1, 2, 1, 2, 1, 1]), "trial 2: a value or"),
        (lambda t: t.assign(validation_error=[0.9, math.nan, 0, 0, 0, 0]), "trial 0: a value or"),
        (lambda t: t.assign(seconds=[1, 2, 3, 3, 0.5, 1.5]), "trial 1: .* or time does not increase"),
        (lambda t: t.assign(config_x=[0.5, 0.5, 0.7, 0.7, 0.5, 0.5]), "trial 2 repeats another's configuration"),
        (lambda t: t.drop(columns="seconds"), "has no column seconds"),
    ],
)
def test_a_damaged_table_is_refused_by_its_trial(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, change(TABLE))


def test_a_table_that_is_not_there():
    with pytest.raises(FileNotFoundError, match="The book has: cnn, dropout_mlp, lenet"):
        tables.read_table("resnet")


def test_incumbent_by_hand():
    trials = [0, 1, 2]
    plan = schedule(tables.durations(TABLE).loc[trials], 2)  # 0 and 2 on one worker, 1 on the other
    found = tables.incumbent(TABLE, trials, plan)
    assert list(found.time) == [1, 2, 3, 3.5] and list(found.validation_error) == [0.9, 0.4, 0.3, 0.2]
    seconds = {target: time_to(found, target) for target in (1.0, 0.5, 0.4, 0.3, 0.2, 0.1)}
    assert seconds == {1.0: 1, 0.5: 2, 0.4: 2, 0.3: 3, 0.2: 3.5, 0.1: math.inf}
    slower = schedule([4.0], 1)  # trial 0 took 2 s when it was recorded
    assert list(tables.incumbent(TABLE, [0], slower).time) == [2, 4]


@pytest.mark.parametrize("path", paths.RECORDINGS.glob("*.csv"), ids=lambda path: path.stem)
def test_the_recorded_tables_are_whole(path):
    table = tables.read_table(path)
    assert table.trial.nunique() >= 64 and path.stat().st_size < 300_000


def test_the_stragglers_table_has_stragglers(cnn):
    times = tables.durations(cnn)
    assert times.mean() <= 60 and expected_maximum(times, 2) / times.mean() >= 1.25


def test_configurations_are_those_of_the_trials_in_order(cnn):
    found, last = tables.configurations(cnn), cnn[cnn.trial == 63].iloc[0]
    assert len(found) == 64 and isinstance(found[0]["num_filters"], int)
    assert found[63] == {name: last[f"config_{name}"] for name in ("learning_rate", "num_filters", "num_layers")}


def test_a_resampled_table_has_as_many_trials_each_whole(cnn):
    one, again, other = (tables.resample(cnn, seed) for seed in (1, 1, 2))
    assert one.equals(again) and not one.equals(other)
    assert list(one.trial.unique()) == [*range(64)] and (one.trial.value_counts() == 3).all()
    drawn = tables.durations(one)
    assert {*drawn} < {*tables.durations(cnn)} and drawn.nunique() < 60, "some are there twice, some not at all"
