"""A trial is an ordinary Python process: what it may do, to itself and to its back-end, and what may happen to it."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import dill
import numpy as np
import pytest
from helpers import (
    LONG,
    SPACE,
    assert_nothing_lost_or_doubled,
    report_epochs,
    report_until,
    results_of,
    run_tuner,
    start_program,
    wait_for,
    wait_for_end,
    wait_until_ended,
)
from syne_tune.config_space import choice
from syne_tune.optimizer.baselines import RandomSearch

from async_hpo import runs
from async_hpo.search import Budget, search
from tools.notebooks import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("folder")]


def run_each(backend, kinds, **options):
    """A trial for each kind, one after the other or side by side. Returns the status of each kind's trial."""
    first = [{"kind": kind} for kind in kinds]
    scheduler = RandomSearch(backend.config_space, metrics=["error"], points_to_evaluate=first)
    run_tuner(backend, scheduler=scheduler, stop=Budget(n_trials=len(kinds)), **options)
    status = runs.find_run("test").trials.set_index("trial_id").status
    return {kind: status[trial_id] for trial_id, kind in enumerate(kinds)}


# --- what it prints is bytes -----------------------------------------------------------------------------------------

PRINTS = {
    "bytes of no encoding": "os.write(1, bytes(range(256))); os.write(2, 'Grüße'.encode('utf-16'))",
    "another encoding": "sys.stdout.reconfigure(encoding='utf-16'); print('Grüße'); os.write(2, b'\\xff')",
    "into memory": "sys.stdout = io.StringIO(); sys.stderr = io.StringIO(); print('not seen')",
    "into nothing": "sys.stdout = sys.stderr = None; print('not seen')",
    "into what is no stream": "sys.stdout = 7; sys.stderr = object()",
    "into a detached stream": "sys.stdout.detach(); sys.stderr.detach()",
    "into a closed stream": "sys.stdout.close(); sys.stderr.close()",
    "into closed descriptors": "os.close(1); os.close(2)",
    "to a full disk": "os.dup2(os.open('/dev/full', os.O_WRONLY), 1); sys.stdout.write('x')",
    "half a report": "os.write(1, b'[tune-metric]: {\"epoch\": 3, ')",
    "no report": "print('[tune-metric]: the tag alone'); print('[tune-metric]: {\"epoch\": 1}')",
    "a line of 8 MB": "os.write(1, b'x' * 2**23); os.write(2, b'y' * 2**23)",
    "from eight threads": "for _ in range(8): threading.Thread(target=chatter).start()",
}


def print_at_the_end(kind):
    """The name says what is printed; two reports come before."""
    import io
    import os
    import sys
    import threading

    from syne_tune import Reporter

    report = Reporter()

    def chatter():
        for _ in range(200):
            sys.stdout.write("half a li")
            sys.stdout.write("ne\n")
            os.write(2, b"x")

    for epoch in (1, 2):
        report(epoch=epoch, error=0.5)
    exec(PRINTS[kind], {"io": io, "os": os, "sys": sys, "threading": threading, "chatter": chatter})


@pytest.mark.parametrize("n_workers", [1, 2])
def test_a_trial_that_has_reported_may_print_anything(backend_for, n_workers):
    backend = backend_for(print_at_the_end, {"kind": choice([*PRINTS])})
    status = run_each(backend, PRINTS, n_workers=n_workers)
    assert status == dict.fromkeys(PRINTS, "Completed")
    reports = runs.find_run("test").reports
    assert (reports.trial_id.value_counts()[range(len(PRINTS))] == 2).all()


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
    status = run_each(backend, VALUES)
    assert status == {kind: "Failed" if told else "Completed" for kind, told in VALUES.items()}
    printed = capsys.readouterr().out
    for trial_id, told in enumerate(VALUES.values()):
        if told:
            _, _, after = printed.partition(f"Trial {trial_id} failed")
            assert told in after.partition("\nTrial ")[0]


# --- what it leaves behind -------------------------------------------------------------------------------------------


def snapshot():
    """Of all that a trial could change for the next one, if they had one process."""
    import resource
    import signal
    import warnings

    os.umask(umask := os.umask(0))
    return {
        "folder": os.getcwd(),
        "environment": {name: value for name, value in os.environ.items() if "RAY" not in name},
        "umask": umask,
        "alarm": (str(signal.getsignal(signal.SIGALRM)), signal.getitimer(signal.ITIMER_REAL)[0] > 0),
        "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
        "paths": [path for path in sys.path],
        "warnings": len(warnings.filters),
        "excepthook": str(sys.excepthook),
        "stdin": str(sys.stdin),
        "recursion": sys.getrecursionlimit(),
    }


def leave_things_changed(x, folder):
    import resource
    import shutil
    import signal
    import tempfile
    import warnings

    from syne_tune import Reporter

    Reporter()(epoch=1, error=x, pid=os.getpid(), found=repr(snapshot()))
    gone = tempfile.mkdtemp(dir=folder)
    os.chdir(gone)
    shutil.rmtree(gone)
    os.environ["LEFT_BEHIND"] = "yes"
    os.environ.pop("PATH", None)
    os.umask(0o077)
    signal.signal(signal.SIGALRM, lambda *_: os._exit(9))
    signal.setitimer(signal.ITIMER_REAL, 600)
    for limit, most in ((resource.RLIMIT_NOFILE, 200), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(limit, (most, resource.getrlimit(limit)[1]))
    sys.path.insert(0, gone)
    warnings.simplefilter("error")
    sys.excepthook = print
    sys.stdin = None
    sys.setrecursionlimit(400)


def test_a_trial_starts_as_the_one_before_it_did(backend_for, tmp_path):
    backend = backend_for(leave_things_changed, SPACE | {"folder": str(tmp_path)})
    run_tuner(backend, max_trials=3, n_workers=1)
    run = runs.find_run("test")
    assert (run.trials.status[:4] == "Completed").all()
    first, *others = run.reports.found[:4]
    for found in others:
        assert found == first


def draw(x):
    import random

    import torch
    from syne_tune import Reporter

    Reporter()(epoch=1, error=x, torch=torch.rand(1).item(), numpy=np.random.rand(), python=random.random())
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(0)  # what comes after it is the trial's own


def test_no_trial_repeats_anothers_random_numbers(backend_for):
    run_tuner(backend_for(draw, preload=["torch", __name__]), max_trials=6)
    reports = runs.find_run("test").reports
    for name in ("torch", "numpy", "python"):
        assert reports[name].is_unique


def test_an_edited_module_runs_as_it_is_now(backend_for, tmp_path, monkeypatch):
    """Also one that is imported by another, and in the middle of a run's life."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "outer_recipe.py").write_text("import inner_recipe\ndef error(): return inner_recipe.ERROR\n")

    def objective(x):
        import outer_recipe
        from syne_tune import Reporter

        Reporter()(epoch=1, error=outer_recipe.error())

    for error in (0.5, 0.25):
        (tmp_path / "inner_recipe.py").write_text(f"ERROR = {error}\n")
        if error == 0.5:
            backend = backend_for(objective, preload=["outer_recipe", __name__])
        run_tuner(backend, max_trials=1)
        assert set(runs.find_run("test").reports.error) == {error}


# --- when the driver can't go on --------------------------------------------------------------------------------------

#: As PROGRAM of the helpers, but trial 0 alone is endless; from the second end of a trial on, the driver has less and
#: less of what it needs to start another one.
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


# --- several at once, and later --------------------------------------------------------------------------------------


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
        assert_nothing_lost_or_doubled(run)
        assert (run.reports.trial_id.value_counts()[:3] == 4).all()


PAUSES = {"slow": 0.1, "quick": 0.01}


def test_a_back_end_that_was_loaded_signals_nobody(backend_for, go):
    """The trials of the saved one are its driver's, or have ended, and their numbers may be another's now."""
    backend = backend_for(report_until, SPACE | {"file": str(go)})
    backend.warm_up()
    trial_id = backend.start_trial({"x": 0.5, "file": str(go)}).trial_id
    wait_for(lambda: backend.fetch_status_results([trial_id])[1], LONG, "a report")
    loaded = dill.loads(dill.dumps(backend))
    statuses, _ = loaded.fetch_status_results([trial_id])
    assert statuses[trial_id][1] == "Failed"
    loaded.stop_trial(trial_id)
    loaded.stop_all()
    go.touch()
    assert wait_for_end(backend, trial_id)[0] == "Completed", "its own end"


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


def test_the_script_of_the_page_runs_in_an_empty_folder(folder, tmp_path):
    text = (ROOT / "book" / "own_search.py").read_text()
    assert "seconds=60," in text
    (tmp_path / "own").mkdir()
    script = tmp_path / "own" / "search.py"
    script.write_text(text.replace("seconds=60,", f"seconds={LONG}, n_trials=5,"))
    done = subprocess.run([sys.executable, script], cwd=script.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "useful" in done.stdout and "config_n_hidden" in done.stdout
    assert os.listdir(script.parent) == ["search.py"], "it leaves nothing behind"
    assert len(runs.find_run("my-search").finished) >= 5
