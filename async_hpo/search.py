"""One way to run a search: what the book gives to Syne Tune's tuner, and a tuner that it runs."""

import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import Any, TextIO, cast

import pandas as pd
from syne_tune import Tuner
from syne_tune.backend.trial_backend import TrialBackend
from syne_tune.backend.trial_status import Status
from syne_tune.optimizer.scheduler import TrialScheduler
from syne_tune.report import retrieve
from syne_tune.tuner_callback import TunerCallback
from syne_tune.tuning_status import TuningStatus
from syne_tune.util import name_from_base
from tqdm import tqdm

from async_hpo import paths, state
from async_hpo.callbacks import SafeResults, TrialGuard
from async_hpo.language import _
from async_hpo.progress import ProgressBar, QuietLogger, show_any_letter
from async_hpo.runs import Run, folders, read_run


def book_options(seconds: float | None = None, callbacks: Sequence[TunerCallback] = ()) -> dict[str, Any]:
    """What this book adds to Syne Tune's `Tuner`: `Tuner(..., **book_options(seconds))`.

    A trial fails alone, results are safe at any moment and lie in `experiments/`, and a progress bar takes the place of
    log lines.

    Args:
        seconds: the budget, the bar's full length; without it there is no bar.
        callbacks: others, which come after these.

    Returns:
        The tuner's arguments `max_failures`, `callbacks` and `output_logger`.

    Raises:
        ValueError: `seconds` is no number above 0.
    """
    paths.experiments()
    show_any_letter()
    bar = None if seconds is None else ProgressBar(seconds)
    return {
        "max_failures": 1_000_000,
        "callbacks": [TrialGuard(), SafeResults(), *([bar] if bar else []), *callbacks],
        "output_logger": QuietLogger(bar),
    }


def search(
    trial_backend: TrialBackend,
    scheduler: TrialScheduler,
    name: str,
    seconds: float | None,
    n_workers: int = 2,
    n_trials: int | None = None,
    callbacks: Sequence[TunerCallback] = (),
    resume: bool = False,
    **options,
) -> Run:
    """Warm the workers up, run Syne Tune's `Tuner`, and return what this run did.

    With `resume`, the newest run of this name goes on where it stopped, however it stopped; if there is none, a new one
    begins. Trials that ended stay as they are. Those that were cut off go on first: from their checkpoint where they
    have one (`st_checkpoint_dir`), else from their beginning. Budgets are the whole run's: its clock stood still
    meanwhile. Nothing is told to the given `scheduler`: the saved one goes on.

    Args:
        trial_backend: any of Syne Tune's, or of `syne_tune_workers`.
        scheduler: of Syne Tune; its first metric is the run's.
        name: of the run: its folder is called `<name>-<date>`.
        seconds: the budget, wall-clock, from when the workers are warm; None for none.
        n_workers: how many trials run at a time.
        n_trials: end earlier, when the first so many trials have ended.
        callbacks: beside the book's.
        resume: go on with the newest run of this name. Of `syne_tune_workers`' back-ends alone.
        options: further ones of the tuner; an own `stop_criterion` takes the place of `seconds` and `n_trials`.

    Returns:
        The whole run, its trials and reports, as its files tell it.

    Raises:
        RuntimeError: no trial can start.
        ValueError: `seconds` is no number above 0, a cluster has too few places, a back-end of Syne Tune can't start a
            trial from a path with a space; or the run that would go on had another objective, configuration space,
            metric or scheduler, or runs still.
    """
    if resume and not hasattr(trial_backend, "take_over"):
        kind = type(trial_backend).__name__
        raise ValueError(_("{} can't go on with a run: take ForkserverBackend or RayBackend.", kind))
    root = paths.experiments()
    found = [folder for folder in folders(name, root) if (folder / state.FILENAME).exists()] if resume else []
    folder = found[0] if found else root / name_from_base(name)
    if warm_up := getattr(trial_backend, "warm_up", None):
        warm_up()  # before the clock starts
    with state.locked(folder):
        metadata = options.pop("metadata", {}) | {"objective": getattr(trial_backend, "fingerprint", None)}
        earlier = state.load(folder, scheduler.metadata() | metadata) if found else None
        tuner = Tuner(
            trial_backend=trial_backend,
            scheduler=scheduler,
            n_workers=n_workers,
            tuner_name=str(folder.relative_to(root)),
            suffix_tuner_name=False,
            metadata=metadata,
            **(
                {"stop_criterion": Budget(seconds, n_trials), "sleep_time": 0, "save_tuner": False}
                | getattr(trial_backend, "tuner_options", {})
                | book_options(seconds, callbacks)
                | options
            ),
        )
        if earlier:
            state.put_back(tuner, earlier)
        tuner.run()
    return read_run(tuner.tuner_path)


class Budget:
    """Ends a run after so many seconds, or when the first so many of its trials have ended.

    Syne Tune's criterion counts which trials ever finish first: on several workers, other ones in each run.
    """

    def __init__(self, seconds: float | None = None, n_trials: int | None = None):
        self.seconds, self.n_trials = seconds, n_trials

    def __call__(self, status: TuningStatus) -> bool:
        if self.seconds is not None and status.wallclock_time > self.seconds:
            return True
        if self.n_trials is None:
            return False
        seen = status.last_trial_status_seen  # its numbers need not begin at 0: a back-end counts on in the next run
        first = sorted(seen)[: self.n_trials]
        return len(first) == self.n_trials and all(seen[number] != Status.in_progress for number in first)


def run_here(objective: Callable[..., None], config: dict[str, Any]) -> pd.DataFrame:
    """Run one trial in this process, with a progress bar over its epochs.

    Args:
        objective: calls Syne Tune's `Reporter` after every epoch.
        config: the objective's arguments; `max_epochs`, where it is one, is the bar's full length.

    Returns:
        A row a report, with the reported columns and `st_worker_time` (seconds since the reporter was made).
    """
    total = config.get("max_epochs")
    shown = _("epoch {}, {}", "{n}", "{elapsed}")
    if total:
        shown = "{percentage:3.0f}%|{bar:25}| " + _("epoch {} of {}, {}", "{n}", "{total}", "{elapsed}")
    with tqdm(total=total, unit="epoch", file=sys.stdout, bar_format=shown) as bar:
        stdout = _Reports(bar)
        with redirect_stdout(cast(TextIO, stdout)):
            objective(**config)
        stdout.out.write(stdout.rest)  # a last line without an end
    return pd.DataFrame(stdout.found)


class _Reports:
    """A stand-in for stdout that keeps the reports which Syne Tune's Reporter prints, and passes on other lines."""

    def __init__(self, bar: tqdm):
        self.bar, self.out, self.rest = bar, sys.stdout, ""
        self.found: list[dict[str, Any]] = []

    def write(self, text: str) -> int:
        *lines, self.rest = (self.rest + text).split("\n")
        for line in lines:
            if reports := retrieve([line]):
                self.found += reports
                self.bar.update()
            else:
                self.out.write(line + "\n")
        return len(text)

    def __getattr__(self, name: str) -> Any:  # what else a stream has
        return getattr(self.out, name)
