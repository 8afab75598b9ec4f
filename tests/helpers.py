"""What tests with real processes share."""

import subprocess
import sys
import time
from contextlib import contextmanager

import psutil
from jupyter_client.manager import KernelManager
from syne_tune import StoppingCriterion, Tuner
from syne_tune.config_space import uniform
from syne_tune.experiments import load_experiment
from syne_tune.optimizer.baselines import RandomSearch

from async_hpo import runs

SPACE = {"x": uniform(0, 1)}


def report_epochs(x, n_epochs=3, pause=0.05):
    from syne_tune import Reporter

    report = Reporter()
    for epoch in range(1, n_epochs + 1):
        time.sleep(pause)
        report(epoch=epoch, error=x / epoch)


def run_tuner(backend, seconds=60, max_trials=None, scheduler=None, name="test", n_workers=2, callbacks=(), **options):
    """Run a tuner until it has finished `max_trials` trials or `seconds` have passed."""
    backend.warm_up()
    tuner = Tuner(
        trial_backend=backend,
        scheduler=scheduler or RandomSearch(backend.config_space, metrics=["error"]),
        stop_criterion=StoppingCriterion(max_wallclock_time=seconds, max_num_trials_finished=max_trials),
        n_workers=n_workers,
        sleep_time=0,
        tuner_name=name,
        max_failures=1000,
        callbacks=[runs.TrialGuard(), runs.SafeResults(), *callbacks],
        output_logger=runs.QuietLogger(),
        **options,
    )
    tuner.run()
    return tuner


def assert_nothing_lost_or_doubled(run):
    """The reports of each trial are those of epochs 1, 2, 3, ..., each once and in order."""
    for _, reports in run.reports.groupby("trial_id"):
        assert list(reports.epoch) == list(range(1, len(reports) + 1))


def assert_failed_alone(run, trial_id):
    """Of the run's trials this one failed, after three reports or more, and no other did."""
    assert_nothing_lost_or_doubled(run)
    status = run.trials.set_index("trial_id").status
    assert status[trial_id] == "Failed" and (status == "Failed").sum() == 1
    assert (run.reports.trial_id == trial_id).sum() >= 3, "reports before its end are kept"


PROGRAM = """
import signal, sys, time
from syne_tune import StoppingCriterion, Tuner
from syne_tune.config_space import uniform
from syne_tune.optimizer.baselines import RandomSearch
from async_hpo import BACKEND, runs

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job in the background ignores it otherwise

def objective(x):  # defined in the main script, which is not run again in a trial
    import os, pathlib, time
    from syne_tune import Reporter
    report = Reporter()
    for epoch in range(1, 1000):
        report(epoch=epoch, error=x, pid=os.getpid())
        pathlib.Path("FOLDER/heartbeat").touch()
        time.sleep(0.1)

space = {"x": uniform(0, 1)}
backend = BACKEND(objective, space, preload=[], **OPTIONS)
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


def program(backend, folder, **options):
    """A script that tunes, two workers, with the back-end of this name: its arguments are a name and seconds."""
    return PROGRAM.replace("BACKEND", backend).replace("OPTIONS", repr(options)).replace("FOLDER", str(folder))


def start_program(folder, name, seconds, text):
    script = folder.parent / f"{name}.py"
    script.write_text(text)
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


def wait_for(condition, seconds, what):
    """Call `condition` until it returns something true, and return that."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.05)
    return value


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
def kernel():
    """A notebook's kernel: its manager, a client, and its process."""
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel()
    client = manager.blocking_client()
    try:
        client.start_channels()
        client.wait_for_ready(timeout=60)
        yield manager, client, psutil.Process(manager.provisioner.pid)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def assert_interrupted(client, request):
    """The cell that was sent by `request` ends because of the interrupt."""
    reply = client.get_shell_msg(timeout=30)
    assert reply["parent_header"]["msg_id"] == request and reply["content"]["ename"] == "KeyboardInterrupt"
