"""Recorded trials as trials that sleep: all of a search is real but the computing.

A search of 64 workers then needs no 64 cores: tuner, back-end, callbacks and processes do what they always do, and a
trial reports what was recorded, when it was recorded, on a clock that runs faster.
"""

import functools
import time
import warnings
from collections.abc import Sequence

from syne_tune.config_space import randint
from syne_tune.optimizer.baselines import RandomSearch
from syne_tune_workers import ForkserverBackend

from async_hpo.paths import RECORDINGS
from async_hpo.runs import Run
from async_hpo.search import search
from async_hpo.tables import read_table


@functools.cache
def _curves(table: str) -> dict[int, list[tuple[int, float, float]]]:
    """Trial -> epoch, error and seconds since the trial's order, a row a report."""
    rows = read_table(table)[["trial", "epoch", "validation_error", "seconds"]]
    return {trial: [tuple(row) for row in one.iloc[:, 1:].to_numpy()] for trial, one in rows.groupby("trial")}


def prepare() -> None:
    """Read the book's tables once, in the process that trials are forks of."""
    for path in RECORDINGS.glob("*.csv"):
        _curves(path.stem)


def sleep_as_recorded(table: str, trial: int, position: int, compression: float) -> None:
    """The objective: report what trial number `trial` of a table reported, `compression` times as fast.

    Args:
        position: of the trial in its sequence; it makes each configuration another one.
    """
    from syne_tune import Reporter

    begin, report = time.monotonic(), Reporter()
    for epoch, error, seconds in _curves(table)[trial]:
        time.sleep(max(0.0, begin + seconds / compression - time.monotonic()))
        report(epoch=int(epoch), validation_error=error)


def replay_in_real_time(
    table: str,
    trials: Sequence[int],
    n_workers: int,
    synchronous: bool = False,
    compression: float = 20.0,
    name: str = "replayed",
) -> Run:
    """Run recorded trials, in their order, on the real tuner and `ForkserverBackend`.

    Args:
        table: a table of the book, such as "cnn".
        trials: their numbers in the table, one for each trial of the run.
        n_workers: of the tuner.
        synchronous: wait for the whole batch.
        compression: how many recorded seconds pass in one. A trial must stay long against the gap between two.

    Returns:
        The run. Its times are those of the clock: times `compression` they are recorded seconds.
    """
    space = {
        "table": table,
        "trial": randint(0, max(trials)),
        "position": randint(0, max(1, len(trials) - 1)),
        "compression": compression,
    }
    first = [{"trial": int(trial), "position": position} for position, trial in enumerate(trials)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=f"{n_workers} workers share")  # who sleeps needs no core
        return search(
            ForkserverBackend(sleep_as_recorded, space, preload=["async_hpo.sleeping:prepare"]),
            RandomSearch(space, metrics=["validation_error"], points_to_evaluate=first),
            name,
            seconds=None,
            n_workers=n_workers,
            n_trials=len(trials),
            asynchronous_scheduling=not synchronous,
        )
