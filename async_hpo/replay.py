"""A recorded table under any scheduler of Syne Tune's, in simulated time."""

import heapq
from collections.abc import Callable
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from syne_tune.backend.trial_status import Trial
from syne_tune.config_space import Domain
from syne_tune.optimizer.scheduler import SchedulerDecision, TrialScheduler
from syne_tune.optimizer.schedulers.searchers.utils import make_hyperparameter_ranges

from async_hpo.tables import configs_and_curves

Curve = tuple[np.ndarray, np.ndarray]  # errors, and seconds since the trial's order, after each epoch


def replay(
    table: pd.DataFrame,
    scheduler: TrialScheduler,
    n_workers: int,
    max_wallclock_time: float,
    seconds_per_suggestion: float = 0.0,
) -> pd.DataFrame:
    """Run a scheduler on recorded trials, in simulated time.

    A configuration of the table gets its recorded learning curve and times; any other one gets what `regression`,
    fitted to the table, predicts. The clock stops while the scheduler computes: what a suggestion costs is an argument,
    so that a replay is the same on any machine. A scheduler's random draws may come from NumPy's global generator
    (`np.random.seed`). A trial that is paused goes on, when the scheduler says so, where it was.

    Args:
        table: from `read_table`.
        scheduler: of Syne Tune, for the metric `validation_error`. A `max_epochs` in its configuration space limits
            the epochs.
        n_workers: how many trials run at a time.
        max_wallclock_time: simulated seconds.
        seconds_per_suggestion: how long a free worker waits for its next configuration.

    Returns:
        A row a report in the order of time: `trial`, `time` (simulated seconds), `epoch`, `validation_error`,
        `config_<hyperparameter>`.

    Raises:
        KeyError: the table lacks one of the scheduler's hyperparameters.
        ValueError: the scheduler copies checkpoints.
    """
    curve_of = _curves(table, scheduler)
    trials: list[Trial] = []
    curves: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}  # trial -> errors, seconds, time of each report
    reached: dict[int, int] = {}  # trial -> its epochs so far
    running: list[tuple[float, int, int]] = []  # a heap of each trial's next report: time, trial, epoch
    rows = []

    def start(now: float) -> None:
        if (trial := ask(scheduler, trials)) is None:
            return
        errors, seconds = curve_of(trial.config)
        done = reached.get(trial.trial_id, 0)
        times = now + seconds_per_suggestion - (seconds[done - 1] if done else 0) + seconds
        curves[trial.trial_id] = errors, seconds, times
        heapq.heappush(running, (times[done], trial.trial_id, done + 1))

    for _ in range(n_workers):
        start(0.0)
    while running and running[0][0] <= max_wallclock_time:
        time, trial_id, epoch = heapq.heappop(running)
        errors, seconds, times = curves[trial_id]
        reached[trial_id] = epoch
        trial, values = trials[trial_id], {"epoch": epoch, "validation_error": float(errors[epoch - 1])}
        config = {f"config_{name}": value for name, value in trial.config.items()}
        rows.append({"trial": trial_id, "time": time} | values | config)
        result = values | {"seconds": float(seconds[epoch - 1])}
        decision = scheduler.on_trial_result(trial, result)
        if epoch == len(errors):
            scheduler.on_trial_complete(trial, result)
            start(time)
        elif decision != SchedulerDecision.CONTINUE:
            scheduler.on_trial_remove(trial)
            start(time)
        else:
            heapq.heappush(running, (times[epoch], trial_id, epoch + 1))
    return pd.DataFrame(rows, columns=None if rows else ["trial", "time", "epoch", "validation_error"])


def ask(scheduler: TrialScheduler, trials: list[Trial]) -> Trial | None:
    """The next trial, a new one or one that was paused; None if the scheduler has none. A new one joins `trials`."""
    suggestion = scheduler.suggest()
    if suggestion is None:
        return None
    if not suggestion.spawn_new_trial_id:
        trial = trials[suggestion.checkpoint_trial_id]
        trial.config = suggestion.config or trial.config
        return trial
    if suggestion.checkpoint_trial_id is not None:
        name = type(scheduler).__name__
        raise ValueError(f"{name} lets a trial go on from another one's checkpoint: that has not been recorded.")
    trial = Trial(len(trials), suggestion.config, creation_time=datetime.now())
    trials.append(trial)
    scheduler.on_trial_add(trial)
    return trial


def _curves(table: pd.DataFrame, scheduler: TrialScheduler) -> Callable[[dict[str, Any]], Curve]:
    """The curve of a configuration: as recorded, or as predicted."""
    space = {name: domain for name, domain in scheduler.config_space.items() if isinstance(domain, Domain)}
    limit = scheduler.config_space.get("max_epochs")
    configs, curves = configs_and_curves(table, space)
    model = regression(space).fit(configs, curves)
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
        func=lambda y: np.log(np.maximum(y, 1e-6)),  # no logarithm of 0
        inverse_func=np.exp,
        check_inverse=False,
    )
