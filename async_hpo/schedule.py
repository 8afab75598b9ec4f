"""When trials run on workers, as arithmetic: what the chapter teaches, in one function that its page shows."""

import heapq
import math
from collections.abc import Iterable
from numbers import Integral

import numpy as np
import pandas as pd


def schedule(
    durations: Iterable[float], n_workers: int, synchronous: bool = False, gap: float = 0.0, slowdown: float = 0.0
) -> pd.DataFrame:
    """When each trial would run, and on which worker, if the trials started in the order given.

    Asynchronous: a worker takes the next trial as soon as it is free (list scheduling; Graham, 1966). Synchronous: the
    next `n_workers` trials start when all of the batch before have finished.

    Args:
        durations: seconds a trial takes, one number a trial, finite, not negative; with `slowdown` while no other runs.
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
    free = [(0.0, worker) for worker in range(n_workers)]  # a heap: from when on each worker is free
    rows = []
    for trial, seconds in enumerate(durations):
        if synchronous and trial % n_workers == 0:
            free = [(max(free)[0], worker) for worker in range(n_workers)]
        start, worker = heapq.heappop(free)
        rows.append((trial, worker, start, start + seconds))
        heapq.heappush(free, (start + seconds + gap, worker))
    plan = pd.DataFrame(rows, columns=["trial", "worker", "start", "end"])
    return _slowed_down(plan, gap, slowdown) if slowdown and len(plan) else plan


def _slowed_down(plan: pd.DataFrame, gap: float, slowdown: float) -> pd.DataFrame:
    """Busy workers slow each other down, all of them alike: time itself passes more slowly for them."""
    starts, ends = np.sort(plan.start), np.sort(plan.end + gap)
    times = np.unique([0.0, *starts, *plan.end, *ends])
    n_busy = np.searchsorted(starts, times[:-1], side="right") - np.searchsorted(ends, times[:-1], side="right")
    passed = np.cumsum([0.0, *np.diff(times) * (1 + slowdown * np.maximum(n_busy - 1, 0))])
    return plan.assign(start=np.interp(plan.start, times, passed), end=np.interp(plan.end, times, passed))


def _checked(durations: Iterable[float], n_workers: int, gap: float, slowdown: float) -> list[float]:
    durations = [float(duration) for duration in durations]
    for trial, duration in enumerate(durations):
        _check_seconds(duration, f"the duration of trial {trial}")
    _check_seconds(gap, "gap")
    _check_seconds(slowdown, "slowdown")
    if isinstance(n_workers, bool) or not isinstance(n_workers, Integral) or n_workers < 1:
        raise ValueError(f"n_workers must be a whole number, 1 or more, not {n_workers!r}")
    return durations


def _check_seconds(value: float, what: str) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{what} must be finite and not negative, not {value}")


def idle_share(busy_seconds: float, n_workers: int, seconds: float) -> float:
    """The share of all workers' wall-clock time in which they are not busy: the book's one definition of idle.

    A worker is busy from a trial's order to its last report or end. `busy_seconds` adds up all workers', in a run that
    takes `seconds`.
    """
    return 1 - busy_seconds / (n_workers * seconds)


def expected_maximum(durations: Iterable[float], n: int) -> float:
    """The mean of the longest of `n` durations drawn at random, with replacement: exact, from order statistics.

    The i-th smallest of m values is the longest with probability (i/m)^n - ((i-1)/m)^n.
    """
    ordered = np.sort(np.asarray(list(durations), float))
    ranks = np.arange(len(ordered) + 1) / len(ordered)
    return float(np.diff(ranks**n) @ ordered)
