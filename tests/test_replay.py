"""Replays of a recorded table, against what is known of it."""

import numpy as np
import pandas as pd
import pytest
from syne_tune.config_space import loguniform, randint
from syne_tune.optimizer.baselines import ASHA, RandomSearch
from syne_tune.optimizer.scheduler import SchedulerDecision, TrialSuggestion
from syne_tune.optimizer.schedulers import PopulationBasedTraining

from async_hpo import replay, tables
from async_hpo.schedule import schedule

SPACE = {"width": randint(8, 512), "lr": loguniform(1e-3, 1), "max_epochs": 4}
N_TRIALS, N_EPOCHS = 40, 4


def with_curves(rows):
    """Error and seconds after each epoch: any formula will do."""
    error = 0.1 + 0.05 * (np.log10(rows.config_lr) + 1) ** 2 + 1 / (rows.config_width * rows.epoch)
    return rows.assign(validation_error=error, seconds=rows.epoch * (0.5 + rows.config_width / 100))


@pytest.fixture(scope="module")
def table():
    np.random.seed(1)
    configs = [(trial, SPACE["width"].sample(), SPACE["lr"].sample()) for trial in range(N_TRIALS)]
    configs = pd.DataFrame(configs, columns=["trial", "config_width", "config_lr"])
    return with_curves(configs.merge(pd.DataFrame({"epoch": range(1, N_EPOCHS + 1)}), how="cross"))


def random_search(seed=0, points=None, **changes):
    np.random.seed(seed)
    return RandomSearch(SPACE | changes, metrics=["validation_error"], points_to_evaluate=points)


@pytest.mark.parametrize("n_workers", [1, 2, 5])
def test_a_fixed_sequence_runs_as_scheduled(table, n_workers):
    search = random_search(points=tables.configurations(table))
    reports = replay.replay(table, search, n_workers, max_wallclock_time=600 / n_workers)
    expected = table.merge(schedule(tables.durations(table), n_workers)[["trial", "start"]], on="trial")
    expected = expected.assign(time=expected.seconds + expected.start)
    found = reports[reports.trial < N_TRIALS].sort_values(["trial", "epoch"])
    for name in ("time", "validation_error", "config_width", "config_lr"):
        assert found[name].to_numpy() == pytest.approx(expected[name].to_numpy(), abs=1e-6), name


def test_off_the_table_the_prediction_is_near_the_formula(table):
    reports = replay.replay(table, random_search(seed=5), 1, max_wallclock_time=400)
    last = reports[reports.epoch == N_EPOCHS]
    formula = with_curves(last)
    assert (last.validation_error / formula.validation_error - 1).abs().median() < 0.05
    assert (last.time.diff() / formula.seconds - 1).abs().median() < 0.05, "one after the other"


def test_an_error_of_zero_is_learnt(table):
    perfect = table.assign(validation_error=table.validation_error.where(table.epoch < N_EPOCHS, 0.0))
    reports = replay.replay(perfect, random_search(seed=5), 2, max_wallclock_time=100)
    assert reports[reports.epoch == N_EPOCHS].validation_error.max() < 1e-3


def test_a_replay_is_repeatable_and_ends_with_its_budget(table):
    one, again, other = (replay.replay(table, random_search(seed), 2, max_wallclock_time=100) for seed in (3, 3, 4))
    pd.testing.assert_frame_equal(one, again)
    assert 90 < one.time.max() <= 100 and one.time.is_monotonic_increasing
    assert other.config_lr[0] != one.config_lr[0]


def test_a_suggestion_costs_what_it_is_said_to_cost(table):
    search = random_search(points=tables.configurations(table)[:10])
    reports = replay.replay(table, search, 1, max_wallclock_time=300, seconds_per_suggestion=2.0)
    ends = reports[reports.trial < 10].groupby("trial").time.max()
    assert ends.to_numpy() == pytest.approx(tables.durations(table)[:10].cumsum() + 2.0 * np.arange(1, 11))


def test_a_trial_ends_with_its_last_epoch_or_when_the_scheduler_stops_it(table):
    short = replay.replay(table, random_search(max_epochs=2), 2, max_wallclock_time=50)
    assert (short.groupby("trial").epoch.max()[:-2] == 2).all() and short.epoch.max() == 2
    scheduler = ASHA(SPACE, metric="validation_error", time_attr="epoch", max_t=N_EPOCHS, grace_period=1)
    lengths = replay.replay(table, scheduler, 2, max_wallclock_time=300).groupby("trial").epoch.max()
    assert (lengths < N_EPOCHS).mean() > 0.3 and lengths.max() == N_EPOCHS


class PausesTheFirst(RandomSearch):
    """Pauses trial 0 after its second epoch, and resumes it as the next but one."""

    n_suggested = 0

    def suggest(self):
        self.n_suggested += 1
        return TrialSuggestion.resume_suggestion(0) if self.n_suggested == 3 else super().suggest()

    def on_trial_result(self, trial, result):
        is_second = (trial.trial_id, result["epoch"]) == (0, 2)
        return SchedulerDecision.PAUSE if is_second else SchedulerDecision.CONTINUE


def test_a_paused_trial_goes_on_where_it_was(table):
    points = tables.configurations(table)
    search = PausesTheFirst(SPACE, metrics=["validation_error"], points_to_evaluate=points)
    reports = replay.replay(table, search, 1, max_wallclock_time=100)
    first = reports[reports.trial == 0]
    recorded, pause = table[table.trial == 0].seconds.to_numpy(), tables.durations(table)[1]
    assert first.epoch.tolist() == [1, 2, 3, 4] and reports.trial[2] == 1
    assert first.time.to_numpy() == pytest.approx([*recorded[:2], *recorded[2:] + pause])


def population_based():
    options = {"time_attr": "epoch", "max_t": N_EPOCHS, "population_size": 2, "perturbation_interval": 1}
    return PopulationBasedTraining(SPACE, metric="validation_error", **options)


@pytest.mark.parametrize(
    "without, scheduler, error, message",
    [
        (["config_lr"], random_search, KeyError, "config_lr"),
        ([], population_based, ValueError, "PopulationBasedTraining lets a trial go on from another one's checkpoint"),
    ],
)
def test_what_can_not_be_replayed_is_refused_by_name(table, without, scheduler, error, message):
    with pytest.raises(error, match=message):
        replay.replay(table.drop(columns=without), scheduler(), 2, max_wallclock_time=300)
