"""Recorded trials on any number of workers."""

import heapq
import math
from collections.abc import Iterable

import pandas as pd


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
