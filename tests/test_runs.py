"""Runs: what they show and keep while they go on, what they leave when they end badly, and who ran when.

Most run a real tuner on trials without processes (`Scripted`), which take no time. The objectives of the others are
quick, because it is the run that is under test.
"""

import importlib.util
import json
import logging
import math
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import dill
import numpy as np
import pandas as pd
import psutil
import pytest
from backend_helpers import LONG, nvidia_smi, results_of, wait_for
from helpers import assert_interrupted, kernel
from syne_tune import StoppingCriterion, Tuner, num_gpu
from syne_tune.backend import PythonBackend
from syne_tune.backend.trial_backend import TrialBackend
from syne_tune.backend.trial_status import Status
from syne_tune.config_space import uniform
from syne_tune.experiments import load_experiment
from syne_tune.optimizer.baselines import RandomSearch
from syne_tune.optimizer.scheduler import SchedulerDecision, TrialSuggestion
from syne_tune.tuning_status import TuningStatus
from syne_tune.util import name_from_base

from async_hpo import callbacks, paths, progress, runs, search
from async_hpo.chapter import lenet_config_space
from tools.notebooks import ROOT

pytestmark = pytest.mark.usefixtures("folder", "in_a_folder_of_its_own")

CAP = 600  # seconds after which a run ends that should have ended long before
SPACE = {"x": uniform(0, 1)}
NAN = float("nan")


@pytest.fixture
def in_a_folder_of_its_own(monkeypatch):
    """In the clone, as `notebooks/` is: from elsewhere, the path to Python may have a space, and Syne Tune fails."""
    (ROOT / "_build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "_build") as folder:
        monkeypatch.chdir(folder)
        yield
        monkeypatch.undo()  # before it is gone


# --- trials that follow a script -------------------------------------------------------------------------------------


class Scripted(TrialBackend):
    """Trials without processes. Whenever the tuner looks, a trial does the next step of its script: it reports an
    error (a number), or metrics (a dict), or ends (with a status). After its last step, and without a script, it just
    runs."""

    def __init__(self, *scripts, errors=()):
        super().__init__()
        self.scripts, self.errors = [list(script) for script in scripts], dict(errors)
        self.write_errors()
        self.metrics, self.statuses, self.stopped = {}, {}, []

    def over(self, status=None):
        """All scripts have been played to their ends."""
        return len(self.trial_ids) >= len(self.scripts) and not any(self.scripts)

    def _schedule(self, trial_id, config):
        self.metrics.setdefault(trial_id, [])
        self.statuses[trial_id] = Status.in_progress

    def fetch_status_results(self, trial_ids):
        for trial_id in trial_ids:
            if trial_id < len(self.scripts) and self.scripts[trial_id]:
                self._do(trial_id, self.scripts[trial_id].pop(0))
        return super().fetch_status_results(trial_ids)

    def _do(self, trial_id, step):
        if isinstance(step, str):
            self.statuses[trial_id] = step
            return
        metrics = step if isinstance(step, dict) else {"error": step}
        self.metrics[trial_id].append(metrics | {"st_worker_timestamp": time.time(), "st_worker_time": 1.0})

    def _all_trial_results(self, trial_ids):
        return [self._trial_dict[i].add_results(self.metrics[i], self.statuses[i], datetime.now()) for i in trial_ids]

    def _stop_trial(self, trial_id, result):
        self.statuses[trial_id] = Status.stopped
        self.stopped.append(trial_id)

    def _pause_trial(self, trial_id, result):
        self.statuses[trial_id] = Status.paused

    def _resume_trial(self, trial_id):
        pass

    def trial_path(self, trial_id):
        return Path("logs") / str(trial_id)

    def write_errors(self):
        """What failed trials leave on disk."""
        for trial_id, lines in self.errors.items():
            self.trial_path(trial_id).mkdir(parents=True, exist_ok=True)
            (self.trial_path(trial_id) / "std.err").write_text("".join(lines))

    def entrypoint_path(self):
        return Path(__file__)


def play(backend, scheduler=None, own_callbacks=None, stop=None, save_tuner=False):
    """Run a tuner until the scripts are over, or until `stop` says so."""
    ours = {"callbacks": own_callbacks} if own_callbacks else {}
    tuner = Tuner(
        trial_backend=backend,
        scheduler=scheduler or RandomSearch(SPACE, metrics=["error"]),
        stop_criterion=stop or backend.over,
        n_workers=2,
        sleep_time=0,
        tuner_name="test",
        save_tuner=save_tuner,
        **(search.book_options(CAP) | ours),
    )
    tuner.run()
    return tuner


def statuses_of(run):
    return run.trials.set_index("trial_id").status.to_dict()


# --- trials that fail ------------------------------------------------------------------------------------------------


def test_failed_silent_and_nan_trials_leave_the_others_alone(capsys):
    backend = Scripted(
        [Status.failed],
        [0.5, 0.4, Status.completed],
        [Status.completed],  # without a report
        [NAN, Status.completed],
        [0.6, Status.failed],
        [0.45, Status.completed],
        errors={0: ["Traceback\n", "ValueError: no luck\n"]},
    )
    tuner = play(backend)
    run = runs.find_run("test")
    expected = ["Failed", "Completed", "Failed", "Failed", "Failed", "Completed"]
    assert [statuses_of(run)[trial_id] for trial_id in range(6)] == expected
    assert set(statuses_of(run).values()) <= {"Failed", "Completed", "Stopped"}, "nothing goes on"
    reported = {trial_id: list(rows.error) for trial_id, rows in run.reports.groupby("trial_id")}
    assert reported == {1: [0.5, 0.4], 3: [pytest.approx(NAN, nan_ok=True)], 4: [0.6], 5: [0.45]}
    assert run.incumbent().error.iloc[-1] == 0.4 == load_experiment(tuner.name).best_config()["error"]
    out = capsys.readouterr().out
    assert "Trial 0 failed; its last lines say (all of it in logs/0/std.err):\n" in out
    assert "    Traceback\n    ValueError: no luck\n" in out
    assert "Trial 2 failed; it ended without a report" in out and "Trial 4 failed; its last lines" in out
    assert "Trial 3 failed; it reported nothing but NaN as error" in out
    assert "4 failed, best error 0.400" in out
    assert not any(f"Trial {trial_id} failed" in out for trial_id in (1, 5))


def test_a_failure_is_told_once_with_its_last_lines(capsys):
    lines = [f"line {number}\n" for number in range(1, 8)]
    backend, guard = Scripted([], errors={0: lines}), callbacks.TrialGuard(num_lines=3)
    trial = backend.start_trial({"x": 0.5})
    guard._tuner = SimpleNamespace(trial_backend=backend, scheduler=RandomSearch(SPACE, metrics=["error"]))
    for _ in range(2):
        guard.on_fetch_status_results({0: (trial, Status.failed)}, [])
    out = capsys.readouterr().out
    assert out.count("Trial 0 failed") == 1
    assert "line 5" in out and "line 7" in out and "line 4" not in out


def test_a_trial_that_reports_and_ends_at_once_has_not_failed():
    backend, guard = Scripted([]), callbacks.TrialGuard()
    trial = backend.start_trial({"x": 0.5})
    guard._tuner = SimpleNamespace(trial_backend=backend, scheduler=RandomSearch(SPACE, metrics=["error"]))
    statuses = {0: (trial, Status.completed)}
    guard.on_fetch_status_results(statuses, [(0, {"error": 0.5})])
    assert statuses == {0: (trial, Status.completed)}


def test_all_trials_may_fail():
    backend = Scripted(*[[Status.failed]] * 5)
    play(backend)
    run = runs.find_run("test")
    assert len(run.reports) == 0 and len(run.failed) == 5 and run.finished.empty and run.incumbent().empty
    assert run.shares()["useful"] == 0 and run.shares().sum() == pytest.approx(1)
    assert not (paths.experiments() / "test").exists()  # its name has a date
    (folder,) = paths.experiments().glob("test-*")
    assert set(pd.read_csv(folder / "trials.csv").status[:5]) == {"Failed"}
    assert not (folder / "results.csv.zip").exists(), "no report, no reports"


@pytest.mark.parametrize(
    ("report", "told"),
    [
        ({"epoch": 1, "accuracy": 0.7}, "reported epoch, accuracy, but the scheduler waits for 'error': use one name"),
        ({"error": None}, "reported something that is no number as 'error': write report(error=float(...))"),
        ({"error": "0.5"}, "reported '0.5' (str) as 'error'"),
        ({"error": [0.5]}, "reported [0.5] (list) as 'error'"),
        ({"error": True}, "reported True (bool) as 'error'"),
    ],
)
def test_a_metric_that_is_missing_or_no_number_fails_that_trial_alone(capsys, report, told):
    backend = Scripted([0.5, 0.4, Status.completed], [0.6, report], [0.3, Status.completed])
    play(backend)
    run = runs.find_run("test")
    assert [statuses_of(run)[trial_id] for trial_id in range(3)] == ["Completed", "Failed", "Completed"]
    assert 1 in backend.stopped, "it does not go on"
    assert run.reports[run.reports.trial_id == 1].error.tolist() == [0.6], "what it reported before is kept"
    assert f"Trial 1 failed; it {told}" in capsys.readouterr().out


@pytest.mark.slow
def test_trials_that_fail_in_real_processes_leave_the_others_alone(capsys):
    def moody(x):
        from syne_tune import Reporter

        report = Reporter()
        if x < 0.3:
            raise ValueError(f"no luck with {x:.3f}")
        if x > 0.8:
            return  # without a report
        report(epoch=1, error=x)

    points = [{"x": x} for x in (0.1, 0.5, 0.9, 0.4)]
    np.random.seed(0)
    tuner = Tuner(
        trial_backend=PythonBackend(tune_function=moody, config_space=SPACE),
        scheduler=RandomSearch(SPACE, metrics=["error"], points_to_evaluate=points),
        stop_criterion=search.Budget(CAP, n_trials=4),
        n_workers=2,
        sleep_time=0.1,
        tuner_name="test",
        max_failures=1000,
        callbacks=[callbacks.TrialGuard(), callbacks.SafeResults(), progress.ProgressBar(CAP)],
        output_logger=progress.QuietLogger(),
    )
    tuner.run()
    status = statuses_of(runs.find_run("test"))
    assert [status[trial_id] for trial_id in range(4)] == ["Failed", "Completed", "Failed", "Completed"]
    out = capsys.readouterr().out
    assert "ValueError: no luck with 0.100" in out and "Trial 2 failed; it ended without a report" in out


@pytest.mark.slow
def test_no_process_is_left_when_a_run_ends_with_an_error():
    def objective(x):
        from syne_tune import Reporter

        Reporter()(epoch=1, error=x)

    def stop(status):
        if status.overall_metric_statistics.count or status.wallclock_time > CAP:
            raise RuntimeError("no more")
        return False

    before = psutil.Process().children()
    with pytest.raises(RuntimeError, match="no more"):
        play(PythonBackend(tune_function=objective, config_space=SPACE), stop=stop)
    assert psutil.Process().children() == before, "no trial process is left, not even a zombie"


@pytest.mark.slow
@pytest.mark.parametrize("gpus", [[], ["0"], ["0", "1"]])
def test_a_run_writes_nothing_into_the_working_folder(tmp_path, monkeypatch, gpus):
    monkeypatch.setattr(callbacks, "visible_gpus", lambda: gpus)
    monkeypatch.setattr(num_gpu, "_num_gpus", None)  # Syne Tune counts once a process
    nvidia_smi(tmp_path, monkeypatch, *(f"GPU {gpu}: of this test (UUID: GPU-{gpu})" for gpu in gpus))
    end = StoppingCriterion(max_num_trials_finished=2)
    play(PythonBackend(tune_function=report_once, config_space=SPACE), stop=end)
    assert not [*Path().iterdir()]


@pytest.mark.parametrize(("gpus", "rotates"), [([], False), (["GPU-1"], False), (["0", "2"], True)])
def test_gpus_are_rotated_where_there_are_several(tmp_path, monkeypatch, gpus, rotates):
    monkeypatch.setattr(callbacks, "visible_gpus", lambda: gpus)
    backend = python_backend("/usr/bin/python", tmp_path)
    started(backend, tmp_path)
    assert backend.rotate_gpus == rotates


# --- before a run and after it ---------------------------------------------------------------------------------------


def started(backend, tmp_path, n_workers=3):
    """A tuner as `TrialGuard` sees it when it begins."""
    tuner = SimpleNamespace(
        tuner_path=tmp_path / "made" / "by guard",
        trial_backend=backend,
        n_workers=n_workers,
        asynchronous_scheduling=False,
    )
    callbacks.TrialGuard().on_tuning_start(tuner)
    return tuner


def test_a_cluster_is_asked_whether_it_has_places(tmp_path):
    asked = []
    backend = Scripted()
    backend.check_workers = lambda *arguments: asked.append(arguments)
    tuner = started(backend, tmp_path)
    assert asked == [(3, False)] and tuner.tuner_path.is_dir()


def python_backend(binary, folder):
    """Syne Tune's own back-end, with this interpreter, and its files in this folder."""
    backend = PythonBackend(tune_function=report_once, config_space=SPACE)
    backend.set_path(str(folder), "test")
    backend.binary, backend.entry_point = str(binary), str(Path(binary).with_name("trial.py"))
    return backend


def report_once(x):
    from syne_tune import Reporter

    Reporter()(error=x)


def test_paths_with_spaces_are_made_relative(monkeypatch, tmp_path):
    clone = tmp_path / "a clone"
    (clone / "notebooks").mkdir(parents=True)
    monkeypatch.chdir(clone / "notebooks")
    backend = python_backend(clone / "python", clone / "experiments")
    script = backend.entry_point
    started(backend, tmp_path)
    assert backend.binary == "../python" and backend.local_path == Path("../experiments")
    assert Path(backend.entry_point).resolve() == Path(script).resolve()


@pytest.mark.parametrize("what", ["binary", "folder"])
def test_a_path_whose_space_stays_is_told(monkeypatch, tmp_path, what):
    monkeypatch.chdir(tmp_path)
    paths = {"binary": tmp_path / "python", "folder": tmp_path / "experiments"} | {what: tmp_path / "a b" / what}
    with pytest.raises(ValueError, match=f"from a path with a space: 'a b/{what}'. Move the folder"):
        started(python_backend(**paths), tmp_path)


def test_paths_without_spaces_stay_as_they_are(tmp_path):
    backend = python_backend(tmp_path / "python", tmp_path / "experiments")
    before = backend.binary, backend.entry_point, backend.local_path
    started(backend, tmp_path)
    assert (backend.binary, backend.entry_point, backend.local_path) == before


def test_trials_still_running_are_stopped_and_waited_for():
    class Waited:
        def wait(self, timeout):
            waited.append(timeout)

    backend, waited = Scripted([0.5], [0.6]), []
    backend.trial_subprocess = {0: Waited(), 1: Waited()}
    play(backend)
    assert backend.stopped[:2] == [0, 1] and len(waited) == 2 and all(waited)


# --- what is kept on disk --------------------------------------------------------------------------------------------


class Decides(RandomSearch):
    """Random search that stops trial 0 and pauses trial 1 after their second reports, and resumes that in the end."""

    def __init__(self):
        super().__init__(SPACE, metrics=["error"])
        self.n_suggested, self.seen = 0, {}

    def suggest(self):
        self.n_suggested += 1
        return TrialSuggestion.resume_suggestion(1) if self.n_suggested == 5 else super().suggest()

    def on_trial_result(self, trial, result):
        self.seen[trial.trial_id] = n = self.seen.get(trial.trial_id, 0) + 1
        decisions = {(0, 2): SchedulerDecision.STOP, (1, 2): SchedulerDecision.PAUSE}
        return decisions.get((trial.trial_id, n), SchedulerDecision.CONTINUE)


def test_trials_stopped_paused_and_resumed_by_the_scheduler_are_kept_as_such():
    class Keeps(callbacks.SafeResults):
        """Notes each trial's status in every round of the tuner."""

        def on_loop_end(self):
            super().on_loop_end()
            noted.append({trial_id: trial["status"] for trial_id, trial in self.trials.items()})
            ends.append(self.trials[1].get("end"))

    noted, ends = [], []
    backend = Scripted(
        [0.5, 0.4], [0.6, 0.5, 0.4, Status.completed], [0.3, Status.completed], [0.2, 0.2, Status.completed]
    )
    play(backend, Decides(), [callbacks.TrialGuard(), Keeps()])
    run = runs.find_run("test")
    assert [statuses_of(run)[trial_id] for trial_id in range(4)] == ["Stopped", "Completed", "Completed", "Completed"]
    seen = [statuses[1] for statuses in noted]
    assert [s for i, s in enumerate(seen) if i == 0 or s != seen[i - 1]] == [
        "InProgress", "Paused", "InProgress", "Completed",
    ]  # fmt: skip
    paused = [end for status, end in zip(seen, ends, strict=True) if status == "Paused"]
    resumed = [end for status, end in zip(seen, ends, strict=True) if status == "InProgress"][-1]
    assert paused[0] > 0 and np.isnan(resumed), "it has no end while it goes on"
    assert (run.reports.trial_id == 1).sum() == 3, "the reports after the pause, too"


def test_a_trial_that_ended_by_itself_was_not_stopped():
    """Its last report and its end are seen at once; the scheduler would have stopped it."""
    keeper = callbacks.SafeResults()
    keeper.save_results_at_frequency = lambda: None
    trial = Scripted([]).start_trial({"x": 0.5})
    keeper.on_start_trial(trial)
    keeper.on_fetch_status_results({0: (trial, Status.completed)}, [])
    keeper.on_trial_result(trial, Status.completed, {"error": 0.5}, SchedulerDecision.STOP)
    assert keeper.trials[0]["status"] == Status.completed
    keeper.on_start_trial(trial)
    keeper.on_trial_result(trial, Status.in_progress, {"error": 0.5}, SchedulerDecision.STOP)
    assert keeper.trials[0]["status"] == Status.stopped


class Clock:
    """In place of the module `time`."""

    def __init__(self):
        self.now = 50.0

    def monotonic(self):
        return self.now

    def time(self):
        return 1000 + self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(callbacks, "time", clock)
    return clock


class Reporting:
    """A `SafeResults` that is told of one trial's reports by hand."""

    def __init__(self, folder, min_interval):
        self.folder, self.metadata = folder, {}
        self.keeper = callbacks.SafeResults(min_interval)
        self.keeper.on_tuning_start(
            SimpleNamespace(
                name="test",
                tuner_path=folder,
                results_update_interval=0,
                n_workers=3,
                metadata=self.metadata,
                scheduler=None,
                tuning_status=TuningStatus(["error"]),
                last_seen_result_per_trial={},
                trials_scheduler_stopped=set(),
            )
        )
        self.trial = Scripted([]).start_trial({"x": 0.5})
        self.trial.creation_time = datetime.fromtimestamp(1007)
        self.keeper.on_start_trial(self.trial)

    def report(self, error):
        self.keeper.on_trial_result(self.trial, Status.in_progress, {"error": error}, SchedulerDecision.CONTINUE)

    def on_disk(self):
        path = self.folder / "results.csv.zip"
        return pd.read_csv(path).error.tolist() if path.exists() else None


def test_nothing_is_written_twice_within_min_interval(clock, tmp_path):
    run = Reporting(tmp_path, min_interval=5.0)
    assert run.on_disk() is None
    for seconds, error, expected in [
        (0, 0.9, [0.9]), (1, 0.8, [0.9]), (3.9, 0.7, [0.9]), (0.1, 0.6, [0.9, 0.8, 0.7, 0.6]), (4, 0.5, None),
    ]:  # fmt: skip
        clock.now += seconds
        run.report(error)
        run.keeper.on_loop_end()
        assert run.on_disk() == (expected or [0.9, 0.8, 0.7, 0.6]), f"at {clock.now - 50} s"


def test_the_last_reports_are_written_when_the_run_ends_however_soon(clock, tmp_path):
    run = Reporting(tmp_path, min_interval=5.0)
    run.report(0.9)
    run.keeper.on_loop_end()
    run.report(0.8)
    run.keeper.on_loop_end()
    assert run.on_disk() == [0.9]
    clock.now += 1
    run.keeper.on_tuning_end()
    assert run.on_disk() == [0.9, 0.8]
    assert pd.read_csv(tmp_path / "trials.csv").to_dict("records") == [
        {"trial_id": 0, "status": "Stopped", "start": 1007.0, "end": 1051.0}
    ], "a trial cut by the run's end"
    assert run.metadata == {"n_workers": 3}


def test_a_saved_callback_keeps_what_was_reported_as_one_value(clock, tmp_path):
    """Syne Tune saves its tuner every ten seconds: 100,000 reports, one by one, would take it ten."""
    run = Reporting(tmp_path, min_interval=0.0)
    run.report(0.9)
    run.report(0.8)
    assert isinstance(run.keeper.__getstate__()["results"], bytes)
    loaded = dill.loads(dill.dumps(run.keeper))
    assert loaded.results == run.keeper.results and len(loaded.results) == 2
    assert loaded.trials == run.keeper.trials


def test_a_round_without_news_writes_nothing(clock, tmp_path):
    run = Reporting(tmp_path, min_interval=0.0)
    run.report(0.9)
    run.keeper.on_loop_end()
    for path in tmp_path.iterdir():
        path.unlink()
    clock.now += 1
    run.keeper.on_loop_end()
    assert not list(tmp_path.iterdir())
    clock.now += 100
    run.keeper.on_loop_end()
    assert [path.name for path in tmp_path.iterdir()] == ["state.pkl"], "which knows the time"


def test_a_trial_without_a_report_is_news(clock, tmp_path):
    run = Reporting(tmp_path / "new" / "folder", min_interval=0.0)
    run.keeper.on_loop_end()
    trials = pd.read_csv(tmp_path / "new" / "folder" / "trials.csv")
    assert trials.status.tolist() == ["InProgress"] and trials.end.isna().all()


def test_a_run_that_ended_before_it_began_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    callbacks.SafeResults().on_tuning_end()
    assert not list(tmp_path.iterdir())


def test_a_write_that_is_cut_off_leaves_the_whole_file_of_before(monkeypatch, tmp_path):
    path = tmp_path / "trials.csv"
    callbacks.write_csv(pd.DataFrame({"a": [1, 2]}), path)
    assert path.read_text() == "a\n1\n2\n" and list(tmp_path.iterdir()) == [path]

    def half(self, file, **options):
        Path(file).write_text("a\n3")
        raise KeyboardInterrupt

    monkeypatch.setattr(pd.DataFrame, "to_csv", half)
    with pytest.raises(KeyboardInterrupt):
        callbacks.write_csv(pd.DataFrame({"a": [3, 4]}), path)
    assert path.read_text() == "a\n1\n2\n"


@pytest.mark.slow
def test_a_kill_while_writing_leaves_a_whole_file(tmp_path):
    """One process imports what it takes; its forks write, and are killed at different moments."""
    program = textwrap.dedent("""
        import os, signal, sys, time
        import pandas as pd
        from async_hpo import callbacks

        def write_forever():
            keeper = callbacks.SafeResults()
            keeper.csv_file = sys.argv[1]
            keeper.results = [{"trial_id": i, "epoch": i, "error": i / 7} for i in range(5_000)]
            keeper.trials = {0: {"trial_id": 0, "status": "InProgress", "start": 0.0}}
            while True:
                keeper.store_results()
                os.write(written, b"w")

        for delay in (0.0, 0.003, 0.007, 0.013, 0.019, 0.031, 0.047, 0.062):
            seen, written = os.pipe()
            if (writer := os.fork()) == 0:
                write_forever()
            os.read(seen, 1)
            time.sleep(delay)
            os.kill(writer, signal.SIGKILL)
            os.waitpid(writer, 0)
            print(len(pd.read_csv(sys.argv[1])), len(pd.read_csv(sys.argv[2])))
    """)
    paths = [tmp_path / "results.csv.zip", tmp_path / "trials.csv"]
    found = subprocess.run([sys.executable, "-c", program, *paths], capture_output=True, text=True, timeout=CAP)
    assert found.stdout.splitlines() == ["5000 1"] * 8, found.stderr


# --- what is shown ---------------------------------------------------------------------------------------------------


def shown(capsys):
    """What the progress bar shows at the end: it writes its line again and again."""
    return capsys.readouterr().out.rsplit("\r", 1)[-1].rstrip("\n")


def bar_of(monkeypatch, seconds, results=(), statuses=(), do_minimize=True, budget=200):
    """A progress bar's line after these seconds, reports and statuses of trials."""
    monkeypatch.setattr("syne_tune.tuning_status.time", SimpleNamespace(perf_counter=lambda: 0.0))
    status, backend = TuningStatus(["error"]), Scripted(*[[]] * len(statuses))
    trials = [backend.start_trial({"x": 0.5}) for _ in statuses]
    status.update({t.trial_id: (t, s) for t, s in zip(trials, statuses, strict=True)}, list(enumerate(results)))
    scheduler = RandomSearch(SPACE, metrics=["error"], do_minimize=do_minimize)
    bar = progress.ProgressBar(budget)
    bar.on_tuning_start(SimpleNamespace(tuning_status=status, scheduler=scheduler))
    monkeypatch.setattr("syne_tune.tuning_status.time", SimpleNamespace(perf_counter=lambda: seconds))
    bar.on_loop_end()
    return bar


def test_the_bar_shows_time_trials_and_the_best_error(capsys, monkeypatch):
    bar_of(monkeypatch, 50.0, [{"error": 0.75}, {"error": 0.25}, {"error": 0.5}], ["Completed", "Failed", "InProgress"])
    line = shown(capsys)
    assert line.startswith(" 25%|") and "| 50 of 200 s, " in line
    assert line.endswith("1 of 3 trials finished, 1 failed, best error 0.250")


def test_the_bar_shows_the_largest_metric_where_that_is_best(capsys, monkeypatch):
    bar_of(monkeypatch, 50.0, [{"error": 0.75}, {"error": 0.25}], ["Completed"] * 2, do_minimize=False)
    assert shown(capsys).endswith("2 of 2 trials finished, best error 0.750"), "and no failures, since there are none"


def test_the_bar_is_full_at_the_end_of_the_budget_and_not_fuller(capsys, monkeypatch):
    bar_of(monkeypatch, 201.3)
    line = shown(capsys)
    assert line.startswith("100%|") and "| 200 of 200 s, 0 of 0 trials finished" in line and "best" not in line


def test_the_bar_ends_silently_and_can_be_saved_while_open(capsys, monkeypatch):
    bar = bar_of(monkeypatch, 50.0)
    assert bar.__getstate__()["_bar"] is None and bar.__getstate__()["max_wallclock_time"] == 200
    capsys.readouterr()
    bar.on_tuning_end()
    bar.on_tuning_end()  # as when the run ends twice, or before it began
    assert capsys.readouterr().out == ""


def test_a_run_prints_its_name_one_line_of_progress_and_where_its_results_lie(capsys, folder):
    logger = logging.getLogger("syne_tune")
    logger.setLevel(logging.INFO)
    tuner = play(Scripted([0.5, Status.completed], [Status.failed]), save_tuner=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{tuner.name} on 2 workers"
    assert lines[-1] == f"Results and logs: {os.path.relpath(folder / tuner.name)}"
    told = [line for line in lines[1:-1] if line.startswith(("Trial", "["))]
    assert len(told) == 1 and told[0].startswith("Trial 1 failed"), "no line for each trial that starts or ends"
    assert logger.level == logging.ERROR, "log messages would come between"


# --- interrupts and kills --------------------------------------------------------------------------------------------

# The text of a program that a test starts in a process of its own, to kill or to interrupt it.
PROGRAM = """
import os, sys
from syne_tune import StoppingCriterion, Tuner
from syne_tune.backend import PythonBackend
from syne_tune.config_space import uniform
from syne_tune.optimizer.baselines import RandomSearch
from async_hpo.search import book_options

def objective(x, pause):
    import time
    from syne_tune import Reporter
    report = Reporter()
    for epoch in range(1, 10_000):
        time.sleep(pause)
        report(epoch=epoch, error=x / epoch)

space = {"x": uniform(0, 1), "pause": 0.2}
tuner = Tuner(
    trial_backend=PythonBackend(tune_function=objective, config_space=space),
    scheduler=RandomSearch(space, metrics=["error"]),
    stop_criterion=StoppingCriterion(max_wallclock_time=600, max_num_evaluations=EVALUATIONS),
    n_workers=2, sleep_time=0.2, tuner_name="program", suffix_tuner_name=False, **book_options(600),
)
tuner.run()
"""
FOREVER = PROGRAM.replace("EVALUATIONS", "None")


def processes_of(folder):
    """Processes that mention `folder` in their command line, absolute or relative."""
    found = []
    for process in psutil.process_iter():
        try:
            here = process.cwd()
            if any(str(folder) in os.path.normpath(os.path.join(here, part)) for part in process.cmdline()):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            pass
    return found


def results_of_program(folder):
    """What another process, this one, can read while the program runs: nothing yet while a file is being written."""
    results = results_of(folder, "program")
    return [] if results is None else results.st_worker_timestamp.tolist()


@pytest.mark.slow
def test_interrupting_the_kernel_leaves_no_process_and_every_result(folder):
    with kernel() as (manager, client, process):
        request = client.execute(FOREVER)
        wait_for(lambda: len(results_of_program(folder)) >= 6, CAP, "results", process)
        before = results_of_program(folder)
        manager.interrupt_kernel()
        assert_interrupted(client, request)
        assert not process.children(recursive=True), "not even a zombie"
        assert set(before) <= set(results_of_program(folder))
        assert set(pd.read_csv(folder / "program" / "trials.csv").status) == {"Stopped"}
        assert not any(part.name.startswith(".part") for part in (folder / "program").iterdir())


def killed(folder):
    """Kill a tuner without warning: when that was, and what could be read just before."""
    program = subprocess.Popen([sys.executable, "-c", FOREVER], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: len(results_of_program(folder)) >= 8, CAP, "results", program)
        before = results_of_program(folder)
        program.kill()
        when = time.time()
        program.wait()
        return when, before
    finally:
        for process in processes_of(folder):  # PythonBackend's trials outlive a killed tuner
            process.kill()


def reported_by_trials(folder):
    """Trial -> the times of its reports, as it wrote them itself."""
    logs = {int(path.parent.name): path.read_text() for path in (folder / "program").glob("[0-9]*/std.out")}
    return {
        trial_id: [json.loads(line.split("]: ")[1])["st_worker_timestamp"] for line in log.split("\n")[:-1]]
        for trial_id, log in logs.items()
    }


@pytest.mark.slow
def test_killing_the_tuner_loses_nothing_that_was_kept(folder):
    _, before = killed(folder)
    kept = results_of(folder, "program")
    assert set(before) <= set(kept.st_worker_timestamp)
    for trial_id, reported in reported_by_trials(folder).items():
        of_trial = kept[kept.trial_id == trial_id].st_worker_timestamp.tolist()
        assert of_trial == reported[: len(of_trial)], "the first ones, none left out, each once"
    assert runs.read_run(folder / "program").trials.status.tolist() == ["InProgress"] * 2


@pytest.mark.idle
@pytest.mark.slow
def test_killing_the_tuner_keeps_all_but_the_last_seconds(folder):
    when, _ = killed(folder)
    kept = set(results_of_program(folder))
    for reported in reported_by_trials(folder).values():
        assert {stamp for stamp in reported if stamp < when - 5} <= kept


# --- paths -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_spaces_and_korean_letters_in_the_path(tmp_path):
    """An interpreter and a folder of results below such a folder, as in a clone."""
    folder = tmp_path / "비동기 랜덤 탐색"
    (folder / "notebooks").mkdir(parents=True)
    (folder / ".venv").symlink_to(sys.prefix)
    result = subprocess.run(
        [folder / ".venv" / "bin" / "python", "-c", PROGRAM.replace("EVALUATIONS", "1")],
        cwd=folder / "notebooks",
        env=os.environ | {"SYNETUNE_FOLDER": str(folder / "experiments")},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert len(results_of_program(folder / "experiments")) > 1


# --- who ran when ----------------------------------------------------------------------------------------------------


def dated(name, number=1):
    """A run's folder, as Syne Tune calls it."""
    return f"{name}-2026-01-02-03-04-05-{number:.0f}"


def write_run(folder, trials, reports, n_workers=2, created=0.0):
    folder.mkdir(parents=True)
    metadata = {
        "metric_names": ["error"],
        "metric_mode": "min",
        "n_workers": n_workers,
        "st_tuner_creation_timestamp": created,
        "st_tuner_start_timestamp": 1000.0,
    }
    (folder / "metadata.json").write_text(json.dumps(metadata))
    pd.DataFrame(trials, columns=["trial_id", "status", "start", "end"]).to_csv(folder / "trials.csv", index=False)
    columns = ["trial_id", "st_worker_timestamp", "st_worker_time", "error"]
    pd.DataFrame(reports, columns=columns).to_csv(folder / "results.csv.zip", index=False)


def test_shares_of_a_run_made_by_hand(folder):
    """3 workers, 100 s. Busy: 40 + 20 (failed) + 45 (cut by the budget); the third worker never ran anything."""
    write_run(
        folder / dated("hand"),
        trials=[(0, "Completed", 1000, 1041), (1, "Failed", 1010, 1030), (2, "Stopped", 1055, 1100)],
        reports=[(0, 1020, 10, 0.5), (0, 1040, 30, 0.4), (2, 1080, 20, NAN), (2, 1090, 30, 0.6)],
        n_workers=3,
    )
    run = runs.find_run("hand")
    assert run.name == dated("hand") and run.metric == "error" and run.n_workers == 3
    assert run.wallclock_time == 100
    assert run.trials.worker.tolist() == [0, 1, 0]
    assert run.trials.end.tolist() == [40, 30, 100]
    assert run.trials.train_start.tolist()[::2] == [10, 60] and np.isnan(run.trials.train_start[1])
    assert run.shares().to_dict() == pytest.approx({"useful": 70 / 300, "start-up": 35 / 300, "idle": 195 / 300})
    assert run.incumbent().error.tolist() == [0.5, 0.4, 0.4]
    assert run.gaps().tolist() == [15]
    assert [run.seconds_of_first(n) for n in (1, 2, 3)] == [40, 40, 100]
    first = run.trials.set_index("trial_id")[:2]
    assert run.seconds_of_trials(2).to_dict() == (first.end - first.start).to_dict()
    with pytest.raises(ValueError, match="not all of the first 4"):
        run.seconds_of_first(4)


def test_a_run_that_mostly_starts_up(folder):
    """1 worker, 100 s: 50 s of start-up, 10 s of training, 30 s without a report, 10 s idle."""
    trials = [(0, "Completed", 1000, 1060), (1, "Failed", 1070, 1100)]
    write_run(folder / dated("hand"), trials, reports=[(0, 1060, 10, 0.5)], n_workers=1)
    assert runs.find_run("hand").shares().to_dict() == pytest.approx({"useful": 0.1, "start-up": 0.8, "idle": 0.1})


def test_reports_and_trials_come_in_the_order_of_time(folder):
    write_run(
        folder / dated("hand"),
        trials=[(1, "Completed", 1010, 1031), (0, "Completed", 1005, 1021)],
        reports=[(1, 1030, 10, 0.4), (0, 1020, 12, 0.6), (1, 1025, 5, 0.5)],
    )
    run = runs.find_run("hand")
    assert run.reports.time.tolist() == [20, 25, 30] and run.reports.error.tolist() == [0.6, 0.5, 0.4]
    assert run.trials.trial_id.tolist() == [0, 1] and run.trials.start.tolist() == [5, 10]
    assert run.trials.train_start.tolist() == [8, 20] and run.trials.end.tolist() == [20, 30]


def test_a_trial_gets_the_lowest_worker_that_is_free():
    """The last one starts before any is free, as the tuner saw it: on the one that is free next."""
    seen = [(0, 0, 30), (1, 0, 20), (2, 20, 25), (3, 28, 60), (4, 30, 50), (5, 45, 70)]
    trials = pd.DataFrame(seen, columns=["trial_id", "start", "end"]).assign(status="Stopped")
    reports = pd.DataFrame({"trial_id": [0], "time": [9.0], "st_worker_time": [1.0]})
    assert runs._who_ran_when(trials, reports, 2).worker.tolist() == [0, 1, 1, 1, 0, 0]


def test_gaps_are_between_trials_of_one_worker(folder):
    times = [(1000, 1010), (1001, 1020), (1013, 1030), (1024, 1025)]
    trials = [(trial_id, "Failed", *start_and_end) for trial_id, start_and_end in enumerate(times)]
    write_run(folder / dated("hand"), trials, reports=[(3, 1025, 0, 0.5)])
    assert runs.find_run("hand").gaps().to_dict() == {2: 3, 3: 4}


def test_a_run_that_was_killed_ends_with_the_last_thing_known(folder):
    write_run(folder / dated("hand"), trials=[(0, "InProgress", 1000, None)], reports=[(0, 1020, 10, 0.5)])
    run = runs.find_run("hand")
    assert run.wallclock_time == 20 and run.trials.end.tolist() == [20]
    write_run(
        folder / dated("late"), [(0, "InProgress", 1000, None), (1, "InProgress", 1033, None)], [(0, 1020, 10, 0.5)]
    )
    assert runs.find_run("late").wallclock_time == 33, "the start of a trial"


def test_the_newest_run_is_found_and_the_readers_own_comes_first(folder, capsys):
    for created in (3.0, 7.0, 5.0):
        write_run(folder / dated("hand", created), [(0, "Completed", 1000, 1001)], [(0, 1001, 1, 0.5)], created=created)
    assert runs.find_run("hand").name == dated("hand", 7) and capsys.readouterr().out == ""
    assert [*paths.RECORDINGS.rglob(runs.find_run("lenet-random-search").name)]
    assert capsys.readouterr().out == "No run lenet-random-search of your own yet: this is the book's recording.\n"
    write_run(folder / dated("lenet-random-search"), [(0, "Completed", 1000, 1001)], [(0, 1001, 1, 0.5)])
    assert runs.find_run("lenet-random-search").name == dated("lenet-random-search"), "older, but the reader's own"
    with pytest.raises(FileNotFoundError, match=r"No run nothing in .*run its notebook first"):
        runs.find_run("nothing")


def write_trivial_run(folder, created=0.0):
    write_run(folder, [(0, "Completed", 1000, 1001)], [(0, 1001, 1, 0.5)], created=created)


@pytest.mark.parametrize("name", ["mlp", "mlp(1) [x]", "übung.*", "a-2026-01-02", "l" * 80])
def test_a_name_is_no_pattern_and_no_beginning(folder, name):
    write_trivial_run(folder / name_from_base(name), created=1.0)
    for other in (f"{name[:30]}-with-dropout", "x" + name[:30]):
        write_trivial_run(folder / dated(other), created=2.0)
    assert runs.find_run(name).name.startswith(name[:30] + ("-20" if len(name) < 30 else ""))
    assert runs.find_run(name).trials.shape == (1, 6)


def test_a_name_may_be_a_path(folder):
    write_trivial_run(folder / dated("mlp"), created=2.0)
    write_trivial_run(folder / "wide" / dated("mlp", 7), created=1.0)
    assert runs.find_run("wide/mlp").name == dated("mlp", 7)
    with pytest.raises(FileNotFoundError, match="No run deep/mlp"):
        runs.find_run("deep/mlp")


def test_the_newest_run_counts_though_all_its_trials_failed_and_damaged_ones_do_not(folder):
    write_trivial_run(folder / dated("hand", 1), created=1.0)
    write_run(folder / dated("hand", 2), [(0, "Failed", 1000, 1001)], [], created=2.0)
    (folder / dated("hand", 2) / "results.csv.zip").unlink()
    for number, metadata in enumerate(["", "{", "[]", '{"st_tuner_creation_timestamp": 9}'], start=3):
        (folder / dated("hand", number)).mkdir()
        (folder / dated("hand", number) / "metadata.json").write_text(metadata)
    run = runs.find_run("hand")
    assert run.name == dated("hand", 2) and len(run.failed) == 1 and run.reports.empty and run.gaps().empty


def test_a_run_without_safe_results_is_told(folder):
    write_trivial_run(folder / dated("hand"))
    path = folder / dated("hand") / "metadata.json"
    path.write_text(path.read_text().replace("n_workers", "workers"))
    (folder / dated("hand") / "trials.csv").unlink()
    with pytest.raises(FileNotFoundError, match="SafeResults"):
        runs.find_run("hand")


def test_the_incumbent_of_a_run_that_maximizes_is_the_largest(folder):
    write_run(
        folder / dated("hand"),
        [(0, "Completed", 1000, 1004)],
        [(0, 1000 + i, i, e) for i, e in enumerate([0.5, 0.7, NAN, 0.6])],
    )
    path = folder / dated("hand") / "metadata.json"
    path.write_text(path.read_text().replace('"min"', '"max"'))
    assert runs.find_run("hand").incumbent().error.tolist() == [0.5, 0.7, 0.7]


def test_words_come_back_as_words(folder):
    write_trivial_run(folder / dated("hand"))
    path = folder / dated("hand") / "results.csv.zip"
    pd.read_csv(path).assign(config_norm="None", config_region="NA").to_csv(path, index=False)
    reports = runs.find_run("hand").reports
    assert reports.config_norm.tolist() == ["None"] and reports.config_region.tolist() == ["NA"]


# --- the same again --------------------------------------------------------------------------------------------------


def test_the_same_seed_suggests_the_same_configurations():
    def draw(seed):
        np.random.seed(seed)
        scheduler = RandomSearch(lenet_config_space, metrics=["validation_error"])
        return [scheduler.suggest().config for _ in range(20)]

    assert draw(0) == draw(0) != draw(1)


def lenet_on_few_images(learning_rate, batch_size, max_epochs):
    """The book's objective on few images. So soon LeNet errs on 0.9 of them, whatever its weights: what is reported in
    place of its error depends on every weight."""
    from d2l import torch as d2l

    from async_hpo import data
    from async_hpo.chapter import hpo_objective_lenet_synetune

    data.use({part: (X[:2000], y[:2000]) for part, (X, y) in data.arrays().items()})
    d2l.Classifier.accuracy = lambda self, Y_hat, Y, averaged=True: Y_hat.mean()
    hpo_objective_lenet_synetune(learning_rate, batch_size, max_epochs)


@pytest.mark.slow
def test_the_same_configuration_gives_the_same_curve_here_and_on_a_worker(monkeypatch):
    from d2l import torch as d2l

    from async_hpo import data

    config = {"learning_rate": 0.5, "batch_size": 32, "max_epochs": 2}
    tuner = Tuner(
        trial_backend=PythonBackend(tune_function=lenet_on_few_images, config_space=lenet_config_space),
        scheduler=RandomSearch(
            lenet_config_space | {"max_epochs": 2}, metrics=["validation_error"], points_to_evaluate=[config] * 2
        ),
        stop_criterion=search.Budget(CAP, n_trials=2),
        n_workers=2,
        sleep_time=0.1,
        callbacks=[callbacks.TrialGuard(), callbacks.SafeResults()],
        output_logger=progress.QuietLogger(),
    )
    tuner.run()
    results = load_experiment(tuner.name).results
    on_workers = [results[results.trial_id == trial_id].validation_error.tolist() for trial_id in range(2)]
    monkeypatch.setattr(data, "_given", None)  # as it is again when the test ends, and so is D2L's method
    monkeypatch.setattr(d2l.Classifier, "accuracy", d2l.Classifier.accuracy)
    here = search.run_here(lenet_on_few_images, config).validation_error.tolist()
    assert on_workers == [here] * 2 and len(set(here)) == 2
    assert search.run_here(lenet_on_few_images, config | {"batch_size": 33}).validation_error.tolist() != here


# --- budgets and claims ----------------------------------------------------------------------------------------------


def imported_anew(monkeypatch, **environment):
    """The module `paths` as a process with these environment variables has it; None: without that variable."""
    for name, value in environment.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    spec = importlib.util.spec_from_file_location("paths_anew", paths.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "value, idle, kept_in",
    [("1", None, "short"), ("1", "1", "claims"), ("0", None, "full"), ("", None, "full")],
)
def test_short_runs_are_kept_apart(monkeypatch, value, idle, kept_in):
    module = imported_anew(monkeypatch, SHORT_BUDGET=value, IDLE_MACHINE=idle, SYNETUNE_FOLDER=None)
    assert "SYNETUNE_FOLDER" not in os.environ, "importing sets nothing"
    assert module.experiments() == paths.ROOT / "experiments" / kept_in == Path(os.environ["SYNETUNE_FOLDER"])


def test_a_folder_of_ones_own_stays(monkeypatch, tmp_path):
    assert imported_anew(monkeypatch, SYNETUNE_FOLDER=str(tmp_path)).experiments() == tmp_path
    assert os.environ["SYNETUNE_FOLDER"] == str(tmp_path)


# --- one trial here --------------------------------------------------------------------------------------------------


def test_a_budget_ends_when_the_first_trials_have_ended():
    status = TuningStatus(metric_names=["error"])
    budget = search.Budget(n_trials=2)
    assert not budget(status)
    for trial_id, seen in ((1, "Completed"), (2, "Failed"), (0, "InProgress")):
        status.last_trial_status_seen[trial_id] = seen
        assert not budget(status), "other trials than the first two"
    status.last_trial_status_seen[0] = "Stopped"
    assert budget(status)
    assert not search.Budget(seconds=LONG)(status) and search.Budget(seconds=0)(status)


def test_run_here_collects_reports_and_passes_on_the_rest(capsys):
    def objective(max_epochs):
        from syne_tune import Reporter

        report = Reporter()
        for epoch in range(1, max_epochs + 1):
            print("still", end=" ")
            print("here")
            report(epoch=epoch, error=1 / epoch)

    stdout = sys.stdout
    reports = search.run_here(objective, {"max_epochs": 3})
    assert sys.stdout is stdout
    assert reports.epoch.tolist() == [1, 2, 3] and reports.error.tolist() == [1, 1 / 2, 1 / 3]
    assert reports.st_worker_time.is_monotonic_increasing
    out = capsys.readouterr().out
    assert out.count("still here\n") == 3 and "100%" in out and "epoch 3 of 3" in out and "tune-metric" not in out


def test_run_here_loses_no_last_line_and_asks_the_stream_itself(capsys):
    def objective(x):
        from syne_tune import Reporter

        Reporter()(epoch=1, error=x)
        print(sys.stdout.encoding == encoding, sys.stdout.isatty() == is_a_terminal)
        print("no end", end="")

    encoding, is_a_terminal = sys.stdout.encoding, sys.stdout.isatty()
    assert len(search.run_here(objective, {"x": 0.5})) == 1
    out = capsys.readouterr().out
    assert "True True\n" in out and "no end" in out and "None" not in out


# --- what a run may be called twice with -----------------------------------------------------------------------------


def test_the_record_of_a_run_stays_when_run_is_called_again():
    backend = Scripted([0.5, Status.completed], [0.4, Status.completed])
    tuner = play(backend)
    before = runs.find_run("test")
    time.sleep(0.2)
    tuner.run()
    after = runs.find_run("test")
    assert after.reports.time.tolist() == pytest.approx(before.reports.time.tolist(), abs=1e-6)
    assert after.trials.start.tolist() == pytest.approx(before.trials.start.tolist(), abs=1e-6)


def test_callbacks_of_one_tuner_serve_another():
    ours = [callbacks.TrialGuard(), callbacks.SafeResults()]
    play(Scripted([0.5, Status.completed]), own_callbacks=ours)
    play(Scripted([Status.completed], [0.7, Status.completed]), own_callbacks=ours)
    run = runs.find_run("test")
    assert run.reports.error.tolist() == [0.7] and statuses_of(run)[0] == "Failed"


@pytest.mark.parametrize("seconds", [None, 0, -1, "10", math.nan])
def test_a_bar_needs_a_budget(seconds):
    with pytest.raises(ValueError, match="a bar needs the budget in seconds"):
        progress.ProgressBar(seconds)
    assert search.book_options()["callbacks"], "without a budget there is no bar"


def test_an_interrupt_while_trials_are_stopped_waits_until_all_is_on_disk():
    class Slow(Scripted):
        def stop_all(self):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
            super().stop_all()
            stopped.append(True)

    stopped = []
    with pytest.raises(KeyboardInterrupt):
        play(Slow([0.5], [0.4]))
    assert stopped and set(statuses_of(runs.find_run("test")).values()) == {"Stopped"}


def test_a_field_of_the_trials_own_called_time_is_kept(folder):
    write_trivial_run(folder / dated("hand"))
    path = folder / dated("hand") / "results.csv.zip"
    pd.read_csv(path).assign(time=7.5).to_csv(path, index=False)
    reports = runs.find_run("hand").reports
    assert reports.reported_time.tolist() == [7.5] and reports.time.tolist() == [1.0]


def test_of_a_long_error_a_few_short_lines_are_shown(capsys):
    backend = Scripted([Status.failed], errors={0: ["w" * 99_999 + "\n"] * 100 + ["v" * 2_000_000]})
    play(backend)
    assert len(capsys.readouterr().out) < 10_000
