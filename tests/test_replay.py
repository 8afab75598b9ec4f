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


def curve(width, lr):
    """Error and seconds after each epoch: any formula will do."""
    epochs = np.arange(1, N_EPOCHS + 1)
    error = 0.1 + 0.05 * (np.log10(lr) + 1) ** 2 + 1 / (width * epochs)
    return error, epochs * (0.5 + width / 100)


@pytest.fixture(scope="module")
def table():
    np.random.seed(1)
    rows = []
    for trial in range(N_TRIALS):
        width, lr = SPACE["width"].sample(), SPACE["lr"].sample()
        for epoch, error, seconds in zip(range(1, N_EPOCHS + 1), *curve(width, lr), strict=True):
            rows.append((trial, width, lr, 4, epoch, error, seconds))
    columns = ["trial", "config_width", "config_lr", "config_max_epochs", "epoch", "validation_error", "seconds"]
    return pd.DataFrame(rows, columns=columns)


def configs(table):
    first = table[table.epoch == 1]
    return [{"width": int(row.config_width), "lr": row.config_lr} for row in first.itertuples()]


def random_search(seed=0, points=None, **changes):
    np.random.seed(seed)
    return RandomSearch(SPACE | changes, metrics=["validation_error"], points_to_evaluate=points)


@pytest.mark.parametrize("n_workers", [1, 2, 5])
def test_a_fixed_sequence_runs_as_scheduled(table, n_workers):
    reports = replay.replay(table, random_search(points=configs(table)), n_workers, max_wallclock_time=600 / n_workers)
    durations = table.groupby("trial").seconds.max()
    plan = schedule(durations, n_workers)
    found = reports[reports.trial < N_TRIALS]
    assert found.groupby("trial").time.max().to_numpy() == pytest.approx(plan.end.to_numpy(), abs=1e-6)
    expected = table.merge(plan[["trial", "start"]], on="trial")
    expected = expected.assign(time=expected.seconds + expected.start).sort_values(["trial", "epoch"])
    found = found.sort_values(["trial", "epoch"])
    for name in ("time", "validation_error", "config_width", "config_lr"):
        assert found[name].to_numpy() == pytest.approx(expected[name].to_numpy(), abs=1e-6), name


def test_off_the_table_the_prediction_is_near_the_formula(table):
    reports = replay.replay(table, random_search(seed=5), 2, max_wallclock_time=400)
    last = reports[reports.epoch == N_EPOCHS]
    error, seconds = zip(*((c[0][-1], c[1][-1]) for c in map(curve, last.config_width, last.config_lr)), strict=True)
    assert len(last) > 30
    assert np.median(abs(last.validation_error / error - 1)) < 0.05
    took = last.time.to_numpy() - reports[reports.epoch == 1].set_index("trial").time.loc[last.trial].to_numpy()
    assert np.median(abs(took / (np.array(seconds) * (1 - 1 / N_EPOCHS)) - 1)) < 0.05


def test_regression_passes_through_the_table_and_is_right_beside_it(table):
    configs_, curves = tables.configs_and_curves(table, SPACE)
    known, left_out = curves.iloc[::2], curves.iloc[1::2]
    model = replay.regression(SPACE).fit(configs_.iloc[::2], known)
    assert model.predict(configs_.iloc[::2]) == pytest.approx(known.to_numpy(), rel=1e-5)
    assert np.median(abs(model.predict(configs_.iloc[1::2]) / left_out - 1)) < 0.1


def test_a_surrogate_of_ones_own(table):
    from sklearn.dummy import DummyRegressor

    reports = replay.replay(table, random_search(seed=5), 2, max_wallclock_time=100, surrogate=DummyRegressor())
    mean = table[table.epoch == N_EPOCHS].validation_error.mean()
    assert reports[reports.epoch == N_EPOCHS].validation_error.to_numpy() == pytest.approx(mean)


def test_an_error_of_zero_is_learnt(table):
    perfect = table.assign(validation_error=table.validation_error.where(table.epoch < N_EPOCHS, 0.0))
    reports = replay.replay(perfect, random_search(seed=5), 2, max_wallclock_time=100)
    assert reports[reports.epoch == N_EPOCHS].validation_error.max() < 1e-3


def test_a_replay_is_repeatable_and_ends_with_its_budget(table, tmp_path):
    table.to_csv(tmp_path / "table.csv", index=False)
    here = replay.replay(table, random_search(3), 2, max_wallclock_time=100)
    there = replay.replay(tmp_path / "table.csv", random_search(3), 2, max_wallclock_time=100)
    pd.testing.assert_frame_equal(here, there)
    assert 90 < here.time.max() <= 100 and here.time.is_monotonic_increasing
    other = replay.replay(table, random_search(4), 2, max_wallclock_time=100)
    assert other.config_lr[0] != here.config_lr[0]


def test_a_suggestion_costs_what_it_is_said_to_cost(table):
    points = configs(table)[:10]
    free, slow = (
        replay.replay(table, random_search(points=points), 1, max_wallclock_time=300, seconds_per_suggestion=wait)
        for wait in (0.0, 2.0)
    )
    ends = [reports[reports.trial < 10].groupby("trial").time.max() for reports in (free, slow)]
    assert (ends[1] - ends[0]).to_numpy() == pytest.approx(2.0 * np.arange(1, 11), abs=1e-6)


def test_max_epochs_limits_the_epochs(table):
    reports = replay.replay(table, random_search(max_epochs=2), 2, max_wallclock_time=50)
    assert reports.epoch.max() == 2


def test_a_scheduler_that_stops_trials_stops_them(table):
    np.random.seed(0)
    scheduler = ASHA(SPACE, metric="validation_error", time_attr="epoch", max_t=N_EPOCHS, grace_period=1)
    reports = replay.replay(table, scheduler, 2, max_wallclock_time=300)
    lengths = reports.groupby("trial").epoch.max()
    assert (lengths < N_EPOCHS).mean() > 0.3 and lengths.max() == N_EPOCHS


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda table: table[~((table.trial == 7) & (table.epoch == 2))], r"see trial \[7\]"),
        (lambda table: table.drop(columns="config_lr"), "no column config_lr"),
        (lambda table: table.assign(config_width=8, config_lr=0.1), "trial 1 repeats"),
    ],
)
def test_a_table_that_is_not_whole_is_refused(table, spoil, message):
    with pytest.raises(ValueError, match=message):
        replay.replay(spoil(table), random_search(), 1, max_wallclock_time=10)


# --- against Syne Tune's own simulator -------------------------------------------------------------------------------


def simulated(table, scheduler, n_workers, seconds, folder, monkeypatch):
    """What Syne Tune's simulator reports for recorded trials, on its clock."""
    from syne_tune import StoppingCriterion, Tuner
    from syne_tune.backend.simulator_backend.simulator_backend import SimulatorConfig
    from syne_tune.backend.simulator_backend.simulator_callback import SimulatorCallback
    from syne_tune.backend.simulator_backend.time_keeper import SimulatedTimeKeeper
    from syne_tune.blackbox_repository import UserBlackboxBackend
    from syne_tune.blackbox_repository.blackbox import Blackbox

    space = {name: domain for name, domain in SPACE.items() if name != "max_epochs"}
    curve_of = replay._curves(table, scheduler, None)

    class Recorded(Blackbox):
        fidelity_values = np.arange(1, N_EPOCHS + 1)

        def _objective_function(self, configuration, fidelity=None, seed=None):
            return np.stack(curve_of(configuration), axis=1)

    # It adds the time that the simulation itself takes.
    monkeypatch.setattr(SimulatedTimeKeeper, "real_time_since_last_recent_exit", lambda self: 0.0)
    backend = UserBlackboxBackend(
        blackbox=Recorded(space, {"epoch": randint(1, N_EPOCHS)}, ["validation_error", "seconds"]),
        elapsed_time_attr="seconds",
        max_resource_attr="max_epochs",
        seed=0,
        simulator_config=SimulatorConfig(0.0, 0.0, 0.0, delay_start=0.0, delay_stop=0.0),
    )

    class NextEvent(SimulatorCallback):
        """The tuner sleeps until something happens, not for a fixed time."""

        def on_tuning_sleep(self, sleep_time):
            self._time_keeper.advance_to(backend._simulator_state.event_heap[0][0])

    results = NextEvent()
    Tuner(
        trial_backend=backend,
        scheduler=scheduler,
        stop_criterion=StoppingCriterion(max_wallclock_time=seconds),
        n_workers=n_workers,
        sleep_time=0,
        callbacks=[results],
        save_tuner=False,
        tuner_name=str(folder / "simulated"),
    ).run()
    reports = results.dataframe().rename(columns={"trial_id": "trial", "st_tuner_time": "time"})
    return reports[reports.time <= seconds].sort_values(["trial", "epoch"], ignore_index=True)


def fixed_sequence(table):
    return random_search(points=configs(table))


def off_the_table(table):
    return random_search(seed=5)


def asha(table):
    np.random.seed(0)
    return ASHA(
        SPACE, metric="validation_error", time_attr="epoch", max_t=N_EPOCHS, grace_period=1, random_seed=0,
        points_to_evaluate=configs(table),
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("n_workers", [1, 2])
@pytest.mark.parametrize("make", [fixed_sequence, off_the_table, asha])
def test_syne_tunes_simulator_reports_the_same(table, tmp_path, monkeypatch, make, n_workers):
    """A trial that is stopped costs a few milliseconds there."""
    seconds = 150
    theirs = simulated(table, make(table), n_workers, seconds, tmp_path, monkeypatch)
    ours = replay.replay(table, make(table), n_workers, seconds).sort_values(["trial", "epoch"], ignore_index=True)
    both = ours.merge(theirs, on=["trial", "epoch"], how="outer", suffixes=("", "_theirs"), indicator=True)
    apart = both[both._merge != "both"]
    assert (apart.time.fillna(apart.time_theirs) > seconds - 1).all(), "but for the last moment"
    both = both[both._merge == "both"]
    assert len(both) > 20
    for name in ("validation_error", "config_width", "config_lr"):
        assert both[name].to_numpy() == pytest.approx(both[f"{name}_theirs"].to_numpy(), abs=1e-12), name
    assert (both.time_theirs - both.time).abs().max() < 0.01 * both.trial.nunique()


# --- pause and resume ------------------------------------------------------------------------------------------------


class PausesTheFirst(RandomSearch):
    """Pauses trial 0 after its second epoch, and resumes it as the next but one."""

    def __init__(self, table):
        super().__init__(SPACE, metrics=["validation_error"], points_to_evaluate=configs(table))
        self.n_suggested, self.paused = 0, False

    def suggest(self):
        self.n_suggested += 1
        return TrialSuggestion.resume_suggestion(0) if self.n_suggested == 3 else super().suggest()

    def on_trial_result(self, trial, result):
        if trial.trial_id == 0 and result["epoch"] == 2 and not self.paused:
            self.paused = True
            return SchedulerDecision.PAUSE
        return SchedulerDecision.CONTINUE


def test_a_paused_trial_goes_on_where_it_was(table):
    reports = replay.replay(table, PausesTheFirst(table), 1, max_wallclock_time=100)
    first = reports[reports.trial == 0]
    assert first.epoch.tolist() == [1, 2, 3, 4]
    recorded = table[table.trial == 0].seconds.to_numpy()
    pause = table[table.trial == 1].seconds.max()
    assert first.time.to_numpy() == pytest.approx([*recorded[:2], *recorded[2:] + pause])
    assert reports.trial.iloc[2] == 1


def test_a_scheduler_that_copies_checkpoints_is_refused_by_name(table):
    np.random.seed(0)
    scheduler = PopulationBasedTraining(
        SPACE, metric="validation_error", time_attr="epoch", max_t=4, population_size=2, perturbation_interval=1
    )
    with pytest.raises(ValueError, match="PopulationBasedTraining lets a trial go on from another one's checkpoint"):
        replay.replay(table, scheduler, 2, max_wallclock_time=300)
