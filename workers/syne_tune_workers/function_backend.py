"""Syne Tune's contract, as far as it is the same for all back-ends whose trials are calls of a Python function."""

import contextlib
import itertools
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from syne_tune.backend.trial_backend import TrialBackend
from syne_tune.backend.trial_status import Status, Trial, TrialResult
from syne_tune.constants import ST_CHECKPOINT_DIR, ST_WORKER_TIMESTAMP
from syne_tune.util import dump_json_with_numpy, experiment_path

from .function import as_python, check_arguments, fingerprint, pickle_function
from .worker import Share, check_names

#: How long (seconds) the driver waits for a trial to end before it looks for new reports.
MAX_WAIT = 0.1
#: Why a trial failed that ended well, but never reported.
SILENT = "It ended without a report."


class FunctionTrial:
    """A trial as its driver knows it.

    Attributes:
        status: of Syne Tune's `Status`.
        end: Unix time (seconds) at which its end was seen, else None.
        reports: those that the tuner has not got yet.
        silent: whether it has not reported.
    """

    def __init__(self, folder: Path):
        self.folder, self.status = folder, Status.in_progress
        self.end: float | None = None
        self.reports: list[dict[str, Any]] = []
        self.silent = True

    def add(self, reports: list[dict[str, Any]]) -> None:
        """Keep reports for the tuner, in the order in which they came."""
        self.reports += reports
        self.silent &= not reports

    def finish(self, status: str, reason: str = "") -> None:
        """Note the end, and why, at the end of what the trial said itself. One without a report has failed: a tuner
        would end with it."""
        if status == Status.completed and self.silent:
            status, reason = Status.failed, SILENT
        self.status, self.end = status, time.time()
        if reason:
            with open(self.folder / "std.err", "a", encoding="utf-8") as file:
                file.write(reason + "\n")

    def __getstate__(self) -> dict[str, Any]:
        # Saved with the tuner. What runs is its driver's: whoever loads it finds that it has ended.
        lost = {"status": Status.failed, "end": time.time()} if self.status == Status.in_progress else {}
        return self.__dict__ | lost


class FunctionBackend(TrialBackend):
    """Trials are calls of `tune_function`. A back-end of its own has `warm_up`, `_start`, `_wait`, `_update`, `_stop`.

    Syne Tune's tuner and base class call the methods of this interface that begin with an underscore: there is no
    other way to make a back-end. `_trial_dict` is where the base class keeps configurations and creation times.
    """

    #: What the tuner needs to know about this back-end: arguments of Syne Tune's `Tuner`.
    tuner_options: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        tune_function: Callable[..., None],
        config_space: dict[str, Any],
        preload: Sequence[str] = (),
        share: Sequence[Share] = (),
        delete_checkpoints: bool = False,
    ):
        check_names(preload, share)
        super().__init__(delete_checkpoints=delete_checkpoints)
        self.config_space = config_space
        self.preload = tuple(preload)
        self.share: tuple[Share, ...] = tuple((make, take) for make, take in share)
        self._name, self._parameters = check_arguments(tune_function, config_space)
        #: The same for back-ends of the same function, in any process.
        self.fingerprint = fingerprint(tune_function)
        self._function = pickle_function(tune_function)
        self._path = Path(experiment_path(tuner_name=uuid.uuid4().hex[:10]))  # until a tuner says another one
        self._trials: dict[int, Any] = {}
        self._reported: set[int] = set()  # before another process took over

    # --- what a back-end of its own does -----------------------------------------------------------------------------

    def warm_up(self) -> None:
        """Let workers prepare, and check that a trial can start: before `tuner.run()`, so that the wait is no part of
        the run's budget. Called again, it returns at once."""
        raise NotImplementedError

    def check_workers(self, n_workers: int, asynchronous: bool | None = None) -> None:
        """Raise ValueError if so many trials can't run at a time.

        Args:
            n_workers: of the tuner.
            asynchronous: whether it starts a trial as soon as a worker is free; None leaves what is known.
        """

    def _is_ready(self) -> bool:
        """Whether a trial can start without `warm_up`."""
        return False

    def _start(self, trial_id: int, folder: Path, arguments: dict[str, Any]) -> FunctionTrial:
        """Start a trial in its folder, or start it once more."""
        raise NotImplementedError

    def _wait(self, trial_ids: list[int]) -> None:
        """Return when one of them has ended, after `MAX_WAIT` at the latest."""
        raise NotImplementedError

    def _update(self, trial_ids: list[int]) -> None:
        """See which of them have ended, and then what they have reported: nothing before the end is missed."""
        raise NotImplementedError

    def _stop(self, trial_id: int, status: str) -> None:
        """End a trial that is in progress, and give it this status."""
        raise NotImplementedError

    # --- Syne Tune's contract ----------------------------------------------------------------------------------------

    def _schedule(self, trial_id: int, config: dict[str, Any]) -> None:
        if not self._is_ready():
            self.warm_up()
        folder = self.trial_path(trial_id).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        dump_json_with_numpy(config, folder / "config.json")
        arguments = {key: as_python(value) for key, value in config.items() if key in self.config_space}
        if ST_CHECKPOINT_DIR in self._parameters:
            arguments[ST_CHECKPOINT_DIR] = str(self.checkpoint_trial_path(trial_id).absolute())
        self._trials[trial_id] = self._start(trial_id, folder, arguments)
        self._trials[trial_id].silent = trial_id not in self._reported

    def fetch_status_results(
        self, trial_ids: list[int]
    ) -> tuple[dict[int, tuple[Trial, str]], list[tuple[int, dict[str, Any]]]]:
        """Waits for the end of a trial, but not for long; see the base class. Each report is returned once."""
        self._wait(trial_ids)
        self._update(trial_ids)
        statuses, results = {}, list[tuple[float, int, dict[str, Any]]]()
        for trial_id in trial_ids:
            if trial_id not in self._trial_dict:  # it could not be started
                continue
            trial, known = self._trials[trial_id], self._trial_dict[trial_id]
            new, trial.reports = trial.reports, []
            if trial.status not in (Status.stopped, Status.paused):  # what came after a decision is not shown
                # A trial's reports stay in their order, though its clock be set back meanwhile.
                stamps = itertools.accumulate((report[ST_WORKER_TIMESTAMP] for report in new), max)
                results += [(stamp, trial_id, report) for stamp, report in zip(stamps, new, strict=True)]
            known.status = trial.status
            statuses[trial_id] = (Trial(trial_id, known.config, known.creation_time), trial.status)
        results.sort(key=lambda result: result[0])
        return statuses, [(trial_id, report) for _, trial_id, report in results]

    def _running(self) -> Iterator[int]:
        return (trial_id for trial_id, trial in self._trials.items() if trial.status == Status.in_progress)

    def busy_trial_ids(self) -> list[tuple[int, str]]:
        """The trials in progress, each with its status."""
        return [(trial_id, Status.in_progress) for trial_id in self._running()]

    def _stop_trial(self, trial_id: int, result: dict[str, Any] | None = None) -> None:
        if self._trials[trial_id].status == Status.in_progress:
            self._stop(trial_id, Status.stopped)

    def _pause_trial(self, trial_id: int, result: dict[str, Any] | None = None) -> None:
        if self._trials[trial_id].status == Status.in_progress:
            self._stop(trial_id, Status.paused)

    def _resume_trial(self, trial_id: int) -> None:
        pass  # its log and its checkpoint are there

    def checkpoint_trial_path(self, trial_id: int) -> Path:
        """Where the trial keeps its checkpoints."""
        return self.trial_path(trial_id) / "checkpoints"

    def copy_checkpoint(self, src_trial_id: int, tgt_trial_id: int) -> None:
        """Let a trial start from a copy of another one's checkpoint, while that one runs and replaces its files."""

        def copy(file: str, to: str) -> None:
            with contextlib.suppress(FileNotFoundError):  # it has just got its lasting name
                shutil.copy2(file, to)

        source, target = self.checkpoint_trial_path(src_trial_id), self.checkpoint_trial_path(tgt_trial_id)
        shutil.copytree(source, target, copy_function=copy)

    def delete_checkpoint(self, trial_id: int) -> None:
        """Remove the trial's checkpoint; nothing if it has none."""
        shutil.rmtree(self.checkpoint_trial_path(trial_id), ignore_errors=True)

    def stop_all(self) -> None:
        """Stop all trials in progress, and delete the checkpoints of all where that was asked for."""
        for trial_id in list(self._running()):
            self.stop_trial(trial_id)
        if self.delete_checkpoints:
            for trial_id in self.trial_ids:
                self.delete_checkpoint(trial_id)

    def stdout(self, trial_id: int) -> list[str]:
        """What the trial printed, in lines; bytes that are no UTF-8 are shown as a question mark in a diamond."""
        return self._lines(trial_id, "std.out")

    def stderr(self, trial_id: int) -> list[str]:
        """What the trial wrote to its standard error (see `stdout`), and at last why it failed."""
        return self._lines(trial_id, "std.err")

    def _lines(self, trial_id: int, name: str) -> list[str]:
        with (
            contextlib.suppress(FileNotFoundError),
            open(self.trial_path(trial_id) / name, encoding="utf-8", errors="replace") as file,
        ):
            return file.readlines()
        return []

    def take_over(self, configs: dict[int, dict[str, Any]], reported: set[int]) -> None:
        """Know the trials of a run that another process began, as paused ones: `resume_trial` starts them again.

        What they printed is kept, in `std.out.before` and `std.err.before`. Folders of other trials are removed: nobody
        knows of those.

        Args:
            configs: number of a trial -> its configuration.
            reported: numbers of trials that have reported: such a one is not silent if it reports nothing more.
        """
        self._reported = reported
        self.trial_ids, self._trials = list(range(max(configs, default=-1) + 1)), {}
        self._trial_dict = {}
        for trial_id, config in configs.items():
            known = TrialResult(trial_id, config, datetime.now(), metrics=[], status=Status.paused)
            self._trial_dict[trial_id] = known
            for path in (self.trial_path(trial_id) / "std.out", self.trial_path(trial_id) / "std.err"):
                if path.exists():
                    with open(path.with_name(f"{path.name}.before"), "ab") as before:
                        before.write(path.read_bytes())
                    path.unlink()
        for folder in self.trial_path(0).parent.iterdir():
            if folder.name.isdecimal() and int(folder.name) not in configs:
                shutil.rmtree(folder)

    def trial_path(self, trial_id: int) -> Path:
        """The trial's folder on the driver's machine: what it printed, and its configuration."""
        return self._path / str(trial_id)

    def set_path(self, results_root: str | None = None, tuner_name: str | None = None) -> None:
        """Let trials have their folders in `results_root` from now on; the tuner calls it."""
        if results_root is not None:
            self._path = Path(results_root)

    def entrypoint_path(self) -> Path:
        """This file: Syne Tune asks for a script, and there is none."""
        return Path(__file__)

    def set_entrypoint(self, entry_point: str) -> None:
        """Raises NotImplementedError: what runs is the function."""
        raise NotImplementedError(f"{type(self).__name__} runs a function, not a script")
