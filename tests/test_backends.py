"""The contract of our back-ends, with real processes. Objectives are quick: it is the back-end that is under test."""

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from helpers import alive, assert_interrupted, kernel, wait_for
from syne_tune import StoppingCriterion, Tuner
from syne_tune.config_space import choice, randint, uniform
from syne_tune.experiments import load_experiment
from syne_tune.optimizer.baselines import ASHA, RandomSearch
from syne_tune.optimizer.schedulers import PopulationBasedTraining

from async_hpo import ForkserverBackend, data, forkserver_backend, runs
from async_hpo.chapter import hpo_objective_lenet_synetune

pytestmark = pytest.mark.usefixtures("folder")

SPACE = {"x": uniform(0, 1)}


def backend_for(objective, space=SPACE, preload=(__name__,), **options):
    # This module: trials refer to what it defines, and would import it anew.
    return ForkserverBackend(objective, space, preload=preload, **options)


def run_tuner(objective, space=SPACE, seconds=60, max_trials=None, scheduler=None, name="test", **options):
    """Run a tuner until it has finished `max_trials` trials or `seconds` have passed."""
    backend = options.pop("trial_backend", None) or backend_for(objective, space)
    backend.warm_up()
    tuner = Tuner(
        trial_backend=backend,
        scheduler=scheduler or RandomSearch(space, metrics=["error"]),
        stop_criterion=StoppingCriterion(max_wallclock_time=seconds, max_num_trials_finished=max_trials),
        n_workers=options.pop("n_workers", 2),
        sleep_time=0,
        tuner_name=name,
        max_failures=1000,
        callbacks=[runs.TrialGuard(), runs.SafeResults()],
        output_logger=runs.QuietLogger(),
        **options,
    )
    tuner.run()
    return tuner


def report_epochs(x, n_epochs=3, pause=0.05):
    from syne_tune import Reporter

    report = Reporter()
    for epoch in range(1, n_epochs + 1):
        time.sleep(pause)
        report(epoch=epoch, error=x / epoch)


def assert_nothing_lost_or_doubled(run):
    """The reports of each trial are those of epochs 1, 2, 3, ..., each once and in order."""
    for _, reports in run.reports.groupby("trial_id"):
        assert list(reports.epoch) == list(range(1, len(reports) + 1))


def pids_of(tuner):
    return [process.pid for process in tuner.trial_backend.trial_subprocess.values()]


# --- one trial's fate is its own -------------------------------------------------------------------------------------


def test_a_run_is_quick_and_whole():
    tuner = run_tuner(lambda x: report_epochs(x), max_trials=10)
    run = runs.load_run("test")
    assert_nothing_lost_or_doubled(run)
    finished = run.trials[run.trials.status == "Completed"]
    assert len(finished) >= 10
    assert (run.reports.trial_id.value_counts()[finished.trial_id] == 3).all()
    assert not alive(pids_of(tuner))


def test_a_killed_trial_fails_alone_and_its_worker_goes_on():
    backend = backend_for(report_epochs, SPACE | {"n_epochs": 30, "pause": 0.1})
    backend.warm_up()

    def kill_the_first():
        wait_for(lambda: 0 in backend._logs and len(backend._logs[0].reports()) >= 3, 20, "reports")
        os.kill(backend.trial_subprocess[0].pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_the_first)
    killer.start()
    tuner = run_tuner(None, backend.config_space, max_trials=4, trial_backend=backend)
    killer.join()
    run = runs.load_run("test")
    assert_nothing_lost_or_doubled(run)
    status = run.trials.set_index("trial_id").status
    assert status[0] == "Failed" and (status == "Failed").sum() == 1
    assert (run.reports.trial_id == 0).sum() >= 3, "reports before the kill are kept"
    assert "killed by SIGKILL" in backend.stderr(0)[-1]
    assert not alive(pids_of(tuner))


def test_an_objective_that_raises(capsys):
    def objective(x):
        report_epochs(x, n_epochs=2)
        if x < 0.5:
            raise ValueError(f"no luck with {x:.3f}")

    np.random.seed(0)
    tuner = run_tuner(objective, max_trials=12)
    run = runs.load_run("test")
    x = {trial_id: trial.config["x"] for trial_id, trial in tuner.trial_backend._trial_dict.items()}
    failed = set(run.trials.trial_id[run.trials.status == "Failed"])
    ended = run.trials.trial_id[run.trials.status != "Stopped"]
    assert failed == {trial_id for trial_id in ended if x[trial_id] < 0.5} and failed
    assert (run.reports.trial_id.value_counts()[list(failed)] == 2).all(), "reports before the failure are kept"
    for trial_id in failed:
        assert tuner.trial_backend.stderr(trial_id)[-1] == f"ValueError: no luck with {x[trial_id]:.3f}\n"
    assert f"ValueError: no luck with {x[min(failed)]:.3f}" in capsys.readouterr().out


def test_an_objective_that_returns_without_a_report(capsys, folder):
    run_tuner(lambda x: None, seconds=2)
    assert "ended without a report" in capsys.readouterr().out
    assert set(pd.read_csv(next(folder.glob("*/trials.csv"))).status) <= {"Failed", "Stopped"}


def test_a_trial_that_exits_or_runs_out_of_memory():
    def objective(x):
        import resource

        report_epochs(x, n_epochs=1)
        if x < 0.5:
            sys.exit(3)
        resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
        bytearray(2**31)

    tuner = run_tuner(objective, max_trials=6)
    run = runs.load_run("test")
    assert set(run.trials.status) <= {"Failed", "Stopped"}
    last = ["".join(tuner.trial_backend.stderr(i)) for i in run.trials.trial_id[run.trials.status == "Failed"]]
    assert any("MemoryError" in text for text in last)


def test_100_000_lines_and_10_000_reports():
    def objective(x):
        from syne_tune import Reporter

        report = Reporter()
        for i in range(100_000):
            print("a line that is no report", i)
        for epoch in range(1, 10_001):
            report(epoch=epoch, error=x)

    tuner = run_tuner(objective, seconds=120, max_trials=2)
    run = runs.load_run("test")
    assert_nothing_lost_or_doubled(run)
    assert (run.reports.trial_id.value_counts()[[0, 1]] == 10_000).all()
    assert sum(line.startswith("a line") for line in tuner.trial_backend.stdout(0)) == 100_000
    assert load_experiment(tuner.name).results.st_worker_iter.max() == 9_999


def test_a_trial_that_starts_a_child_and_hangs(folder):
    def objective(x, pids):
        from syne_tune import Reporter

        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=x < 0.5)
        with open(pids, "a") as file:
            file.write(f"{child.pid}\n")
        Reporter()(epoch=1, error=x)
        time.sleep(600)

    pids = folder.parent / "pids"
    tuner = run_tuner(objective, SPACE | {"pids": str(pids)}, seconds=3)
    started = [int(line) for line in pids.read_text().split()]
    assert len(started) == 2
    wait_for(lambda: not alive(started + pids_of(tuner)), 10, "the end of all processes")


def test_a_child_left_behind_ends_with_its_trial(folder):
    def objective(x, pids):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        with open(pids, "a") as file:
            file.write(f"{child.pid}\n")
        report_epochs(x, n_epochs=1)

    pids = folder.parent / "pids"
    run_tuner(objective, SPACE | {"pids": str(pids)}, max_trials=3)
    wait_for(lambda: not alive([int(line) for line in pids.read_text().split()]), 10, "the end of all processes")


def test_the_server_is_killed():
    backend = backend_for(report_epochs, SPACE | {"n_epochs": 10, "pause": 0.1}, preload=["json", __name__])
    backend.warm_up()
    server = forkserver_backend._server(("json", __name__)).running()

    def kill_the_server():
        wait_for(lambda: 0 in backend._logs and len(backend._logs[0].reports()) >= 2, 20, "reports")
        os.kill(server, signal.SIGKILL)

    killer = threading.Thread(target=kill_the_server)
    killer.start()
    tuner = run_tuner(None, backend.config_space, max_trials=6, trial_backend=backend)
    killer.join()
    run = runs.load_run("test")
    assert_nothing_lost_or_doubled(run)
    assert (run.trials.status == "Completed").sum() >= 4
    assert "server process was killed" in backend.stderr(0)[-1]
    assert not alive(pids_of(tuner))


# --- the driver's end ------------------------------------------------------------------------------------------------

PROGRAM = """
import sys, time
from syne_tune import StoppingCriterion, Tuner
from syne_tune.config_space import uniform
from syne_tune.optimizer.baselines import RandomSearch
from async_hpo import ForkserverBackend, runs

def objective(x):  # defined in the main script, which is not run again in a trial
    import os, time
    from syne_tune import Reporter
    report = Reporter()
    for epoch in range(1, 1000):
        report(epoch=epoch, error=x, pid=os.getpid())
        time.sleep(0.1)

space = {"x": uniform(0, 1)}
backend = ForkserverBackend(objective, space, preload=[])
backend.warm_up()
tuner = Tuner(
    trial_backend=backend, scheduler=RandomSearch(space, metrics=["error"]),
    stop_criterion=StoppingCriterion(max_wallclock_time=float(sys.argv[2])), n_workers=2, sleep_time=0,
    tuner_name=sys.argv[1], suffix_tuner_name=False, max_failures=1000,
    callbacks=[runs.TrialGuard(), runs.SafeResults()], output_logger=runs.QuietLogger(),
)
print("started", flush=True)
tuner.run()
"""


def start_program(folder, name, seconds):
    script = folder.parent / f"{name}.py"
    script.write_text(PROGRAM)
    return subprocess.Popen(
        [sys.executable, script, name, str(seconds)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def results_of(folder, name):
    try:
        return load_experiment(name, local_path=str(folder)).results
    except Exception:
        return None


def wait_for_results(folder, name):
    def enough():
        results = results_of(folder, name)
        return results is not None and len(results) >= 10 and results.trial_id.nunique() == 2

    wait_for(enough, 60, "results")
    return results_of(folder, name)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_trials_end_with_the_driver(folder, how):
    program = start_program(folder, "program", 300)
    results = wait_for_results(folder, "program")
    children = [child.pid for child in psutil.Process(program.pid).children(recursive=True)]
    trials = [int(pid) for pid in results.pid.unique()]
    assert len(alive(trials)) == 2
    program.send_signal(how)
    _, err = program.communicate(timeout=20)
    wait_for(lambda: not alive(trials + children), 10, "the end of all processes")
    assert len(results_of(folder, "program")) >= len(results)
    assert "EOFError" not in err and "BrokenPipe" not in err
    if how == signal.SIGINT:
        assert err.splitlines()[-1] == "KeyboardInterrupt"


def test_interrupting_a_notebook(folder):
    with kernel() as (manager, client, process):
        request = client.execute(f"import sys; sys.argv = ['', 'program', '300']\n{PROGRAM}")
        results = wait_for_results(folder, "program")
        manager.interrupt_kernel()
        assert_interrupted(client, request)
        wait_for(lambda: not alive([int(pid) for pid in results.pid.unique()]), 10, "the end of the trials")
        assert len(results_of(folder, "program")) >= len(results)
        started = [child.pid for child in process.children(recursive=True)]  # the server waits for the next run
    wait_for(lambda: not alive(started), 10, "the end of the server, with the kernel's")


def test_two_tuners_at_once(folder):
    programs = [start_program(folder, f"{name}-1", 5) for name in ("one", "two")]
    for program in programs:
        _, err = program.communicate(timeout=60)
        assert program.returncode == 0, err
    pids = []
    for name in ("one", "two"):
        run = runs.load_run(name)
        assert_nothing_lost_or_doubled(run)
        assert run.reports.trial_id.nunique() == 2
        pids.append(set(run.reports.pid))
    assert not pids[0] & pids[1]


# --- no shared state -------------------------------------------------------------------------------------------------


def curves(backend, configs, spoil=None):
    """The learning curves of trials that run one after the other."""
    found = []
    for config in configs:
        trial_id = backend.start_trial(config).trial_id
        backend.trial_subprocess[trial_id].wait()
        _, results = backend.fetch_status_results([trial_id])
        assert backend.stderr(trial_id) == []
        found.append([result["validation_error"] for _, result in results])
    return found


def test_the_order_of_trials_changes_no_learning_curve():
    space = {"learning_rate": uniform(0.01, 1), "batch_size": randint(32, 256), "max_epochs": 1}
    configs = [{"learning_rate": rate, "batch_size": 256, "max_epochs": 1} for rate in (0.1, 0.5)]
    backend = ForkserverBackend(hpo_objective_lenet_synetune, space)
    backend.warm_up()
    there, back = curves(backend, configs), curves(backend, configs[::-1])
    assert there == back[::-1] and there[0] != there[1]
    # ... and it is the curve of a run in a process of its own.
    here = runs.run_here(hpo_objective_lenet_synetune, configs[0])
    assert list(here.validation_error) == there[0]


def test_a_trial_cannot_spoil_the_next_one():
    def objective(x):
        import json
        import os

        from syne_tune import Reporter

        Reporter()(epoch=1, error=float("SPOILT" in os.environ or hasattr(json, "spoilt")), draw=np.random.rand())
        os.environ["SPOILT"] = json.spoilt = "yes"

    run_tuner(objective, max_trials=6)
    run = runs.load_run("test")
    assert (run.reports.error == 0).all()
    assert run.reports.draw.nunique() == len(run.reports), "forks must not repeat each other's random numbers"


def test_images_are_shared_and_not_copied():
    def objective(x):
        import psutil
        from syne_tune import Reporter

        from async_hpo.data import load

        before = psutil.Process().memory_full_info().uss
        images = sum(len(X) for X, _ in load().values())
        Reporter()(epoch=1, error=x, images=images, own=(psutil.Process().memory_full_info().uss - before) / 2**20)

    run_tuner(objective, max_trials=2, trial_backend=backend_for(objective, preload=[__name__, "async_hpo.data:load"]))
    reports = runs.load_run("test").reports
    assert (reports.images == 70_000).all()
    assert (reports.own < 20).all(), "MB; the images have 220"
    assert data.load  # the driver's own copy is another one


def test_the_allocator_is_set_and_the_drivers_environment_is_not(monkeypatch):
    monkeypatch.setenv("MINE", "1")

    def objective(x):
        from syne_tune import Reporter

        with open("/proc/self/environ") as file:  # the environment that the process started with
            at_start = file.read()
        Reporter()(epoch=1, error=x, set=all(name in at_start for name in names), mine=os.environ.get("MINE"))

    names = list(forkserver_backend.ALLOCATOR)
    run_tuner(objective, max_trials=2)
    reports = runs.load_run("test").reports
    assert reports.set.all() and (reports.mine.astype(int) == 1).all()
    assert not set(names) & set(os.environ)


# --- Syne Tune's contract --------------------------------------------------------------------------------------------


def test_synchronous_scheduling_waits_for_the_batch():
    space = {"pause": uniform(0.05, 0.4), "x": 1.0, "n_epochs": 1}
    run_tuner(report_epochs, space, max_trials=8, asynchronous_scheduling=False)
    trials = runs.load_run("test").trials
    for first in range(2, len(trials) - 1, 2):
        batch = trials[trials.trial_id.isin([first, first + 1])]
        before = trials[trials.trial_id.isin([first - 2, first - 1])]
        assert batch.start.min() >= before.end.max()


def test_asha_stops_trials():
    space = SPACE | {"n_epochs": 9, "pause": 0.03}
    scheduler = ASHA(space, metric="error", time_attr="epoch", max_t=9, grace_period=1, reduction_factor=3)
    run_tuner(report_epochs, space, max_trials=20, scheduler=scheduler)
    run = runs.load_run("test")
    assert_nothing_lost_or_doubled(run)
    epochs = run.reports.groupby("trial_id").epoch.max()
    stopped = run.trials.trial_id[run.trials.status == "Stopped"]
    assert (epochs.reindex(stopped) < 9).sum() >= 3 and epochs.max() == 9


def test_population_based_training_with_checkpoints():
    def objective(x, n_epochs, st_checkpoint_dir):
        from syne_tune import Reporter

        os.makedirs(st_checkpoint_dir, exist_ok=True)
        file, report = Path(st_checkpoint_dir, "epoch"), Reporter()
        resumed = epoch = int(file.read_text()) if file.exists() else 0
        while epoch < n_epochs:
            epoch += 1
            time.sleep(0.05)
            file.write_text(str(epoch))
            report(epoch=epoch, error=x, resumed=resumed)

    space = SPACE | {"n_epochs": 12}
    scheduler = PopulationBasedTraining(
        space, metric="error", time_attr="epoch", max_t=12, population_size=4, perturbation_interval=2, random_seed=0
    )
    run_tuner(objective, space, max_trials=8, scheduler=scheduler)
    run = runs.load_run("test")
    assert (run.reports.resumed > 0).any(), "some trial goes on from another one's checkpoint"
    for _, reports in run.reports.groupby("trial_id"):
        epochs = reports.epoch.tolist()
        assert epochs == list(range(epochs[0], epochs[0] + len(epochs)))


def test_pause_and_resume():
    backend = backend_for(report_epochs, SPACE | {"n_epochs": 5, "pause": 0.2})
    trial = backend.start_trial({"x": 0.5, "n_epochs": 5, "pause": 0.2})
    wait_for(lambda: backend.fetch_status_results([0])[1], 10, "a report")
    backend.pause_trial(trial.trial_id)
    assert backend.busy_trial_ids() == [] and not alive([backend.trial_subprocess[0].pid])
    backend.resume_trial(trial.trial_id)
    assert backend.busy_trial_ids() == [(0, "InProgress")]
    assert backend.trial_subprocess[0].wait(20) == 0
    status, _ = backend.fetch_status_results([0])
    assert status[0][1] == "Completed"


def test_save_and_load():
    tuner = run_tuner(report_epochs, max_trials=4)
    loaded = Tuner.load(str(tuner.tuner_path))
    assert loaded.tuning_status.num_trials_finished >= 4
    loaded.stop_criterion = StoppingCriterion(max_num_trials_finished=8, max_wallclock_time=30)
    loaded.run()
    assert loaded.tuning_status.num_trials_completed >= 7


def test_arguments_arrive_as_python_values(tmp_path):
    def objective(n, name, x):
        from syne_tune import Reporter

        Reporter()(epoch=1, error=0.0, types=f"{type(n).__name__} {type(name).__name__} {type(x).__name__}")

    space = {"n": randint(1, 5), "name": choice(["two words", "ü"]), "x": uniform(0, 1)}
    run_tuner(objective, space, max_trials=2)
    assert set(runs.load_run("test").reports.types) == {"int str float"}


# --- bad input -------------------------------------------------------------------------------------------------------


def test_an_objective_that_cannot_be_pickled():
    lock = threading.Lock()

    def objective(x):
        lock.acquire()

    with pytest.raises(ValueError, match=r"objective can't be sent to another process \(cannot pickle"):
        backend_for(objective)


def test_arguments_and_configuration_space_must_match():
    with pytest.raises(ValueError, match="report_epochs needs 'x', which the configuration space lacks"):
        backend_for(report_epochs, {"pause": 0.1})
    with pytest.raises(ValueError, match="configuration space has 'y', which report_epochs does not take"):
        backend_for(report_epochs, SPACE | {"y": 1})
    with pytest.raises(ValueError, match=r"such as \['json'\], not a string"):
        backend_for(report_epochs, preload="json")


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "No module named 'NAME'"), ("raise ValueError('not today')", "ValueError: not today")],
)
def test_a_preload_that_fails_is_told_at_once_and_can_be_mended(tmp_path, monkeypatch, text, message):
    monkeypatch.syspath_prepend(tmp_path)
    name = f"broken_module_{len(message)}"  # its server stays
    message = message.replace("NAME", name)
    module = tmp_path / f"{name}.py"
    if text:
        module.write_text(text)
    backend = backend_for(report_epochs, preload=[name, __name__])
    start = time.monotonic()
    with pytest.raises(RuntimeError, match=f"No trial of report_epochs can start: .*{message}"):
        backend.warm_up()
    assert time.monotonic() - start < 10
    with pytest.raises(RuntimeError, match=message):
        backend.start_trial({"x": 0.5})
    module.write_text("")
    backend.warm_up()


def test_more_workers_than_cores_is_allowed_with_one_warning(monkeypatch):
    monkeypatch.setattr(forkserver_backend.joblib, "cpu_count", lambda: 2)
    with pytest.warns(UserWarning, match="3 workers share 2 cores") as caught:
        run_tuner(report_epochs, max_trials=6, n_workers=3)
    assert sum("workers share" in str(warning.message) for warning in caught) == 1


def test_without_fork_trials_are_fresh_processes(monkeypatch):
    def objective(x):
        from syne_tune import Reporter

        Reporter()(epoch=1, error=x)

    monkeypatch.setattr(forkserver_backend.sys, "platform", "darwin")
    monkeypatch.setattr(forkserver_backend, "_servers", {})
    with pytest.warns(UserWarning, match="missing or unsafe on darwin") as caught:
        run_tuner(objective, max_trials=2, trial_backend=backend_for(objective, preload=()))
    assert sum("missing or unsafe" in str(warning.message) for warning in caught) == 1
    assert_nothing_lost_or_doubled(runs.load_run("test"))


def test_each_trial_gets_a_gpu_of_its_own():
    def objective(x):
        from syne_tune import Reporter

        Reporter()(epoch=1, error=x, gpu=int(os.environ["CUDA_VISIBLE_DEVICES"]))
        time.sleep(0.2)

    backend = backend_for(objective)
    backend._prepare_for_schedule(num_gpus=2)
    run_tuner(objective, max_trials=4, trial_backend=backend)
    reports = runs.load_run("test").reports
    assert set(reports.gpu) == {0, 1} and reports.gpu.iloc[0] != reports.gpu.iloc[1]
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_many_trials_leave_no_open_files():
    def objective(x):
        from syne_tune import Reporter

        Reporter()(epoch=1, error=x)

    backend = backend_for(objective)
    backend.warm_up()
    before = psutil.Process().num_fds()
    run_tuner(objective, max_trials=100, trial_backend=backend)
    assert psutil.Process().num_fds() < before + 20


def test_a_warm_trial_starts_at_once():
    """The gap from a trial's end to the next one's first report."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run_tuner(report_epochs, SPACE | {"n_epochs": 2, "pause": 0.2}, seconds=8)
    run = runs.load_run("test")
    first = run.reports.groupby("trial_id").time.min() - 0.2  # the pause before it
    gaps = []
    for _, trials in run.trials.groupby("worker"):
        trials = trials[trials.trial_id.isin(first.index)]
        gaps += list(first[trials.trial_id].values[1:] - trials.end.values[:-1])
    assert len(gaps) >= 20 and np.median(gaps) < 0.1
