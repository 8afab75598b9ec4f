"""One trial in this process, and the book's searches on real back-ends, with images and a kernel."""

import sys
import time

import pandas as pd
import pytest
from backend_helpers import (
    LONG,
    program,
    results_of,
    start_program,
    wait_for,
    wait_for_end,
    wait_for_results,
    wait_until_ended,
)
from helpers import assert_interrupted, kernel
from syne_tune.tuning_status import TuningStatus

from async_hpo import FASHION_MNIST
from async_hpo.chapter import cnn_config_space, hpo_objective_cnn_synetune
from async_hpo.search import Budget, run_here

pytestmark = pytest.mark.usefixtures("folder")

BOOK = "from async_hpo.search import book_options\n"


def test_a_budget_ends_when_the_first_trials_have_ended():
    status, budget = TuningStatus(metric_names=["error"]), Budget(n_trials=2)
    assert not budget(status)
    for trial_id, seen in ((7, "InProgress"), (8, "Completed"), (9, "Failed")):
        status.last_trial_status_seen[trial_id] = seen
        assert not budget(status), "other trials than the run's first two"
    status.last_trial_status_seen[7] = "Stopped"
    assert budget(status)
    assert not Budget(seconds=LONG)(status) and Budget(seconds=0)(status) and Budget(seconds=0, n_trials=9)(status)


@pytest.mark.parametrize(("config", "shown"), [({"max_epochs": 3}, "epoch 3 of 3"), ({}, "epoch 3, ")])
def test_run_here_collects_reports_and_passes_on_the_rest(capsys, config, shown):
    def objective(max_epochs=3):
        from syne_tune import Reporter

        report = Reporter()
        for epoch in range(1, max_epochs + 1):
            print("still", end=" ")
            print("here", sys.stdout.encoding == stdout.encoding, sys.stdout.isatty() == stdout.isatty())
            report(epoch=epoch, error=1 / epoch)
        print("no end", end="")

    stdout = sys.stdout
    reports = run_here(objective, config)
    assert sys.stdout is stdout
    assert reports.epoch.tolist() == [1, 2, 3] and reports.error.tolist() == [1, 1 / 2, 1 / 3]
    assert reports.st_worker_time.is_monotonic_increasing
    out = capsys.readouterr().out
    assert out.count("still here True True\n") == 3 and "no end" in out and shown in out
    assert ("100%" in out) == bool(config) and "tune-metric" not in out and "None" not in out


#: Of the book's networks one that learns within seconds; LeNet errs as chance does until its second epoch.
SMALL_CNN = {"num_filters": 4, "num_layers": 1, "max_epochs": 1}


@pytest.mark.slow
def test_the_order_of_trials_changes_no_learning_curve(backend_for):
    """Also where they share images, and a process, one after the other."""

    def curve(config):
        trial_id = backend.start_trial(config).trial_id
        status, results = wait_for_end(backend, trial_id)
        assert status == "Completed" and backend.stderr(trial_id) == []
        return [result["validation_error"] for result in results]

    one, other = ({"learning_rate": rate, **SMALL_CNN} for rate in (0.1, 0.5))
    backend = backend_for(hpo_objective_cnn_synetune, cnn_config_space, preload=[], share=[FASHION_MNIST])
    first, second, third = (curve(config) for config in (one, other, one))
    assert first == third != second and max(first) < 0.6, "better than chance, where all would be alike"
    # ... and each is the curve of a run in a process of its own.
    assert list(run_here(hpo_objective_cnn_synetune, other).validation_error) == second


@pytest.mark.slow
def test_interrupting_a_notebook(name_of_backend, folder):
    with kernel() as (manager, client, process):
        text = program(name_of_backend, folder, of_tuner="**book_options()")
        request = client.execute(f"{BOOK}import sys; sys.argv = ['', 'program']\n{text}")
        results = wait_for_results(folder, "program", process)
        manager.interrupt_kernel()
        assert_interrupted(client, request)
        wait_for(lambda: time.time() - (folder / "heartbeat").stat().st_mtime > 1, LONG, "the end of the trials")
        assert set(results.st_worker_timestamp) <= set(results_of(folder, "program").st_worker_timestamp)
        assert set(pd.read_csv(folder / "program" / "trials.csv").status) == {"Stopped"}
        started = [child.pid for child in process.children(recursive=True)]  # warm processes wait for the next run
    wait_until_ended(started)  # with the kernel


SHORTAGE = """
import pathlib, resource
from syne_tune.tuner_callback import TunerCallback

class Shortage(TunerCallback):
    def on_loop_end(self):
        if pathlib.Path("RESULTS").exists():
            resource.setrlimit(resource.LIMIT, (0, resource.getrlimit(resource.LIMIT)[1]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "reason"), [("RLIMIT_NOFILE", "Too many open files"), ("RLIMIT_FSIZE", "File too large")]
)
def test_the_reason_is_shown_all_trials_end_and_reports_are_kept(name_of_backend, folder, limit, reason):
    """The driver may open no more files, or write none: soon it can't keep results."""
    if name_of_backend == "RayBackend" and limit == "RLIMIT_NOFILE":
        pytest.skip("Ray itself aborts a process in which it can't open a file")
    shortage = SHORTAGE.replace("RESULTS", str(folder / "program" / "results.csv.zip")).replace("LIMIT", limit)
    tuner = program(name_of_backend, folder, of_tuner="**book_options(callbacks=[Shortage()])")
    process = start_program(folder, "program", BOOK + shortage + tuner)
    _, err = process.communicate(timeout=LONG)
    assert process.returncode == 1 and reason in err, err
    results = results_of(folder, "program")
    wait_until_ended([int(pid) for pid in results.pid.unique()])


@pytest.mark.slow
@pytest.mark.parametrize("tmpdir", ["long" * 30, None])
def test_environments_of_clusters_and_readers(name_of_backend, folder, tmpdir, tmp_path, monkeypatch):
    """A long TMPDIR works or is told; so does no HOME, many threads, and a folder that can't be written."""
    if tmpdir:
        monkeypatch.setenv("TMPDIR", str(tmp_path / tmpdir))
        (tmp_path / tmpdir).mkdir()
    else:
        monkeypatch.delenv("HOME")
        monkeypatch.setenv("OMP_NUM_THREADS", "4, 2,1")
        monkeypatch.chdir("/proc")  # where root can't write either
    process = start_program(folder, "program", program(name_of_backend, folder))
    try:
        wait_for_results(folder, "program", process)
        (folder / "stop").touch()
        _, err = process.communicate(timeout=LONG)
        assert process.returncode == 0, err
    except AssertionError as error:
        assert tmpdir and "Set TMPDIR to" in str(error), error
