"""The contract of our back-ends, with real processes. Objectives are quick: it is the back-end that is under test."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import psutil
import pytest
from backend_helpers import (
    LONG,
    SPACE,
    Heard,
    Run,
    alive,
    assert_nothing_lost_or_doubled,
    make_numbers,
    program,
    report_and_wait,
    report_epochs,
    run_tuner,
    start_program,
    wait_for,
    wait_for_end,
    wait_for_results,
    wait_until_ended,
)
from syne_tune import StoppingCriterion, Tuner
from syne_tune.config_space import choice, randint, uniform
from syne_tune.optimizer.baselines import ASHA, RandomSearch
from syne_tune_workers import forkserver_backend, function_backend

pytestmark = pytest.mark.usefixtures("folder")


def test_a_run_is_whole_and_without_warnings(backend_for, monkeypatch):
    monkeypatch.setattr(forkserver_backend.joblib, "cpu_count", lambda: 2)  # with fewer it does warn
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = Run(run_tuner(backend_for(lambda x: report_epochs(x)), max_trials=10))
    assert_nothing_lost_or_doubled(run.reports)
    assert len(run.finished) >= 10
    assert (run.reports.trial_id.value_counts()[run.finished.trial_id] == 3).all()


def test_an_objective_that_raises(backend_for):
    def objective(x):
        report_epochs(x, n_epochs=2)
        if x < 0.5:
            raise ValueError(f"no luck with {x:.3f}")

    np.random.seed(0)
    tuner = run_tuner(backend_for(objective), max_trials=12)
    run = Run(tuner)
    x = {trial_id: trial.config["x"] for trial_id, trial in tuner.trial_backend._trial_dict.items()}
    failed = set(run.failed.trial_id)
    ended = run.trials.trial_id[run.trials.status != "Stopped"]
    assert failed == {trial_id for trial_id in ended if x[trial_id] < 0.5} and failed
    assert (run.reports.trial_id.value_counts()[list(failed)] == 2).all(), "reports before the failure are kept"
    for trial_id in failed:
        assert tuner.trial_backend.stderr(trial_id)[-1] == f"ValueError: no luck with {x[trial_id]:.3f}\n"


def test_an_objective_that_returns_without_a_report(backend_for):
    tuner = run_tuner(backend_for(lambda x: None), max_trials=2)
    run = Run(tuner)
    assert len(run.failed) >= 3 and set(run.trials.status) <= {"Failed", "Stopped"}
    assert tuner.trial_backend.stderr(0) == [function_backend.SILENT + "\n"]


def test_a_trial_that_exits_or_runs_out_of_memory(backend_for):
    def objective(x):
        report_epochs(x, n_epochs=1)
        if x < 0.5:
            sys.exit(3)
        bytearray(2**50)

    first = [{"x": 0.25}, {"x": 0.75}]
    scheduler = RandomSearch(SPACE, metrics=["error"], points_to_evaluate=first)
    tuner = run_tuner(backend_for(objective), max_trials=3, scheduler=scheduler)
    run, backend = Run(tuner), tuner.trial_backend
    assert len(run.failed) >= 4 and set(run.trials.status) <= {"Failed", "Stopped"}
    assert (run.reports.trial_id.value_counts()[[0, 1]] == 1).all()
    assert "MemoryError" not in "".join(backend.stderr(0)) and "MemoryError" in backend.stderr(1)[-1]


def test_a_child_left_behind_ends_with_its_trial(backend_for, folder):
    def objective(x, pids):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        with open(pids, "a") as file:
            file.write(f"{child.pid}\n")
        report_epochs(x, n_epochs=1)

    pids = folder.parent / "pids"
    run_tuner(backend_for(objective, SPACE | {"pids": str(pids)}), max_trials=3)
    started = [int(line) for line in pids.read_text().split()]
    assert len(started) >= 4
    wait_until_ended(started)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_trials_end_with_the_driver(name_of_backend, folder, how):
    process = start_program(folder, "program", program(name_of_backend, folder))
    results = wait_for_results(folder, "program", process)
    children = psutil.Process(process.pid).children(recursive=True)
    if how == signal.SIGKILL:  # Ray's own agents look for their dead node for another minute
        children = [child for child in children if "Agent" not in child.cmdline()[0]]
    children = [child.pid for child in children]
    trials = [int(pid) for pid in results.pid.unique()]
    assert len(alive(trials)) == 2
    process.send_signal(how)
    _, err = process.communicate(timeout=LONG)
    wait_until_ended(trials + children)
    assert "EOFError" not in err and "BrokenPipe" not in err
    if how == signal.SIGINT:
        assert err.splitlines()[-1] == "KeyboardInterrupt"


@pytest.mark.slow
def test_what_trials_share_is_not_copied(backend_for):
    def objective(x):
        import backend_helpers
        from syne_tune import Reporter

        def own():  # a copy would be private and no file's; what is only read is the server's, or a file's
            lines = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8").splitlines()
            kinds = ("Private_Dirty:", "Anonymous:")
            return np.array([int(line.split()[1]) / 1024 for line in lines if line.startswith(kinds)])

        before = own()
        total = backend_helpers.numbers.sum()
        Reporter()(epoch=1, error=x, total=total, own=min(own() - before))

    share = [("backend_helpers:make_numbers", "backend_helpers:take_numbers")]
    reports = Run(run_tuner(backend_for(objective, share=share), max_trials=2)).reports
    assert (reports.total == len(make_numbers())).all()
    assert (reports.own < 20).all(), "MB; the numbers have 200"


@pytest.mark.slow
def test_synchronous_scheduling_waits_for_the_batch(backend_for):
    space = {"pause": uniform(0.05, 0.4), "x": 1.0, "n_epochs": 1}
    trials = Run(run_tuner(backend_for(report_epochs, space), max_trials=8, asynchronous_scheduling=False)).trials
    for first in range(2, len(trials) - 1, 2):
        batch = trials[trials.trial_id.isin([first, first + 1])]
        before = trials[trials.trial_id.isin([first - 2, first - 1])]
        assert batch.start.min() >= before.end.max()


@pytest.mark.slow
def test_asha_stops_trials(backend_for, folder):
    def objective(x, heard):
        from syne_tune import Reporter

        report = Reporter()
        for epoch in range(1, 10):
            report_and_wait(report, heard, epoch=epoch, error=x / epoch)

    space = SPACE | {"heard": str(folder.parent / "heard")}
    scheduler = ASHA(space, metric="error", time_attr="epoch", max_t=9, grace_period=1, reduction_factor=3)
    heard = Heard(space["heard"])
    run = Run(run_tuner(backend_for(objective, space), max_trials=20, scheduler=scheduler, callbacks=[heard]))
    assert_nothing_lost_or_doubled(run.reports)
    epochs = run.reports.groupby("trial_id").epoch.max()
    stopped = run.trials.trial_id[run.trials.status == "Stopped"]
    assert (epochs.reindex(stopped) < 9).sum() >= 3 and epochs.max() == 9


@pytest.mark.slow
def test_save_and_load(backend_for):
    tuner = run_tuner(backend_for(report_epochs), max_trials=4)
    loaded = Tuner.load(str(tuner.tuner_path))
    assert loaded.tuning_status.num_trials_finished >= 4
    loaded.stop_criterion = StoppingCriterion(max_num_trials_finished=8, max_wallclock_time=LONG)
    loaded.run()
    assert loaded.tuning_status.num_trials_completed >= 7


def test_a_trial_that_another_driver_began_starts_again(backend_for, tmp_path):
    for number in ("0", "7"):
        (tmp_path / number).mkdir()
        (tmp_path / number / "std.out").write_text("from before\n")
    backend = backend_for(report_epochs)
    backend.set_path(str(tmp_path))
    backend.take_over({0: {"x": 0.5}}, reported=set())
    assert backend.resume_trial(0).config == {"x": 0.5}
    status, reports = wait_for_end(backend, 0)
    assert status == "Completed" and [report["epoch"] for report in reports] == [1, 2, 3]
    assert (tmp_path / "0" / "std.out.before").read_text() == "from before\n"
    assert "from before\n" not in backend.stdout(0)
    assert not (tmp_path / "7").exists(), "nobody knows of that trial"
    assert backend.start_trial({"x": 0.25}).trial_id == 1


def count_with_checkpoints(x, file, st_checkpoint_dir):
    from syne_tune import Reporter

    kept = Path(st_checkpoint_dir, "epoch")
    kept.parent.mkdir(parents=True, exist_ok=True)
    report = Reporter()
    for epoch in itertools.count(int(kept.read_text()) + 1 if kept.exists() else 1):
        kept.with_name("part").write_text(str(epoch))
        kept.with_name("part").replace(kept)  # in one step: it may be killed at any moment
        report(epoch=epoch, error=x, pid=os.getpid())
        if Path(file).exists():
            return
        time.sleep(0.05)


def test_a_trial_is_paused_and_goes_on_from_its_checkpoint_or_anothers(backend_for, go):
    space = SPACE | {"file": str(go)}
    backend = backend_for(count_with_checkpoints, space)
    found = {0: [], 1: []}

    def wait_until(trial_id, epoch):
        def has_come():
            for n, report in backend.fetch_status_results(backend.trial_ids)[1]:
                found[n].append(report["epoch"])
            return found[trial_id] and found[trial_id][-1] >= epoch

        wait_for(has_come, LONG, "reports")

    backend.start_trial({"x": 0.5, "file": str(go)})
    wait_until(0, 3)
    backend.pause_trial(0)
    backend.resume_trial(0)
    assert (0, "InProgress") in backend.busy_trial_ids()
    wait_until(0, found[0][-1] + 5)
    copied = found[0][-1]
    backend.start_trial({"x": 0.5, "file": str(go)}, checkpoint_trial_id=0)
    wait_until(1, 1)
    go.touch()
    for trial_id, first in ((0, 1), (1, copied)):
        status, reports = wait_for_end(backend, trial_id)
        epochs = found[trial_id] + [report["epoch"] for report in reports]
        assert status == "Completed" and epochs == sorted(set(epochs)) and epochs[0] >= first


def test_arguments_arrive_as_python_values(backend_for, tmp_path):
    def objective(n, name, x):
        from syne_tune import Reporter

        Reporter()(epoch=1, error=0.0, types=f"{type(n).__name__} {type(name).__name__} {type(x).__name__}")

    space = {"n": randint(1, 5), "name": choice(["two words", "ü"]), "x": uniform(0, 1)}
    run = Run(run_tuner(backend_for(objective, space), max_trials=2))
    assert set(run.reports.types) == {"int str float"}


def test_an_objective_that_cannot_be_pickled(backend_for):
    lock = threading.Lock()

    def objective(x):
        lock.acquire()

    with pytest.raises(ValueError, match=r"objective can't be sent to another process \(cannot pickle"):
        backend_for(objective)


def test_arguments_and_configuration_space_must_match(backend_for):
    with pytest.raises(ValueError, match="report_epochs needs 'x', which the configuration space lacks"):
        backend_for(report_epochs, {"pause": 0.1})
    with pytest.raises(ValueError, match="configuration space has 'y', which report_epochs does not take"):
        backend_for(report_epochs, SPACE | {"y": 1})
    with pytest.raises(ValueError, match=r"such as \['json'\], not a string"):
        backend_for(report_epochs, preload="json")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "No module named 'NAME'"), ("raise ValueError('not today')", "ValueError: not today")],
)
def test_a_preload_that_fails_is_told_and_can_be_mended(backend_for, tmp_path, monkeypatch, text, message):
    monkeypatch.syspath_prepend(tmp_path)
    name = f"broken_module_{len(message)}"  # its server stays
    message = message.replace("NAME", name)
    module = tmp_path / f"{name}.py"
    if text:
        module.write_text(text)
    backend = backend_for(report_epochs, preload=[name, __name__])
    with pytest.raises(RuntimeError, match=f"No trial of report_epochs can start.*: .*{message}"):
        backend.warm_up()
    with pytest.raises(RuntimeError, match=message):
        backend.start_trial({"x": 0.5})
    module.write_text("")
    backend.warm_up()


@pytest.mark.slow
def test_many_trials_leave_no_open_files(backend_for):
    def objective(x):
        from syne_tune import Reporter

        Reporter()(epoch=1, error=x)

    backend = backend_for(objective)
    backend.warm_up()
    before = psutil.Process().num_fds()
    run_tuner(backend, max_trials=60)
    assert psutil.Process().num_fds() < before + 20


def print_200_megabytes(x, end):
    from syne_tune import Reporter

    report = Reporter()
    for _ in range(200):
        sys.stdout.write("\r" + "x" * 1_000_000 + end)
    print()
    report(epoch=1, error=x)


@pytest.mark.slow
@pytest.mark.parametrize("end", ["\n", " "])
def test_much_printed_costs_the_driver_no_memory(backend_for, end):
    backend = backend_for(print_200_megabytes, SPACE | {"end": end})
    backend.warm_up()
    tracemalloc.start()  # not the process's own peak, which an earlier test may have set
    try:
        status, reports = wait_for_end(backend, backend.start_trial({"x": 0.5, "end": end}).trial_id)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()  # it makes all that follows slow
    assert status == "Completed" and len(reports) == 1
    assert peak / 2**20 < 20, "MB, of 200"


# --- claims about speed ----------------------------------------------------------------------------------------------


@pytest.mark.idle
def test_a_warm_trial_starts_at_once(backend_for):
    """The gap from a trial's end to the next one's first report, without the pause before it."""
    reports = Run(run_tuner(backend_for(report_epochs, SPACE | {"n_epochs": 2, "pause": 0.2}), max_trials=30)).reports
    times = reports.groupby("trial_id").st_worker_timestamp
    starts, ends = np.sort(times.min() - 0.2), np.sort(times.max())
    gaps = starts[2:] - ends[:-2]  # two trials start at once; then each end makes room for the next
    assert len(gaps) >= 20 and np.median(gaps) < 0.1


@pytest.mark.idle
def test_much_printed_costs_the_driver_little_time(backend_for):
    backend = backend_for(print_200_megabytes, SPACE | {"end": "\n"})
    backend.warm_up()
    before = time.process_time()
    status, _ = wait_for_end(backend, backend.start_trial({"x": 0.5, "end": "\n"}).trial_id)
    assert status == "Completed" and time.process_time() - before < 1, "s of CPU, for 200 MB"


@pytest.mark.idle
def test_a_report_costs_the_same_however_many_came_before(backend_for):
    def milliseconds_of_the_driver(n_epochs, n_trials):
        """Of CPU time, a report."""
        backend = backend_for(report_epochs, SPACE | {"n_epochs": n_epochs, "pause": 0.0})
        backend.warm_up()
        before = time.process_time()
        rare = {"results_update_interval": LONG, "save_tuner": False}  # Syne Tune writes all reports each time
        tuner = run_tuner(backend, max_trials=n_trials - 1, n_workers=min(2, n_trials), sleep_time=0.1, **rare)
        spent = time.process_time() - before
        return 1000 * spent / len(Run(tuner).reports)

    costs = [milliseconds_of_the_driver(*numbers) for numbers in ((2_000, 1), (10_000, 1), (1_000, 100))]
    print("ms a report:", *(f"{cost:.3f}" for cost in costs))
    assert max(costs) < 1.5 * costs[0]
