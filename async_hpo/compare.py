"""Searches side by side: the time to a target, the best error so far, and how sure a comparison is."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd


def time_to(trajectory: pd.DataFrame, target: float) -> float:
    """Seconds until the incumbent's error is at most `target`; infinity if it never is. `trajectory` has the columns
    `time` (seconds, ascending) and `validation_error`."""
    reached = trajectory[trajectory.validation_error <= target]
    return float(reached.time.iloc[0]) if len(reached) else math.inf


def best_so_far(reports: pd.DataFrame, times: Sequence[float] | np.ndarray) -> np.ndarray:
    """The incumbent's `validation_error` at each of `times` (seconds; NaN before the first report), as an array.
    `reports` has the columns `time` and `validation_error`, as of `replay` and of `runs.Run.reports`."""
    reports = reports.sort_values("time")
    best = np.concatenate([[np.nan], reports.validation_error.astype(float).cummin()])
    return best[np.searchsorted(reports.time.astype(float), times, side="right")]


def bands(trajectories: Sequence[pd.DataFrame], times: Sequence[float] | np.ndarray) -> pd.DataFrame:
    """Median and quartiles, over searches, of the incumbent's error at the same times.

    Args:
        trajectories: the reports of a search each, as `best_so_far` takes them.
        times: seconds.

    Returns:
        The columns `time`, `low`, `median` and `high`: errors that were seen, NaN where too few searches have one yet.
    """
    errors = np.stack([best_so_far(one, times) for one in trajectories])
    errors[np.isnan(errors)] = np.inf
    found = np.quantile(errors, [0.25, 0.5, 0.75], axis=0, method="nearest")
    low, median, high = np.where(np.isinf(found), np.nan, found)
    return pd.DataFrame({"time": times, "low": low, "median": median, "high": high})


def speed_up(seconds: pd.DataFrame) -> pd.DataFrame:
    """Speed-up over one worker, with a bootstrap over the sequences of trials (Efron, 1979).

    Args:
        seconds: time to the target: a row a sequence of trials, a column a number of workers, 1 among them.

    Returns:
        A row a number of workers, with the mean `seconds`, `speed-up`, the ends `low` and `high` of its 95 % interval,
        `efficiency` (speed-up / workers) and `worker-seconds` (workers x seconds).
    """
    chosen = np.random.default_rng(0).integers(len(seconds), size=(1000, len(seconds)))
    means = seconds.mean()
    resampled = {k: seconds[k].to_numpy()[chosen].mean(axis=1) for k in seconds}
    low, high = zip(*(np.quantile(resampled[1] / resampled[k], [0.025, 0.975]) for k in seconds), strict=True)
    workers = means.index.to_numpy()
    ratio = means[1] / means
    table = {"seconds": means, "speed-up": ratio, "low": low, "high": high, "efficiency": ratio / workers}
    return pd.DataFrame(table | {"worker-seconds": means * workers}).rename_axis("workers")


def ratio_of_pairs(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float]:
    """How many times as large the numbers of `a` are as those of `b`: the geometric mean of the pairs' ratios.

    The i-th numbers, positive, are a pair: measured one after the other, they share the machine's pace.

    Returns:
        The ratio, and the ends of Student's 95 % interval of its logarithm (NaN for a single pair).
    """
    logarithms = [math.log(x / y) for x, y in zip(a, b, strict=True)]
    ratio, low, high = map(math.exp, mean_with_interval(logarithms))
    return ratio, low, high


def mean_with_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean of independent measurements, and the ends of Student's 95 % interval (NaN for a single one)."""
    from scipy.stats import sem, t

    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, math.nan, math.nan
    half = float(sem(values) * t.ppf(0.975, len(values) - 1))
    return mean, mean - half, mean + half


def mean_as_text(values: Sequence[float], form: str = "{:.2f}") -> str:
    """The mean and its interval for a table or a line: "1.24 [1.22, 1.27]". `form` is each number's."""
    mean, low, high = map(form.format, mean_with_interval(values))
    return f"{mean} [{low}, {high}]"


def probability_lower(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float]:
    """How probable it is that a number like those of `a` is lower than one like those of `b`, and how sure that is.

    Returns:
        The share of pairs in which `a`'s is lower (ties count half), and the ends of its 95 % bootstrap interval.
    """
    from scipy.stats import bootstrap

    def share(a, b):
        a, b = np.asarray(a)[:, None], np.asarray(b)[None, :]
        return float((a < b).mean() + (a == b).mean() / 2)

    found = bootstrap((a, b), share, vectorized=False, method="percentile", n_resamples=2000, rng=0)
    low, high = found.confidence_interval
    return share(a, b), float(low), float(high)
