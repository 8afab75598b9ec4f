"""What is ForkserverBackend's own, beside the contract in test_backends.py."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import (
    SPACE,
    alive,
    assert_failed_alone,
    assert_nothing_lost_or_doubled,
    program,
    report_epochs,
    run_tuner,
    start_program,
    wait_for,
)
from syne_tune.config_space import randint, uniform
from syne_tune.optimizer.schedulers import PopulationBasedTraining

from async_hpo import ForkserverBackend, forkserver_backend, runs
from async_hpo.chapter import hpo_objective_lenet_synetune

pytestmark = pytest.mark.usefixtures("folder")


def backend_for(objective, space=SPACE, preload=(__name__,)):
    # This module: trials refer to what it defines, and would import it anew.
    return ForkserverBackend(objective, space, preload=preload)


def pids_of(tuner):
    return [process.pid for process in tuner.trial_backend.trial_subprocess.values()]


# --- one trial's fate is its own -------------------------------------------------------------------------------------


def test_a_killed_trial_fails_alone_and_its_worker_goes_on():
    backend = backend_for(report_epochs, SPACE | {"n_epochs": 30, "pause": 0.1})
    backend.warm_up()

    def kill_the_first():
        wait_for(lambda: 0 in backend._logs and len(backend._logs[0].reports()) >= 3, 20, "reports")
        os.kill(backend.trial_subprocess[0].pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_the_first)
    killer.start()
    tuner = run_tuner(backend, max_trials=4)
    killer.join()
    assert_failed_alone(runs.load_run("test"), 0)
    assert "killed by SIGKILL" in backend.stderr(0)[-1]
    assert not alive(pids_of(tuner))


def test_a_trial_that_starts_a_child_and_hangs(folder):
    def objective(x, pids):
        from syne_tune import Reporter

        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=x < 0.5)
        with open(pids, "a") as file:
            file.write(f"{child.pid}\n")
        Reporter()(epoch=1, error=x)
        time.sleep(600)

    pids = folder.parent / "pids"
    tuner = run_tuner(backend_for(objective, SPACE | {"pids": str(pids)}), seconds=3)
    started = [int(line) for line in pids.read_text().split()]
    assert len(started) == 2
    wait_for(lambda: not alive(started + pids_of(tuner)), 10, "the end of all processes")


def test_the_server_is_killed():
    backend = backend_for(report_epochs, SPACE | {"n_epochs": 10, "pause": 0.1}, preload=["json", __name__])
    backend.warm_up()
    server = forkserver_backend._server(("json", __name__)).running()

    def kill_the_server():
        wait_for(lambda: 0 in backend._logs and len(backend._logs[0].reports()) >= 2, 20, "reports")
        os.kill(server, signal.SIGKILL)

    killer = threading.Thread(target=kill_the_server)
    killer.start()
    tuner = run_tuner(backend, max_trials=6)
    killer.join()
    run = runs.load_run("test")
    assert_nothing_lost_or_doubled(run)
    assert (run.trials.status == "Completed").sum() >= 4
    assert "server process was killed" in backend.stderr(0)[-1]
    assert not alive(pids_of(tuner))


def test_two_tuners_at_once(folder):
    text = program("ForkserverBackend", folder)
    processes = [start_program(folder, f"{name}-1", 5, text) for name in ("one", "two")]
    for process in processes:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
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

    run_tuner(backend_for(objective), max_trials=6)
    run = runs.load_run("test")
    assert (run.reports.error == 0).all()
    assert run.reports.draw.nunique() == len(run.reports), "forks must not repeat each other's random numbers"


def test_the_allocator_is_set_and_the_drivers_environment_is_not(monkeypatch):
    monkeypatch.setenv("MINE", "1")

    def objective(x):
        from syne_tune import Reporter

        with open("/proc/self/environ") as file:  # the environment that the process started with
            at_start = file.read()
        Reporter()(epoch=1, error=x, set=all(name in at_start for name in names), mine=os.environ.get("MINE"))

    names = list(forkserver_backend.ALLOCATOR)
    run_tuner(backend_for(objective), max_trials=2)
    reports = runs.load_run("test").reports
    assert reports.set.all() and (reports.mine.astype(int) == 1).all()
    assert not set(names) & set(os.environ)


# --- Syne Tune's contract --------------------------------------------------------------------------------------------


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
    run_tuner(backend_for(objective, space), max_trials=8, scheduler=scheduler)
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


# --- bad input -------------------------------------------------------------------------------------------------------


def test_more_workers_than_cores_is_allowed_with_one_warning(monkeypatch):
    monkeypatch.setattr(forkserver_backend.joblib, "cpu_count", lambda: 2)
    with pytest.warns(UserWarning, match="3 workers share 2 cores") as caught:
        run_tuner(backend_for(report_epochs), max_trials=6, n_workers=3)
    assert sum("workers share" in str(warning.message) for warning in caught) == 1


def test_without_fork_trials_are_fresh_processes(monkeypatch):
    def objective(x):
        from syne_tune import Reporter

        Reporter()(epoch=1, error=x)

    monkeypatch.setattr(forkserver_backend.sys, "platform", "darwin")
    monkeypatch.setattr(forkserver_backend, "_servers", {})
    with pytest.warns(UserWarning, match="missing or unsafe on darwin") as caught:
        run_tuner(backend_for(objective, preload=()), max_trials=2)
    assert sum("missing or unsafe" in str(warning.message) for warning in caught) == 1
    assert_nothing_lost_or_doubled(runs.load_run("test"))


def test_each_trial_gets_a_gpu_of_its_own():
    def objective(x):
        from syne_tune import Reporter

        Reporter()(epoch=1, error=x, gpu=int(os.environ["CUDA_VISIBLE_DEVICES"]))
        time.sleep(0.2)

    backend = backend_for(objective)
    backend._prepare_for_schedule(num_gpus=2)
    run_tuner(backend, max_trials=4)
    reports = runs.load_run("test").reports
    assert set(reports.gpu) == {0, 1} and reports.gpu.iloc[0] != reports.gpu.iloc[1]
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
