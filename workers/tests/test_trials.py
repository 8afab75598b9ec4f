"""A trial is an ordinary Python process: what it may do, to itself and to its back-end, and what may happen to it."""

import os

import dill
import numpy as np
import pytest
from backend_helpers import LONG, SPACE, Run, report_until, run_each, run_tuner, wait_for, wait_for_end
from syne_tune.config_space import choice

pytestmark = pytest.mark.usefixtures("folder")


# --- what it prints is bytes -----------------------------------------------------------------------------------------

PRINTS = {
    "bytes of no encoding": "os.write(1, bytes(range(256))); os.write(2, 'Grüße'.encode('utf-16'))",
    "into memory": "sys.stdout = io.StringIO(); sys.stderr = io.StringIO(); print('not seen')",
    "into a detached stream": "sys.stdout.detach(); sys.stderr.detach()",
    "into a closed stream": "sys.stdout.close(); sys.stderr.close()",
    "to a full disk": "os.dup2(os.open('/dev/full', os.O_WRONLY), 1); sys.stdout.write('x')",
    "half a report": "os.write(1, b'[tune-metric]: {\"epoch\": 3, ')",
    "no report": "print('[tune-metric]: the tag alone'); print('[tune-metric]: {\"epoch\": 1}')",
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


def test_a_trial_that_has_reported_may_print_anything(backend_for):
    backend = backend_for(print_at_the_end, {"kind": choice([*PRINTS])})
    tuner, status = run_each(backend, PRINTS)
    assert status == dict.fromkeys(PRINTS, "Completed")
    reports = Run(tuner).reports
    assert (reports.trial_id.value_counts()[range(len(PRINTS))] == 2).all()


# --- what it leaves behind -------------------------------------------------------------------------------------------


def leave_things_changed(x, folder):
    import shutil
    import tempfile

    from syne_tune import Reporter

    environment = {name: value for name, value in os.environ.items() if "RAY" not in name}
    Reporter()(epoch=1, error=x, found=repr((os.getcwd(), environment)))
    gone = tempfile.mkdtemp(dir=folder)
    os.chdir(gone)
    shutil.rmtree(gone)
    os.environ["LEFT_BEHIND"] = "yes"
    os.environ.pop("PATH", None)


def test_a_trial_starts_in_the_folder_and_environment_of_the_one_before_it(backend_for, tmp_path):
    backend = backend_for(leave_things_changed, SPACE | {"folder": str(tmp_path)})
    run = Run(run_tuner(backend, max_trials=3, n_workers=1))
    assert (run.trials.status[:4] == "Completed").all()
    assert run.reports.found[:4].nunique() == 1


def draw(x):
    import random

    import torch
    from syne_tune import Reporter

    Reporter()(epoch=1, error=x, torch=torch.rand(1).item(), numpy=np.random.rand(), python=random.random())
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(0)  # what comes after it is the trial's own


@pytest.mark.slow
def test_no_trial_repeats_anothers_random_numbers(backend_for):
    pytest.importorskip("torch")
    reports = Run(run_tuner(backend_for(draw, preload=["torch", __name__]), max_trials=6)).reports
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
        assert set(Run(run_tuner(backend, max_trials=1)).reports.error) == {error}


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
