"""Replay recorded trials in real time, as trials that sleep, and keep what was measured.

python -m tools.replays [--minutes 30]

A line a run in `recordings/replays.jsonl`; what is there already is not run again. Times are recorded seconds
(seconds of the clock times the compression) since the first trial's order, as in a prediction; `begin` is how many
seconds of the clock the tuner needed until then, and `gap` is in seconds of the clock, too.
"""

import argparse
import contextlib
import dataclasses
import io
import json
import os
import tempfile
import time
from collections.abc import Iterator
from typing import Any, NamedTuple
from unittest import mock

import pandas as pd

from async_hpo import compare, tables
from async_hpo.paths import RECORDINGS
from async_hpo.schedule import idle_share, schedule
from async_hpo.sleeping import replay_in_real_time

TABLE = "cnn"
PATH = RECORDINGS / "replays.jsonl"
#: What the best share of the recorded trials reach.
TARGETS = {"half": 0.5, "quarter": 0.25, "twentieth": 0.05}


class Plan(NamedTuple):
    """One run: which sequence of trials, on how many workers, and how."""

    sequence: int  # the seed of `tables.draw`
    workers: int
    synchronous: bool

    @property
    def n_trials(self) -> int:
        """Long against the first and the last round, in which not all workers are busy."""
        return max(48, 4 * self.workers if self.workers > 8 else 0)

    @property
    def compression(self) -> float:
        """A trial costs about 10 ms beside its sleep: the more trials a second, the less it may be hurried."""
        return 20.0 if self.workers <= 2 else 10.0 if self.workers <= 8 else 4.0


def plans() -> Iterator[Plan]:
    """In turns: each sequence on all numbers of workers, so that a slow hour meets all of them alike."""
    for sequence in range(20):
        for workers in (1, 2, 4, 8, 16, 32, 64):
            yield Plan(sequence, workers, synchronous=False)
            if workers > 1:
                yield Plan(sequence, workers, synchronous=True)


def predict(plan: Plan) -> dict[str, float]:
    """What the schedule of the recorded durations says, without any gap."""
    table = tables.read_table(TABLE)
    drawn = tables.draw(table, plan.n_trials, plan.sequence)
    durations = tables.durations(table)[drawn]
    planned = schedule(durations, plan.workers, plan.synchronous)
    seconds, trajectory = planned.end.max(), tables.incumbent(table, drawn, planned)
    return {
        "predicted": round(seconds, 3),
        "predicted_idle": round(idle_share(durations.sum(), plan.workers, seconds), 4),
    } | {f"predicted_{name}": round(compare.time_to(trajectory, error), 3) for name, error in targets(table).items()}


def targets(table: pd.DataFrame) -> dict[str, float]:
    best = table.groupby("trial").validation_error.min()
    return {name: best.quantile(share) for name, share in TARGETS.items()}


def measure(plan: Plan) -> dict[str, Any]:
    table = tables.read_table(TABLE)
    drawn = tables.draw(table, plan.n_trials, plan.sequence).tolist()
    cpu, begun = time.process_time(), time.monotonic()
    run = replay_in_real_time(TABLE, drawn, plan.workers, plan.synchronous, plan.compression)
    cpu, elapsed = time.process_time() - cpu, time.monotonic() - begun
    reports, trials = (part[part.trial_id < plan.n_trials] for part in (run.reports, run.trials))
    run = dataclasses.replace(run, reports=reports, trials=trials)  # without those that began too late to count
    begin = run.trials.start.min()
    seconds = run.seconds_of_first(plan.n_trials) - begin
    replayed = {name: compare.time_to(run.incumbent(), error) - begin for name, error in targets(table).items()}
    return (
        plan._asdict()
        | {
            "trials": plan.n_trials,
            "compression": plan.compression,
            "begin": round(begin, 3),
            "seconds": round(seconds * plan.compression, 3),
            "idle": round(idle_share((trials.end - trials.start).sum(), plan.workers, seconds), 4),
            "gap": round(run.gaps().median(), 4) if plan.n_trials > plan.workers else None,
            "driver_cpu": round(cpu / elapsed, 3),
        }
        | {name: round(one * plan.compression, 3) for name, one in replayed.items()}
        | predict(plan)
    )


@contextlib.contextmanager
def _nothing_left_behind() -> Iterator[None]:
    """Nobody reads the run again, or what the tuner prints."""
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(os.environ, SYNETUNE_FOLDER=folder),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        yield


def record(minutes: float) -> None:
    rows = [json.loads(line) for line in PATH.read_text().splitlines()] if PATH.exists() else []
    done = {Plan(row["sequence"], row["workers"], row["synchronous"]) for row in rows}
    until = time.monotonic() + 60 * minutes
    for plan in plans():
        if plan in done:
            continue
        if time.monotonic() > until:
            break
        with _nothing_left_behind():
            row = json.dumps(measure(plan))
        with open(PATH, "a") as file:
            file.write(row + "\n")
        done.add(plan)
    print(f"replays: {len(done)} of {len([*plans()])} runs recorded")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=24 * 60, help="start no run after this many")
    record(parser.parse_args().minutes)
