"""Recorded trials on any number of workers."""

import heapq
import io
import math
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pandas as pd
from syne_tune import StoppingCriterion, Tuner
from syne_tune.backend.simulator_backend.simulator_backend import SimulatorConfig
from syne_tune.backend.simulator_backend.simulator_callback import SimulatorCallback
from syne_tune.backend.simulator_backend.time_keeper import SimulatedTimeKeeper
from syne_tune.config_space import Domain, randint
from syne_tune.constants import ST_TRIAL_ID, ST_TUNER_TIME
from syne_tune.optimizer.scheduler import TrialScheduler


def schedule(durations: Iterable[float], n_workers: int, synchronous: bool = False) -> pd.DataFrame:
    """When each trial would run, and on which worker, if the trials started in the order given.

    Asynchronous: a worker takes the next trial as soon as it is free (list scheduling; Graham, 1966). Synchronous: the
    next `n_workers` trials start when all of the batch before have finished.

    Args:
        durations: seconds a trial takes, one number a trial, finite and not negative.
        n_workers: a whole number, 1 or more.
        synchronous: wait for the whole batch.

    Returns:
        A row a trial with the columns `trial`, `worker` (0 to n_workers - 1), `start` and `end` (seconds).

    Raises:
        ValueError: a duration or the number of workers is not allowed.
    """
    durations = [float(duration) for duration in durations]
    for trial, duration in enumerate(durations):
        if not (math.isfinite(duration) and duration >= 0):
            raise ValueError(f"the duration of trial {trial} must be finite and not negative, not {duration}")
    if isinstance(n_workers, bool) or not isinstance(n_workers, int) or n_workers < 1:
        raise ValueError(f"n_workers must be a whole number, 1 or more, not {n_workers!r}")
    free = [(0.0, worker) for worker in range(n_workers)]
    rows = []
    for trial, duration in enumerate(durations):
        if synchronous and trial % n_workers == 0:
            free = [(max(free)[0], worker) for worker in range(n_workers)]
        start, worker = heapq.heappop(free)
        heapq.heappush(free, (start + duration, worker))
        rows.append((trial, worker, start, start + duration))
    return pd.DataFrame(rows, columns=["trial", "worker", "start", "end"])


# --- a recorded table under any scheduler ----------------------------------------------------------------------------


def replay(
    table: pd.DataFrame | str | Path,
    scheduler: TrialScheduler,
    n_workers: int,
    max_wallclock_time: float,
    seconds_per_suggestion: float = 0.0,
    surrogate=None,
) -> pd.DataFrame:
    """Run a scheduler on recorded trials, in simulated time, on Syne Tune's own simulator.

    A configuration of the table gets its recorded learning curve and times; any other one gets what a regression model
    fitted to the table predicts. The clock stops while the scheduler computes: what a suggestion costs is an argument,
    so that a replay is the same on any machine. A scheduler's random draws may come from NumPy's global generator
    (`np.random.seed`).

    Args:
        table: a row an epoch, in a CSV file or a frame: `trial`, `config_<hyperparameter>`, `epoch` (1, 2, ...),
            `validation_error`, `seconds` (since the trial's start). Every trial has all epochs.
        scheduler: of Syne Tune, for the metric `validation_error`. A `max_epochs` in its configuration space limits
            the epochs.
        n_workers: how many trials run at a time.
        max_wallclock_time: simulated seconds.
        seconds_per_suggestion: how long a free worker waits for its next configuration.
        surrogate: scikit-learn regressor for what is not in the table; by default a random forest that reproduces what
            is in it.

    Returns:
        A row a report in the order of time: `trial`, `time` (simulated seconds), `epoch`, `validation_error`,
        `config_<hyperparameter>`.

    Raises:
        ValueError: the table is incomplete, or lacks one of the scheduler's hyperparameters.
    """
    # Both take seconds to import, and only this function needs them.
    from syne_tune.blackbox_repository import UserBlackboxBackend, add_surrogate

    blackbox = _blackbox(pd.read_csv(table) if isinstance(table, (str, Path)) else table, scheduler.config_space)
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        backend = UserBlackboxBackend(
            blackbox=add_surrogate(blackbox, surrogate or forest(), blackbox.configuration_space),
            elapsed_time_attr="seconds",
            max_resource_attr="max_epochs",
            seed=0,  # the table has one repetition of each trial
            simulator_config=SimulatorConfig(0.0, 0.0, 0.0, delay_start=seconds_per_suggestion, delay_stop=0.0),
        )
        backend._time_keeper = _SimulatedTimeOnly()
        results = _NextEvent()
        tuner = Tuner(
            trial_backend=backend,
            scheduler=scheduler,
            stop_criterion=StoppingCriterion(max_wallclock_time=max_wallclock_time),
            n_workers=n_workers,
            sleep_time=0,
            callbacks=[results],
            save_tuner=False,
            trial_backend_path=folder,
        )
        tuner.tuner_path = Path(folder)
        tuner.run()
    reports = results.dataframe().rename(columns={ST_TRIAL_ID: "trial", ST_TUNER_TIME: "time"})
    columns = ["trial", "time", "epoch", "validation_error", *(name for name in reports if name.startswith("config_"))]
    in_time = reports[reports.time <= max_wallclock_time]
    return in_time[columns].sort_values("time", kind="stable", ignore_index=True)


class _SimulatedTimeOnly(SimulatedTimeKeeper):
    def real_time_since_last_recent_exit(self) -> float:
        return 0.0  # Syne Tune adds the time that the simulation itself takes


class _NextEvent(SimulatorCallback):
    """Lets the tuner sleep until something happens, not for a fixed time: exact, and faster."""

    def on_tuning_start(self, tuner: Tuner) -> None:
        super().on_tuning_start(tuner)
        self._state = tuner.trial_backend._simulator_state

    def on_tuning_sleep(self, sleep_time: float) -> None:
        self._time_keeper.advance_to(self._state.event_heap[0][0])


def _blackbox(table: pd.DataFrame, config_space: dict):
    from syne_tune.blackbox_repository.blackbox_tabular import BlackboxTabular

    space = {name: domain for name, domain in config_space.items() if isinstance(domain, Domain)}
    columns = {f"config_{name}": name for name in space}
    if missing := {"trial", "epoch", "validation_error", "seconds", *columns} - set(table):
        raise ValueError(f"the table has no column {', '.join(sorted(missing))}")
    configs = table.groupby("trial")[list(columns)].first().rename(columns=columns)
    if configs.duplicated().any():
        raise ValueError(f"trial {configs.index[configs.duplicated()][0]} repeats another one's configuration")
    epochs = range(1, int(table.epoch.max()) + 1)
    values = [table.pivot(index="trial", columns="epoch", values=name) for name in ("validation_error", "seconds")]
    for frame in values:
        if list(frame.columns) != list(epochs) or frame.isna().any(axis=None):
            trial = frame.index[frame.isna().any(axis=1)].tolist()[:1]
            raise ValueError(f"not every trial has a number for each epoch from 1 to {epochs[-1]}: see trial {trial}")
    return BlackboxTabular(
        hyperparameters=configs.reset_index(drop=True),
        configuration_space=space,
        fidelity_space={"epoch": randint(1, epochs[-1])},
        objectives_evaluations=np.stack([frame.to_numpy(dtype=float) for frame in values], axis=-1)[:, None],
        objectives_names=["validation_error", "seconds"],
    )


def forest():
    """The regression model that `replay` fits to a table: each of its trees sees every trial, so that what is in the
    table comes out as it is."""
    from sklearn.ensemble import RandomForestRegressor

    return RandomForestRegressor(n_estimators=100, max_features=0.5, bootstrap=False, random_state=0)


def best_so_far(reports: pd.DataFrame, times: Sequence[float]) -> np.ndarray:
    """The incumbent's `validation_error` at each of `times` (seconds; NaN before the first report).

    Args:
        reports: columns `time` and `validation_error`, as of `replay` and of `runs.Run.reports`.
        times: ascending.

    Returns:
        Shape (len(times),).
    """
    reports = reports.sort_values("time")
    best = np.concatenate([[np.nan], reports.validation_error.cummin()])
    return best[np.searchsorted(reports.time, times, side="right")]


def quartiles(replays: Sequence[pd.DataFrame], times: Sequence[float]) -> pd.DataFrame:
    """Median and quartiles, over replays, of the incumbent's error at each of `times`: `time`, `low`, `median`, `high`.

    NaN where not every replay has a report yet.
    """
    curves = np.stack([best_so_far(reports, times) for reports in replays])
    low, median, high = np.quantile(curves, [0.25, 0.5, 0.75], axis=0)
    return pd.DataFrame({"time": times, "low": low, "median": median, "high": high})


def probability_lower(a: Sequence[float], b: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """How probable it is that a number like those of `a` is lower than one like those of `b`, and how sure that is.

    The share of pairs in which `a`'s is lower (ties count half), with a bootstrap interval (SciPy's, percentiles).

    Args:
        a, b: one number a repetition, each.
        level: of the interval.

    Returns:
        The share, and the interval's ends.
    """
    from scipy.stats import bootstrap

    def share(a, b):
        a, b = np.asarray(a)[:, None], np.asarray(b)[None, :]
        return float((a < b).mean() + (a == b).mean() / 2)

    found = bootstrap(
        (a, b), share, vectorized=False, method="percentile", confidence_level=level, n_resamples=2000, rng=0
    )
    return share(a, b), *(float(end) for end in found.confidence_interval)
