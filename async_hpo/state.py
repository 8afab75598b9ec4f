"""What a stopped search needs in order to go on: saved beside its results, and put back into a new tuner.

`Tuner.load` of Syne Tune 0.16 is not enough: it reads what was saved every ten seconds, and not in one step; a script
that sets a seed draws its first configurations once more; and the trials that were running are lost.
"""

import fcntl
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
from syne_tune import Tuner
from syne_tune.backend.trial_status import Status
from syne_tune.constants import ST_TRIAL_ID, ST_TUNER_START_TIMESTAMP, ST_WORKER_TIMESTAMP
from syne_tune.optimizer.scheduler import TrialScheduler, TrialSuggestion
from syne_tune.tuner_callback import TunerCallback
from syne_tune_workers.reports import Reports

from async_hpo.language import _
from async_hpo.runs import RUN_TIME

FILENAME = "state.pkl"
#: Keys of the run's metadata: what must be the same when a search goes on.
SAME = ("objective", "config_space", "metric_names", "metric_mode", "scheduler_name")
OF_TUNER = ("scheduler", "tuning_status", "last_seen_result_per_trial", "trials_scheduler_stopped")


def save(tuner: Tuner, results: list[dict[str, Any]], trials: list[dict[str, Any]]) -> None:
    """Write the state of a run into its folder, in one step.

    Args:
        results: a row a report, as in `results.csv.zip`.
        trials: a row each time that a trial ran: `trial_id`, `status`, `start`, `config`; `end` where it has one.
    """
    state = {
        "at": time.time(),
        "elapsed": tuner.tuning_status.wallclock_time,
        "metadata": tuner.metadata,
        "results": results,
        "trials": trials,
        "random": (random.getstate(), np.random.get_state()),
        "tuner": {name: getattr(tuner, name) for name in OF_TUNER},
    }
    with in_one_step(tuner.tuner_path / FILENAME) as part:
        part.write_bytes(cloudpickle.dumps(state))


@contextmanager
def in_one_step(path: Path) -> Iterator[Path]:
    """Where to write a file that is put in its place when the block has ended: a kill leaves the old one or the new."""
    part = path.with_name(f".part-{path.name}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def load(folder: Path, metadata: dict[str, Any]) -> dict[str, Any]:
    """Read what `save` wrote, and what trials with a checkpoint reported after that.

    Args:
        folder: the run's.
        metadata: of the search that wants to go on.

    Returns:
        What was saved; the trials' `configs` by their numbers; the numbers of those that were `running`, and among them
        of those that begin `anew` because they have no checkpoint; and of each of the others its `late` reports.

    Raises:
        ValueError: that is another search, or what was saved can't be read.
    """
    try:
        state: dict[str, Any] = cloudpickle.loads((folder / FILENAME).read_bytes())
    except Exception as error:  # whatever its classes raise that were pickled, such as those of another version
        why = _("{} can't go on, because {} can't be read here: {}", folder.name, FILENAME, error)
        raise ValueError(why) from None
    for key in SAME:
        if state["metadata"].get(key) != metadata.get(key):
            raise ValueError(
                _("{} had another {}, so it can't go on: give this search another name.", folder.name, key)
            )
    known = {row[ST_TRIAL_ID]: row[ST_WORKER_TIMESTAMP] for row in state["results"]}  # of a trial's last report
    running = [row for row in state["trials"] if row["status"] == Status.in_progress]
    state |= {"running": [row["trial_id"] for row in running], "anew": [], "late": {}}
    state["configs"] = {row["trial_id"]: row["config"] for row in state["trials"]}
    saved = end = state["elapsed"]
    for trial_id in state["running"]:
        if not any((folder / str(trial_id)).glob("checkpoints/*")):
            state["anew"].append(trial_id)
            continue
        late = _printed_after(known.get(trial_id), folder / str(trial_id))
        times = [max(saved, saved + report[ST_WORKER_TIMESTAMP] - state["at"]) for report in late]
        state["late"][trial_id] = [report | {RUN_TIME: at} for report, at in zip(late, times, strict=True)]
        end = max([end, *times])
    for row in running:
        row.setdefault("end", state["metadata"][ST_TUNER_START_TIMESTAMP] + end)
    return state | {"elapsed": end}


def _printed_after(stamp: float | None, of_trial: Path) -> list[dict[str, Any]]:
    """The reports in a trial's logs, in their order, after the one of this time; all if it is not there."""
    logs = sorted(of_trial.glob("std.out*"), reverse=True)  # `std.out.before` first; a report may stand in both
    printed = {report[ST_WORKER_TIMESTAMP]: report for log in logs for report in Reports().feed(log.read_bytes())}
    first = [*printed].index(stamp) + 1 if stamp in printed else 0
    return [*printed.values()][first:]


def put_back(tuner: Tuner, state: dict[str, Any]) -> None:
    """Make a new tuner the one that stopped; it first goes on with the trials that were running.

    Args:
        state: what `load` returned.
    """
    for name, value in state["tuner"].items():
        setattr(tuner, name, value)
    tuner.trial_backend.take_over(state["configs"], reported={*state["configs"]})  # `TrialGuard` knows the silent ones
    _suggest_first(tuner.scheduler, state["running"])
    for callback in tuner.callbacks:
        if go_on_from := getattr(callback, "go_on_from", None):
            go_on_from(tuner, state)
    tuner.callbacks.insert(0, _Earlier(state))  # the other callbacks see what it knows
    python, numpy = state["random"]
    random.setstate(python)
    np.random.set_state(numpy)


class _Earlier(TunerCallback):
    """Lets the run's clock go on, and tells its tuner what trials had reported when it stopped."""

    def __init__(self, state: dict[str, Any]):
        self._state = state

    def on_tuning_start(self, tuner: Tuner) -> None:
        tuner.tuning_status.start_time = time.perf_counter() - self._state["elapsed"]

    def on_fetch_status_results(self, trial_status_dict, new_results) -> None:
        for trial_id in trial_status_dict:
            late = self._state["late"].pop(trial_id, [])
            new_results[:0] = [(trial_id, report) for report in late]


def _suggest_first(scheduler: TrialScheduler, running: list[int]) -> None:
    """Let a scheduler suggest to go on with these trials before it suggests anything of its own."""

    def suggest() -> TrialSuggestion | None:
        if running:
            return TrialSuggestion.resume_suggestion(running.pop(0))
        del scheduler.suggest  # its own is in its class
        return scheduler.suggest()

    scheduler.suggest = suggest


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from going on with this run meanwhile.

    Raises:
        ValueError: one does so already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "wb") as file:  # the lock ends with the process, however that ends
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            why = _("{} is running in another process: end that, or wait for it.", folder.name)
            raise ValueError(why) from None
        yield
