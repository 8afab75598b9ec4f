"""What a reader sees while a run goes on: a bar, and few words."""

import logging
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

from syne_tune.tuner_callback import TunerCallback
from syne_tune.tuner_logger import TunerLogger
from tqdm import tqdm


class ProgressBar(TunerCallback):
    """Shows elapsed time of the budget, the trials that finished and the best error so far.

    Args:
        max_wallclock_time: the budget in seconds, the bar's full length.

    Raises:
        ValueError: that is no number above 0.
    """

    def __init__(self, max_wallclock_time: float):
        if not isinstance(max_wallclock_time, int | float) or not max_wallclock_time > 0:
            raise ValueError(f"a bar needs the budget in seconds, not {max_wallclock_time!r}: leave it out without one")
        self.max_wallclock_time = max_wallclock_time
        self._bar: tqdm | None = None
        self._next_look = -math.inf  # on the monotonic clock

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_bar": None}  # an open bar cannot be saved with the tuner

    def on_tuning_start(self, tuner) -> None:
        self._tuner = tuner
        layout = "{percentage:3.0f}%|{bar:25}| {n:.0f} of {total:.0f} s{postfix}"
        # stdout, because the book and the tests leave stderr out
        self._bar = tqdm(total=self.max_wallclock_time, bar_format=layout, postfix="starting", file=sys.stdout)

    def on_loop_end(self) -> None:
        if time.monotonic() < self._next_look:  # Syne Tune counts all trials each time
            return
        self._next_look = time.monotonic() + _SECONDS_BETWEEN_LOOKS
        self.show()

    def show(self) -> None:
        """Draw the bar as things are."""
        if self._bar is None:
            return
        status = self._tuner.tuning_status
        metric, mode = self._tuner.scheduler.metric_names()[0], self._tuner.scheduler.metric_mode()
        statistics = status.overall_metric_statistics
        best = (statistics.min_metrics if mode == "min" else statistics.max_metrics).get(metric, math.nan)
        text = f"{status.num_trials_completed} of {status.num_trials_started} trials finished"
        if status.num_trials_failed:
            text += f", {status.num_trials_failed} failed"
        if math.isfinite(best):
            text += f", best {metric} {best:.3f}"
        self._bar.n = min(status.wallclock_time, self.max_wallclock_time)
        self._bar.set_postfix_str(text)

    def on_tuning_end(self) -> None:
        if self._bar is not None:
            # Not close(): it would draw the bar once more, below the table that the tuner has printed by now.
            self._bar.disable = True
            self._bar = None


_SECONDS_BETWEEN_LOOKS = 0.1


class QuietLogger(TunerLogger):
    """Prints where the results lie; the progress bar shows the rest, and `TrialGuard` what goes wrong.

    Args:
        bar: shows the run's last state before its line ends.
    """

    def __init__(self, bar: ProgressBar | None = None):
        super().__init__(use_colors=False, use_emojis=False)
        self._bar = bar
        logging.getLogger("syne_tune").setLevel(logging.ERROR)

    def _silent(self, *args, **kwargs) -> None:
        pass

    print_tuning_start = print_tuning_status = print_stopping_trials = _silent
    print_trial_started = print_trial_completed = print_trial_failed = _silent

    def print_experiment_header(self, name: str, n_workers: int, **kwargs) -> None:
        print(f"{name} on {n_workers} workers")

    def print_tuning_complete(self) -> None:
        if self._bar is not None:
            self._bar.show()
        print()  # ends the line of the progress bar

    def print_tuning_finished(self, results_path: Path) -> None:
        print(f"Results and logs: {os.path.relpath(results_path)}")
