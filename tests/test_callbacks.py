"""What a reader sees and is told while a run goes on, and what is on disk meanwhile, also when it ends badly."""

import logging
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import psutil
import pytest
from backend_helpers import SPACE, nvidia_smi, program, results_of, start_program, wait_for_results
from syne_tune import num_gpu
from syne_tune.backend import PythonBackend
from syne_tune.backend.trial_backend import TrialBackend
from syne_tune.backend.trial_status import Status
from syne_tune.experiments import load_experiment
from syne_tune.optimizer.baselines import RandomSearch
from syne_tune.optimizer.scheduler import SchedulerDecision
from syne_tune.report import retrieve
from syne_tune.tuner_callback import TunerCallback
from syne_tune.tuning_status import TuningStatus

from async_hpo import callbacks, progress, runs, search, state
from tools.notebooks import ROOT

pytestmark = pytest.mark.usefixtures("folder", "in_a_folder_of_its_own")

NAN = float("nan")
CAP = 600  # seconds after which a run ends that should have ended long before
ENDS = Status.completed


@pytest.fixture
def in_a_folder_of_its_own(monkeypatch):
    """In the clone, as `notebooks/` is: from elsewhere, the path to Python may have a space, and Syne Tune fails."""
    (ROOT / "_build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "_build") as folder:
        monkeypatch.chdir(folder)
        yield
        monkeypatch.undo()  # before it is gone


class Scripted(TrialBackend):
    """Trials without processes, which take no time. Whenever the tuner looks, a trial does the next step of its
    script: it reports an error (a number), or metrics (a dict), or ends (with a status). Without a next one it runs."""

    def __init__(self, *scripts):
        super().__init__()
        self.scripts, self.stopped = [list(script) for script in scripts], []

    def over(self, status=None):
        """All scripts have been played to their ends."""
        return len(self.trial_ids) >= len(self.scripts) and not any(self.scripts)

    def _all_trial_results(self, trial_ids):
        return [self._trial_dict[trial_id] for trial_id in trial_ids]

    def fetch_status_results(self, trial_ids):
        for trial in self._all_trial_results(trial_ids):
            script = self.scripts[trial.trial_id] if trial.trial_id < len(self.scripts) else []
            step = script.pop(0) if script else trial.status
            if isinstance(step, str):
                trial.status = step
            else:
                metrics = step if isinstance(step, dict) else {"error": step}
                trial.metrics.append(metrics | {"st_worker_timestamp": time.time(), "st_worker_time": 1.0})
        return super().fetch_status_results(trial_ids)

    def _schedule(self, trial_id, config):
        pass

    def _stop_trial(self, trial_id, result):
        self._trial_dict[trial_id].status = Status.stopped
        self.stopped.append(trial_id)

    def trial_path(self, trial_id):
        return Path("logs") / str(trial_id)

    def entrypoint_path(self):
        return Path(__file__)


def play(backend, name="test", **options):
    """Run a search until the scripts are over. Returns its `Run`."""
    scheduler = RandomSearch(SPACE, metrics=["error"])
    return search.search(backend, scheduler, name, CAP, stop_criterion=backend.over, **options)


def statuses_of(run):
    return run.trials.set_index("trial_id").status.to_dict()


# --- trials that fail ------------------------------------------------------------------------------------------------

#: What a trial does -> whether it fails, which of its errors are kept, and what is told.
TRIALS = [
    ([Status.failed], "Failed", [], "its last lines say (all of it in logs/0/std.err):\n    Traceback\n    of\n"),
    ([0.5, 0.4, ENDS], "Completed", [0.5, 0.4], ""),
    ([ENDS], "Failed", [], "it ended without a report"),
    ([NAN, ENDS], "Failed", [NAN], "it reported nothing but NaN as error"),
    ([0.6, Status.failed], "Failed", [0.6], "its last lines"),
    ([NAN, 0.45, ENDS], "Completed", [NAN, 0.45], ""),
    ([0.6, {"epoch": 1, "f1": 0.7}], "Failed", [0.6], "it reported epoch=1, f1=0.7, but the scheduler waits for a num"),
    ([{"error": None}], "Failed", [], "it reported error=None, but"),
    ([{"error": "0.5"}], "Failed", [], "it reported error='0.5', but"),
    ([{"error": [0.5]}], "Failed", [], "it reported error=[0.5], but"),
    ([{"error": True}], "Failed", [], "it reported error=True, but"),
]


def test_a_trial_fails_alone_and_why_is_told(capsys):
    (log := Path("logs/0/std.err")).parent.mkdir(parents=True)
    log.write_text("a long story\n" * 9 + "Traceback\nof\nfour\nValueError: " + "no luck" * 1000)
    backend = Scripted(*(steps for steps, *_ in TRIALS))
    run = play(backend)
    out = capsys.readouterr().out
    for trial_id, (_, status, errors, told) in enumerate(TRIALS):
        assert statuses_of(run)[trial_id] == status
        np.testing.assert_array_equal(run.reports[run.reports.trial_id == trial_id].error, errors)
        _, named, said = out.partition(f"Trial {trial_id} failed; ")
        assert said.startswith(told) and bool(named) == bool(told)
    assert set(statuses_of(run).values()) <= {"Failed", "Completed", "Stopped"}, "nothing goes on"
    assert sorted(backend.stopped[:5]) == [6, 7, 8, 9, 10], "nor does a trial whose report is wrong"
    assert run.incumbent().error.iloc[-1] == 0.4 == load_experiment(run.name).best_config()["error"]
    assert "no luck\n" in out and "no luck" * 100 not in out and "long story" not in out, "a few short lines"
    assert "9 failed, best error 0.400" in out


def moody(x):
    from syne_tune import Reporter

    report = Reporter()
    if x < 0.3:
        raise ValueError(f"no luck with {x:.3f}")
    if x > 0.8:
        return  # without a report
    report(epoch=1, error=x)


def play_moody():
    scheduler = RandomSearch(SPACE, metrics=["error"], points_to_evaluate=[{"x": x} for x in (0.1, 0.5, 0.9, 0.4)])
    search.search(PythonBackend(moody, SPACE), scheduler, "test", CAP, n_trials=4)
    assert psutil.Process().children() == [], "no trial process is left, not even a zombie"


@pytest.mark.slow
def test_processes_that_fail_below_a_path_with_spaces_and_korean_letters(tmp_path):
    """An interpreter and a folder of results below such a folder, as in a clone."""
    folder = tmp_path / "비동기 랜덤 탐색"
    (folder / "notebooks").mkdir(parents=True)
    (folder / ".venv").symlink_to(sys.prefix)
    result = subprocess.run(
        [folder / ".venv" / "bin" / "python", "-c", "import test_callbacks; test_callbacks.play_moody()"],
        cwd=folder / "notebooks",
        env=os.environ | {"SYNETUNE_FOLDER": str(folder / "experiments"), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    status = statuses_of(runs.read_run(*(folder / "experiments").glob("test-*")))
    assert [status[trial_id] for trial_id in range(4)] == ["Failed", "Completed", "Failed", "Completed"]
    assert "ValueError: no luck with 0.100" in result.stdout
    assert "Trial 2 failed; it ended without a report" in result.stdout


# --- before a run, at its end, and in another one ---------------------------------------------------------------------


def start(tmp_path, folder="experiments", binary="/usr/bin/python"):
    """Let a `TrialGuard` see the beginning of a run on Syne Tune's own back-end. Returns that."""
    backend = PythonBackend(moody, SPACE)
    backend.set_path(str(tmp_path / folder), "test")
    backend.binary = str(tmp_path / binary)
    backend.entry_point = str(Path(backend.binary).with_name("trial.py"))
    tuner = SimpleNamespace(tuner_path=tmp_path / "made" / "by guard", trial_backend=backend)
    tuner.last_seen_result_per_trial = {}
    callbacks.TrialGuard().on_tuning_start(tuner)
    assert tuner.tuner_path.is_dir()
    return backend


@pytest.mark.parametrize(("gpus", "rotates"), [([], False), (["GPU-1"], False), (["0", "2"], True)])
def test_gpus_are_rotated_where_several_may_be_used_and_counted_elsewhere(tmp_path, monkeypatch, gpus, rotates):
    monkeypatch.setattr(callbacks, "visible_gpus", lambda: gpus)
    monkeypatch.setattr(num_gpu, "_num_gpus", None)  # Syne Tune counts once a process
    nvidia_smi(tmp_path, monkeypatch, *(f"GPU {gpu}: of this test (UUID: GPU-{gpu})" for gpu in range(3)))
    assert start(tmp_path).rotate_gpus == rotates and num_gpu.get_num_gpus() == 3 and not [*Path().iterdir()]


def test_paths_with_spaces_are_made_relative_and_a_space_that_stays_is_told(monkeypatch, tmp_path):
    (tmp_path / "a clone" / "notebooks").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a clone" / "notebooks")
    backend = start(tmp_path, binary="a clone/python")
    assert (backend.binary, backend.entry_point) == ("../python", "../trial.py")
    assert backend.local_path == tmp_path / "experiments", "without a space it stays"
    for what in ("binary", "folder"):
        with pytest.raises(ValueError, match=f"from a path with a space: '../../a b/{what}'. Move the folder"):
            start(tmp_path, **{what: f"a b/{what}"})


def test_a_cluster_is_asked_for_places_and_trials_still_running_are_stopped_and_waited_for():
    waited, asked, backend = [], [], Scripted([0.5], [0.6])
    process = SimpleNamespace(wait=lambda timeout: waited.append(timeout))
    backend.trial_subprocess = {0: process, 1: process}
    backend.check_workers = lambda *arguments: asked.append(arguments)
    play(backend, n_workers=2, asynchronous_scheduling=False)
    assert backend.stopped[:2] == [0, 1] and len(waited) == 2 and all(waited) and asked == [(2, False)]


def test_an_interrupt_while_trials_are_stopped_waits_until_all_is_on_disk():
    class Slow(Scripted):
        def stop_all(self):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
            super().stop_all()

    with pytest.raises(KeyboardInterrupt):
        play(backend := Slow([0.5], [0.4]))
    assert backend.stopped and set(statuses_of(runs.find_run("test")).values()) == {"Stopped"}


def test_the_record_of_a_run_stays_when_run_is_called_again():
    tuners, callback = [], TunerCallback()
    callback.on_tuning_start = tuners.append
    before = play(Scripted([0.5, ENDS], [0.4, ENDS]), callbacks=[callback])
    time.sleep(0.2)
    tuners[0].run()
    after = runs.find_run("test")
    assert after.reports.time.tolist() == pytest.approx(before.reports.time.tolist(), abs=1e-6)
    assert after.trials.start.tolist() == pytest.approx(before.trials.start.tolist(), abs=1e-6)


def test_callbacks_of_one_tuner_serve_another(monkeypatch):
    options = search.book_options()  # no budget, no bar
    monkeypatch.setattr(search, "book_options", lambda *_: options)
    play(Scripted([0.5, ENDS]))
    run = play(Scripted([ENDS], [0.7, ENDS]))
    assert run.reports.error.tolist() == [0.7] and statuses_of(run)[0] == "Failed"


def test_two_threads_tune_side_by_side():
    with ThreadPoolExecutor() as pool:
        one, other = pool.map(play, [Scripted([0.1, ENDS]), Scripted([0.2, ENDS])], ["one", "other"])
    assert (one.reports.error.tolist(), other.reports.error.tolist()) == ([0.1], [0.2])


# --- what is kept on disk --------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=50.0, monotonic=lambda: clock.now, time=lambda: 1000 + clock.now)
    monkeypatch.setattr(callbacks, "time", clock)
    return clock


class OnClock(TuningStatus):
    wallclock_time = property(lambda self: callbacks.time.monotonic() - 43)


class Told(callbacks.SafeResults):
    """Is told of one trial's reports by hand."""

    def __init__(self, folder):
        super().__init__()
        self.on_tuning_end()  # of a run that ended before it began
        self.folder = folder
        self.tuner = SimpleNamespace(**dict.fromkeys(state.OF_TUNER), name="test", tuner_path=folder, n_workers=3)
        self.tuner.metadata, self.tuner.results_update_interval = {"st_tuner_start_timestamp": 1000.0}, 0
        self.tuner.tuning_status = OnClock(["error"])
        self.on_tuning_start(self.tuner)
        self.trial = Scripted().start_trial({"x": 0.5})
        self.on_start_trial(self.trial)

    def report(self, error, status=Status.in_progress, decision=SchedulerDecision.CONTINUE, age=0.0):
        result = {"error": error, "st_worker_timestamp": callbacks.time.time() - age}
        self.on_trial_result(self.trial, status, result, decision)

    def on_disk(self):
        path = self.folder / "results.csv.zip"
        return pd.read_csv(path).error.tolist() if path.exists() else None


@pytest.fixture
def told(clock, tmp_path):
    return Told(tmp_path / "new" / "folder")


def test_trials_stopped_paused_and_resumed_by_the_scheduler_are_kept_as_such(told, clock):
    told.on_fetch_status_results({0: (told.trial, ENDS)}, [])
    for status, decision, expected in [
        (ENDS, SchedulerDecision.STOP, ENDS),  # its last report and its end are seen at once
        (Status.in_progress, SchedulerDecision.PAUSE, Status.paused),
        (Status.in_progress, SchedulerDecision.STOP, Status.stopped),
    ]:
        told.report(0.5, status, decision)
        assert (told.trials[-1]["status"], told.trials[-1]["end"]) == (expected, clock.now + 957)
        clock.now += 1
        told.on_resume_trial(told.trial)
        assert told.trials[-1]["status"] == Status.in_progress and "end" not in told.trials[-1], "it goes on"
    assert [row["start"] for row in told.trials] == [1007, 1008, 1009, 1010]


@pytest.mark.parametrize("set_by", [-3600, 0, 3600])
def test_a_clock_that_is_set_moves_no_report_beyond_the_rounds_around_it(told, clock, set_by):
    for n in range(3):
        told.on_loop_start()
        clock.now += 1
        if n == 1:
            clock.time = lambda: 1000 + clock.now + set_by
        stamp = clock.time() - 0.5 - (set_by if n == 1 else 0)
        result = {"error": 1, "st_worker_timestamp": stamp}
        told.on_trial_result(told.trial, Status.in_progress, result, SchedulerDecision.CONTINUE)
    times = [row[runs.RUN_TIME] for row in told.results]
    assert times[::2] == [7.5, 9.5] and 7.5 <= times[1] <= 9 and (set_by or times[1] == 8.5)


def test_all_that_is_known_is_on_disk_at_the_end(told, clock):
    told.on_loop_end()
    trials = pd.read_csv(told.folder / "trials.csv")
    assert trials.status.tolist() == ["InProgress"] and trials.end.isna().all() and told.on_disk() is None
    told.report(0.9)
    clock.now += 1.9
    told.on_loop_end()
    told.report(0.8)
    told.on_loop_end()
    assert told.on_disk() == [0.9]
    told.on_tuning_end()
    assert told.on_disk() == [0.9, 0.8], "however soon"
    (trial,) = pd.read_csv(told.folder / "trials.csv").to_dict("records")
    assert trial == {"trial_id": 0, "status": "Stopped", "start": 1007.0, "end": 1008.9}, "cut by the run's end"
    assert told.tuner.metadata["n_workers"] == 3


@pytest.mark.parametrize(("took", "news", "waits"), [(0, True, (0.9, 0.1)), (1, True, (18, 1)), (0, False, (5.9, 0.1))])
def test_files_are_not_written_too_often(told, clock, monkeypatch, took, news, waits):
    """After a second; slow ones take a twentieth of the time; without news five seconds more."""

    def write(*arguments):
        clock.now += took
        written.append(clock.now)

    written = []
    monkeypatch.setattr(state, "save", write)
    told.on_loop_end()
    for seconds, n_written in zip(waits, (1, 2), strict=True):
        clock.now += seconds
        if news:
            told.report(0.5)
        told.on_loop_end()
        assert len(written) == n_written


def test_a_scheduler_that_cannot_be_saved_runs_all_the_same(told, capsys):
    told.tuner.scheduler = (number for number in ())
    told.report(0.5)
    told.on_loop_end()
    told.on_tuning_end()
    assert told.on_disk() == [0.5] and capsys.readouterr().out.count("can't go on after a stop") == 1


def test_a_write_that_is_cut_off_leaves_the_whole_file_of_before(monkeypatch, tmp_path):
    def half(self, file, **options):
        Path(file).write_text("a\n3")
        raise KeyboardInterrupt

    path = tmp_path / "trials.csv"
    callbacks.write_csv(pd.DataFrame({"a": [1, 2]}), path)
    monkeypatch.setattr(pd.DataFrame, "to_csv", half)
    with pytest.raises(KeyboardInterrupt):
        callbacks.write_csv(pd.DataFrame({"a": [3, 4]}), path)
    assert path.read_text() == "a\n1\n2\n" and list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_killing_the_tuner_loses_nothing_that_was_kept(folder):
    text = program("ForkserverBackend", folder, of_tuner="**book_options()")
    process = start_program(folder, "program", "from async_hpo.search import book_options\n" + text)
    before = wait_for_results(folder, "program", process)
    process.kill()
    process.wait()
    kept = results_of(folder, "program")
    assert set(before.st_worker_timestamp) <= set(kept.st_worker_timestamp)
    for trial_id, of_trial in kept.groupby("trial_id").st_worker_timestamp:
        log = (folder / "program" / str(trial_id) / "std.out").read_text().split("\n")
        reported = [report["st_worker_timestamp"] for report in retrieve(log[:-1])]
        assert list(of_trial) == reported[: len(of_trial)], "the first ones, none left out, each once"
    assert runs.read_run(folder / "program").trials.status.tolist() == ["InProgress"] * 2


# --- what a reader sees ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "failed", "best", "mode", "begin", "end"),
    [
        (50, 1, 0.25, "min", " 25%|", "2 of 3 trials finished, 1 failed, best error 0.250"),
        (50, 0, 0.25, "max", " 25%|", "2 of 3 trials finished, best error 0.750"),
        (201.3, 0, None, "min", "100%|", "| 200 of 200 s, 2 of 3 trials finished"),
        (0, 0, math.inf, "min", "  0%|", "2 of 3 trials finished"),
    ],
)
def test_the_bar_shows_time_trials_and_the_best_error_and_ends_once(capsys, seconds, failed, best, mode, begin, end):
    statistics = SimpleNamespace(min_metrics={"error": best}, max_metrics={"error": 0.75})
    status = SimpleNamespace(wallclock_time=seconds, overall_metric_statistics=statistics, num_trials_failed=failed)
    status.num_trials_completed, status.num_trials_started = 2, 3
    scheduler = SimpleNamespace(metric_names=lambda: ["error"], metric_mode=lambda: mode)
    bar = progress.ProgressBar(200)
    bar.on_tuning_start(SimpleNamespace(tuning_status=status, scheduler=scheduler))
    bar.on_loop_end()
    line = capsys.readouterr().out.rsplit("\r", 1)[-1].rstrip()  # it writes its line again and again
    assert line.startswith(begin) and line.endswith(end)
    bar.on_tuning_end()
    assert capsys.readouterr().out.endswith(f"{end}\n")
    bar.on_tuning_end()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("seconds", [None, 0, -1, "10", NAN])
def test_a_bar_needs_a_budget(seconds):
    with pytest.raises(ValueError, match="a bar needs the budget in seconds"):
        progress.ProgressBar(seconds)


def test_a_run_prints_its_name_one_line_of_progress_and_where_its_results_lie(capsys, folder):
    logger = logging.getLogger("syne_tune")
    logger.setLevel(logging.INFO)
    run = play(Scripted([0.5, ENDS], [Status.failed]), save_tuner=True)  # with its bar open
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{run.name} on 2 workers"
    assert lines[-1] == f"Results and logs: {os.path.relpath(folder / run.name)}"
    told = [line for line in lines[1:-1] if line.startswith(("Trial", "["))]
    assert len(told) == 1 and told[0].startswith("Trial 1 failed"), "no line for each trial that starts or ends"
    assert logger.level == logging.ERROR, "log messages would come between"
