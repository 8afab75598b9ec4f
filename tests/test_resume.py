"""A search that stops in any way goes on where it stopped."""

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from backend_helpers import LONG, wait_for
from syne_tune.backend import PythonBackend
from syne_tune.config_space import uniform
from syne_tune.optimizer.baselines import ASHA, RandomSearch
from syne_tune_workers import ForkserverBackend

from async_hpo import runs, state
from async_hpo.search import search

N_EPOCHS = 5
SPACE = {"x": uniform(0, 1), "max_epochs": N_EPOCHS}
#: Starts each session with what it needs imported.
CONTEXT = multiprocessing.get_context("forkserver")


def with_checkpoint(x, max_epochs, st_checkpoint_dir):
    from pathlib import Path

    from syne_tune import Reporter

    path = Path(st_checkpoint_dir) / "epoch"
    path.parent.mkdir(exist_ok=True)
    report = Reporter()
    for epoch in range(int(path.read_text()) + 1 if path.exists() else 1, max_epochs + 1):
        time.sleep(0.05)
        path.with_suffix(".part").write_text(str(epoch))
        path.with_suffix(".part").replace(path)
        report(epoch=epoch, error=x / epoch)


def from_its_beginning(x, max_epochs):
    from syne_tune import Reporter

    report = Reporter()
    for epoch in range(1, max_epochs + 1):
        time.sleep(0.05)
        report(epoch=epoch, error=x / epoch)


def session(folder, objective, make_scheduler, n_trials=None):
    os.environ["SYNETUNE_FOLDER"] = folder
    np.random.seed(0)  # as scripts do: what is drawn first would be drawn again
    backend = ForkserverBackend(objective, SPACE, preload=[__name__])
    return search(backend, make_scheduler(SPACE), "again", seconds=LONG, n_trials=n_trials, resume=True)


def random_search(space):
    return RandomSearch(space, metrics=["error"])


def asha(space):
    return ASHA(space, metric="error", time_attr="epoch", max_t=N_EPOCHS, grace_period=1, reduction_factor=2)


# --- ways to stop it -------------------------------------------------------------------------------------------------


def kill_the_tuner(process):
    process.kill()


def interrupt(process):
    os.kill(process.pid, signal.SIGINT)


def kill_the_server(process):
    for server in psutil.Process(process.pid).children():
        server.kill()
    time.sleep(0.3)
    if process.is_alive():
        interrupt(process)


def sessions(objective, stop, make_scheduler):
    """Run ten sessions, one after the other, and stop each in this way at a random moment; then one with three more
    trials, which ends by itself.

    Yields:
        The run's folder, after each.
    """
    draw = random.Random(f"{objective} {stop} {make_scheduler}")
    CONTEXT.set_forkserver_preload(["async_hpo.search", __name__])
    for n in range(11):
        n_trials = None if n < 10 else len(runs.read_run(folder_of_run()).trials) + 3
        arguments = (os.environ["SYNETUNE_FOLDER"], objective, make_scheduler, n_trials)
        process = CONTEXT.Process(target=session, args=arguments)
        begin = time.time()
        process.start()
        if n < 10:
            wait_for(lambda begin=begin: (found := folder_of_run()) and state_of(found) > begin, LONG, "the run")
            time.sleep(draw.uniform(0, 1))
            stop(process)
        process.join()
        yield folder_of_run()


def folder_of_run():
    return max(runs.folders("again", Path(os.environ["SYNETUNE_FOLDER"])), default=(0, None))[1]


def state_of(folder):
    path = folder / state.FILENAME
    return path.stat().st_mtime if path.exists() else 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("objective", "make_scheduler", "stop"),
    [
        (with_checkpoint, random_search, kill_the_tuner),
        (from_its_beginning, random_search, interrupt),
        (from_its_beginning, asha, kill_the_tuner),
        (with_checkpoint, asha, kill_the_server),
    ],
)
def test_whatever_stops_it_no_trial_is_lost_or_doubled_and_the_clock_goes_on(objective, make_scheduler, stop, folder):
    finished, wallclock_time = {}, 0.0
    for found in sessions(objective, stop, make_scheduler):
        run = runs.read_run(found)
        now = {trial: list(group.epoch) for trial, group in run.reports.groupby("trial_id")}
        for trial, epochs in finished.items():
            assert now[trial] == epochs
        finished = {trial: now[trial] for trial in run.finished.trial_id}
        if objective == with_checkpoint:  # an epoch may be saved, and its report cut off: then nobody reports it
            assert all(epochs == sorted(set(epochs)) for epochs in finished.values())
        else:
            assert all(epochs == [*range(1, len(epochs) + 1)] for epochs in finished.values())
            assert make_scheduler == asha or all(len(epochs) == N_EPOCHS for epochs in finished.values())
        assert run.trials.trial_id.is_unique and run.wallclock_time >= wallclock_time
        configs = {(row.trial_id, row.config_x) for row in run.reports.itertuples()}
        assert len(configs) == len(now) == len({x for _, x in configs}), "each trial has one, and no other has it"
        wallclock_time = run.wallclock_time
    assert finished and (make_scheduler == asha or len(finished) >= 3)


# --- what can't go on ------------------------------------------------------------------------------------------------


def other_objective(x, max_epochs):
    from syne_tune import Reporter

    Reporter()(epoch=1, error=1 - x)


def go_on(objective=from_its_beginning, space=SPACE, scheduler=None, seconds=1, **options):
    scheduler = scheduler or RandomSearch(space, metrics=["error"])
    backend = ForkserverBackend(objective, space, preload=[__name__])
    return search(backend, scheduler, "again", seconds=seconds, resume=True, **options)


def test_another_search_under_the_same_name_is_refused_and_overwrites_nothing(folder):
    before = go_on()
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    other_space = {"x": uniform(0, 2), "max_epochs": N_EPOCHS}
    for what, options in {
        "objective": {"objective": other_objective},
        "configuration space": {"space": other_space},
        "metric": {"scheduler": RandomSearch(SPACE, metrics=["epoch"])},
        "direction": {"scheduler": RandomSearch(SPACE, metrics=["error"], do_minimize=False)},
        "scheduler": {"scheduler": asha(SPACE)},
    }.items():
        with pytest.raises(ValueError, match=f"{before.name} had another {what}.*give this search another name"):
            go_on(**options)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == files


def test_a_run_that_still_runs_is_left_alone(folder):
    process = CONTEXT.Process(target=session, args=(str(folder), with_checkpoint, random_search))
    process.start()
    found = wait_for(lambda: (found := folder_of_run()) and state_of(found) and found, LONG, "the run")
    with pytest.raises(ValueError, match="is running in another process"):
        go_on(with_checkpoint)
    wait_for(lambda: (found / "results.csv.zip").exists(), LONG, "results")
    process.kill()
    process.join()
    assert go_on(with_checkpoint, seconds=1).name == found.name


def test_a_budget_that_is_used_up_starts_no_trial_and_a_larger_one_goes_on(folder):
    ForkserverBackend(from_its_beginning, SPACE, preload=[__name__]).warm_up()  # whose time is not counted here
    begin = time.monotonic()
    first, again = go_on(), go_on()
    spent = time.monotonic() - begin
    assert list(again.trials.trial_id) == list(first.trials.trial_id)
    assert again.reports.equals(first.reports)
    time.sleep(2)
    begin = time.monotonic()
    more = go_on(seconds=LONG, n_trials=len(first.trials) + 2)
    spent += time.monotonic() - begin
    assert len(more.finished) > len(first.finished) and more.wallclock_time > first.wallclock_time
    times = more.reports.time  # on the clock of the run, which stood still meanwhile
    assert times.is_monotonic_increasing and more.wallclock_time < spent
    seen = more.reports.st_tuner_time  # by the tuner, later than it was reported
    assert (seen - times).min() > -0.5 and seen.max() < spent


def test_back_ends_of_syne_tune_are_refused(folder):
    backend = PythonBackend(from_its_beginning, SPACE)
    with pytest.raises(ValueError, match="PythonBackend can't go on with a run"):
        search(backend, RandomSearch(SPACE, metrics=["error"]), "again", seconds=1, resume=True)


class CannotBeSaved(RandomSearch):
    def __reduce__(self):
        raise TypeError("not this one")


def test_a_scheduler_that_cannot_be_saved_runs_all_the_same(folder, capsys):
    run = go_on(scheduler=CannotBeSaved(SPACE, metrics=["error"]), seconds=LONG, n_trials=1)
    assert len(run.reports) and not state_of(folder_of_run())
    assert capsys.readouterr().out.count("can't go on after a stop") == 1
