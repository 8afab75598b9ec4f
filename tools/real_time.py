"""Replay recorded trials in real time, as trials that sleep, and keep what was measured: `make record` calls this.

All of such a search is real but the computing: tuner, back-end, callbacks and processes do what they always do, and a
trial reports what was recorded, when it was recorded, on a clock that runs faster. So 64 workers need no 64 cores.

A line a run in `recordings/replays.jsonl`; what is there already is not run again. Times are recorded seconds (seconds
of the clock times the compression) since the first trial's order, as in a prediction.
"""

import dataclasses
import json
import os
import tempfile
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd
from syne_tune.config_space import randint
from syne_tune.optimizer.baselines import RandomSearch

from async_hpo import ForkserverBackend, compare, tables
from async_hpo.paths import RECORDINGS
from async_hpo.runs import Run
from async_hpo.schedule import schedule
from async_hpo.search import search

TABLE = "cnn"
PATH = RECORDINGS / "replays.jsonl"
#: The best share of the recorded trials that an incumbent reaches.
TARGETS = {"half": 0.5, "quarter": 0.25, "twentieth": 0.05}


class Plan(NamedTuple):
    """One run: which sequence of trials, on how many workers, and how."""

    sequence: int  # the seed of `tables.draw`
    workers: int
    synchronous: bool

    @property
    def n_trials(self) -> int:
        """Long against the first and the last round, in which not all workers are busy."""
        return max(48, 4 * self.workers)

    @property
    def compression(self) -> float:
        """A trial costs about 10 ms beside its sleep: the more trials a second, the less it may be hurried."""
        return 20.0 if self.workers <= 2 else 10.0 if self.workers <= 8 else 4.0


#: Each sequence on all numbers of workers, so that a slow hour meets all of them alike. One worker waits for nobody.
PLANS = [
    Plan(sequence, workers, synchronous)
    for sequence in range(20)
    for workers in (1, 2, 4, 8, 16, 32, 64)
    for synchronous in (False, True)
    if workers > 1 or not synchronous
]


def replay_in_real_time(
    trials: Sequence[int], n_workers: int, synchronous: bool = False, compression: float = 20.0
) -> Run:
    """Run recorded trials, by their numbers in the table and in this order, on the real tuner and `ForkserverBackend`.

    Returns:
        The run. Its times are those of the clock: times `compression` they are recorded seconds.
    """
    columns = ["epoch", "validation_error", "seconds"]
    curves = {trial: rows[columns].to_numpy().tolist() for trial, rows in tables.read_table(TABLE).groupby("trial")}

    def sleep_as_recorded(trial, position):
        from syne_tune import Reporter

        report, begin = Reporter(), time.monotonic()
        for epoch, error, seconds in curves[trial]:
            time.sleep(max(0.0, begin + seconds / compression - time.monotonic()))
            report(epoch=int(epoch), validation_error=error)

    # The position makes each configuration another one: a trial may be drawn twice.
    space = {"trial": randint(0, max(trials)), "position": randint(0, max(1, len(trials) - 1))}
    first = [{"trial": int(trial), "position": position} for position, trial in enumerate(trials)]
    return search(
        ForkserverBackend(sleep_as_recorded, space),
        RandomSearch(space, metrics=["validation_error"], points_to_evaluate=first),
        "replayed",
        seconds=None,
        n_workers=n_workers,
        n_trials=len(trials),
        asynchronous_scheduling=not synchronous,
    )


def predict(plan: Plan) -> dict[str, float]:
    """The times that the schedule of the recorded durations has, without any gap."""
    table = tables.read_table(TABLE)
    drawn = tables.draw(table, plan.n_trials, plan.sequence)
    planned = schedule(tables.durations(table)[drawn], plan.workers, plan.synchronous)
    times = times_to_targets(table, tables.incumbent(table, drawn, planned))
    return {"predicted": round(planned.end.max(), 3)} | {
        f"predicted_{name}": round(at, 3) for name, at in times.items()
    }


def measure(plan: Plan) -> dict[str, Any]:
    """Replay a plan's trials, and return a row of `recordings/replays.jsonl`."""
    table = tables.read_table(TABLE)
    drawn = tables.draw(table, plan.n_trials, plan.sequence).tolist()
    run = replay_in_real_time(drawn, plan.workers, plan.synchronous, plan.compression)
    counted = run.reports[run.reports.trial_id < plan.n_trials]  # others began too late
    times = times_to_targets(table, dataclasses.replace(run, reports=counted).incumbent())
    times["seconds"] = run.seconds_of_first(plan.n_trials)
    begin = run.trials.start.min()
    replayed = {name: round((at - begin) * plan.compression, 3) for name, at in times.items()}
    given = plan._asdict() | {"trials": plan.n_trials, "compression": plan.compression}
    return given | replayed | predict(plan)


def times_to_targets(table: pd.DataFrame, incumbent: pd.DataFrame) -> dict[str, float]:
    """When the incumbent was as good as the best half, quarter, and twentieth of all recorded trials."""
    best = table.groupby("trial").validation_error.min()
    return {name: compare.time_to(incumbent, best.quantile(share)) for name, share in TARGETS.items()}


def read() -> dict[Plan, dict[str, Any]]:
    """The rows of the plans that have been run."""
    rows = [json.loads(line) for line in PATH.read_text("utf-8").splitlines()] if PATH.exists() else []
    return {Plan(row["sequence"], row["workers"], row["synchronous"]): row for row in rows}


def record() -> None:
    """Run the plans that have not been run yet."""
    done = read()
    for plan in [plan for plan in PLANS if plan not in done]:
        with tempfile.TemporaryDirectory() as folder:  # nobody reads the runs again
            os.environ["SYNETUNE_FOLDER"] = folder
            row = measure(plan)
        with open(PATH, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    record()
