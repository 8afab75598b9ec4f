"""What the book adds to Syne Tune's tuner while a run goes on: results on disk, and failures told."""

import math
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager
from numbers import Real
from pathlib import Path
from typing import Any

import cloudpickle
import pandas as pd
from syne_tune.backend import LocalBackend
from syne_tune.backend.trial_status import Status
from syne_tune.constants import (
    ST_METRIC_TAG,
    ST_RESULTS_DATAFRAME_FILENAME,
    ST_TRIAL_ID,
    ST_TUNER_START_TIMESTAMP,
    ST_WORKER_TIMESTAMP,
)
from syne_tune.num_gpu import get_num_gpus
from syne_tune.optimizer.scheduler import SchedulerDecision
from syne_tune.results_callback import StoreResultsCallback
from syne_tune.tuner_callback import TunerCallback
from syne_tune_workers.gpus import visible_gpus
from tqdm import tqdm

from async_hpo import state
from async_hpo.runs import TRIALS_FILENAME


class SafeResults(StoreResultsCallback):
    """Keeps what was reported, and which trial ran when, on disk while the run goes on.

    Writes at the end of every round of the tuner's loop that brought something new, at most once a `min_interval`, for
    at most a twentieth of the time, and each file in one step: a kill at any moment leaves whole files.
    `results.csv.zip` is what `load_experiment` reads; `trials.csv` has a row a trial with the columns `trial_id`,
    `status`, `start` and `end` (Unix time, seconds; `end` is when the tuner saw it); `state.pkl` is what a search needs
    to go on (see `search`).

    Args:
        min_interval: seconds between two writes.
    """

    def __init__(self, min_interval: float = 1.0):
        super().__init__()
        self.min_interval = min_interval
        self.results: list[dict[str, Any]] = []
        self.trials: dict[int, dict[str, Any]] = {}
        self.stops: list[tuple[float, float]] = []
        self._run, self._start = "", None
        self._begin = 0.0  # of this process' part of the run
        self._replaced: dict[int, list[dict[str, Any]]] = {}
        self._dirty, self._state_is_kept = False, True
        self._next_write = -math.inf  # on the monotonic clock

    # The tuner is saved every ten seconds, by a pickler in Python: 0.1 ms a report, of all reports.
    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"results": cloudpickle.dumps(self.results), "_replaced": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state | {"results": cloudpickle.loads(state["results"])}

    def go_on_from(self, tuner, earlier: dict[str, Any], anew: Sequence[int]) -> None:
        """Let the next run be this tuner's, and one that stopped.

        Args:
            earlier: what `state.load` returned.
            anew: trials that start from their beginning. Their new reports take the place of the old ones, in order.
        """
        self._run, self._start = tuner.name, earlier["metadata"][ST_TUNER_START_TIMESTAMP]
        self.results, self.trials, self.stops = earlier["results"], earlier["trials"], earlier["stops"]
        self._replaced = {number: [row for row in self.results if row[ST_TRIAL_ID] == number] for number in anew}

    def on_tuning_start(self, tuner) -> None:
        super().on_tuning_start(tuner)
        self._tuner = tuner
        self._begin = tuner.metadata.get(ST_TUNER_START_TIMESTAMP, time.time())
        if tuner.name != self._run:  # it may have been another one's callback before
            self._run, self.results, self.trials, self.stops = tuner.name, [], {}, []
            self._start = tuner.metadata.get(ST_TUNER_START_TIMESTAMP)
        elif self._start is not None:  # it is the same run, and began when it began
            tuner.metadata[ST_TUNER_START_TIMESTAMP] = self._start
        if self.add_wallclock_time:
            self._start_time_stamp -= tuner.tuning_status.wallclock_time
        self.save_results_at_frequency = self._mark  # the base class would write here, and not in one step
        tuner.metadata |= {"n_workers": tuner.n_workers} | ({"stops": self.stops} if self.stops else {})
        Path(self.csv_file).parent.mkdir(parents=True, exist_ok=True)
        self._save_state()

    def _mark(self) -> None:
        self._dirty = True

    def on_start_trial(self, trial) -> None:
        start = trial.creation_time.timestamp()
        known = {"trial_id": trial.trial_id, "status": Status.in_progress, "start": start, "config": trial.config}
        self.trials[trial.trial_id] = known
        self._mark()

    def on_resume_trial(self, trial) -> None:
        self.trials[trial.trial_id].update(status=Status.in_progress, end=math.nan, half_done=False)
        self._mark()

    def on_trial_result(self, trial, status: str, result: dict[str, Any], decision: str) -> None:
        old = self._replaced.get(trial.trial_id)
        is_late = old is not None and result[ST_WORKER_TIMESTAMP] < self._begin  # reported before the stop, read now
        if old and not is_late:
            self._drop([old.pop(0)])
        super().on_trial_result(trial, status, result, decision)
        if old is not None and is_late:
            old.append(self.results[-1])
        if decision != SchedulerDecision.CONTINUE and status != Status.completed:
            self._end(trial.trial_id, Status.paused if decision == SchedulerDecision.PAUSE else Status.stopped)

    def on_trial_complete(self, trial, result: dict[str, Any]) -> None:
        if left := self._replaced.pop(trial.trial_id, []):
            self._drop(left)

    def _drop(self, rows: list[dict[str, Any]]) -> None:
        dropped = {id(row) for row in rows}
        self.results = [row for row in self.results if id(row) not in dropped]

    def on_fetch_status_results(self, trial_status_dict, new_results) -> None:
        for trial_id, (_, status) in trial_status_dict.items():
            if status != Status.in_progress:
                self._end(trial_id, status)

    def _end(self, trial_id: int, status: str) -> None:
        self.trials[trial_id].update(status=status, end=time.time())
        self._mark()

    def on_loop_end(self) -> None:
        now = time.monotonic()
        if self._dirty and now >= self._next_write:
            self.store_results()
        elif now >= self._next_write + _SECONDS_BETWEEN_STATES:
            self._save_state()  # the clock has gone on
            self._next_write = now

    def on_tuning_end(self) -> None:
        for trial_id, trial in self.trials.items():
            if trial["status"] == Status.in_progress:
                self._end(trial_id, Status.stopped)
                trial["half_done"] = True
        if self._dirty:  # the guard may have asked for it before the tuner does
            self.store_results()

    def store_results(self) -> None:
        """Write all files now, each in one step; what there is nothing of yet is not written."""
        if self.csv_file is None:  # the run ended before it began
            return
        begin, folder = time.monotonic(), Path(self.csv_file).parent
        self._save_state()
        if self.results:
            archive = {"method": "zip", "archive_name": "results.csv"}
            write_csv(self.dataframe(), folder / ST_RESULTS_DATAFRAME_FILENAME, compression=archive)
        if self.trials:
            columns = ["trial_id", "status", "start", "end"]
            write_csv(pd.DataFrame(self.trials.values(), columns=columns), folder / TRIALS_FILENAME)
        took = time.monotonic() - begin
        self._dirty, self._next_write = False, begin + max(self.min_interval, 20 * took)

    def _save_state(self) -> None:
        if self._tuner is None or not self._state_is_kept:
            return
        try:
            state.save(self._tuner, self.results, self.trials, self.stops)
        except Exception as error:  # of a scheduler that can't be pickled, say: the run does without
            self._state_is_kept = False
            tqdm.write(f"{self._run} can't go on after a stop, because its scheduler can't be saved: {error}")


#: Seconds without news after which the state is saved all the same: a run that is killed forgets so much of its budget.
_SECONDS_BETWEEN_STATES = 5.0


def write_csv(frame: pd.DataFrame, path: Path, **options) -> None:
    """Write a table in one step, so that a kill leaves the old file or the new one. `options` are those of `to_csv`."""
    with state.in_one_step(path) as part:
        frame.to_csv(part, index=False, **options)


class TrialGuard(TunerCallback):
    """Lets a trial fail alone, says why, and lets no trial outlive the run.

    - A failed trial is named at once with the last lines of its error; so is one that ends without a report, which
      would end the whole run in Syne Tune. Give the tuner a large `max_failures` (its default is 1).
    - So does one whose report lacks the scheduler's metric, or has something there that is no number; and one that
      reported nothing but NaN.
    - When the run ends or is interrupted, the trials still running are stopped, and waited for; what is known of them
      is on disk before a second interrupt takes effect.
    - Syne Tune's local back-ends split their command line at spaces; paths with spaces are made relative, and where
      that does not help, the run ends before a trial starts. So it does where a cluster has too few places.

    Put it before the other callbacks, so that they see the statuses as it leaves them.

    Args:
        num_lines: how many lines of a failed trial's error are shown.
    """

    def __init__(self, num_lines: int = 4):
        self.num_lines = num_lines
        self._with_report: set[int] = set()
        self._with_number: set[int] = set()
        self._failed: set[int] = set()
        self._bad: dict[int, str] = {}  # trial -> what is wrong with its report
        self._before: set[int] = set()  # trials that reported before the run stopped

    def go_on_from(self, tuner, earlier: dict[str, Any], anew: Sequence[int]) -> None:
        """See `SafeResults`."""
        self._before = {row[ST_TRIAL_ID] for row in earlier["results"]}

    def on_tuning_start(self, tuner) -> None:
        self._tuner, self._bad = tuner, {}
        self._with_report, self._with_number, self._failed = {*self._before}, {*self._before}, set()
        tuner.tuner_path.mkdir(parents=True, exist_ok=True)  # the tuner saves itself there even when this raises
        _avoid_spaces(tuner.trial_backend)
        _count_gpus_elsewhere(tuner.trial_backend)
        if check_workers := getattr(tuner.trial_backend, "check_workers", None):
            check_workers(tuner.n_workers, tuner.asynchronous_scheduling)

    def on_fetch_status_results(self, trial_status_dict, new_results) -> None:
        # Syne Tune's tuner goes on with these very objects: what is changed here, it takes for true.
        new_results[:] = [(trial_id, result) for trial_id, result in new_results if self._is_well(trial_id, result)]
        for trial_id, (trial, status) in trial_status_dict.items():
            if trial_id in self._bad and status == Status.in_progress:
                self._tuner.trial_backend.stop_trial(trial_id)
            reason = self._reason(trial_id, status)
            if reason and trial_id not in self._failed:
                self._failed.add(trial_id)
                self._tell(trial_id, reason)
            if reason:
                trial_status_dict[trial_id] = (trial, Status.failed)

    def _reason(self, trial_id: int, status: str) -> str:
        """Why a trial has failed; empty if it has not."""
        if trial_id in self._bad:
            return self._bad[trial_id]
        if status == Status.completed and trial_id not in self._with_report:
            return "it ended without a report"
        if status == Status.completed and trial_id not in self._with_number:
            return f"it reported nothing but NaN as {', '.join(self._tuner.scheduler.metric_names())}"
        return "its last lines say" if status == Status.failed else ""

    def _is_well(self, trial_id: int, result: dict[str, Any]) -> bool:
        """Whether a report can be used. If it can't, neither can the trial's next ones."""
        for metric in self._tuner.scheduler.metric_names():
            value = result.get(metric)
            if metric not in result:
                reported = ", ".join(key for key in result if not key.startswith("st_"))
                self._bad.setdefault(
                    trial_id,
                    f"it reported {reported}, but the scheduler waits for {metric!r}: use one name for the argument in "
                    "report(...) and for the scheduler's metric",
                )
            elif isinstance(value, bool) or not isinstance(value, Real):
                what = "something that is no number" if value is None else f"{value!r:.100} ({type(value).__name__})"
                self._bad.setdefault(
                    trial_id, f"it reported {what} as {metric!r}: write report({metric}=float(...)), or .item()"
                )
            elif not math.isnan(value):
                self._with_number.add(trial_id)
        self._with_report.add(trial_id)
        return trial_id not in self._bad

    def _tell(self, trial_id: int, what: str) -> None:
        log = self._tuner.trial_backend.trial_path(trial_id) / "std.err"
        printed = [line for line in _last_lines(log.with_name("std.out"), 1) if ST_METRIC_TAG not in line]
        lines = [f"    {line}" for line in [*printed, *_last_lines(log, self.num_lines)]]
        tqdm.write("\n".join([f"Trial {trial_id} failed; {what} (all of it in {os.path.relpath(log)}):", *lines]))

    def on_tuning_end(self) -> None:
        backend = self._tuner.trial_backend
        with _no_interrupt():
            backend.stop_all()
            for process in getattr(backend, "trial_subprocess", {}).values():
                process.wait(timeout=10)  # also clears the process table
            for callback in self._tuner.callbacks:
                if isinstance(callback, SafeResults):
                    callback.on_tuning_end()


@contextmanager
def _no_interrupt() -> Iterator[None]:
    """Let an interrupt wait until the end of this block: what is half done here would stay so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[tuple] = []
    before = signal.signal(signal.SIGINT, lambda *arguments: waiting.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if waiting and callable(before):
            before(*waiting[0])


def _last_lines(path: Path, n: int) -> list[str]:
    """At most `n` lines of bounded length: a trial may have written anything."""
    if not path.exists():
        return []
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 10_000))
        lines = file.read().decode(errors="replace").rstrip().splitlines()[-n:]
    return [line if len(line) <= _LONGEST_LINE else f"... {line[-_LONGEST_LINE:]}" for line in lines]


_LONGEST_LINE = 500  # characters


def _avoid_spaces(backend) -> None:
    if not isinstance(backend, LocalBackend):
        return
    if any(" " in str(path) for path in (backend.binary, backend.entry_point, backend.local_path)):
        backend.binary = os.path.relpath(backend.binary)
        backend.entry_point = os.path.relpath(backend.entry_point)
        backend.local_path = Path(os.path.relpath(backend.local_path))
    for path in (backend.binary, backend.entry_point, str(backend.local_path)):
        if " " in path:
            raise ValueError(f"Syne Tune cannot start a trial from a path with a space: {path!r}. Move the folder.")


def _count_gpus_elsewhere(backend) -> None:
    """Syne Tune's own back-ends count GPUs with a file `std.out` in the working folder, which is the notebooks' one."""
    if not getattr(backend, "rotate_gpus", False):
        return
    if len(visible_gpus()) < 2:  # nothing to rotate, nothing to count
        backend.rotate_gpus = False
        return
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        get_num_gpus()  # it counts once, and knows then
