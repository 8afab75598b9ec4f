"""What tests with real processes share: those of the back-ends, and the book's."""

import itertools
import os
import secrets
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

# Nodes that tests start, and the drivers that connect to them, share a token (read when Ray is imported).
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
# Ray runs tasks at niceness 15: beside a test that trains, a node needs minutes to import torch.
os.environ.setdefault("RAY_worker_niceness", "0")

import numpy as np
import pandas as pd
import psutil
import pytest
import syne_tune_workers
from syne_tune import StoppingCriterion, Tuner
from syne_tune.backend.trial_status import Status
from syne_tune.config_space import uniform
from syne_tune.experiments import load_experiment
from syne_tune.optimizer.baselines import RandomSearch
from syne_tune.report import retrieve
from syne_tune.results_callback import StoreResultsCallback
from syne_tune.tuner_callback import TunerCallback

#: Seconds after which a wait is given up: many times what a slow machine with other things to do needs.
LONG = 240

SPACE = {"x": uniform(0, 1)}


# --- fixtures --------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """Where a test's runs keep their results."""
    monkeypatch.setenv("SYNETUNE_FOLDER", str(tmp_path / "experiments"))
    return tmp_path / "experiments"


@pytest.fixture
def go(tmp_path):
    """The file that ends trials of `report_until`."""
    return tmp_path / "go"


@pytest.fixture(params=["ForkserverBackend", pytest.param("RayBackend", marks=pytest.mark.cluster)], scope="module")
def name_of_backend(request):
    if request.param == "ForkserverBackend":
        yield request.param
        return
    with two_cpus():
        yield request.param  # the first back-end starts Ray, the others find it
        import ray  # after the back-end has, which sets options

        ray.shutdown()


@pytest.fixture
def backend_for(name_of_backend, request):
    def make(objective, space=SPACE, preload=None, share=()):
        # The test's own module: trials refer to what it defines, and would import it anew.
        preload = [request.module.__name__] if preload is None else preload
        return getattr(syne_tune_workers, name_of_backend)(objective, space, preload=preload, share=share)

    return make


# --- objectives ------------------------------------------------------------------------------------------------------


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


def make_numbers():
    """200 MiB that trials share."""
    return np.ones(200 * 2**17)


def take_numbers(made):
    global numbers
    numbers = made


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


# --- the machine -----------------------------------------------------------------------------------------------------


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


@contextmanager
def two_cpus():
    """What Ray finds on this machine, whatever it has."""
    os.environ["RAY_OVERRIDE_RESOURCES"] = '{"CPU": 2}'
    try:
        yield
    finally:
        del os.environ["RAY_OVERRIDE_RESOURCES"]


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


# --- runs ------------------------------------------------------------------------------------------------------------


def run_tuner(backend, seconds=LONG, max_trials=None, stop=None, scheduler=None, n_workers=2, callbacks=(), **options):
    """Run a tuner until it has finished more than `max_trials` trials, or `stop` says so; or for `seconds`."""
    criterion = StoppingCriterion(max_wallclock_time=seconds, max_num_trials_finished=max_trials)
    backend.warm_up()
    backend.check_workers(n_workers, options.get("asynchronous_scheduling", True))
    ours = {"sleep_time": 0, "max_failures": 1_000_000, "callbacks": [StoreResultsCallback(), *callbacks]}
    tuner = Tuner(
        trial_backend=backend,
        scheduler=scheduler or RandomSearch(backend.config_space, metrics=["error"]),
        stop_criterion=lambda status: criterion(status) or (stop is not None and stop(status)),
        n_workers=n_workers,
        tuner_name="test",
        **(ours | backend.tuner_options | options),
    )
    tuner.run()
    return tuner


def in_background(backend, **options):
    """`run_tuner` in a thread of its own. Returns a future of the tuner."""
    tuning = Future()

    def run():
        try:
            tuning.set_result(run_tuner(backend, **options))
        except BaseException as error:
            tuning.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return tuning


def run_each(backend, kinds, **options):
    """A trial for each kind, one after the other or side by side.

    Returns:
        The tuner, and the status of each kind's trial as the tuner saw it.
    """
    first = [{"kind": kind} for kind in kinds]
    scheduler = RandomSearch(backend.config_space, metrics=["error"], points_to_evaluate=first)

    def have_ended(status):
        seen = status.last_trial_status_seen
        return all(seen.get(trial_id, Status.in_progress) != Status.in_progress for trial_id in range(len(first)))

    tuner = run_tuner(backend, scheduler=scheduler, stop=have_ended, **options)
    seen = tuner.tuning_status.last_trial_status_seen
    return tuner, {kind: seen[trial_id] for trial_id, kind in enumerate(kinds)}


class Run:
    """What a tuner's run did, as its back-end and Syne Tune's results tell it.

    Attributes:
        trials: a row a trial: `trial_id`, `status`, `start` and `end` (Unix time, seconds).
    """

    def __init__(self, tuner):
        self._name, backend = tuner.name, tuner.trial_backend
        times = {trial_id: known.creation_time.timestamp() for trial_id, known in backend._trial_dict.items()}
        rows = [(trial_id, trial.status, times[trial_id], trial.end) for trial_id, trial in backend._trials.items()]
        self.trials = pd.DataFrame(rows, columns=["trial_id", "status", "start", "end"])

    @property
    def reports(self):
        """A row a report, as Syne Tune keeps them."""
        return load_experiment(self._name).results

    @property
    def finished(self):
        return self.trials[self.trials.status == Status.completed]

    @property
    def failed(self):
        return self.trials[self.trials.status == Status.failed]


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


def assert_nothing_lost_or_doubled(reports):
    """The reports of each trial are those of epochs 1, 2, 3, ..., each once and in order."""
    for _, of_trial in reports.groupby("trial_id"):
        assert list(of_trial.epoch) == list(range(1, len(of_trial) + 1))


def assert_failed_alone(run, trial_id):
    """Of the run's trials this one failed, after three reports or more, and no other did."""
    assert_nothing_lost_or_doubled(run.reports)
    assert list(run.failed.trial_id) == [trial_id]
    assert (run.reports.trial_id == trial_id).sum() >= 3, "reports before its end are kept"


def wait_until_ended(pids):
    wait_for(lambda: not alive(pids), LONG, "the end of all processes")


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


# --- programs --------------------------------------------------------------------------------------------------------

PROGRAM = """
import pathlib, sys
from syne_tune import Tuner
from syne_tune.config_space import uniform
from syne_tune.optimizer.baselines import RandomSearch
from syne_tune_workers import BACKEND

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
    tuner_name=sys.argv[1], suffix_tuner_name=False, **backend.tuner_options, OF_TUNER,
)
tuner.run()
"""


def program(backend, folder, n_workers=2, of_tuner="results_update_interval=0.5", **options):
    """A script that tunes with the back-end of this name until there is a file `stop`. Its argument is its name."""
    text = PROGRAM.replace("BACKEND", backend).replace("OPTIONS", repr(options)).replace("FOLDER", str(folder))
    return text.replace("N_WORKERS", str(n_workers)).replace("OF_TUNER", of_tuner)


def start_program(folder, name, text):
    script = folder.parent / f"{name}.py"
    script.write_text(text)
    command = [sys.executable, script, name]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


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
