"""What is ForkserverBackend's own, beside the contract in test_backends.py."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
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
    program,
    report_and_wait,
    report_epochs,
    report_until,
    results_of,
    run_tuner,
    start_program,
    wait_for,
    wait_for_end,
    wait_for_results,
    wait_for_trial,
    wait_until_ended,
)
from syne_tune import StoppingCriterion
from syne_tune.optimizer.baselines import RandomSearch
from syne_tune.optimizer.schedulers import PopulationBasedTraining
from syne_tune_workers import ForkserverBackend, forkserver_backend, server, sources, worker

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("folder")]


def backend_for(objective, space=SPACE, preload=(__name__,), **options):
    # This module: trials refer to what it defines, and would import it anew.
    return ForkserverBackend(objective, space, preload=preload, **options)


def endless(go, **options):
    return backend_for(report_until, SPACE | {"file": str(go)}, **options)


def pids_of(backend):
    return [trial.work.pid for trial in backend._trials.values()]


def server_of(backend):
    return forkserver_backend._server(backend.preload, backend.share)


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


def test_a_trial_that_starts_a_child_and_hangs(folder):
    def objective(x, pids):
        from syne_tune import Reporter

        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=x < 0.5)
        with open(pids, "a") as file:
            file.write(f"{child.pid}\n")
        Reporter()(epoch=1, error=x)
        time.sleep(600)

    pids = folder.parent / "pids"
    backend = backend_for(objective, SPACE | {"pids": str(pids)})
    both = RandomSearch(backend.config_space, metrics=["error"], points_to_evaluate=[{"x": 0.25}, {"x": 0.75}])
    run_tuner(backend, scheduler=both, stop=StoppingCriterion(max_num_evaluations=1))  # stops at the second
    started = [int(line) for line in pids.read_text().split()]
    assert len(started) == 2
    wait_until_ended(started + pids_of(backend))


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


def test_two_tuners_at_once(folder):
    text = program("ForkserverBackend", folder)
    names = ["one", "two"]
    processes = [start_program(folder, f"{name}-1", text) for name in names]
    for name, process in zip(names, processes, strict=True):
        wait_for_results(folder, f"{name}-1", process)
    (folder / "stop").touch()
    for process in processes:
        _, err = process.communicate(timeout=LONG)
        assert process.returncode == 0, err
    pids = []
    for name in names:
        reports = results_of(folder, f"{name}-1")
        assert_nothing_lost_or_doubled(reports)
        assert reports.trial_id.nunique() == 2
        pids.append(set(reports.pid))
    assert not pids[0] & pids[1]


# --- no shared state -------------------------------------------------------------------------------------------------


MANY_MODULES = """
import sys, types
def load():
    for number in range(3000):
        sys.modules[f"own_{number}"] = module = types.ModuleType(f"own_{number}")
        module.__file__ = f"{FOLDER}/{'long_' * 30}{number}.py"
"""


def test_a_server_may_hold_any_number_of_modules_and_sees_which_were_edited(tmp_path, monkeypatch):
    """What it says of them was one message once, and too long for one."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "many_modules.py").write_text(MANY_MODULES.replace("{FOLDER}", str(tmp_path)))
    backend = ForkserverBackend(report_epochs, SPACE, preload=["many_modules:load", __name__])
    assert len(Run(run_tuner(backend, max_trials=2)).finished) >= 2
    its_server = server_of(backend)
    assert len(its_server._files) > 3000 and its_server.is_current()
    Path(tmp_path, f"{'long_' * 30}2999.py").write_text("edited")
    assert not its_server.is_current()


def test_packages_of_an_environment_below_or_of_the_user_are_installed_ones(tmp_path, monkeypatch):
    for name in ("site-packages", "dist-packages", "own"):
        monkeypatch.syspath_prepend(tmp_path / name)
        module = types.ModuleType(f"in_{name}")
        module.__file__ = str(tmp_path / name / "module.py")
        monkeypatch.setitem(sys.modules, module.__name__, module)
    assert [file for file in sources.own_files() if file.startswith(str(tmp_path))] == [str(tmp_path / "own/module.py")]


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


def test_a_trial_cannot_spoil_the_next_one():
    def objective(x):
        import json
        import os

        from syne_tune import Reporter

        Reporter()(epoch=1, error=float("SPOILT" in os.environ or hasattr(json, "spoilt")), draw=np.random.rand())
        os.environ["SPOILT"] = json.spoilt = "yes"

    reports = Run(run_tuner(backend_for(objective), max_trials=6)).reports
    assert (reports.error == 0).all()
    assert reports.draw.nunique() == len(reports), "forks must not repeat each other's random numbers"


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
        file.write_text(str(epoch))
        report_and_wait(report, heard, epoch=epoch, error=x, resumed=resumed, file=str(file))


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


def test_pause_and_resume(go):
    backend = endless(go)
    trial = backend.start_trial({"x": 0.5, "file": str(go)})
    wait_for_trial(backend, 0)
    backend.pause_trial(trial.trial_id)
    assert backend.busy_trial_ids() == []
    wait_until_ended(pids_of(backend))
    backend.resume_trial(trial.trial_id)
    assert backend.busy_trial_ids() == [(0, "InProgress")]
    go.touch()
    status, _ = wait_for_end(backend, 0)
    assert status == "Completed"


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

    monkeypatch.setattr(forkserver_backend.sys, "platform", "darwin")
    monkeypatch.setattr(forkserver_backend, "_servers", {})
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


# --- a trial is an ordinary Python process ---------------------------------------------------------------------------


def leave_things_open(x, folder):
    import atexit
    import multiprocessing
    import sys
    import tempfile
    import threading

    from syne_tune import Reporter

    report, name = Reporter(), f"{folder}/{os.getpid()}"

    def later():
        time.sleep(0.3)
        report(epoch=2, error=x)

    sys.kept = open(f"{name}.csv", "w")  # noqa: SIM115
    sys.kept.write("written")
    sys.folder = tempfile.TemporaryDirectory(dir=folder)
    atexit.register(Path(f"{name}.atexit").touch)
    child = multiprocessing.Process(target=Path(f"{name}.child").touch)
    child.start()
    threading.Thread(target=later).start()
    report(epoch=1, error=x, pid=os.getpid(), folder=sys.folder.name)


def test_at_its_end_a_trial_does_what_python_does(tmp_path):
    backend = backend_for(leave_things_open, SPACE | {"folder": str(tmp_path)})
    status, reports = wait_for_end(backend, backend.start_trial({"x": 0.5, "folder": str(tmp_path)}).trial_id)
    assert status == "Completed" and [report["epoch"] for report in reports] == [1, 2]
    name = tmp_path / str(reports[0]["pid"])
    assert name.with_suffix(".csv").read_text() == "written"
    assert name.with_suffix(".atexit").exists() and name.with_suffix(".child").exists()
    assert not Path(reports[0]["folder"]).exists()


def test_a_folder_of_the_servers_outlives_its_forks(tmp_path, monkeypatch):
    (tmp_path / "makes_a_folder.py").write_text(
        "import tempfile, atexit, pathlib\n"
        "folder = tempfile.TemporaryDirectory()\n"
        "path = pathlib.Path(folder.name) / 'file'\n"
        "path.touch()\n"
        "atexit.register(path.unlink)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    def objective(x):
        import makes_a_folder
        from syne_tune import Reporter

        Reporter()(epoch=1, error=x, there=makes_a_folder.path.exists(), path=str(makes_a_folder.path))

    backend = backend_for(objective, preload=["makes_a_folder"])
    reports = [wait_for_end(backend, backend.start_trial({"x": 0.5}).trial_id)[1][0] for _ in range(3)]
    assert all(report["there"] for report in reports)
    server_of(backend).stop()
    assert not Path(reports[0]["path"]).parent.exists(), "the server has removed it"


def test_a_trial_that_leads_no_group_yet_is_killed():
    """As it is between the server's fork and the trial's first line; the stop of a trial waits for its end."""
    pid = os.fork()
    if pid == 0:
        time.sleep(LONG)
        os._exit(0)
    server._kill(pid)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def waiting_fork(backend):
    """The server's fork that has no work yet: it alone holds a socket, through which its work comes."""
    its_server = psutil.Process(server_of(backend).pid)

    def waiting():
        return [child for child in its_server.children() if holds_a_socket(child.pid)]

    (fork,) = wait_for(waiting, LONG, "a fork that waits")
    return fork


def holds_a_socket(pid):
    with contextlib.suppress(OSError):  # it has just ended
        return any(os.readlink(file).startswith("socket:") for file in Path(f"/proc/{pid}/fd").iterdir())
    return False


def test_a_trial_is_a_fork_that_was_there_before_it():
    """So that it starts at once: a process with PyTorch takes some 20 ms to fork."""
    backend = backend_for(report_epochs)
    backend.warm_up()
    fork = waiting_fork(backend)
    status, _ = wait_for_end(backend, backend.start_trial({"x": 0.5}).trial_id)
    assert status == "Completed" and pids_of(backend) == [fork.pid]


def test_a_fork_that_was_killed_while_it_waited_is_replaced():
    backend = backend_for(report_epochs)
    backend.warm_up()
    for _ in range(2):
        fork = waiting_fork(backend)
        fork.kill()
        wait_until_ended([fork.pid])
        assert wait_for_end(backend, backend.start_trial({"x": 0.5}).trial_id)[0] == "Completed"


def test_a_machine_without_free_processes_loses_one_trial_not_the_server(tmp_path, monkeypatch):
    """The server's forks fail while a file is there, as they do at the limit of processes."""
    full, module = tmp_path / "full", tmp_path / "may_be_full.py"
    module.write_text(
        "import errno, os, pathlib\n"
        "fork = os.fork\n"
        "def fork_or_fail():\n"
        f"    if pathlib.Path({str(full)!r}).exists():\n"
        "        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))\n"
        "    return fork()\n"
        "os.fork = fork_or_fail\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    backend = backend_for(report_epochs, preload=["may_be_full"])
    backend.warm_up()
    its_server = server_of(backend).pid
    waiting_fork(backend)  # made before the forks begin to fail, however slow the machine is
    full.touch()

    def status_of_next():
        trial_id = backend.start_trial({"x": 0.5}).trial_id
        return wait_for_end(backend, trial_id)[0], backend.stderr(trial_id)

    assert status_of_next()[0] == "Completed", "a fork waited for it"
    status, words = status_of_next()
    assert status == "Failed" and "can start no more processes" in words[-1]
    full.unlink()
    assert [status_of_next()[0] for _ in range(3)] == ["Completed"] * 3
    assert server_of(backend).pid == its_server


@pytest.mark.parametrize("end", ["stop", "retire", "kill"])
def test_a_fork_that_waits_ends_with_its_server(end):
    backend = backend_for(report_epochs)
    backend.warm_up()
    fork, its_server = waiting_fork(backend), server_of(backend)
    if end == "kill":
        os.kill(its_server.pid, signal.SIGKILL)
    else:
        getattr(its_server, end)()
    wait_until_ended([fork.pid, its_server.pid])


def test_no_fork_imports_syne_tune_anew():
    """It takes 25 ms, with each trial."""
    program = "import sys; from syne_tune_workers import worker; worker.prepare_all([], []); sys.modules['syne_tune']"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_driver_and_server_killed_in_the_same_moment_leave_no_trial(folder):
    process = start_program(folder, "program", program("ForkserverBackend", folder))
    results = wait_for_results(folder, "program", process)
    (its_server,) = psutil.Process(process.pid).children()
    for victim in (its_server, process):
        victim.kill()
    process.wait()
    wait_until_ended([int(pid) for pid in results.pid.unique()])


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
