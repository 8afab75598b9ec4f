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
    """The incumbent's `validation_error` at each of `times` (seconds; NaN before the first report).

    Args:
        reports: columns `time` and `validation_error`, as of `replay` and of `runs.Run.reports`.
        times: ascending.

    Returns:
        Shape (len(times),).
    """
    reports = reports.sort_values("time")
    best = np.concatenate([[np.nan], reports.validation_error.astype(float).cummin()])
    return best[np.searchsorted(reports.time.astype(float), times, side="right")]


def bands(trajectories: Sequence[pd.DataFrame], times: Sequence[float] | np.ndarray | None = None) -> pd.DataFrame:
    """Median and quartiles, over searches, of the incumbent's error at the same times.

    Args:
        trajectories: a search each, as `best_so_far` takes them.
        times: seconds, ascending; by default 200, evenly spaced on a log axis from the first report that most have to
            the last of any.

    Returns:
        The columns `time`, `low`, `median` and `high`: errors that were seen, NaN where too few searches have one yet;
        no row where no search has.
    """
    if times is None:
        seen = [one.time for one in trajectories if len(one)]
        begin, end = (np.median([one.iloc[0] for one in seen]), max(one.iloc[-1] for one in seen)) if seen else (1, 1)
        times = np.geomspace(begin, end, 200 if seen else 0)
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

    Raises:
        KeyError: there is no column 1.
    """
    chosen = np.random.default_rng(0).integers(len(seconds), size=(n_resamples, len(seconds)))
    means = seconds.mean()
    resampled = {k: seconds[k].to_numpy()[chosen].mean(axis=1) for k in seconds}
    low, high = zip(*(np.quantile(resampled[1] / resampled[k], [0.025, 0.975]) for k in seconds), strict=True)
    workers = means.index.to_numpy()
    ratio = means[1] / means
    table = {"seconds": means, "speed-up": ratio, "low": low, "high": high, "efficiency": ratio / workers}
    return pd.DataFrame(table | {"worker-seconds": means * workers}).rename_axis("workers")


def ratio_of_pairs(a: Sequence[float], b: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """How many times as large the numbers of `a` are as those of `b`: the geometric mean of the pairs' ratios.

    Args:
        a, b: positive, as many of each; the first of `a` and the first of `b` belong together, the second ones, and so
            on: measured one after the other, they share the machine's pace.
        level: of the interval.

    Returns:
        The ratio, and the ends of Student's interval of its logarithm (NaN for a single pair).

    Raises:
        ValueError: `a` and `b` differ in length.
    """
    logarithms = [math.log(x / y) for x, y in zip(a, b, strict=True)]
    ratio, low, high = map(math.exp, mean_with_interval(logarithms, level))
    return ratio, low, high


def mean_with_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """The mean of independent measurements, with Student's interval: right for a few, too (NaN for a single one)."""
    from scipy.stats import sem, t

    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, math.nan, math.nan
    half = float(sem(values) * t.ppf((1 + level) / 2, len(values) - 1))
    return mean, mean - half, mean + half


def mean_as_text(values: Sequence[float], form: str = "{:.2f}") -> str:
    """The mean and its interval for a table or a line: "1.24 [1.22, 1.27]". `form` is each number's."""
    mean, low, high = map(form.format, mean_with_interval(values))
    return f"{mean} [{low}, {high}]"


def probability_lower(a: Sequence[float], b: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """How probable it is that a number like those of `a` is lower than one like those of `b`, and how sure that is.

    The share of pairs in which `a`'s is lower (ties count half), with a bootstrap interval (SciPy's, percentiles).

    Args:
        a, b: one number a repetition, each.
        level: of the interval.

    Returns:
        The share, and the interval's ends.
    """

    def share(a, b):
        a, b = np.asarray(a)[:, None], np.asarray(b)[None, :]
        return float((a < b).mean() + (a == b).mean() / 2)

    return share(a, b), *_interval((a, b), share, level, vectorized=False)


def _interval(samples, statistic, level: float, vectorized: bool, paired: bool = False) -> tuple[float, float]:
    from scipy.stats import bootstrap

    found = bootstrap(
        samples,
        statistic,
        vectorized=vectorized,
        paired=paired,
        method="percentile",
        confidence_level=level,
        n_resamples=2000,
        rng=0,
    )
    low, high = found.confidence_interval
    return float(low), float(high)
