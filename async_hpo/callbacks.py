"""What the book adds to Syne Tune's tuner while a run goes on: results on disk, and failures told."""

import math
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from numbers import Real
from pathlib import Path
from typing import Any

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

from async_hpo import state, tables
from async_hpo.language import _
from async_hpo.runs import RUN_TIME, TRIALS_FILENAME, column_of

SECONDS_BETWEEN_WRITES = 1.0
#: Without news, too, the files are written after so many seconds: a run that is killed forgets so much of its budget.
SECONDS_WITHOUT_NEWS = 5.0
_NUM_LINES = 4  # of a failed trial's error


class SafeResults(StoreResultsCallback):
    """Keeps what was reported, and which trial ran when, on disk while the run goes on.

    Writes at the end of a round of the tuner's loop, at most once a second, for at most a twentieth of the time, and
    each file in one step: a kill at any moment leaves whole files. `results.csv.zip` is what `load_experiment` reads;
    `trials.csv` has a row each time that a trial ran: `trial_id`, `status`, `start` and `end` (when the tuner saw it);
    `state.pkl` is what a search needs to go on (see `search`).

    All times are of the run's clock, in seconds: it stands still while the run does, and nobody can set it. `start` and
    `end` count from the Unix time at which the run began; the column `st_run_time` of a report from 0.
    """

    def __init__(self):
        super().__init__()
        self.trials: list[dict[str, Any]] = []
        self._run, self._start = "", 0.0
        self._last: dict[int, float] = {}  # trial -> when it started, or reported for the last time
        self._rounds = 0.0, 0.0  # when the tuner looked for reports before, and now
        self._anew: set[int] = set()
        self._dirty, self._state_is_kept = False, True
        self._next_write = -math.inf  # on the monotonic clock

    def go_on_from(self, tuner, earlier: dict[str, Any]) -> None:
        """Let the next run be this tuner's, and go on with one that stopped: what `state.load` returned."""
        self._run, self._start = tuner.name, earlier["metadata"][ST_TUNER_START_TIMESTAMP]
        self.results, self.trials = earlier["results"], earlier["trials"]
        self._anew = set(earlier["anew"])

    def on_tuning_start(self, tuner) -> None:
        super().on_tuning_start(tuner)
        self._tuner = tuner
        if tuner.name != self._run:  # else the same run goes on, and began when it began
            self._run, self._start = tuner.name, tuner.metadata[ST_TUNER_START_TIMESTAMP]
            self.results, self.trials = [], []
        self._last, self._rounds = {}, (self._now(), self._now())
        tuner.metadata |= {ST_TUNER_START_TIMESTAMP: self._start, "n_workers": tuner.n_workers}
        self._start_time_stamp -= tuner.tuning_status.wallclock_time
        self.save_results_at_frequency = self._mark  # the base class would write here, and not in one step
        Path(self.csv_file).parent.mkdir(parents=True, exist_ok=True)
        self._save_state()

    def _mark(self) -> None:
        self._dirty = True

    def _now(self) -> float:
        return self._tuner.tuning_status.wallclock_time

    def _when(self, trial_id: int, stamp: float) -> float:
        """A report's Unix time, as its trial's clock told it, on the run's clock: clocks may differ, or be set."""
        now = self._now()
        since = max(self._rounds[0], self._last.get(trial_id, 0.0))  # it came after that
        return min(max(now - (time.time() - stamp), since), now)

    def on_loop_start(self) -> None:
        self._rounds = self._rounds[1], self._now()

    def on_start_trial(self, trial) -> None:
        self._last[trial.trial_id] = now = self._now()
        start = {"trial_id": trial.trial_id, "status": Status.in_progress, "start": self._start + now}
        self.trials.append(start | {"config": trial.config})
        self._mark()

    def on_resume_trial(self, trial) -> None:
        self._end(trial.trial_id, Status.paused)
        self.on_start_trial(trial)

    def on_trial_result(self, trial, status: str, result: dict[str, Any], decision: str) -> None:
        if trial.trial_id in self._anew:  # the first report since it began again takes the place of the earlier ones
            self._anew.remove(trial.trial_id)
            self.results = [row for row in self.results if row[ST_TRIAL_ID] != trial.trial_id]
        if RUN_TIME not in result:  # else it was reported before the run stopped
            self._last[trial.trial_id] = self._when(trial.trial_id, result[ST_WORKER_TIMESTAMP])
            result = result | {RUN_TIME: self._last[trial.trial_id]}
        # A table has its own columns beside what was reported.
        own = {name if name == "time" else column_of(name): value for name, value in result.items()}
        super().on_trial_result(trial, status, own, decision)
        if decision != SchedulerDecision.CONTINUE and status != Status.completed:
            self._end(trial.trial_id, Status.paused if decision == SchedulerDecision.PAUSE else Status.stopped)

    def on_fetch_status_results(self, trial_status_dict, new_results) -> None:
        for trial_id, (_trial, status) in trial_status_dict.items():
            if status != Status.in_progress:
                self._end(trial_id, status)

    def _end(self, trial_id: int, status: str, at: float | None = None) -> None:
        row = next(row for row in reversed(self.trials) if row["trial_id"] == trial_id)
        row["status"] = status
        row.setdefault("end", self._start + (self._now() if at is None else at))
        self._mark()

    def on_loop_end(self) -> None:
        if time.monotonic() >= self._next_write + (0 if self._dirty else SECONDS_WITHOUT_NEWS):
            self.store_results()

    def on_tuning_end(self) -> None:
        running = [row["trial_id"] for row in self.trials if row["status"] == Status.in_progress]
        if running or self._dirty:  # else the guard has asked for it before the tuner does
            now = self._now()  # before the time at which a search would go on
            self._save_state()  # in which they are running: with them a search goes on
            for trial_id in running:
                self._end(trial_id, Status.stopped, now)
            self._write_tables()

    def store_results(self) -> None:
        """Write all files now, each in one step. A table without a row is not written."""
        begin = time.monotonic()
        self._save_state()
        self._write_tables()
        self._next_write = begin + max(SECONDS_BETWEEN_WRITES, 20 * (time.monotonic() - begin))

    def _write_tables(self) -> None:
        folder = Path(self.csv_file).parent
        if self.results:
            archive = {"method": "zip", "archive_name": "results.csv"}
            write_csv(self.dataframe(), folder / ST_RESULTS_DATAFRAME_FILENAME, compression=archive)
        if self.trials:
            columns = ["trial_id", "status", "start", "end"]
            write_csv(pd.DataFrame(self.trials, columns=columns), folder / TRIALS_FILENAME)
        self._dirty = False

    def _save_state(self) -> None:
        if not self._state_is_kept:
            return
        try:
            state.save(self._tuner, self.results, self.trials)
        except Exception as error:  # such as one of a scheduler that can't be pickled
            self._state_is_kept = False
            tqdm.write(_("{} can't go on after a stop, because its scheduler can't be saved: {}", self._run, error))


def write_csv(frame: pd.DataFrame, path: Path, **options) -> None:
    """Write a table for `tables.read_csv` in one step, so that a kill leaves the old file or the new one. `options` are
    those of `to_csv`."""
    with state.in_one_step(path) as part:
        tables.with_quotes(frame).to_csv(part, index=False, **options)


class TrialGuard(TunerCallback):
    """Lets a trial fail alone, says why, and lets no trial outlive the run.

    - A failed trial is named at once with the last lines of its error; so is one that ends without a report, which
      would end the whole run in Syne Tune. Give the tuner a large `max_failures` (its default is 1).
    - So does one whose report lacks what the scheduler needs (its metrics, and the resource of ASHA and its like), or
      has something there that is no number; and one that reported nothing but NaN.
    - When the run ends or is interrupted, the trials still running are stopped, and waited for; what is known of them
      is on disk before a second interrupt takes effect.
    - Syne Tune's local back-ends split their command line at spaces; paths with spaces are made relative, and where
      that does not help, the run ends before a trial starts. So it does where a cluster has too few places.

    Put it before the other callbacks, so that they see the statuses as it leaves them.
    """

    def on_tuning_start(self, tuner) -> None:
        self._tuner = tuner
        #: Trial that has reported -> whether one of its reports had a number. Those of an earlier run() count.
        self._has_number = dict.fromkeys(tuner.last_seen_result_per_trial, True)
        self._wrong: dict[int, str] = {}  # trial -> what is wrong with its report
        tuner.tuner_path.mkdir(parents=True, exist_ok=True)  # the tuner saves itself there even when this raises
        _avoid_spaces(tuner.trial_backend)
        _count_gpus_elsewhere(tuner.trial_backend)
        if check_workers := getattr(tuner.trial_backend, "check_workers", None):
            check_workers(tuner.n_workers, tuner.asynchronous_scheduling)

    def on_fetch_status_results(self, trial_status_dict, new_results) -> None:
        # Syne Tune's tuner goes on with these very objects: what is changed here, it takes for true.
        new_results[:] = [(trial_id, result) for trial_id, result in new_results if self._is_well(trial_id, result)]
        for trial_id, (trial, status) in trial_status_dict.items():
            if reason := self._reason(trial_id, status):
                if status == Status.in_progress:
                    self._tuner.trial_backend.stop_trial(trial_id)
                self._tell(trial_id, reason)
                trial_status_dict[trial_id] = (trial, Status.failed)

    def _reason(self, trial_id: int, status: str) -> str:
        """Why a trial has failed; empty if it has not."""
        if trial_id in self._wrong:
            return self._wrong[trial_id]
        if status == Status.completed and trial_id not in self._has_number:
            return _("it ended without a report")
        if status == Status.completed and not self._has_number[trial_id]:
            return _("it reported nothing but NaN as {}", ", ".join(self._tuner.scheduler.metric_names()))
        return _("its last lines say") if status == Status.failed else ""

    def _is_well(self, trial_id: int, result: dict[str, Any]) -> bool:
        """Whether a report can be used. If it can't, neither can the trial's next ones."""
        self._has_number.setdefault(trial_id, False)
        metrics = self._tuner.scheduler.metric_names()
        resource = getattr(self._tuner.scheduler, "time_attr", None)  # of one that compares unfinished trials
        for name in [*metrics, *([resource] if resource else [])]:
            if (number := _number(result.get(name))) is None:  # a tensor comes as None: JSON does not know it
                reported = ", ".join(f"{k}={v!r:.100}" for k, v in result.items() if not k.startswith("st_"))
                wrong = _("it reported {}, but the scheduler waits for a number {}", reported, repr(name))
                self._wrong.setdefault(trial_id, wrong + _(": write report({}=float(...)), or .item()", name))
            elif name in metrics:
                self._has_number[trial_id] |= not math.isnan(number)
        return trial_id not in self._wrong

    def _tell(self, trial_id: int, what: str) -> None:
        log = self._tuner.trial_backend.trial_path(trial_id) / "std.err"
        printed = [line for line in _last_lines(log.with_name("std.out"), 1) if ST_METRIC_TAG not in line]
        lines = [f"    {line}" for line in [*printed, *_last_lines(log, _NUM_LINES)]]
        failed = _("Trial {} failed; {} (all of it in {}):", trial_id, what, os.path.relpath(log))
        tqdm.write("\n".join([failed, *lines]))

    def on_tuning_end(self) -> None:
        backend = self._tuner.trial_backend
        with _no_interrupt():
            backend.stop_all()
            for process in getattr(backend, "trial_subprocess", {}).values():
                process.wait(timeout=10)  # also clears the process table
            for callback in self._tuner.callbacks:
                if isinstance(callback, SafeResults):
                    callback.on_tuning_end()


def _number(value: Any) -> float | None:
    """None if a scheduler can't compare it with others."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:  # a whole number has no limit
        return None


@contextmanager
def _no_interrupt() -> Iterator[None]:
    """Let an interrupt wait until the end of this block, which would else be left half done."""
    if threading.current_thread() is not threading.main_thread():  # it alone is interrupted
        yield
        return
    waiting: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: waiting.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if waiting:
            signal.raise_signal(signal.SIGINT)


def _last_lines(path: Path, n: int) -> list[str]:
    """At most `n` lines of at most 500 characters: a trial may have written anything."""
    if not path.exists():
        return []
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 10_000))
        lines = file.read().decode(errors="replace").rstrip().splitlines()[-n:]
    return [line[-500:] for line in lines]


def _avoid_spaces(backend) -> None:
    if not isinstance(backend, LocalBackend):
        return
    for name in ("binary", "entry_point", "local_path"):
        path = getattr(backend, name)
        if " " in str(path):
            path = type(path)(os.path.relpath(path))
            setattr(backend, name, path)
        if " " in str(path):
            raise ValueError(_("Syne Tune cannot start a trial from a path with a space: '{}'. Move the folder.", path))


def _count_gpus_elsewhere(backend) -> None:
    """Syne Tune's own back-ends count GPUs with a file `std.out` in the working folder, which is the notebooks' one."""
    if getattr(backend, "rotate_gpus", False):
        backend.rotate_gpus = len(visible_gpus()) > 1
        with tempfile.TemporaryDirectory() as folder, chdir(folder):
            get_num_gpus()  # Syne Tune keeps the number
