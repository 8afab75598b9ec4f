"""Runs of a tuner: their budget, what they show and keep while they go on, and who ran when.

Words with one meaning, everywhere in the book:

- *busy*: a worker is busy from a trial's start order to the trial's last report or end;
- *idle*: every other second of every worker between the run's start and its end;
- *utilisation*: busy / (workers x wall-clock time);
- *useful*: the part of busy in which the trial trains and validates, without its start-up (imports, data).
"""

import io
import logging
import math
import os
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from syne_tune.backend import LocalBackend
from syne_tune.backend.trial_status import Status
from syne_tune.constants import (
    ST_RESULTS_DATAFRAME_FILENAME,
    ST_TRIAL_ID,
    ST_TUNER_CREATION_TIMESTAMP,
    ST_TUNER_START_TIMESTAMP,
    ST_WORKER_TIME,
    ST_WORKER_TIMESTAMP,
)
from syne_tune.experiments import ExperimentResult, load_experiment
from syne_tune.optimizer.scheduler import SchedulerDecision
from syne_tune.report import retrieve
from syne_tune.results_callback import StoreResultsCallback
from syne_tune.tuner_callback import TunerCallback
from syne_tune.tuner_logger import TunerLogger
from syne_tune.util import experiment_path
from tqdm import tqdm

from async_hpo import ROOT
from async_hpo.forkserver_backend import ForkserverBackend

T = TypeVar("T")

SHORT = os.environ.get("SHORT_BUDGET") == "1"
IDLE = os.environ.get("IDLE_MACHINE") == "1"
RECORDINGS = ROOT / "book" / "recordings"
TRIALS_FILENAME = "trials.csv"

# Short runs are kept apart, so that a figure of a full run never shows one.
os.environ.setdefault("SYNETUNE_FOLDER", str(ROOT / "experiments" / ("short" if SHORT else "full")))


def shorten(full: T, to: T) -> T:
    """Return `full`, or `to` when the environment variable SHORT_BUDGET is 1, as it is in the automatic tests."""
    return to if SHORT else full


def idle_machine(claim: str) -> bool:
    """Whether a claim about speed can be checked: only on a machine with nothing else to do, and who calls says that
    this one is, by IDLE_MACHINE=1. `make bench` and `make execute` do. Elsewhere the claim is printed as not checked.
    """
    if not IDLE:
        print(f"Not checked, since this machine may be busy (`make bench` checks it): {claim}")
    return IDLE


# --- while a run goes on ---------------------------------------------------------------------------------------------


class SafeResults(StoreResultsCallback):
    """Keeps what was reported, and which trial ran when, on disk while the run goes on.

    Writes at the end of every round of the tuner's loop that brought something new, at most once a `min_interval` and
    each file in one step: a kill at any moment leaves whole files. `results.csv.zip` is what `load_experiment` reads;
    `trials.csv` has a row a trial with the columns `trial_id`, `status`, `start` and `end` (Unix time, seconds; `end`
    is when the tuner saw it).

    Args:
        min_interval: seconds between two writes.
    """

    def __init__(self, min_interval: float = 1.0):
        super().__init__()
        self.min_interval = min_interval
        self.trials: dict[int, dict[str, Any]] = {}
        self._dirty = False
        self._last_write = -math.inf

    def on_tuning_start(self, tuner) -> None:
        super().on_tuning_start(tuner)
        self.save_results_at_frequency = self._mark  # the base class would write here, and not in one step
        tuner.metadata["n_workers"] = tuner.n_workers
        Path(self.csv_file).parent.mkdir(parents=True, exist_ok=True)

    def _mark(self) -> None:
        self._dirty = True

    def on_start_trial(self, trial) -> None:
        start = trial.creation_time.timestamp()
        self.trials[trial.trial_id] = {"trial_id": trial.trial_id, "status": Status.in_progress, "start": start}
        self._mark()

    def on_resume_trial(self, trial) -> None:
        self.trials[trial.trial_id].update(status=Status.in_progress, end=math.nan)

    def on_trial_result(self, trial, status: str, result: dict[str, Any], decision: str) -> None:
        super().on_trial_result(trial, status, result, decision)
        if decision != SchedulerDecision.CONTINUE and status != Status.completed:
            self._end(trial.trial_id, Status.paused if decision == SchedulerDecision.PAUSE else Status.stopped)

    def on_fetch_status_results(self, trial_status_dict, new_results) -> None:
        for trial_id, (_, status) in trial_status_dict.items():
            if status != Status.in_progress:
                self._end(trial_id, status)

    def _end(self, trial_id: int, status: str) -> None:
        self.trials[trial_id].update(status=status, end=time.time())
        self._mark()

    def on_loop_end(self) -> None:
        if self._dirty and time.monotonic() - self._last_write >= self.min_interval:
            self.store_results()

    def on_tuning_end(self) -> None:
        for trial_id, trial in self.trials.items():
            if trial["status"] == Status.in_progress:
                self._end(trial_id, Status.stopped)
        self.store_results()

    def store_results(self) -> None:
        if self.csv_file is None:  # the run ended before it began
            return
        folder = Path(self.csv_file).parent
        if self.results:
            archive = {"method": "zip", "archive_name": "results.csv"}
            write_csv(self.dataframe(), folder / ST_RESULTS_DATAFRAME_FILENAME, compression=archive)
        if self.trials:
            columns = ["trial_id", "status", "start", "end"]
            write_csv(pd.DataFrame(self.trials.values(), columns=columns), folder / TRIALS_FILENAME)
        self._dirty, self._last_write = False, time.monotonic()


def write_csv(frame: pd.DataFrame, path: Path, **options) -> None:
    part = path.with_name(f".part-{path.name}")
    frame.to_csv(part, index=False, **options)
    part.replace(path)


class TrialGuard(TunerCallback):
    """Lets a trial fail alone, says why, and lets no trial outlive the run.

    - A failed trial is named at once with the last lines of its error; so is one that ends without a report, which
      would end the whole run in Syne Tune. Give the tuner a large `max_failures` (its default is 1).
    - A report without the scheduler's metric ends the run with a message that names both.
    - When the run ends or is interrupted, the trials still running are stopped, and waited for.
    - Syne Tune's local back-ends split their command line at spaces; paths with spaces are made relative, and where
      that does not help, the run ends before a trial starts. So it does where a cluster has too few places. A place on
      a cluster gets its next trial when it is free, which for a stopped trial's or a lost node's the back-end knows.

    Put it before the other callbacks, so that they see the statuses as it leaves them.

    Args:
        num_lines: how many lines of a failed trial's error are shown.
    """

    def __init__(self, num_lines: int = 4):
        self.num_lines = num_lines
        self._with_report: set[int] = set()
        self._failed: set[int] = set()

    def on_tuning_start(self, tuner) -> None:
        self._tuner = tuner
        tuner.tuner_path.mkdir(parents=True, exist_ok=True)  # the tuner saves itself there even when this raises
        _avoid_spaces(tuner.trial_backend)
        if check_workers := getattr(tuner.trial_backend, "check_workers", None):
            check_workers(tuner.n_workers)
            tuner.start_jobs_without_delay = False

    def on_fetch_status_results(self, trial_status_dict, new_results) -> None:
        for trial_id, result in new_results:
            self._check_metrics(trial_id, result)
            self._with_report.add(trial_id)
        for trial_id, (trial, status) in trial_status_dict.items():
            silent = status == Status.completed and trial_id not in self._with_report
            if (silent or status == Status.failed) and trial_id not in self._failed:
                self._failed.add(trial_id)
                trial_status_dict[trial_id] = (trial, Status.failed)
                self._tell(trial_id, "it ended without a report" if silent else "its last lines say")

    def _check_metrics(self, trial_id: int, result: dict[str, Any]) -> None:
        for metric in self._tuner.scheduler.metric_names():
            if metric not in result:
                reported = ", ".join(key for key in result if not key.startswith("st_"))
                raise ValueError(
                    f"Trial {trial_id} reported {reported}, but the scheduler waits for {metric!r}: use one name for "
                    "the argument in report(...) and for the scheduler's metric."
                )

    def _tell(self, trial_id: int, what: str) -> None:
        lines = "".join(self._tuner.trial_backend.stderr(trial_id)).rstrip().splitlines()[-self.num_lines :]
        log = os.path.relpath(self._tuner.trial_backend.trial_path(trial_id) / "std.err")
        tqdm.write("\n".join([f"Trial {trial_id} failed; {what} (all of it in {log}):", *("    " + x for x in lines)]))

    def on_tuning_end(self) -> None:
        backend = self._tuner.trial_backend
        backend.stop_all()
        for process in getattr(backend, "trial_subprocess", {}).values():
            process.wait(timeout=10)  # also clears the process table


def _avoid_spaces(backend) -> None:
    if not isinstance(backend, LocalBackend) or isinstance(backend, ForkserverBackend):  # which has no command line
        return
    if any(" " in str(path) for path in (backend.binary, backend.entry_point, backend.local_path)):
        backend.binary = os.path.relpath(backend.binary)
        backend.entry_point = os.path.relpath(backend.entry_point)
        backend.local_path = Path(os.path.relpath(backend.local_path))
    for path in (backend.binary, backend.entry_point, str(backend.local_path)):
        if " " in path:
            raise ValueError(f"Syne Tune cannot start a trial from a path with a space: {path!r}. Move the folder.")


class ProgressBar(TunerCallback):
    """Shows elapsed time of the budget, the trials that finished and the best error so far.

    Args:
        max_wallclock_time: the budget in seconds, the bar's full length.
    """

    def __init__(self, max_wallclock_time: float):
        self.max_wallclock_time = max_wallclock_time
        self._bar: tqdm | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_bar": None}  # an open bar cannot be saved with the tuner

    def on_tuning_start(self, tuner) -> None:
        self._tuner = tuner
        layout = "{percentage:3.0f}%|{bar:25}| {n:.0f} of {total:.0f} s{postfix}"
        # stdout, because the book and the tests leave stderr out
        self._bar = tqdm(total=self.max_wallclock_time, bar_format=layout, postfix="starting", file=sys.stdout)

    def on_loop_end(self) -> None:
        status = self._tuner.tuning_status
        metric, mode = self._tuner.scheduler.metric_names()[0], self._tuner.scheduler.metric_mode()
        statistics = status.overall_metric_statistics
        best = (statistics.min_metrics if mode == "min" else statistics.max_metrics).get(metric, math.nan)
        text = f"{status.num_trials_completed} of {status.num_trials_started} trials finished"
        if status.num_trials_failed:
            text += f", {status.num_trials_failed} failed"
        if math.isfinite(best):
            text += f", best {metric} {best:.3f}"
        assert self._bar is not None  # since `on_tuning_start`
        self._bar.n = min(status.wallclock_time, self.max_wallclock_time)
        self._bar.set_postfix_str(text)

    def on_tuning_end(self) -> None:
        if self._bar is not None:
            # Not close(): it would draw the bar once more, below the table that the tuner has printed by now.
            self._bar.disable = True
            self._bar = None


class QuietLogger(TunerLogger):
    """Prints where the results lie; the progress bar shows the rest, and `TrialGuard` what goes wrong."""

    def __init__(self):
        super().__init__(use_colors=False, use_emojis=False)
        logging.getLogger("syne_tune").setLevel(logging.ERROR)

    def _silent(self, *args, **kwargs) -> None:
        pass

    print_tuning_start = print_tuning_status = print_stopping_trials = _silent
    print_trial_started = print_trial_completed = print_trial_failed = _silent

    def print_experiment_header(self, name: str, n_workers: int, **kwargs) -> None:
        print(f"{name} on {n_workers} workers")

    def print_tuning_complete(self) -> None:
        print()  # ends the line of the progress bar

    def print_tuning_finished(self, results_path: Path) -> None:
        print(f"Results and logs: {os.path.relpath(results_path)}")


class _Reports(io.TextIOBase):
    """A stand-in for stdout that picks out the lines which Syne Tune's Reporter prints, and passes on the others."""

    def __init__(self, on_report: Callable[[dict[str, Any]], None]):
        self.on_report, self.rest, self.out = on_report, "", sys.stdout

    def write(self, text: str) -> int:
        *lines, self.rest = (self.rest + text).split("\n")
        for line in lines:
            if reports := retrieve([line]):
                self.on_report(reports[0])
            else:
                self.out.write(line + "\n")
        return len(text)


def run_here(objective: Callable[..., None], config: dict[str, Any]) -> pd.DataFrame:
    """Run one trial in this process, with a progress bar over its epochs.

    Args:
        objective: calls Syne Tune's `Reporter` after every epoch.
        config: the objective's arguments; `max_epochs`, where it is one, is the bar's full length.

    Returns:
        A row a report, with the reported columns and `st_worker_time` (seconds since the reporter was made).
    """
    reports = []
    with tqdm(total=config.get("max_epochs"), unit="epoch", file=sys.stdout, bar_format=_EPOCHS) as bar:

        def on_report(report: dict[str, Any]) -> None:
            reports.append(report)
            bar.update()

        with redirect_stdout(_Reports(on_report)):
            objective(**config)
    return pd.DataFrame(reports)


_EPOCHS = "{percentage:3.0f}%|{bar:25}| epoch {n} of {total}, {elapsed}"


# --- after a run -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """A run as its files tell it. All times are seconds since the run's start.

    Attributes:
        name: of the tuner.
        metric: the scheduler's (first) metric.
        n_workers: how many workers the run had.
        wallclock_time: from the run's start to its end; to the last thing known where the run goes on or was killed.
        reports: a row a report in the order of time: `trial_id`, `time`, the metric, what else was reported, and the
            trial's configuration in columns `config_<name>`.
        trials: a row a trial in the order of start: `trial_id`, `worker` (0, 1, ...), `start` (of its order),
            `train_start` (when its reporter was made; NaN without a report), `end` (last report of a completed trial,
            else when the tuner saw its end), `status`.
    """

    name: str
    metric: str
    n_workers: int
    wallclock_time: float
    reports: pd.DataFrame
    trials: pd.DataFrame

    def shares(self) -> pd.Series:
        """Shares of all workers' wall-clock time: `useful`, `start-up` (of busy trials, before training) and
        `idle`. They add up to 1; the first two are the utilisation. A trial that never reported is all start-up."""
        total = self.n_workers * self.wallclock_time
        busy = (self.trials.end - self.trials.start).sum() / total
        useful = (self.trials.end - self.trials.train_start).sum() / total  # NaN, a trial without a report, adds 0
        return pd.Series({"useful": useful, "start-up": busy - useful, "idle": 1 - busy})

    def gaps(self) -> pd.Series:
        """Seconds from a trial's end to the next start on the same worker; the index is the later trial's."""
        return (self.trials.start - self.trials.groupby("worker").end.shift()).dropna()

    def incumbent(self) -> pd.DataFrame:
        """The incumbent trajectory: `time` and the smallest metric so far (NaN is never the incumbent)."""
        return pd.DataFrame({"time": self.reports.time, self.metric: self.reports[self.metric].cummin()}).dropna()


def find_experiment(name: str) -> Path:
    """The folder of the newest run called `<name>-<date>`: the reader's own, else the recording shipped with the book.

    Raises:
        FileNotFoundError: there is neither.
    """
    for root in (experiment_path(), RECORDINGS):
        if found := [path.parent for path in root.glob(f"{name}-*/{ST_RESULTS_DATAFRAME_FILENAME}")]:
            return max(found, key=lambda path: _load(path).metadata[ST_TUNER_CREATION_TIMESTAMP])
    raise FileNotFoundError(f"No run {name}-* in {experiment_path()} or {RECORDINGS}: run its notebook first.")


def _load(folder: Path) -> ExperimentResult:
    return load_experiment(folder.name, local_path=str(folder.parent))


def load_run(name: str) -> Run:
    """Load the newest run called `<name>-<date>` (see `find_experiment`)."""
    return read_run(find_experiment(name))


def read_run(folder: Path) -> Run:
    """Read a run from the files in its folder."""
    experiment = _load(folder)
    origin = experiment.metadata[ST_TUNER_START_TIMESTAMP]
    reports = experiment.results.rename(columns={ST_TRIAL_ID: "trial_id"})
    reports = reports.assign(time=reports[ST_WORKER_TIMESTAMP] - origin).sort_values("time", ignore_index=True)
    seen = pd.read_csv(folder / TRIALS_FILENAME)
    seen[["start", "end"]] -= origin
    wallclock_time = max(reports.time.max(), seen.start.max(), seen.end.max())
    seen = seen.fillna({"end": wallclock_time}).sort_values("start", ignore_index=True)
    n_workers = experiment.metadata["n_workers"]
    return Run(
        name=folder.name,
        metric=experiment.metric_names()[0],
        n_workers=n_workers,
        wallclock_time=wallclock_time,
        reports=reports,
        trials=_who_ran_when(seen, reports, n_workers),
    )


def _who_ran_when(seen: pd.DataFrame, reports: pd.DataFrame, n_workers: int) -> pd.DataFrame:
    """Add workers and exact times. Syne Tune's workers have no names: a trial gets the lowest number that is free."""
    free_at = [-math.inf] * n_workers
    workers = []
    for trial in seen.itertuples():
        free = [worker for worker, since in enumerate(free_at) if since <= trial.start]
        worker = free[0] if free else free_at.index(min(free_at))
        free_at[worker] = trial.end
        workers.append(worker)
    by_trial = reports.groupby("trial_id")
    train_start = seen.trial_id.map((reports.time - reports[ST_WORKER_TIME]).groupby(reports.trial_id).min())
    last_report = seen.trial_id.map(by_trial.time.max())
    end = seen.end.where(seen.status != Status.completed, last_report)
    return seen.assign(worker=workers, train_start=train_start, end=end)[
        ["trial_id", "worker", "start", "train_start", "end", "status"]
    ]
