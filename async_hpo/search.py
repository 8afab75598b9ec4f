"""One way to run a search: what the book gives to Syne Tune's tuner, and a tuner that it runs."""

import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, TextIO, cast

import pandas as pd
from syne_tune import StoppingCriterion, Tuner
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
from async_hpo.progress import ProgressBar, QuietLogger
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

    Raises:
        RuntimeError: no trial can start.
        ValueError: `seconds` is no number above 0, a cluster has too few places, a back-end of Syne Tune can't start a
            trial from a path with a space; or the run that would go on had another objective, configuration space,
            metric or scheduler, or runs still.
    """
    earlier = _earlier_run(trial_backend, name) if resume else None
    run_name = earlier.name if earlier else name_from_base(name)
    if warm_up := getattr(trial_backend, "warm_up", None):
        warm_up()  # before the clock starts
    with state.locked(paths.experiments() / run_name):
        metadata = options.pop("metadata", {}) | {"objective": getattr(trial_backend, "fingerprint", None)}
        go_on = state.GoOn(state.load(earlier, scheduler.metadata() | metadata)) if earlier else None
        tuner = Tuner(
            trial_backend=trial_backend,
            scheduler=scheduler,
            n_workers=n_workers,
            tuner_name=run_name,
            suffix_tuner_name=False,
            metadata=metadata,
            **(
                {"stop_criterion": Budget(seconds, n_trials), "sleep_time": 0, "save_tuner": False}
                | getattr(trial_backend, "tuner_options", {})
                | book_options(seconds, callbacks)
                | options
            ),
        )
        if go_on:
            go_on.put_back(tuner)
        tuner.run()
    return read_run(tuner.tuner_path)


def _earlier_run(trial_backend: TrialBackend, name: str) -> Path | None:
    if not hasattr(trial_backend, "take_over"):
        raise ValueError(
            f"{type(trial_backend).__name__} can't go on with a run: take ForkserverBackend or RayBackend."
        )
    found = [run for run in folders(name, paths.experiments()) if (run[1] / state.FILENAME).exists()]
    return max(found)[1] if found else None


class Budget:
    """Ends a run after so many seconds, or when the first so many of its trials have ended.

    Syne Tune's criterion counts which trials ever finish first: on several workers, other ones in each run.
    """

    def __init__(self, seconds: float | None = None, n_trials: int | None = None):
        self.seconds = StoppingCriterion(max_wallclock_time=seconds)
        self.n_trials = n_trials

    def __call__(self, status: TuningStatus) -> bool:
        return self.seconds(status) or (self.n_trials is not None and self._have_ended(status, self.n_trials))

    @staticmethod
    def _have_ended(status: TuningStatus, n_trials: int) -> bool:
        seen = status.last_trial_status_seen
        return all(seen.get(trial_id, Status.in_progress) != Status.in_progress for trial_id in range(n_trials))


class _Reports:
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

    def __getattr__(self, name: str) -> Any:  # what else a stream has
        return getattr(self.out, name)


def run_here(objective: Callable[..., None], config: dict[str, Any]) -> pd.DataFrame:
    """Run one trial in this process, with a progress bar over its epochs.

    Args:
        objective: calls Syne Tune's `Reporter` after every epoch.
        config: the objective's arguments; `max_epochs`, where it is one, is the bar's full length.

    Returns:
        A row a report, with the reported columns and `st_worker_time` (seconds since the reporter was made).
    """
    reports = []
    total = config.get("max_epochs")
    shown = _EPOCHS if total else "epoch {n}, {elapsed}"
    with tqdm(total=total, unit="epoch", file=sys.stdout, bar_format=shown) as bar:

        def on_report(report: dict[str, Any]) -> None:
            reports.append(report)
            bar.update()

        stdout = _Reports(on_report)
        with redirect_stdout(cast(TextIO, stdout)):
            objective(**config)
        stdout.out.write(stdout.rest)  # a last line without an end
    return pd.DataFrame(reports)


_EPOCHS = "{percentage:3.0f}%|{bar:25}| epoch {n} of {total}, {elapsed}"
