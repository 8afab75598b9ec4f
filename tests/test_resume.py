"""A search that stops in any way goes on where it stopped."""

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from backend_helpers import LONG, report_epochs, wait_for
from syne_tune.backend import PythonBackend
from syne_tune.config_space import uniform
from syne_tune.constants import ST_WORKER_TIMESTAMP
from syne_tune.optimizer.baselines import ASHA, RandomSearch
from syne_tune.tuning_status import TuningStatus
from syne_tune_workers import ForkserverBackend

from async_hpo import runs, state
from async_hpo.search import search

N_EPOCHS = 5
N_STOPS = 3
SPACE = {"x": uniform(0, 1), "n_epochs": N_EPOCHS}
#: Starts each session with what it needs imported.
CONTEXT = multiprocessing.get_context("forkserver")


def with_checkpoint(x, n_epochs, st_checkpoint_dir):
    from syne_tune import Reporter

    path = Path(st_checkpoint_dir) / "epoch"
    path.parent.mkdir(exist_ok=True)
    report = Reporter()
    for epoch in range(int(path.read_text()) + 1 if path.exists() else 1, n_epochs + 1):
        time.sleep(0.05)
        with state.in_one_step(path) as part:
            part.write_text(str(epoch))
        report(epoch=epoch, error=x / epoch)


def go_on(objective=report_epochs, space=SPACE, scheduler=None, seconds=1, **options):
    backend = ForkserverBackend(objective, space, preload=[__name__])
    return search(backend, scheduler or random_search(space), "again", seconds=seconds, resume=True, **options)


def session(folder, objective, make_scheduler, n_trials):
    os.environ["SYNETUNE_FOLDER"] = folder
    np.random.seed(0)  # as scripts do: what is drawn first would be drawn again
    go_on(objective, scheduler=make_scheduler(SPACE), seconds=LONG, n_trials=n_trials)


def random_search(space):
    return RandomSearch(space, metrics=["error"])


def asha(space):
    return ASHA(space, metric="error", time_attr="epoch", max_t=N_EPOCHS, grace_period=1, reduction_factor=2)


def folder_of_run():
    return next(iter(runs.folders("again", Path(os.environ["SYNETUNE_FOLDER"]))), None)


def was_saved_since(begin):
    path = (folder_of_run() or Path()) / state.FILENAME
    return path.exists() and path.stat().st_mtime > begin


def stop(process, how):
    """At a random moment after it has begun."""
    time.sleep(random.uniform(0, 1))
    if how == "kill the server":
        for server in psutil.Process(process.pid).children():
            server.kill()
        time.sleep(0.3)
    if process.is_alive():
        os.kill(process.pid, signal.SIGKILL if how == "kill the tuner" else signal.SIGINT)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("objective", "make_scheduler", "how"),
    [
        (with_checkpoint, random_search, "kill the tuner"),
        (report_epochs, random_search, "interrupt"),
        (report_epochs, asha, "kill the tuner"),
        (with_checkpoint, asha, "kill the server"),
    ],
)
def test_whatever_stops_it_no_trial_is_lost_or_doubled_and_the_clock_goes_on(objective, make_scheduler, how, folder):
    """Sessions one after the other, each stopped; then one with three more trials, which ends by itself."""
    finished, wallclock_time, run = {}, 0.0, None
    CONTEXT.set_forkserver_preload(["async_hpo.search", __name__])
    for n in range(N_STOPS + 1):
        n_trials = None if n < N_STOPS else run.trials.trial_id.nunique() + 3
        process = CONTEXT.Process(target=session, args=(str(folder), objective, make_scheduler, n_trials))
        begin = time.time()
        process.start()
        if n < N_STOPS:
            wait_for(lambda begin=begin: was_saved_since(begin), LONG, "the run")
            stop(process, how)
        process.join()
        run = runs.read_run(folder_of_run())
        now = {trial: list(group.epoch) for trial, group in run.reports.groupby("trial_id")}
        assert {trial: now[trial] for trial in finished} == finished
        finished = {trial: now[trial] for trial in run.finished.trial_id}
        for epochs in finished.values():
            if objective == with_checkpoint:  # an epoch may be saved, and its report cut off: then nobody reports it
                assert epochs == sorted(set(epochs))
            else:
                assert epochs == [*range(1, len(epochs) + 1)]
                assert make_scheduler == asha or len(epochs) == N_EPOCHS
        busy = run.trials.sort_values(["worker", "start"])
        assert (busy.end <= busy.groupby("worker").start.shift(-1, fill_value=np.inf) + 0.1).all()
        assert run.wallclock_time >= wallclock_time
        configs = {(row.trial_id, row.config_x) for row in run.reports.itertuples()}
        assert len(configs) == len(now) == len({x for _, x in configs}), "each trial has one, and no other has it"
        wallclock_time = run.wallclock_time
    assert finished and (make_scheduler == asha or len(finished) >= 3)


def test_what_a_trial_with_a_checkpoint_printed_is_known_and_others_begin_anew(folder):
    """Two trials ran when the tuner was killed, which knew of their first reports. They had printed two each."""
    lines = [f'[tune-metric]: {{"epoch": {epoch}, "{ST_WORKER_TIMESTAMP}": {1e10 * epoch}}}\n' for epoch in (1, 2)]
    for trial_id in range(3):
        (folder / str(trial_id)).mkdir(parents=True)
        (folder / str(trial_id) / "std.out").write_text("".join(lines))
        (folder / str(trial_id) / "std.out.before").write_text(lines[0])
    (folder / "1" / "checkpoints" / "epoch").mkdir(parents=True)
    metadata = dict.fromkeys(state.SAME, "a") | {"st_tuner_start_timestamp": 0.0}
    tuner = SimpleNamespace(**dict.fromkeys(state.OF_TUNER), tuner_path=folder, metadata=metadata)
    tuner.tuning_status = TuningStatus(["error"])
    first = [{"trial_id": trial_id, "epoch": 1, ST_WORKER_TIMESTAMP: 1e10} for trial_id in range(3)]
    trials = [{"trial_id": 2, "status": "Completed", "config": {}, "end": 3.0}]
    trials += [{"trial_id": trial_id, "status": "InProgress", "config": {}} for trial_id in (0, 1)]
    begin = time.time()
    state.save(tuner, first, trials)
    found = state.load(folder, tuner.metadata)
    assert found["running"] == [0, 1] and found["anew"] == [0]
    ((trial_id, (late,)),) = found["late"].items()
    assert (trial_id, late["epoch"], late[runs.RUN_TIME]) == (1, 2, found["elapsed"])
    assert found["elapsed"] == pytest.approx(2e10 - begin, abs=LONG), "the clock went on"
    assert [row["end"] for row in found["trials"]] == [3.0] + [found["elapsed"]] * 2


def test_trials_that_were_running_come_first_and_then_the_schedulers_own():
    scheduler = random_search(SPACE)
    state._suggest_first(scheduler, [3, 1])
    first, second, own = (scheduler.suggest() for _ in range(3))
    assert [first.checkpoint_trial_id, second.checkpoint_trial_id] == [3, 1] and not first.spawn_new_trial_id
    assert own.spawn_new_trial_id and "x" in own.config


def test_another_search_under_the_same_name_is_refused_and_overwrites_nothing(folder):
    before = go_on()
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for what, options in {
        "objective": {"objective": with_checkpoint},
        "config_space": {"space": {"x": uniform(0, 2), "n_epochs": N_EPOCHS}},
        "metric_names": {"scheduler": RandomSearch(SPACE, metrics=["epoch"])},
        "metric_mode": {"scheduler": RandomSearch(SPACE, metrics=["error"], do_minimize=False)},
        "scheduler_name": {"scheduler": asha(SPACE)},
    }.items():
        with pytest.raises(ValueError, match=f"{before.name} had another {what}.*give this search another name"):
            go_on(**options)
    with state.locked(folder / before.name), pytest.raises(ValueError, match="is running in another process"):
        go_on()
    with pytest.raises(ValueError, match="PythonBackend can't go on with a run"):
        search(PythonBackend(report_epochs, SPACE), random_search(SPACE), "again", seconds=1, resume=True)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == files


def test_a_budget_that_is_used_up_starts_no_trial_and_a_larger_one_goes_on(folder):
    ForkserverBackend(report_epochs, SPACE, preload=[__name__]).warm_up()  # whose time is not counted here
    begin = time.monotonic()
    first, again = go_on(), go_on()
    spent = time.monotonic() - begin
    assert list(again.trials.trial_id) == list(first.trials.trial_id) and again.reports.equals(first.reports)
    time.sleep(2)
    begin = time.monotonic()
    more = go_on(seconds=LONG, n_trials=len(first.trials) + 2)
    spent += time.monotonic() - begin
    assert len(more.finished) > len(first.finished) and more.wallclock_time > first.wallclock_time
    times = more.reports.time  # on the clock of the run, which stood still meanwhile
    assert times.is_monotonic_increasing and more.wallclock_time < spent
    seen = more.reports.st_tuner_time  # by the tuner, later than it was reported
    assert (seen - times).min() > -0.5 and seen.max() < spent
