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


def written(tmp_path, table):
    table.to_csv(tmp_path / "table.csv", index=False)
    return tmp_path / "table.csv"


def test_a_table_comes_back_in_order(tmp_path):
    shuffled = TABLE.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(tables.read_table(written(tmp_path, shuffled)), TABLE)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t.drop(index=2), r"row 4 \(trial 1, epoch 2\): an epoch before it is missing"),
        (lambda t: t.drop(index=5), r"row 6 \(trial 2, epoch 1\): the last epochs of this trial are missing"),
        (lambda t: t.assign(config_x=[0.5, 0.5, 0.7, 0.7, 0.5, 0.5]), r"row 6 \(trial 2, .*the same configuration"),
        (lambda t: t.assign(config_x=[0.5, 0.5, 0.7, 0.8, 0.1, 0.1]), r"row 5 .*changes within the trial"),
        (lambda t: t.assign(seconds=[1, 0.5, 3, 4, 0.5, 1.5]), r"row 3 \(trial 0, epoch 2\): time does not increase"),
        (lambda t: t.assign(validation_error=[0.9, math.nan, 0, 0, 0, 0]), r"row 3 .*a value is missing"),
        (lambda t: t.drop(columns="seconds"), "has no column seconds"),
    ],
)
def test_a_damaged_table_is_refused_by_its_row(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        tables.read_table(written(tmp_path, change(TABLE)))


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


def test_incumbent_stretches_with_the_plan():
    plan = schedule([4.0], 1)  # trial 0 took 2 s when it was recorded
    assert list(tables.incumbent(TABLE, [0], plan).time) == [2, 4]


@pytest.mark.parametrize("path", paths.RECORDINGS.glob("*.csv"), ids=lambda path: path.stem)
def test_the_recorded_tables_are_whole(path):
    table = tables.read_table(path)
    assert table.trial.nunique() >= 64 and path.stat().st_size < 300_000


def test_the_stragglers_table_has_stragglers():
    times = tables.durations(tables.read_table("cnn"))
    assert times.mean() <= 60 and expected_maximum(times, 2) / times.mean() >= 1.25


def test_configurations_are_those_of_the_trials_in_order():
    table = tables.read_table("cnn")
    found = tables.configurations(table)
    assert len(found) == 64 and set(found[0]) == {"learning_rate", "num_filters", "num_layers"}
    last = table[table.trial == 63].iloc[0]
    assert found[63] == {name: last[f"config_{name}"] for name in found[63]}
    assert isinstance(found[0]["num_filters"], int)


def test_a_resampled_table_has_as_many_trials_each_whole():
    table = tables.read_table("cnn")
    one, again, other = (tables.resample(table, seed) for seed in (1, 1, 2))
    assert one.equals(again) and not one.equals(other)
    assert list(one.trial.unique()) == [*range(64)] and (one.trial.value_counts() == 3).all()
    known = set(tables.durations(table).round(6))
    drawn = tables.durations(one).round(6)
    assert set(drawn) < known and drawn.nunique() < 60, "some are there twice, some not at all"
