"""What tests with real processes share."""

import itertools
import os
import subprocess
import sys
import threading
import time
import uuid
from contextlib import contextmanager
from pathlib import Path

import psutil
from jupyter_client.manager import KernelManager
from syne_tune import StoppingCriterion, Tuner
from syne_tune.config_space import uniform
from syne_tune.experiments import load_experiment
from syne_tune.optimizer.baselines import RandomSearch
from syne_tune.report import retrieve
from syne_tune.tuner_callback import TunerCallback

from async_hpo.search import book_options

#: Seconds after which a wait is given up: many times what a slow machine with other things to do needs.
LONG = 240

SPACE = {"x": uniform(0, 1)}

#: Of the book's networks one that learns within seconds; LeNet errs as chance does until its second epoch.
SMALL_CNN = {"num_filters": 4, "num_layers": 1, "max_epochs": 1}


def report_epochs(x, n_epochs=3, pause=0.05):
    from syne_tune import Reporter

    report = Reporter()
    for epoch in range(1, n_epochs + 1):
        time.sleep(pause)
        report(epoch=epoch, error=x / epoch)


def report_until(x, file):
    """Three reports, and then one after the other until this file exists: a test says when its trials end."""
    from syne_tune import Reporter

    report = Reporter()
    for epoch in itertools.count(1):
        report(epoch=epoch, error=x, pid=os.getpid())
        if epoch >= 3 and Path(file).exists():
            return
        time.sleep(0.05)


def meet(folder, n):
    """Called in a trial: wait until `n` trials have called it, which therefore run at the same time."""
    folder = Path(folder)
    folder.mkdir(exist_ok=True)
    (folder / uuid.uuid4().hex).touch()
    while len(os.listdir(folder)) < n:
        time.sleep(0.02)


def nvidia_smi(folder, patch, *lines, code=0):
    """A program of this name that lists these GPUs, before any other on the path."""
    program = Path(folder) / "bin" / "nvidia-smi"
    program.parent.mkdir(exist_ok=True)
    program.write_text("#!/bin/sh\ncat <<END\n" + "\n".join(lines) + f"\nEND\nexit {code}\n")
    program.chmod(0o755)
    patch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def allow(patch, gpus):
    """What CUDA_VISIBLE_DEVICES says; None: nothing."""
    if gpus is None:
        patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        patch.setenv("CUDA_VISIBLE_DEVICES", gpus)


class Heard(TunerCallback):
    """Tells a trial when the scheduler has decided what follows from its report; see `report_and_wait`."""

    def __init__(self, folder):
        self.folder, self._new = Path(folder), []
        self.folder.mkdir()

    def on_trial_result(self, trial, status, result, decision):
        self._new.append(result["token"])

    def on_loop_end(self):  # stopped and paused trials have been told by now
        while self._new:
            (self.folder / self._new.pop()).touch()


def report_and_wait(report, folder, **values):
    """So that a trial doesn't outrun a slow driver."""
    token = uuid.uuid4().hex
    report(token=token, **values)
    while not Path(folder, token).exists():
        time.sleep(0.01)


def run_tuner(
    backend, seconds=LONG, max_trials=None, stop=None, scheduler=None, name="test", n_workers=2, callbacks=(), **options
):
    """Run a tuner until it has finished more than `max_trials` trials, or `stop` says so; or for `seconds`."""
    criterion = StoppingCriterion(max_wallclock_time=seconds, max_num_trials_finished=max_trials)
    backend.warm_up()
    ours = {"sleep_time": 0} | backend.tuner_options | book_options(callbacks=callbacks)
    tuner = Tuner(
        trial_backend=backend,
        scheduler=scheduler or RandomSearch(backend.config_space, metrics=["error"]),
        stop_criterion=lambda status: criterion(status) or (stop is not None and stop(status)),
        n_workers=n_workers,
        tuner_name=name,
        **(ours | options),
    )
    tuner.run()
    return tuner


def in_background(backend, **options):
    """`run_tuner` in a thread of its own, which is returned."""
    tuning = threading.Thread(target=run_tuner, args=[backend], kwargs=options, daemon=True)
    tuning.start()
    return tuning


def reports_of(backend, trial_id):
    """All that have come so far, as they stand in the trial's log."""
    return retrieve(backend.stdout(trial_id))


def wait_for_trial(backend, trial_id):
    """Until it has made a few reports."""
    wait_for(lambda: trial_id in backend._trials and len(reports_of(backend, trial_id)) >= 3, LONG, "reports")


def wait_for_end(backend, trial_id):
    """Returns how it ended, and those of its reports that nobody has fetched before."""
    found = []

    def status():
        statuses, results = backend.fetch_status_results([trial_id])
        found.extend(report for _, report in results)
        return statuses[trial_id][1] if statuses[trial_id][1] != "InProgress" else None

    return wait_for(status, LONG, "the trial's end"), found


def assert_nothing_lost_or_doubled(run):
    """The reports of each trial are those of epochs 1, 2, 3, ..., each once and in order."""
    for _, reports in run.reports.groupby("trial_id"):
        assert list(reports.epoch) == list(range(1, len(reports) + 1))


def wait_until_ended(pids):
    wait_for(lambda: not alive(pids), LONG, "the end of all processes")


def assert_failed_alone(run, trial_id):
    """Of the run's trials this one failed, after three reports or more, and no other did."""
    assert_nothing_lost_or_doubled(run)
    assert list(run.failed.trial_id) == [trial_id]
    assert (run.reports.trial_id == trial_id).sum() >= 3, "reports before its end are kept"


PROGRAM = """
import pathlib, sys
from syne_tune import Tuner
from syne_tune.config_space import uniform
from syne_tune.optimizer.baselines import RandomSearch
from async_hpo import BACKEND
from async_hpo.search import book_options

def objective(x):  # defined in the main script, which is not run again in a trial
    import os, pathlib, time
    from syne_tune import Reporter
    report = Reporter()
    for epoch in range(1, 100_000):
        report(epoch=epoch, error=x, pid=os.getpid())
        pathlib.Path("FOLDER/heartbeat").touch()
        time.sleep(0.1)

space = {"x": uniform(0, 1)}
backend = BACKEND(objective, space, preload=[], **OPTIONS)
backend.warm_up()
tuner = Tuner(
    trial_backend=backend, scheduler=RandomSearch(space, metrics=["error"]),
    stop_criterion=lambda status: pathlib.Path("FOLDER/stop").exists(), n_workers=N_WORKERS, sleep_time=0,
    tuner_name=sys.argv[1], suffix_tuner_name=False, **backend.tuner_options, **book_options(),
)
print("started", flush=True)
tuner.run()
"""


def program(backend, folder, n_workers=2, **options):
    """A script that tunes with the back-end of this name until there is a file `stop`. Its argument is its name."""
    text = PROGRAM.replace("BACKEND", backend).replace("OPTIONS", repr(options)).replace("FOLDER", str(folder))
    return text.replace("N_WORKERS", str(n_workers))


def start_program(folder, name, text):
    script = folder.parent / f"{name}.py"
    script.write_text(text)
    return subprocess.Popen([sys.executable, script, name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def results_of(folder, name):
    """The reports kept so far, or None: Syne Tune writes its files in place, so a reader may find half of one."""
    try:
        return load_experiment(name, local_path=str(folder)).results
    except Exception:
        return None


def wait_for_results(folder, name, process, n_trials=2):
    """Of a program, or of a notebook's kernel."""

    def enough():
        results = results_of(folder, name)
        return results is not None and len(results) >= 10 and results.trial_id.nunique() == n_trials

    wait_for(enough, LONG, "results", process)
    return results_of(folder, name)


def wait_for(condition, seconds, what, process=None):
    """Call `condition` until it returns something true, and return that; `seconds` later the test fails.

    So it does when the process has ended that was to bring it about.
    """
    end = time.monotonic() + seconds
    while True:
        ended = process is not None and not alive([process.pid])  # asked first: it may have done it at its end
        if value := condition():
            return value
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        if ended:
            said = process.communicate(timeout=LONG)[1] if isinstance(process, subprocess.Popen) else ""
            raise AssertionError(f"waited for {what} of a process that has ended: {said}")
        time.sleep(0.05)


def alive(pids):
    """Those of the processes that run: neither gone nor zombies."""
    found = []
    for pid in pids:
        try:
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
        except psutil.NoSuchProcess:
            pass
    return found


@contextmanager
def two_cpus():
    """What Ray finds on this machine, whatever it has."""
    os.environ["RAY_OVERRIDE_RESOURCES"] = '{"CPU": 2}'
    try:
        yield
    finally:
        del os.environ["RAY_OVERRIDE_RESOURCES"]


@contextmanager
def kernel():
    """A notebook's kernel: its manager, a client, and its process."""
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel()
    client = manager.blocking_client()
    try:
        client.start_channels()
        client.wait_for_ready(timeout=LONG)
        yield manager, client, psutil.Process(manager.provisioner.pid)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def assert_interrupted(client, request):
    """The cell that was sent by `request` ends because of the interrupt."""
    reply = client.get_shell_msg(timeout=LONG)
    while reply["parent_header"]["msg_id"] != request:  # an answer to an earlier "are you ready?" that came late
        reply = client.get_shell_msg(timeout=LONG)
    assert reply["content"].get("ename") == "KeyboardInterrupt", "\n".join(reply["content"].get("traceback", []))
