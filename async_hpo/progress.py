"""What a reader sees while a run goes on: a bar, and few words."""

import io
import logging
import math
import os
import sys
import time
from numbers import Real
from pathlib import Path
from typing import Any

from syne_tune.tuner_callback import TunerCallback
from syne_tune.tuner_logger import TunerLogger
from tqdm import tqdm

from async_hpo.language import _


def show_any_letter() -> None:
    """Let letters that the terminal does not know be shown as their codes: a trial's last words may have any."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class ProgressBar(TunerCallback):
    """Shows elapsed time of the budget, the trials that finished and the best error so far.

    Args:
        max_wallclock_time: the budget in seconds, the bar's full length.

    Raises:
        ValueError: that is no number above 0.
    """

    def __init__(self, max_wallclock_time: Any):
        if not isinstance(max_wallclock_time, Real) or not float(max_wallclock_time) > 0:
            given = repr(max_wallclock_time)
            raise ValueError(_("a bar needs the budget in seconds, not {}: leave it out without one", given))
        self.max_wallclock_time = float(max_wallclock_time)
        self._bar: Any = None
        self._next_look = 0.0  # on the monotonic clock

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_bar": None}  # an open bar cannot be saved with the tuner

    def on_tuning_start(self, tuner) -> None:
        self._tuner = tuner
        layout = "{percentage:3.0f}%|{bar:25}| " + _("{} of {} s", "{n:.0f}", "{total:.0f}") + "{postfix}"
        # stdout, because the book and the tests leave stderr out
        self._bar = tqdm(total=self.max_wallclock_time, bar_format=layout, postfix=_("starting"), file=sys.stdout)

    def on_loop_end(self) -> None:
        if time.monotonic() >= self._next_look:  # not in each round: Syne Tune counts all trials each time
            self._next_look = time.monotonic() + 0.1
            self._draw()

    def _draw(self) -> None:
        status, scheduler = self._tuner.tuning_status, self._tuner.scheduler
        metric, statistics = scheduler.metric_names()[0], status.overall_metric_statistics
        best = (statistics.max_metrics if scheduler.metric_mode() == "max" else statistics.min_metrics).get(metric)
        text = _("{} of {} trials finished", status.num_trials_completed, status.num_trials_started)
        if status.num_trials_failed:
            text += _(", {} failed", status.num_trials_failed)
        if best is not None and math.isfinite(best):
            text += _(", best {} {}", metric, f"{best:.3f}")
        self._bar.n = min(status.wallclock_time, self.max_wallclock_time)
        self._bar.set_postfix_str(text)

    def on_tuning_end(self) -> None:
        """Draw the bar for the last time, and end its line. Called again, do nothing."""
        if self._bar is not None:
            self._draw()
            self._bar.close()
            self._bar = None


class QuietLogger(TunerLogger):
    """Prints where the results lie; the progress bar shows the rest, and `TrialGuard` what goes wrong.

    Args:
        bar: ends before anything else is printed.
    """

    def __init__(self, bar: ProgressBar | None = None):
        super().__init__(use_colors=False, use_emojis=False)
        self._bar = bar
        logging.getLogger("syne_tune").setLevel(logging.ERROR)

    def _say_nothing(self, *args, **kwargs) -> None:
        pass

    print_tuning_start = print_tuning_status = print_stopping_trials = _say_nothing
    print_trial_started = print_trial_completed = print_trial_failed = _say_nothing

    def print_experiment_header(self, name: str, n_workers: int, **kwargs) -> None:
        print(_("{} on {} workers", name, n_workers))

    def print_tuning_complete(self) -> None:
        if self._bar is None:
            print()
        else:
            self._bar.on_tuning_end()  # before the tuner prints a table

    def print_tuning_finished(self, results_path: Path) -> None:
        print(_("Results and logs: {}", os.path.relpath(results_path)))
