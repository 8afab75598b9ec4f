"""The book's searches on real back-ends: what it adds to Syne Tune's tuner, with processes, images and a kernel."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from backend_helpers import (
    LONG,
    SPACE,
    assert_nothing_lost_or_doubled,
    program,
    report_epochs,
    results_of,
    run_each,
    run_tuner,
    start_program,
    wait_for,
    wait_for_end,
    wait_for_results,
    wait_until_ended,
)
from helpers import assert_interrupted, kernel
from syne_tune.config_space import choice
from syne_tune.optimizer.baselines import RandomSearch

from async_hpo import FASHION_MNIST, runs
from async_hpo.chapter import cnn_config_space, hpo_objective_cnn_synetune
from async_hpo.search import book_options, run_here, search

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("folder")]


# --- images ----------------------------------------------------------------------------------------------------------


def test_images_are_shared_and_not_copied(backend_for):
    def objective(x):
        import psutil
        from syne_tune import Reporter

        from async_hpo.data import load

        before = psutil.Process().memory_full_info().uss
        images = sum(len(X) for X, _ in load().values())
        Reporter()(epoch=1, error=x, images=images, own=(psutil.Process().memory_full_info().uss - before) / 2**20)

    run_tuner(backend_for(objective, share=[FASHION_MNIST]), max_trials=2, **book_options())
    reports = runs.find_run("test").reports
    assert (reports.images == 70_000).all()
    assert (reports.own < 20).all(), "MB; the images have 220"


#: Of the book's networks one that learns within seconds; LeNet errs as chance does until its second epoch.
SMALL_CNN = {"num_filters": 4, "num_layers": 1, "max_epochs": 1}


def test_the_order_of_trials_changes_no_learning_curve(backend_for):
    """Also where they share a process, one after the other."""
    one, other = ({"learning_rate": rate, **SMALL_CNN} for rate in (0.1, 0.5))
    backend = backend_for(hpo_objective_cnn_synetune, cnn_config_space, preload=[], share=[FASHION_MNIST])
    first, second, third = (curve(backend, config) for config in (one, other, one))
    assert first == third != second and max(first) < 0.6, "better than chance, where all would be alike"
    # ... and each is the curve of a run in a process of its own.
    assert list(run_here(hpo_objective_cnn_synetune, other).validation_error) == second


def curve(backend, config):
    trial_id = backend.start_trial(config).trial_id
    status, results = wait_for_end(backend, trial_id)
    assert status == "Completed" and backend.stderr(trial_id) == []
    return [result["validation_error"] for result in results]


# --- what it reports -------------------------------------------------------------------------------------------------

#: An expression -> what a trial that reports it is told; None: it is a number.
VALUES = {
    "torch.tensor(0.25)": None,
    "numpy.array(0.25)": None,
    "numpy.float16(0.25)": None,
    "numpy.int8(1)": None,
    "torch.tensor([0.25, 0.5])": "got a Tensor",
    "numpy.zeros((2, 2))": "got a ndarray",
    "decimal.Decimal('0.25')": "got a Decimal",
    "fractions.Fraction(1, 4)": "got a Fraction",
    "0.25 + 1j": "got a complex",
    "7 ** 6000": "bits",
    "'0.25'": "'0.25' (str)",
    "[0.25]": "[0.25] (list)",
    "True": "True (bool)",
    "None": "got a NoneType",
    "float('nan')": "nothing but NaN",
}


def report_a_value(kind):
    import decimal
    import fractions

    import numpy
    import torch
    from syne_tune import Reporter

    names = {"decimal": decimal, "fractions": fractions, "numpy": numpy, "torch": torch}
    Reporter()(epoch=1, error=eval(kind, names))


def test_a_metric_that_is_no_number_fails_its_trial_alone_and_says_why(backend_for, capsys):
    backend = backend_for(report_a_value, {"kind": choice([*VALUES])}, preload=["torch", __name__])
    _, status = run_each(backend, VALUES, **book_options())
    assert status == {kind: "Failed" if told else "Completed" for kind, told in VALUES.items()}
    printed = capsys.readouterr().out
    for trial_id, told in enumerate(VALUES.values()):
        if told:
            _, _, after = printed.partition(f"Trial {trial_id} failed")
            assert told in after.partition("\nTrial ")[0]


# --- when the driver is interrupted, or can't go on -------------------------------------------------------------------


def test_interrupting_a_notebook(name_of_backend, folder):
    with kernel() as (manager, client, process):
        text = program(name_of_backend, folder, of_tuner="**book_options()")
        setup = "import sys; sys.argv = ['', 'program']; from async_hpo.search import book_options\n"
        request = client.execute(setup + text)
        results = wait_for_results(folder, "program", process)
        manager.interrupt_kernel()
        assert_interrupted(client, request)
        wait_for(lambda: time.time() - (folder / "heartbeat").stat().st_mtime > 1, LONG, "the end of the trials")
        assert len(results_of(folder, "program")) >= len(results)
        started = [child.pid for child in process.children(recursive=True)]  # warm processes wait for the next run
    wait_until_ended(started)  # with the kernel


#: As PROGRAM of backend_helpers, but trial 0 alone is endless; from the second end of a trial on, the driver has less
#: and less of what it needs to start another one.
PROGRAM = """
import os, pandas, resource
from syne_tune import Tuner
from syne_tune.config_space import uniform
from syne_tune.optimizer.baselines import RandomSearch
from syne_tune.tuner_callback import TunerCallback
from async_hpo import BACKEND
from async_hpo.search import book_options

def objective(x):
    import os, time
    from syne_tune import Reporter
    report = Reporter()
    for epoch in range(1, 100_000 if x == 0 else 4):
        report(epoch=epoch, error=x, pid=os.getpid())
        time.sleep(0.05)

class Shortage(TunerCallback):
    margin = MARGIN
    def on_trial_complete(self, trial, result):
        if trial.trial_id >= 2 and self.on_disk() >= 3:
            kind, most = SHORTAGE
            resource.setrlimit(kind, (max(0, most + self.margin), resource.getrlimit(kind)[1]))
            self.margin -= 1
    def on_disk(self):
        file = tuner.tuner_path / "results.csv.zip"
        return len(pandas.read_csv(file)) if file.exists() else 0

space = {"x": uniform(0, 1)}
backend = BACKEND(objective, space)
backend.warm_up()
first = [{"x": 0.0}, {"x": 0.25}, {"x": 0.5}, {"x": 0.75}]
tuner = Tuner(
    trial_backend=backend, scheduler=RandomSearch(space, metrics=["error"], points_to_evaluate=first),
    stop_criterion=lambda status: False, n_workers=2, sleep_time=0, tuner_name="program", suffix_tuner_name=False,
    **backend.tuner_options, **book_options(callbacks=[Shortage()]),
)
tuner.run()
"""
OPEN_FILES = "resource.RLIMIT_NOFILE, len(os.listdir('/proc/self/fd')) - 1"
SIZE_OF_FILES = "resource.RLIMIT_FSIZE, 0"


@pytest.mark.parametrize(
    ("shortage", "margin", "reason"),
    [(OPEN_FILES, margin, "Too many open files") for margin in (0, 1, 3)] + [(SIZE_OF_FILES, 0, "File too large")],
)
def test_the_reason_is_shown_all_trials_end_and_reports_are_kept(name_of_backend, folder, shortage, margin, reason):
    text = PROGRAM.replace("BACKEND", name_of_backend).replace("SHORTAGE", shortage).replace("MARGIN", str(margin))
    if name_of_backend == "RayBackend" and shortage == OPEN_FILES:
        pytest.skip("Ray itself aborts a process in which it can't open a file")
    process = start_program(folder, "program", text)
    _, err = process.communicate(timeout=LONG)
    assert process.returncode == 1 and reason in err, err
    results = results_of(folder, "program")
    wait_until_ended([int(pid) for pid in results.pid.unique()])
    if shortage == OPEN_FILES:  # with its trials the driver has closed files enough
        assert (results.trial_id.value_counts()[[1, 2]] == 3).all()
    else:  # what was written before
        assert len(results) >= 3


# --- several at once, and elsewhere -----------------------------------------------------------------------------------


def test_two_threads_tune_side_by_side(backend_for):
    runs_of, errors = {}, []

    def tune(name, backend):
        try:
            runs_of[name] = search(
                backend, RandomSearch(SPACE, metrics=["error"]), name, LONG, n_workers=np.int64(1), n_trials=3
            )
        except BaseException as error:
            errors.append(error)

    backends = {name: backend_for(lambda x, pause=pause: report_epochs(x, 4, pause)) for name, pause in PAUSES.items()}
    threads = [threading.Thread(target=tune, args=item) for item in backends.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert not errors
    for run in runs_of.values():
        assert_nothing_lost_or_doubled(run.reports)
        assert (run.reports.trial_id.value_counts()[:3] == 4).all()


PAUSES = {"slow": 0.1, "quick": 0.01}


@pytest.mark.parametrize("where", ["a long TMPDIR", "no HOME, many threads, and a folder that can't be written"])
def test_environments_of_clusters_and_readers(name_of_backend, folder, where, tmp_path):
    environment, start_in = {**os.environ}, tmp_path
    if where == "a long TMPDIR":
        environment["TMPDIR"] = str(tmp_path / ("long" * 30))
        Path(environment["TMPDIR"]).mkdir()
    else:
        del environment["HOME"]
        environment["OMP_NUM_THREADS"] = "4, 2,1"
        start_in = Path("/proc")  # where root can't write either
    text = PROGRAM.replace("BACKEND", name_of_backend).replace("SHORTAGE", "resource.RLIMIT_CORE, 0")
    text = text.replace("MARGIN", "0").replace("lambda status: False", "lambda status: status.num_trials_finished >= 3")
    script = tmp_path / "script.py"
    script.write_text(text)
    done = subprocess.run([sys.executable, script], cwd=start_in, env=environment, capture_output=True, text=True)
    if where == "a long TMPDIR" and done.returncode:
        assert "Set TMPDIR to" in done.stderr.splitlines()[-1], done.stderr
    else:
        assert done.returncode == 0, done.stderr
        assert (results_of(folder, "program").trial_id.value_counts()[[1, 2]] == 3).all()
