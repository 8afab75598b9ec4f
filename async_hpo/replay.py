"""A recorded table under any scheduler of Syne Tune's, in simulated time."""

import heapq
import itertools
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from syne_tune.backend.trial_status import Trial
from syne_tune.config_space import Domain
from syne_tune.optimizer.scheduler import SchedulerDecision, TrialScheduler
from syne_tune.optimizer.schedulers.searchers.utils import make_hyperparameter_ranges

from async_hpo.tables import configs_and_curves, read_table

Curve = tuple[np.ndarray, np.ndarray]  # errors, and seconds since the trial's order, after each epoch


class Asker:
    """Asks a scheduler for configurations and tells it what became of them, as a tuner does.

    Attributes:
        trials: those that were asked for, by their numbers.
    """

    def __init__(self, scheduler: TrialScheduler):
        self.scheduler = scheduler
        self.trials: list[Trial] = []

    def ask(self) -> Trial | None:
        """The next trial: a new one, or one that was paused; None if the scheduler has none.

        Raises:
            ValueError: the trial would begin with another one's checkpoint, which has no recorded curve.
        """
        suggestion = self.scheduler.suggest()
        if suggestion is None:
            return None
        if not suggestion.spawn_new_trial_id:
            trial = self.trials[suggestion.checkpoint_trial_id]
            trial.config = suggestion.config or trial.config
            return trial
        if suggestion.checkpoint_trial_id is not None:
            name = type(self.scheduler).__name__
            raise ValueError(f"{name} lets a trial go on from another one's checkpoint: that has not been recorded.")
        trial = Trial(len(self.trials), suggestion.config, creation_time=datetime.now())
        self.trials.append(trial)
        self.scheduler.on_trial_add(trial)
        return trial

    def tell(self, trial_id: int, result: dict[str, Any], last: bool = False) -> str:
        """A trial has reported, for the last time if `last`. Returns the scheduler's decision."""
        trial = self.trials[trial_id]
        decision = self.scheduler.on_trial_result(trial, result)
        if last:
            self.scheduler.on_trial_complete(trial, result)
        elif decision != SchedulerDecision.CONTINUE:
            self.scheduler.on_trial_remove(trial)
        return decision

    def fail(self, trial_id: int) -> None:
        """A trial has failed: tell the scheduler, which gets no more results of it."""
        self.scheduler.on_trial_error(self.trials[trial_id])


class _Event(NamedTuple):
    """A report to come. In order of time; what was planned first comes first."""

    time: float
    number: int
    trial_id: int
    epoch: int


def replay(
    table: pd.DataFrame | str | Path,
    scheduler: TrialScheduler,
    n_workers: int,
    max_wallclock_time: float,
    seconds_per_suggestion: float = 0.0,
    surrogate=None,
) -> pd.DataFrame:
    """Run a scheduler on recorded trials, in simulated time.

    A configuration of the table gets its recorded learning curve and times; any other one gets what a regression model
    fitted to the table predicts. The clock stops while the scheduler computes: what a suggestion costs is an argument,
    so that a replay is the same on any machine. A scheduler's random draws may come from NumPy's global generator
    (`np.random.seed`). A trial that is paused goes on, when the scheduler says so, where it was.

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
        ValueError: the table is incomplete, lacks one of the scheduler's hyperparameters, or the scheduler copies
            checkpoints.
    """
    curve_of = _curves(table if isinstance(table, pd.DataFrame) else read_table(table), scheduler, surrogate)
    asker, events, numbers = Asker(scheduler), list[_Event](), itertools.count()
    curves: dict[int, Curve] = {}
    reached: dict[int, int] = {}  # trial -> its epochs so far
    rows = []

    def start(now: float) -> None:
        if (trial := asker.ask()) is None:
            return
        curves[trial.trial_id] = errors, seconds = curve_of(trial.config)
        done = reached.setdefault(trial.trial_id, 0)
        begin = now + seconds_per_suggestion - (seconds[done - 1] if done else 0)
        for epoch in range(done + 1, len(errors) + 1):
            heapq.heappush(events, _Event(begin + seconds[epoch - 1], next(numbers), trial.trial_id, epoch))

    for _ in range(n_workers):
        start(0.0)
    while events and events[0].time <= max_wallclock_time:
        time, _, trial_id, epoch = heapq.heappop(events)
        errors, seconds = curves[trial_id]
        reached[trial_id] = epoch
        values = {"epoch": epoch, "validation_error": float(errors[epoch - 1])}
        config = {f"config_{name}": value for name, value in asker.trials[trial_id].config.items()}
        rows.append({"trial": trial_id, "time": time} | values | config)
        is_last = epoch == len(errors)
        decision = asker.tell(trial_id, values | {"seconds": float(seconds[epoch - 1])}, is_last)
        if is_last or decision != SchedulerDecision.CONTINUE:
            events[:] = [event for event in events if event.trial_id != trial_id]
            heapq.heapify(events)
            start(time)
    return pd.DataFrame(rows, columns=None if rows else ["trial", "time", "epoch", "validation_error"])


def _curves(table: pd.DataFrame, scheduler: TrialScheduler, surrogate) -> Callable[[dict[str, Any]], Curve]:
    """The curve of a configuration: as recorded, or as predicted."""
    space = {name: domain for name, domain in scheduler.config_space.items() if isinstance(domain, Domain)}
    limit = scheduler.config_space.get("max_epochs")
    configs, curves = configs_and_curves(table, space)
    model = (surrogate or regression(space)).fit(configs, curves)
    recorded = {tuple(config): curve for config, curve in zip(configs.to_numpy(), curves.to_numpy(), strict=True)}

    def curve_of(config: dict[str, Any]) -> Curve:
        key = tuple(config[name] for name in space)
        curve = recorded.get(key)
        if curve is None:
            curve = model.predict(pd.DataFrame([key], columns=[*space]))
        errors, seconds = np.reshape(curve, (2, -1))[:, :limit]
        return np.minimum(errors, 1.0), seconds

    return curve_of


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
