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
from syne_tune.constants import (
    ST_TRIAL_ID,
    ST_TUNER_CREATION_TIMESTAMP,
    ST_TUNER_START_TIMESTAMP,
    ST_WORKER_TIMESTAMP,
)
from syne_tune.optimizer.scheduler import TrialScheduler, TrialSuggestion
from syne_tune.tuner_callback import TunerCallback
from syne_tune_workers.objective import Reports

FILENAME = "state.pkl"
#: What must be the same when a search goes on: a key of the run's metadata -> what the reader calls it.
SAME = {
    "objective": "objective",
    "config_space": "configuration space",
    "metric_names": "metric",
    "metric_mode": "direction (min or max)",
    "scheduler_name": "scheduler",
}
_OF_TUNER = ("scheduler", "tuning_status", "last_seen_result_per_trial", "trials_scheduler_stopped")


def save(tuner: Tuner, results: list[dict[str, Any]], trials: dict[int, dict[str, Any]], stops: list) -> None:
    """Write the state of a run into its folder, in one step.

    Args:
        results: a row a report, as in `results.csv.zip`.
        trials: by number: `status`, `start`, `config`; `end` where it has one; `half_done` if the run's end cut it off.
        stops: when the run stood still: pairs of Unix times.
    """
    kept = {*SAME, ST_TUNER_CREATION_TIMESTAMP, ST_TUNER_START_TIMESTAMP}
    state = {
        "at": time.time(),
        "elapsed": tuner.tuning_status.wallclock_time,
        "metadata": {key: value for key, value in tuner.metadata.items() if key in kept},
        "results": results,
        "trials": trials,
        "stops": stops,
        "random": (random.getstate(), np.random.get_state()),
        "tuner": {name: getattr(tuner, name) for name in _OF_TUNER},
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
    """Read what `save` wrote, and what running trials reported after that. These trials are `half_done` now.

    Args:
        folder: the run's.
        metadata: of the search that wants to go on.

    Raises:
        ValueError: that is another search, or what was saved can't be read.
    """
    try:
        state: dict[str, Any] = cloudpickle.loads((folder / FILENAME).read_bytes())
    except Exception as error:  # whatever its classes raise that were pickled, such as those of another version
        raise ValueError(f"{folder.name} can't go on, because {FILENAME} can't be read here: {error}") from None
    for key, what in SAME.items():
        if state["metadata"].get(key) != metadata.get(key):
            raise ValueError(f"{folder.name} had another {what}, so it can't go on: give this search another name.")
    known = {trial_id: 0.0 for trial_id in state["trials"]}
    for row in state["results"]:
        known[row[ST_TRIAL_ID]] = max(known[row[ST_TRIAL_ID]], row[ST_WORKER_TIMESTAMP])
    state["late"] = {}
    for trial_id, trial in state["trials"].items():
        if trial["status"] == Status.in_progress:
            trial |= {"status": Status.stopped, "end": state["at"], "half_done": True}
        if trial.get("half_done"):
            logs = sorted((folder / str(trial_id)).glob("std.out*"), reverse=True)  # `std.out.before` first
            printed = [report for log in logs for report in Reports().feed(log.read_bytes())]
            late = {report[ST_WORKER_TIMESTAMP]: report for report in printed}  # a report may stand in both logs
            state["late"][trial_id] = [late[stamp] for stamp in sorted(late) if stamp > known[trial_id]]
    stamps = [report[ST_WORKER_TIMESTAMP] for reports in state["late"].values() for report in reports]
    state["elapsed"] += max([state["at"], *stamps]) - state["at"]
    state["at"] = max([state["at"], *stamps])
    return state


class GoOn(TunerCallback):
    """Makes a new tuner the one that stopped. It first goes on with the trials that were half done.

    Put it before the other callbacks, so that they see what it knows.

    Args:
        state: what `load` returned.
    """

    def __init__(self, state: dict[str, Any]):
        self._state = state

    def put_back(self, tuner: Tuner) -> None:
        """Give the tuner, its callbacks and its back-end what they had."""
        state, backend = self._state, tuner.trial_backend
        for name, value in state["tuner"].items():
            setattr(tuner, name, value)
        tuner.metadata[ST_TUNER_CREATION_TIMESTAMP] = state["metadata"][ST_TUNER_CREATION_TIMESTAMP]
        half_done = [trial_id for trial_id, trial in state["trials"].items() if trial.get("half_done")]
        reported = {row[ST_TRIAL_ID] for row in state["results"]} | {
            number for number, late in state["late"].items() if late
        }
        backend.take_over({trial_id: trial["config"] for trial_id, trial in state["trials"].items()}, reported)
        _suggest_first(tuner.scheduler, [*half_done])
        anew = [trial_id for trial_id in half_done if not any(backend.trial_path(trial_id).glob("checkpoints/*"))]
        for callback in tuner.callbacks:
            if go_on_from := getattr(callback, "go_on_from", None):
                go_on_from(tuner, state, anew)
        tuner.callbacks.insert(0, self)
        python, numpy = state["random"]
        random.setstate(python)
        np.random.set_state(numpy)

    def on_tuning_start(self, tuner: Tuner) -> None:
        tuner.tuning_status.start_time = time.perf_counter() - self._state["elapsed"]
        self._state["stops"].append((self._state["at"], tuner.metadata[ST_TUNER_START_TIMESTAMP]))

    def on_fetch_status_results(self, trial_status_dict, new_results) -> None:
        # What a trial had reported, but its tuner had not read.
        for trial_id in trial_status_dict:
            late = self._state["late"].pop(trial_id, [])
            new_results[:0] = [(trial_id, report) for report in late]


def _suggest_first(scheduler: TrialScheduler, half_done: list[int]) -> None:
    """Let a scheduler suggest to go on with these trials before it suggests anything of its own."""

    def suggest() -> TrialSuggestion | None:
        if half_done:
            return TrialSuggestion.resume_suggestion(half_done.pop(0))
        vars(scheduler).pop("suggest", None)  # its own is in its class
        return scheduler.suggest()

    scheduler.suggest = suggest


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from going on with this run meanwhile.

    Raises:
        ValueError: one does so already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as file:  # the lock ends with the process, however that ends
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{folder.name} is running in another process: end that, or wait for it.") from None
        yield
