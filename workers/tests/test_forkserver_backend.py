"""What is ForkserverBackend's own, beside the contract in test_backends.py."""

import os
import signal
import subprocess
import sys
import threading
import types
from pathlib import Path

import psutil
import pytest
from backend_helpers import (
    LONG,
    SPACE,
    Heard,
    Run,
    allow,
    assert_failed_alone,
    assert_nothing_lost_or_doubled,
    in_background,
    meet,
    nvidia_smi,
    report_and_wait,
    report_epochs,
    report_until,
    run_tuner,
    wait_for,
    wait_for_end,
    wait_for_trial,
    wait_until_ended,
)
from syne_tune import StoppingCriterion
from syne_tune.optimizer.schedulers import PopulationBasedTraining
from syne_tune_workers import ForkserverBackend, forkserver_backend, processes, servers, sources, worker

pytestmark = pytest.mark.usefixtures("folder")


def backend_for(objective, space=SPACE, preload=(__name__,), **options):
    # This module: trials refer to what it defines, and would import it anew.
    return ForkserverBackend(objective, space, preload=preload, **options)


def endless(go, **options):
    return backend_for(report_until, SPACE | {"file": str(go)}, **options)


def pids_of(backend):
    works = [trial.work for trial in backend._trials.values()]
    wait_for(lambda: all(work.pid or work.poll() for work in works), LONG, "their start")
    return [work.pid for work in works]


def server_of(backend):
    return servers.current(backend.preload, backend.share)


# --- one trial's fate is its own -------------------------------------------------------------------------------------


def test_a_killed_trial_fails_alone_and_its_worker_goes_on(go):
    backend = endless(go)
    tuning = in_background(backend, max_trials=4)
    wait_for_trial(backend, 0)
    os.kill(pids_of(backend)[0], signal.SIGKILL)
    wait_for(lambda: 2 in backend._trials, LONG, "the next trial")
    go.touch()
    assert_failed_alone(Run(tuning.result()), 0)
    assert "killed by SIGKILL" in backend.stderr(0)[-1]
    wait_until_ended(pids_of(backend))


@pytest.mark.slow
def test_the_server_is_killed(go):
    backend = endless(go, preload=["json", __name__])
    backend.warm_up()
    its_server = server_of(backend).pid
    tuning = in_background(backend, max_trials=6)
    for trial_id in range(2):
        wait_for_trial(backend, trial_id)
    first = pids_of(backend)
    os.kill(its_server, signal.SIGKILL)
    wait_for(lambda: 3 in backend._trials, LONG, "the next trials")
    go.touch()
    run = Run(tuning.result())
    assert_nothing_lost_or_doubled(run.reports)
    status = run.trials.set_index("trial_id").status
    assert set(status[:2]) == {"Failed"} and set(status[2:]) <= {"Completed", "Stopped"}
    assert len(run.finished) >= 4
    assert all("server process was killed" in backend.stderr(trial_id)[-1] for trial_id in range(2))
    wait_until_ended(first + pids_of(backend))


@pytest.mark.slow
@pytest.mark.parametrize("stopped", ["the trial", "the server"])
def test_a_process_that_is_stopped_holds_up_nobody(go, monkeypatch, stopped):
    monkeypatch.setattr(processes, "_PATIENCE", 1)
    backend = endless(go, preload=["json.tool", __name__])
    backend.start_trial({"x": 0.5, "file": str(go)})
    wait_for_trial(backend, 0)
    trial = pids_of(backend)[0]
    server = psutil.Process(trial).ppid()
    os.kill(trial if stopped == "the trial" else server, signal.SIGSTOP)
    backend.stop_all()
    wait_until_ended([trial] if stopped == "the trial" else [trial, server])
    go.touch()
    assert wait_for_end(backend, backend.start_trial({"x": 0.5, "file": str(go)}).trial_id)[0] == "Completed"


@pytest.mark.parametrize("number", [signal.SIGRTMIN + 6, -100, 300])
def test_what_ends_a_trial_is_told_as_it_was(number):
    """A signal without a name, or exit codes that could be taken for another end."""

    def objective(x, number):
        from syne_tune import Reporter

        Reporter()(error=x)
        if number == signal.SIGRTMIN + 6:
            os.kill(os.getpid(), number)
        sys.exit(number)

    backend = backend_for(objective, SPACE | {"number": number})
    assert wait_for_end(backend, backend.start_trial({"x": 0.5, "number": number}).trial_id)[0] == "Failed"
    said = f"killed by {number}: " if number == signal.SIGRTMIN + 6 else ""
    assert said in "".join(backend.stderr(0)) and (said or not backend.stderr(0))


# --- no shared state -------------------------------------------------------------------------------------------------


def test_packages_of_an_environment_below_or_of_the_user_are_installed_ones(tmp_path, monkeypatch):
    for name in ("site-packages", "dist-packages", "own"):
        monkeypatch.syspath_prepend(tmp_path / name)
        module = types.ModuleType(f"in_{name}")
        module.__file__ = str(tmp_path / name / "module.py")
        monkeypatch.setitem(sys.modules, module.__name__, module)
    assert [file for file in sources.own_files() if file.startswith(str(tmp_path))] == [str(tmp_path / "own/module.py")]


@pytest.mark.slow
def test_torch_has_the_threads_that_the_driver_says(monkeypatch):
    pytest.importorskip("torch")

    def objective(x):
        import torch
        from syne_tune import Reporter

        Reporter()(epoch=1, error=x, threads=torch.get_num_threads())

    backend = ForkserverBackend(objective, SPACE, preload=["torch"])
    for n_threads in (1, 2):
        monkeypatch.setenv("OMP_NUM_THREADS", str(n_threads))
        _, (report,) = wait_for_end(backend, backend.start_trial({"x": 0.5}).trial_id)
        assert report["threads"] == n_threads


def test_the_allocator_is_set_and_the_drivers_environment_is_not(monkeypatch):
    monkeypatch.setenv("MINE", "1")

    def objective(x):
        from syne_tune import Reporter

        with open("/proc/self/environ") as file:  # the environment that the process started with
            at_start = file.read()
        Reporter()(epoch=1, error=x, set=all(name in at_start for name in names), mine=os.environ.get("MINE"))

    names = list(worker.ALLOCATOR)
    reports = Run(run_tuner(backend_for(objective), max_trials=2)).reports
    assert reports.set.all() and (reports.mine.astype(int) == 1).all()
    assert not set(names) & set(os.environ)


# --- Syne Tune's contract --------------------------------------------------------------------------------------------


def train_with_checkpoints(x, n_epochs, heard, st_checkpoint_dir):
    from syne_tune import Reporter

    os.makedirs(st_checkpoint_dir, exist_ok=True)
    file, report = Path(st_checkpoint_dir, "epoch"), Reporter()
    resumed = epoch = int(file.read_text()) if file.exists() else 0
    while epoch < n_epochs:
        epoch += 1
        file.with_name("part").write_text(str(epoch))
        file.with_name("part").replace(file)  # in one step: it may be killed at any moment
        report_and_wait(report, heard, epoch=epoch, error=x, resumed=resumed, file=str(file))


def test_a_checkpoint_is_copied_while_its_trial_replaces_it(tmp_path):
    backend, copied = backend_for(train_with_checkpoints, SPACE | {"n_epochs": 1, "heard": ""}), threading.Event()
    backend.set_path(tmp_path)
    kept = backend.checkpoint_trial_path(0)
    kept.mkdir(parents=True)
    (kept / "epoch").write_text("0")

    def replace():
        while not copied.is_set():
            (kept / "part").write_text("1")
            (kept / "part").replace(kept / "epoch")

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        for trial_id in range(1, 200):
            backend.copy_checkpoint(0, trial_id)
            assert (backend.checkpoint_trial_path(trial_id) / "epoch").read_text() in ("0", "1")
    finally:
        copied.set()
        thread.join()


@pytest.mark.slow
def test_population_based_training_with_checkpoints(tmp_path):
    space = SPACE | {"n_epochs": 12, "heard": str(tmp_path / "heard")}
    scheduler = PopulationBasedTraining(
        space, metric="error", time_attr="epoch", max_t=12, population_size=4, perturbation_interval=2, random_seed=0
    )
    backend = backend_for(train_with_checkpoints, space)
    heard = Heard(space["heard"])
    reports = Run(run_tuner(backend, max_trials=8, scheduler=scheduler, callbacks=[heard])).reports
    assert (reports.resumed > 0).any(), "some trial goes on from another one's checkpoint"
    for _, of_trial in reports.groupby("trial_id"):
        epochs = of_trial.epoch.tolist()
        assert epochs == list(range(epochs[0], epochs[0] + len(epochs)))


@pytest.mark.slow
@pytest.mark.parametrize("delete", [True, False])
def test_checkpoints_are_deleted_at_the_end_or_kept(tmp_path, delete):
    """When a trial is stopped, or else at the end of the run: Syne Tune deletes none of a completed trial before."""
    space = SPACE | {"n_epochs": 1, "heard": str(tmp_path / "heard")}
    backend = backend_for(train_with_checkpoints, space, delete_checkpoints=delete)
    tuner = run_tuner(backend, max_trials=2, callbacks=[Heard(space["heard"])])
    checkpoints = [Path(file) for file in Run(tuner).reports.file]
    assert len(checkpoints) >= 3
    assert {file.exists() for file in checkpoints} == {not delete}
    assert {file.parent.exists() for file in checkpoints} == {not delete}
    assert all(backend.trial_path(trial_id).exists() for trial_id in backend.trial_ids), "its logs stay"


def test_the_checkpoint_of_a_stopped_trial_is_deleted_at_once_and_of_a_paused_one_kept(tmp_path):
    space = SPACE | {"n_epochs": 100, "heard": str(tmp_path)}  # where nothing is heard: the trials wait
    backend = backend_for(train_with_checkpoints, space, delete_checkpoints=True)
    config = {"x": 0.5, "n_epochs": 100, "heard": str(tmp_path)}
    stopped, paused = (backend.start_trial(config).trial_id for _ in range(2))
    for trial_id in (stopped, paused):
        wait_for(lambda i=trial_id: backend.stdout(i), LONG, "a report")
    backend.stop_trial(stopped)
    backend.pause_trial(paused)
    assert not backend.checkpoint_trial_path(stopped).exists() and backend.checkpoint_trial_path(paused).exists()
    backend.stop_all()
    assert not backend.checkpoint_trial_path(paused).exists()


# --- bad input -------------------------------------------------------------------------------------------------------


def test_more_workers_than_cores_is_allowed_with_one_warning(go, monkeypatch):
    monkeypatch.setattr(forkserver_backend.joblib, "cpu_count", lambda: 2)
    with pytest.warns(UserWarning, match="3 workers share 2 cores") as caught:
        run_tuner(endless(go), n_workers=3, stop=StoppingCriterion(max_num_evaluations=9))
    assert sum("workers share" in str(warning.message) for warning in caught) == 1


def test_without_fork_trials_are_fresh_processes(monkeypatch):
    def objective(x):
        from syne_tune import Reporter

        Reporter()(epoch=1, error=x)

    monkeypatch.setattr(servers.sys, "platform", "darwin")
    monkeypatch.setattr(servers, "_servers", {})
    with pytest.warns(UserWarning, match="missing or unsafe on darwin") as caught:
        tuner = run_tuner(backend_for(objective, preload=()), max_trials=2)
    assert sum("missing or unsafe" in str(warning.message) for warning in caught) == 1
    assert_nothing_lost_or_doubled(Run(tuner).reports)


# --- GPUs: their names are enough ------------------------------------------------------------------------------------


def report_gpus(x, folder, n):
    from syne_tune import Reporter

    meet(folder, n)
    Reporter()(epoch=1, error=x, gpus=f"GPU {os.environ.get('CUDA_VISIBLE_DEVICES')}")


@pytest.mark.parametrize(
    ("options", "allowed", "expected"),
    [
        ({}, None, ["0", "1"]),
        ({"gpus_to_use": [1, 3]}, None, ["1", "3"]),
        ({"num_gpus_per_trial": 2}, None, ["0,1", "2,3"]),
        ({"gpus_to_use": [3, 2, 1, 0], "num_gpus_per_trial": 2}, None, ["3,2", "1,0"]),
        ({}, "2,GPU-7", ["2", "GPU-7"]),
        ({"gpus_to_use": [1]}, "3,2", ["2", "2"]),
        ({"rotate_gpus": False}, "2,3", ["2,3", "2,3"]),
    ],
)
def test_each_trial_gets_gpus_of_its_own(tmp_path, monkeypatch, options, allowed, expected):
    nvidia_smi(tmp_path, monkeypatch, *(f"GPU {i}: A (UUID: GPU-{i})" for i in range(4)))
    allow(monkeypatch, allowed)
    config = {"x": 0.5, "folder": str(tmp_path / "met"), "n": 2}
    backend = backend_for(report_gpus, config, **options)
    trials = [backend.start_trial(config).trial_id for _ in range(2)]
    assert [wait_for_end(backend, trial_id)[1][0]["gpus"] for trial_id in trials] == [f"GPU {x}" for x in expected]
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == allowed


def test_a_gpu_is_free_again_when_its_trial_has_ended(tmp_path, go, monkeypatch):
    nvidia_smi(tmp_path, monkeypatch, "GPU 0: A", "GPU 1: A")
    allow(monkeypatch, None)
    space = SPACE | {"folder": str(tmp_path / "met"), "n": 1}
    backend = backend_for(report_gpus, space)
    config = {"x": 0.5, "folder": str(tmp_path / "met"), "n": 1}
    stays, *ends = (backend.start_trial(config | {"n": 100}).trial_id, backend.start_trial(config).trial_id)
    for _ in range(3):
        _, (report,) = wait_for_end(backend, ends[-1])
        assert report["gpus"] == "GPU 1", "the other one's is taken"
        ends.append(backend.start_trial(config).trial_id)
    backend.stop_trial(stays)
    assert wait_for_end(backend, backend.start_trial(config).trial_id)[1][0]["gpus"] == "GPU 0"


def test_a_gpu_that_is_not_there_is_refused(tmp_path, monkeypatch):
    nvidia_smi(tmp_path, monkeypatch, "GPU 0: A", "GPU 1: A")
    allow(monkeypatch, None)
    for wrong in ([0, 2], [1, 1], [-1]):
        with pytest.raises(ValueError, match="gpus_to_use"):
            backend_for(report_epochs, gpus_to_use=wrong)


# --- servers ---------------------------------------------------------------------------------------------------------


def test_a_server_is_current_until_one_of_our_own_modules_is_edited(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_recipe.py").write_text("")
    backend = backend_for(report_epochs, preload=["own_recipe"])
    backend.warm_up()
    first = server_of(backend)
    assert server_of(backend) is first
    (tmp_path / "own_recipe.py").write_text("edited = True")
    assert backend._is_ready(), "trials of a run go on with the code that it began with"
    second = server_of(backend)
    assert second is not first and second.is_current()
    assert wait_for_end(backend, backend.start_trial({"x": 0.5}).trial_id)[0] == "Completed", "on the second one"
    wait_until_ended([first.pid])


def test_no_fork_imports_syne_tune_anew():
    """It takes 25 ms, with each trial."""
    program = "import sys; from syne_tune_workers import worker; worker.prepare_all([], []); sys.modules['syne_tune']"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_fork_of_the_driver_is_a_driver_of_its_own():
    backend = backend_for(report_epochs)
    backend.warm_up()
    ours = server_of(backend).pid
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            own = backend_for(report_epochs)
            status, _ = wait_for_end(own, own.start_trial({"x": 0.5}).trial_id)
            code = 0 if status == "Completed" and server_of(own).pid != ours else 2
            server_of(own).stop()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert wait_for_end(backend, backend.start_trial({"x": 0.5}).trial_id)[0] == "Completed"
