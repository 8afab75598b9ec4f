"""Recorded trials on any number of workers: tables, schedules, and what a search over them would have found."""

import heapq
import io
import math
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from itertools import takewhile
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
from syne_tune.optimizer.schedulers.searchers.utils import make_hyperparameter_ranges

from async_hpo.runs import RECORDINGS

#: The columns of a table beside the configuration's.
COLUMNS = ("trial", "epoch", "validation_error", "seconds")


def schedule(
    durations: Iterable[float], n_workers: int, synchronous: bool = False, gap: float = 0.0, slowdown: float = 0.0
) -> pd.DataFrame:
    """When each trial would run, and on which worker, if the trials started in the order given.

    Asynchronous: a worker takes the next trial as soon as it is free (list scheduling; Graham, 1966). Synchronous: the
    next `n_workers` trials start when all of the batch before have finished.

    Args:
        durations: seconds a trial takes while no other one runs, one number a trial, finite and not negative.
        n_workers: a whole number, 1 or more.
        synchronous: wait for the whole batch.
        gap: seconds for which a worker is not free after a trial's end.
        slowdown: each further busy worker makes a second of work take this many seconds longer.

    Returns:
        A row a trial with the columns `trial`, `worker` (0 to n_workers - 1), `start` and `end` (seconds).

    Raises:
        ValueError: a number is not allowed.
    """
    durations = _checked(durations, n_workers, gap, slowdown)
    start, end, worker_of = np.zeros(len(durations)), np.zeros(len(durations)), np.zeros(len(durations), int)
    free = list(range(n_workers))  # a heap, like `busy`: the lowest number first
    busy = []  # (work done when it ends, worker, its trial; None in the gap after it)
    time = work = 0.0  # work: what an undisturbed worker would have done since the start
    trial = 0
    while trial < len(durations) or busy:
        while free and trial < len(durations) and (not synchronous or len(free) == n_workers or trial % n_workers):
            worker_of[trial] = worker = heapq.heappop(free)
            start[trial] = time
            heapq.heappush(busy, (work + durations[trial], worker, trial))
            trial += 1
        n_busy = len(busy)
        until, worker, ended = heapq.heappop(busy)
        time += (until - work) * (1 + slowdown * (n_busy - 1))
        work = until
        if ended is not None:
            end[ended] = time
        if ended is not None and gap > 0:
            heapq.heappush(busy, (work + gap, worker, None))
        else:
            heapq.heappush(free, worker)
    return pd.DataFrame({"trial": range(len(durations)), "worker": worker_of, "start": start, "end": end})


def _checked(durations: Iterable[float], n_workers: int, gap: float, slowdown: float) -> list[float]:
    durations = [float(duration) for duration in durations]
    for trial, duration in enumerate(durations):
        _check_seconds(duration, f"the duration of trial {trial}")
    _check_seconds(gap, "gap")
    _check_seconds(slowdown, "slowdown")
    if isinstance(n_workers, bool) or not isinstance(n_workers, int) or n_workers < 1:
        raise ValueError(f"n_workers must be a whole number, 1 or more, not {n_workers!r}")
    return durations


def _check_seconds(value: float, what: str) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{what} must be finite and not negative, not {value}")


def expected_maximum(durations: Iterable[float], n: int) -> float:
    """The mean of the longest of `n` durations drawn at random, with replacement: exact, from order statistics.

    The i-th smallest of m values is the longest with probability (i/m)^n - ((i-1)/m)^n.
    """
    ordered = np.sort(np.asarray(list(durations), float))
    ranks = np.arange(len(ordered) + 1) / len(ordered)
    return float(np.diff(ranks**n) @ ordered)


# --- recorded tables -------------------------------------------------------------------------------------------------


def read_table(name_or_path: str | Path) -> pd.DataFrame:
    """Read a table of recorded trials: a row an epoch, sorted by trial and epoch.

    Args:
        name_or_path: a table of the book, such as "lenet" (see `book/recordings/README.md`), or a CSV file with the
            columns `trial`, `config_<hyperparameter>`, `epoch` (1, 2, ...), `validation_error` and `seconds` (since
            the trial's order, at the end of the epoch). Lines before the header that begin with `#` are notes.

    Raises:
        FileNotFoundError: there is no such table.
        ValueError: a row is not as it should be; the message names it as a text editor numbers it.
    """
    path = Path(name_or_path)
    if path.suffix != ".csv":
        path = RECORDINGS / f"{name_or_path}.csv"
    if not path.exists():
        known = ", ".join(sorted(found.stem for found in RECORDINGS.glob("*.csv")))
        raise FileNotFoundError(f"There is no table {path}. The book has: {known}.")
    notes = _lines_of_notes(path)
    table = pd.read_csv(path, skiprows=notes)
    if missing := [column for column in COLUMNS if column not in table]:
        raise ValueError(f"{path.name} has no column {', '.join(missing)}")
    configs = [column for column in table if column.startswith("config_")]
    table["row"] = table.index + notes + 2  # the first line is the header
    table = table.sort_values(["trial", "epoch"], ignore_index=True)
    for fault, rows in _faults(table, configs).items():
        if rows.any():
            row = table[rows].iloc[0]
            raise ValueError(f"{path.name}, row {row.row:.0f} (trial {row.trial:g}, epoch {row.epoch:g}): {fault}")
    return table.drop(columns="row")


def _lines_of_notes(path: Path) -> int:
    with open(path, encoding="utf-8") as file:
        return sum(1 for _ in takewhile(lambda line: line.startswith("#"), file))


def _faults(table: pd.DataFrame, configs: list[str]) -> dict[str, pd.Series]:
    """What may be wrong -> the rows in which it is. `table` is sorted by trial and epoch."""
    by_trial = table.groupby("trial")
    number = by_trial.cumcount() + 1
    first = table[number == 1]
    length = by_trial.epoch.transform("size")
    return {
        "a value is missing": table[[*COLUMNS, *configs]].isna().any(axis=1),
        "an epoch before it is missing, or it is there twice": table.epoch != number,
        "the last epochs of this trial are missing": (number == length) & (length < length.max()),
        "time does not increase": table.seconds <= by_trial.seconds.shift(fill_value=0),
        "the configuration changes within the trial": (table[configs] != by_trial[configs].transform("first")).any(
            axis=1
        ),
        "another trial has the same configuration": first.duplicated(configs).reindex(table.index, fill_value=False),
    }


def durations(table: pd.DataFrame) -> pd.Series:
    """Seconds that each trial of a table takes in all; the index is the trial's number."""
    return table.groupby("trial").seconds.max()


def draw(table: pd.DataFrame, n_trials: int, seed: int) -> np.ndarray:
    """Numbers of `n_trials` recorded trials, drawn at random with replacement: random search over what was recorded."""
    return np.random.default_rng(seed).choice(table.trial.unique(), n_trials)


def incumbent(table: pd.DataFrame, trials: Iterable[int], plan: pd.DataFrame) -> pd.DataFrame:
    """The incumbent trajectory of a search that runs recorded trials by a plan.

    Args:
        table: from `read_table`.
        trials: the numbers of the trials that run, in their order.
        plan: when they run, from `schedule`: a row each.

    Returns:
        The columns `time` (seconds) and `validation_error` (the smallest so far), a row for each improvement. An
        epoch's report comes at the same fraction of the trial's time as when it was recorded.
    """
    seconds = table.pivot(index="trial", columns="epoch", values="seconds")
    errors = table.pivot(index="trial", columns="epoch", values="validation_error").loc[trials].to_numpy()
    fractions = seconds.div(seconds.iloc[:, -1], axis=0).loc[trials].to_numpy()
    start, end = plan.start.to_numpy()[:, None], plan.end.to_numpy()[:, None]
    times = (start + fractions * (end - start)).ravel()
    order = np.argsort(times, kind="stable")
    times, best = times[order], np.minimum.accumulate(errors.ravel()[order])
    improved = np.diff(best, prepend=np.inf) < 0
    return pd.DataFrame({"time": times[improved], "validation_error": best[improved]})


def time_to(trajectory: pd.DataFrame, target: float) -> float:
    """Seconds until the incumbent's error is at most `target`; infinity if it never is."""
    reached = trajectory[trajectory.validation_error <= target]
    return float(reached.time.iloc[0]) if len(reached) else math.inf


def best_so_far(reports: pd.DataFrame, times: Sequence[float] | np.ndarray) -> np.ndarray:
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


def bands(trajectories: Sequence[pd.DataFrame], times: Sequence[float] | np.ndarray | None = None) -> pd.DataFrame:
    """Median and quartiles, over searches, of the incumbent's error at the same times.

    Args:
        trajectories: a search each, as `best_so_far` takes them.
        times: seconds, ascending; by default 200, evenly spaced on a log axis from the first report that most have to
            the last of any.

    Returns:
        The columns `time`, `low`, `median` and `high`: errors that were seen, NaN where too few searches have one yet.
    """
    if times is None:
        begin = np.median([one.time.iloc[0] for one in trajectories])
        times = np.geomspace(begin, max(one.time.iloc[-1] for one in trajectories), 200)
    errors = np.stack([best_so_far(one, times) for one in trajectories])
    errors[np.isnan(errors)] = np.inf
    found = np.quantile(errors, [0.25, 0.5, 0.75], axis=0, method="nearest")
    low, median, high = np.where(np.isinf(found), np.nan, found)
    return pd.DataFrame({"time": times, "low": low, "median": median, "high": high})


def speed_up(seconds: pd.DataFrame, n_resamples: int = 1000) -> pd.DataFrame:
    """Speed-up over one worker, with a bootstrap over the sequences of trials (Efron, 1979).

    Args:
        seconds: time to the target: a row a sequence of trials, a column a number of workers, 1 among them.
        n_resamples: of the sequences, with replacement.

    Returns:
        A row a number of workers, with the mean `seconds`, `speed-up`, the ends `low` and `high` of its 95 % interval,
        `efficiency` (speed-up / workers) and `worker-seconds` (workers x seconds).
    """
    chosen = np.random.default_rng(0).integers(len(seconds), size=(n_resamples, len(seconds)))
    means = seconds.mean()
    resampled = {k: seconds[k].to_numpy()[chosen].mean(axis=1) for k in seconds}
    low, high = zip(*(np.quantile(resampled[1] / resampled[k], [0.025, 0.975]) for k in seconds), strict=True)
    workers = means.index.to_numpy()
    ratio = means[1] / means
    table = {"seconds": means, "speed-up": ratio, "low": low, "high": high, "efficiency": ratio / workers}
    return pd.DataFrame(table | {"worker-seconds": means * workers}).rename_axis("workers")


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
        table: as of `read_table`, or what it reads.
        scheduler: of Syne Tune, for the metric `validation_error`. A `max_epochs` in its configuration space limits
            the epochs.
        n_workers: how many trials run at a time.
        max_wallclock_time: simulated seconds.
        seconds_per_suggestion: how long a free worker waits for its next configuration.
        surrogate: scikit-learn regressor for what is not in the table; by default that of `regression`.

    Returns:
        A row a report in the order of time: `trial`, `time` (simulated seconds), `epoch`, `validation_error`,
        `config_<hyperparameter>`.

    Raises:
        ValueError: the table is incomplete, or lacks one of the scheduler's hyperparameters.
    """
    from syne_tune.blackbox_repository import UserBlackboxBackend  # takes seconds, and only this function needs it

    blackbox = _blackbox(table if isinstance(table, pd.DataFrame) else read_table(table), scheduler, surrogate)
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        backend = UserBlackboxBackend(
            blackbox=blackbox,
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


def _blackbox(table: pd.DataFrame, scheduler: TrialScheduler, surrogate):
    from syne_tune.blackbox_repository.blackbox import Blackbox

    space = {name: domain for name, domain in scheduler.config_space.items() if isinstance(domain, Domain)}
    configs, curves = configs_and_curves(table, space)
    epochs = curves.columns.unique("epoch")
    surrogate = (surrogate or regression(space)).fit(configs, curves)
    recorded = {tuple(config): curve for config, curve in zip(configs.to_numpy(), curves.to_numpy(), strict=True)}

    class Recorded(Blackbox):
        fidelity_values = epochs.to_numpy()

        def _objective_function(self, configuration, fidelity=None, seed=None):
            """Shape (epochs, 2): error, and seconds."""
            key = tuple(configuration[name] for name in space)
            curve = recorded.get(key)
            if curve is None:
                curve = surrogate.predict(pd.DataFrame([key], columns=[*space]))
            errors, seconds = np.reshape(curve, (2, len(epochs)))
            return np.stack([np.minimum(errors, 1.0), seconds], axis=1)

    return Recorded(space, {"epoch": randint(1, int(epochs[-1]))}, ["validation_error", "seconds"])


def configs_and_curves(table: pd.DataFrame, config_space: dict) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What a regression model learns from, and what it predicts: a row a trial.

    Returns:
        The configurations, a column a hyperparameter of `config_space`; and a column for each of `validation_error`
        and `seconds` after each epoch.

    Raises:
        ValueError: the table is incomplete, or lacks a hyperparameter.
    """
    space = [name for name, domain in config_space.items() if isinstance(domain, Domain)]
    columns = {f"config_{name}": name for name in space}
    if missing := {"trial", "epoch", "validation_error", "seconds", *columns} - set(table):
        raise ValueError(f"the table has no column {', '.join(sorted(missing))}")
    configs = table.groupby("trial")[list(columns)].first().rename(columns=columns)
    if configs.duplicated().any():
        raise ValueError(f"trial {configs.index[configs.duplicated()][0]} repeats another one's configuration")
    curves = table.pivot(index="trial", columns="epoch", values=["validation_error", "seconds"])
    n_epochs = int(table.epoch.max())
    if list(curves.columns.unique("epoch")) != [*range(1, n_epochs + 1)] or curves.isna().any(axis=None):
        trial = curves.index[curves.isna().any(axis=1)].tolist()[:1]
        raise ValueError(f"not every trial has a number for each epoch from 1 to {n_epochs}: see trial {trial}")
    return configs, curves


def regression(config_space: dict):
    """The model that `replay` fits to a table: a Gaussian process for the logarithms of errors and seconds.

    It takes what `configs_and_curves` returns, and sees each hyperparameter on the scale, linear or logarithmic, on
    which the configuration space draws it. Without noise: it passes through what was recorded.
    """
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    space = {name: domain for name, domain in config_space.items() if isinstance(domain, Domain)}
    ranges = make_hyperparameter_ranges(space)
    scale = FunctionTransformer(lambda configs: ranges.to_ndarray_matrix(configs[[*space]].to_dict("records")))
    kernel = ConstantKernel(1.0, (1e-3, 1e3)) * Matern([1.0] * ranges.ndarray_size, (1e-2, 1e3), nu=1.5)
    process = GaussianProcessRegressor(kernel, normalize_y=True)
    return TransformedTargetRegressor(
        make_pipeline(scale, process),
        func=lambda y: np.log(np.maximum(y, _SMALLEST)),
        inverse_func=np.exp,
        check_inverse=False,
    )


_SMALLEST = 1e-6  # no logarithm of 0


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
