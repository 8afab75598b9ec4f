"""Runs of a tuner, as their files tell them: who ran when, and what was found.

Words with one meaning, everywhere in the book:

- *busy*: a worker is busy from a trial's start order to the trial's last report or end;
- *idle*: every other second of every worker between the run's start and its end;
- *utilisation*: busy / (workers x wall-clock time);
- *useful*: the part of busy in which the trial trains and validates, without its start-up (imports, data).
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from syne_tune.backend.trial_status import Status
from syne_tune.constants import (
    ST_METADATA_FILENAME,
    ST_RESULTS_DATAFRAME_FILENAME,
    ST_TUNER_START_TIMESTAMP,
    ST_WORKER_TIME,
    ST_WORKER_TIMESTAMP,
)
from syne_tune.util import name_from_base

from async_hpo import paths
from async_hpo.language import _
from async_hpo.schedule import idle_share
from async_hpo.tables import read_csv

TRIALS_FILENAME = "trials.csv"
#: Column of a report: seconds of the run's clock at which it came.
RUN_TIME = "st_run_time"


@dataclass(frozen=True)
class Run:
    """A run as its files tell it. All times are seconds since the run's start.

    Attributes:
        name: of the tuner.
        metric: the scheduler's (first) metric.
        n_workers: how many workers the run had.
        wallclock_time: from the run's start to its end; to the last thing known where the run goes on or was killed.
        reports: a row a report in the order of time: `trial_id` (int64), `time` (float64), the metric (a number), what
            else was reported, and the trial's configuration in columns `config_<name>`. What a trial calls like one of
            these columns is `reported_<name>`: `reported_time`, say, and so is `metric` then.
        trials: a row a trial in the order of start, and one that was paused or cut off has a row for each time that it
            ran: `trial_id` and `worker` (0, 1, ...; int64), `start` (of its order), `train_start` (when its reporter
            was made; NaN without a report) and `end` (last report of a completed trial, else when the tuner saw its
            end; all three float64), `status` (a text of Syne Tune's `Status`).
        mode: "min" or "max": which value of the metric is best.
    """

    name: str
    metric: str
    n_workers: int
    wallclock_time: float
    reports: pd.DataFrame
    trials: pd.DataFrame
    mode: str = "min"

    @property
    def finished(self) -> pd.DataFrame:
        """The rows of `trials` that trained to their end."""
        return self.trials[self.trials.status == Status.completed]

    @property
    def failed(self) -> pd.DataFrame:
        """The rows of `trials` that failed."""
        return self.trials[self.trials.status == Status.failed]

    def shares(self) -> pd.Series:
        """Shares of all workers' wall-clock time: `useful`, `start-up` (of busy trials, before training) and
        `idle`. They add up to 1; the first two are the utilisation. A trial that never reported is all start-up."""
        trials = self.trials
        idle = idle_share((trials.end - trials.start).sum(), self.n_workers, self.wallclock_time)
        # NaN, a trial without a report, adds 0.
        useful = 1 - idle_share((trials.end - trials.train_start).sum(), self.n_workers, self.wallclock_time)
        return pd.Series({"useful": useful, "start-up": 1 - idle - useful, "idle": idle})

    def gaps(self) -> pd.Series:
        """Seconds from a trial's end to the next start on the same worker; the index is the later trial's."""
        return (self.trials.start - self.trials.groupby("worker").end.shift()).dropna()

    def seconds_of_first(self, n_trials: int) -> float:
        """Seconds from the run's start until its first `n_trials` trials had all ended: the same work in every run
        that tries the same configurations in the same order.

        Raises:
            ValueError: the run has not so many trials.
        """
        numbers = sorted(set(self.trials.trial_id))
        if len(numbers) < n_trials:
            raise ValueError(f"{self.name} has {len(numbers)} trials, not {n_trials}")
        return float(self.trials.end[self.trials.trial_id.isin(numbers[:n_trials])].max())

    def seconds_of_trials(self, n_trials: int) -> pd.Series:
        """Seconds from order to end of each of the first `n_trials` trials; the index is the trial's number."""
        return (self.trials.end - self.trials.start).groupby(self.trials.trial_id).sum().head(n_trials)

    def incumbent(self) -> pd.DataFrame:
        """The incumbent trajectory: `time` and the best metric so far (NaN is never the incumbent)."""
        metric = self.reports[self.metric]
        best = metric.cummax() if self.mode == "max" else metric.cummin()
        return pd.DataFrame({"time": self.reports.time, self.metric: best}).dropna()


def find_run(name: str) -> Run:
    """Read the newest run called `<name>-<date>`: the reader's own, else the recording shipped with the book.

    Raises:
        FileNotFoundError: there is neither.
    """
    return read_run(find_folder(name))


def find_folder(name: str) -> Path:
    """The folder of the run that `find_run` reads."""
    own = paths.experiments()
    for root in (own, *sorted(paths.RECORDINGS.glob("*/*/"))):
        if found := folders(name, root):
            if root != own:
                print(_("No run {} of your own yet: this is the book's recording.", name))
            return found[0]
    raise FileNotFoundError(_("No run {} in {} or {}: run its notebook first.", name, own, paths.RECORDINGS))


def folders(name: str, root: Path) -> list[Path]:
    """The folders of the runs of this name below `root`, the newest first; those without whole metadata left out."""
    place = root / _without_date(name_from_base(name))  # Syne Tune shortens long names, and takes "folder/name"
    named = (folder for folder in place.parent.glob("*-*") if _without_date(folder.name) == place.name)
    return sorted(filter(_metadata, named), reverse=True)


def _without_date(name: str) -> str:
    return name.rsplit("-", 7)[0]  # year, month, day, hour, minute, second and milliseconds


def _metadata(folder: Path) -> dict[str, Any]:
    """Of a run; empty where they are not whole."""
    try:
        metadata = json.loads((folder / ST_METADATA_FILENAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    is_whole = isinstance(metadata, dict) and {ST_TUNER_START_TIMESTAMP, "metric_names"} <= set(metadata)
    return metadata if is_whole else {}


def read_run(folder: Path) -> Run:
    """Read a run from the files in its folder. One of which no trial reported has no rows in `reports`.

    Raises:
        FileNotFoundError: the run was made without `SafeResults`, or its folder has no whole metadata.
    """
    metadata = _metadata(folder)
    if "n_workers" not in metadata:
        raise FileNotFoundError(f"{folder} is no run of a tuner with the callback SafeResults")
    metric, origin = column_of(metadata["metric_names"][0]), metadata[ST_TUNER_START_TIMESTAMP]
    reports = _read(folder / ST_RESULTS_DATAFRAME_FILENAME, ["trial_id", metric, ST_WORKER_TIME, ST_WORKER_TIMESTAMP])
    reports = reports.rename(columns={"time": column_of("time")})
    # When it was reported; Syne Tune's own `st_tuner_time` says when the tuner saw it. Older runs have stamps alone.
    reports["time"] = reports.get(RUN_TIME, reports[ST_WORKER_TIMESTAMP] - origin)
    reports = reports.sort_values("time", ignore_index=True)
    seen = _read(folder / TRIALS_FILENAME, ["trial_id", "status", "start", "end"])
    seen[["start", "end"]] -= origin
    wallclock_time = max([0.0, *reports.time, *seen.start, *seen.end.dropna()])
    seen = seen.fillna({"end": wallclock_time}).sort_values("start", ignore_index=True)
    return Run(
        name=folder.name,
        metric=metric,
        n_workers=metadata["n_workers"],
        wallclock_time=wallclock_time,
        reports=reports,
        trials=_who_ran_when(seen, reports, metadata["n_workers"]),
        mode=metadata.get("metric_mode", "min"),
    )


def column_of(name: str) -> str:
    """What the column of a reported field is called: as it was reported, unless a run has a column of that name."""
    return f"reported_{name}" if name in ("time", "trial_id") or name.startswith("config_") else name


def _read(path: Path, columns: list[str]) -> pd.DataFrame:
    if path.exists():
        return read_csv(path)
    types = {"status": object, "trial_id": "int64"}
    return pd.DataFrame({name: pd.Series(dtype=types.get(name, float)) for name in columns})


def _who_ran_when(seen: pd.DataFrame, reports: pd.DataFrame, n_workers: int) -> pd.DataFrame:
    """Add workers and exact times. Syne Tune's workers have no names: a trial gets the lowest number that is free."""
    free_at = [-math.inf] * n_workers
    workers = []
    for trial in seen.itertuples():
        free = [worker for worker, since in enumerate(free_at) if since <= trial.start]
        workers.append(free[0] if free else free_at.index(min(free_at)))
        free_at[workers[-1]] = trial.end
    # A report belongs to the row that began last before it.
    found = pd.merge_asof(reports, seen.reset_index(), left_on="time", right_on="start", by="trial_id")
    began = (found.time - found[ST_WORKER_TIME]).groupby(found["index"]).min().reindex(seen.index).clip(seen.start)
    last_report = found.groupby("index").time.max().reindex(seen.index)
    end = last_report.where(seen.status == Status.completed).fillna(seen.end)
    trials = seen.assign(worker=workers, train_start=began, end=end)
    return trials[["trial_id", "worker", "start", "train_start", "end", "status"]]
