"""Runs with real trial processes. The objectives are quick, because it is the run that is under test."""

import json
import os
import subprocess
import sys
import textwrap
import time

import numpy as np
import pandas as pd
import psutil
import pytest
from helpers import assert_interrupted, kernel, wait_for
from syne_tune import StoppingCriterion, Tuner
from syne_tune.backend import PythonBackend
from syne_tune.config_space import uniform
from syne_tune.experiments import load_experiment
from syne_tune.optimizer.baselines import RandomSearch

from async_hpo import runs
from async_hpo.chapter import hpo_objective_lenet_synetune, lenet_config_space

pytestmark = pytest.mark.usefixtures("folder")

# The text of a program that a test starts in a process of its own, to kill or to interrupt it.
PROGRAM = """
import os, sys
from syne_tune import StoppingCriterion, Tuner
from syne_tune.backend import PythonBackend
from syne_tune.config_space import uniform
from syne_tune.optimizer.baselines import RandomSearch
from async_hpo import runs

def objective(x, pause):
    import time
    from syne_tune import Reporter
    report = Reporter()
    for epoch in range(1, 1000):
        time.sleep(pause)
        report(epoch=epoch, error=x / epoch)

space = {"x": uniform(0, 1), "pause": 0.5}
tuner = Tuner(
    trial_backend=PythonBackend(tune_function=objective, config_space=space),
    scheduler=RandomSearch(space, metrics=["error"]),
    stop_criterion=StoppingCriterion(max_wallclock_time=SECONDS),
    n_workers=2, sleep_time=1, tuner_name="program", suffix_tuner_name=False, max_failures=1000,
    callbacks=[runs.TrialGuard(), runs.SafeResults(), runs.ProgressBar(SECONDS)], output_logger=runs.QuietLogger(),
)
tuner.run()
"""


def run_tuner(objective, seconds, space=None, **options):
    space = space or {"x": uniform(0, 1)}
    np.random.seed(0)
    tuner = Tuner(
        trial_backend=PythonBackend(tune_function=objective, config_space=space),
        scheduler=RandomSearch(space, metrics=["error"]),
        stop_criterion=StoppingCriterion(max_wallclock_time=seconds),
        n_workers=2,
        sleep_time=0.2,
        tuner_name="test",
        max_failures=1000,
        callbacks=[runs.TrialGuard(), runs.SafeResults(), runs.ProgressBar(seconds)],
        output_logger=runs.QuietLogger(),
        **options,
    )
    tuner.run()
    return tuner


def processes_of(folder):
    """Processes, zombies too, that mention `folder` in their command line, or are children of this one."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(str(folder) in part for part in process.cmdline()):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            pass
    return found


def number_of_results(folder):
    results = load_experiment("program", local_path=str(folder)).results
    return 0 if results is None else len(results)


# --- trials that fail ------------------------------------------------------------------------------------------------


def moody(x):
    from syne_tune import Reporter

    report = Reporter()
    if x < 0.3:
        raise ValueError(f"no luck with {x:.3f}")
    if x < 0.45:
        return  # without a report
    report(epoch=1, error=float("nan") if x > 0.8 else x)


def test_failing_and_nan_trials_leave_the_others_alone(capsys, folder):
    tuner = run_tuner(moody, seconds=12)
    out = capsys.readouterr().out
    run = runs.load_run("test")
    assert run.wallclock_time > 11, "the run goes on to its budget"
    status = run.trials.set_index("trial_id").status
    x = {trial_id: trial.config["x"] for trial_id, trial in tuner.trial_backend._trial_dict.items()}
    ended = status[status != "Stopped"].index
    raised = [trial_id for trial_id in ended if x[trial_id] < 0.3]
    silent = [trial_id for trial_id in ended if 0.3 <= x[trial_id] < 0.45]
    nan = [trial_id for trial_id in ended if x[trial_id] > 0.8]
    assert len(raised) >= 2 and silent and nan, "this test needs all kinds of trials"
    assert set(status[status == "Failed"].index) == {*raised, *silent}
    for trial_id in raised:
        assert f"Trial {trial_id} failed; its last lines say" in out
        assert f"ValueError: no luck with {x[trial_id]:.3f}" in out
    assert f"Trial {silent[0]} failed; it ended without a report" in out
    # Every other trial is kept, NaN too, but NaN is never the incumbent.
    assert set(run.reports.trial_id) >= set(ended) - {*raised, *silent}
    good = run.reports.error.dropna()
    assert run.incumbent().error.iloc[-1] == good.min() == load_experiment(tuner.name).best_config()["error"]
    assert f"best error {good.min():.3f}" in out


def test_all_trials_failing_ends_with_the_budget(capsys):
    def objective(x):
        raise RuntimeError("always")

    run_tuner(objective, seconds=4)
    assert capsys.readouterr().out.count("RuntimeError: always") >= 2


def test_a_wrong_metric_name_is_a_clear_error():
    def objective(x):
        from syne_tune import Reporter

        Reporter()(epoch=1, accuracy=x)

    before = psutil.Process().children()
    with pytest.raises(ValueError, match=r"Trial \d reported epoch, accuracy, but the scheduler waits for 'error'"):
        run_tuner(objective, seconds=20)
    assert psutil.Process().children() == before, "no trial process is left, not even a zombie"


# --- interrupts and kills --------------------------------------------------------------------------------------------


def test_interrupting_the_kernel_leaves_no_process_and_every_result(folder):
    with kernel() as (manager, client, process):
        request = client.execute(PROGRAM.replace("SECONDS", "300"))
        wait_for(lambda: number_of_results(folder) >= 6, 60, "results")
        before = number_of_results(folder)
        manager.interrupt_kernel()
        assert_interrupted(client, request)
        assert not process.children(recursive=True), "not even a zombie"
        assert number_of_results(folder) >= before
        assert set(pd.read_csv(folder / "program" / "trials.csv").status) == {"Stopped"}
        assert not any(part.name.startswith(".part") for part in (folder / "program").iterdir())


def test_killing_the_tuner_keeps_all_but_the_last_seconds(folder):
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.replace("SECONDS", "300")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        # Another process, this one, reads the results while the run goes on.
        wait_for(lambda: number_of_results(folder) >= 8, 60, "results")
        program.kill()
        killed = time.time()
        program.wait()
        run = load_experiment("program", local_path=str(folder))
        trials = {path.name for path in (folder / "program").iterdir() if path.name.isdigit()}
        for trial in trials:
            reported = [
                json.loads(line.split("]: ")[1])["st_worker_timestamp"]
                for line in (folder / "program" / trial / "std.out").read_text().splitlines()
            ]
            kept = set(run.results[run.results.trial_id == int(trial)].st_worker_timestamp)
            assert {stamp for stamp in reported if stamp < killed - 5} <= kept
    finally:
        for process in processes_of(folder):  # PythonBackend's trials outlive a killed tuner
            process.kill()


def test_a_kill_while_writing_leaves_a_whole_file(tmp_path):
    program = textwrap.dedent("""
        import sys
        from async_hpo import runs
        keeper = runs.SafeResults()
        keeper.csv_file = sys.argv[1]
        keeper.results = [{"trial_id": i, "epoch": i, "error": i / 7} for i in range(20_000)]
        keeper.trials = {0: {"trial_id": 0, "status": "InProgress", "start": 0.0}}
        while True:
            keeper.store_results()
            print("written", flush=True)
    """)
    path = tmp_path / "results.csv.zip"
    for delay in (0.0, 0.013, 0.031, 0.047, 0.062):
        writer = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE)
        writer.stdout.readline()
        time.sleep(delay)
        writer.kill()
        writer.wait()
        assert len(pd.read_csv(path)) == 20_000
        assert len(pd.read_csv(tmp_path / "trials.csv")) == 1


# --- paths -----------------------------------------------------------------------------------------------------------


def run_program_in(folder, cwd):
    """Run PROGRAM with an interpreter and a folder of results below `folder`, as in a clone."""
    for path in (folder, cwd):
        path.mkdir(parents=True, exist_ok=True)
    (folder / ".venv").symlink_to(sys.prefix)
    return subprocess.run(
        [folder / ".venv" / "bin" / "python", "-c", PROGRAM.replace("SECONDS", "6")],
        cwd=cwd,
        env=os.environ | {"SYNETUNE_FOLDER": str(folder / "experiments")},
        capture_output=True,
        text=True,
    )


def test_spaces_and_korean_letters_in_the_path(tmp_path):
    folder = tmp_path / "비동기 랜덤 탐색"
    result = run_program_in(folder, cwd=folder / "notebooks")
    assert result.returncode == 0, result.stderr
    assert number_of_results(folder / "experiments") > 0


def test_a_path_that_cannot_work_is_told_before_a_trial_starts(tmp_path):
    result = run_program_in(tmp_path / "a b", cwd=tmp_path)
    assert "ValueError: Syne Tune cannot start a trial from a path with a space" in result.stderr.splitlines()[-1]
    assert not list((tmp_path / "a b" / "experiments" / "program").glob("[0-9]*"))


# --- who ran when ----------------------------------------------------------------------------------------------------


def write_run(folder, trials, reports, n_workers=2, created=0.0):
    folder.mkdir(parents=True)
    metadata = {
        "metric_names": ["error"],
        "metric_mode": "min",
        "n_workers": n_workers,
        "st_tuner_creation_timestamp": created,
        "st_tuner_start_timestamp": 1000.0,
    }
    (folder / "metadata.json").write_text(json.dumps(metadata))
    pd.DataFrame(trials, columns=["trial_id", "status", "start", "end"]).to_csv(folder / "trials.csv", index=False)
    columns = ["trial_id", "st_worker_timestamp", "st_worker_time", "error"]
    pd.DataFrame(reports, columns=columns).to_csv(folder / "results.csv.zip", index=False)


def test_shares_of_a_run_made_by_hand(folder):
    """3 workers, 100 s. Busy: 40 + 20 (failed) + 45 (cut by the budget); the third worker never ran anything."""
    write_run(
        folder / "hand-1",
        trials=[(0, "Completed", 1000, 1041), (1, "Failed", 1010, 1030), (2, "Stopped", 1055, 1100)],
        reports=[(0, 1020, 10, 0.5), (0, 1040, 30, 0.4), (2, 1080, 20, float("nan")), (2, 1090, 30, 0.6)],
        n_workers=3,
    )
    run = runs.load_run("hand")
    assert run.wallclock_time == 100
    assert run.trials.worker.tolist() == [0, 1, 0]
    assert run.trials.end.tolist() == [40, 30, 100]
    assert run.trials.train_start.tolist()[::2] == [10, 60] and np.isnan(run.trials.train_start[1])
    assert run.shares().to_dict() == pytest.approx({"useful": 70 / 300, "start-up": 35 / 300, "idle": 195 / 300})
    assert run.incumbent().error.tolist() == [0.5, 0.4, 0.4]
    assert run.gaps().tolist() == [15]


def test_a_run_that_was_killed_ends_with_the_last_thing_known(folder):
    write_run(folder / "hand-1", trials=[(0, "InProgress", 1000, None)], reports=[(0, 1020, 10, 0.5)])
    run = runs.load_run("hand")
    assert run.wallclock_time == 20 and run.trials.end.tolist() == [20]


def test_the_newest_run_is_found_and_the_readers_own_comes_first(folder):
    for created in (3.0, 7.0, 5.0):
        write_run(folder / f"hand-{created:.0f}", [(0, "Completed", 1000, 1001)], [(0, 1001, 1, 0.5)], created=created)
    assert runs.find_experiment("hand") == folder / "hand-7"
    assert runs.find_experiment("lenet-random-search").parent == runs.RECORDINGS
    with pytest.raises(FileNotFoundError, match=r"No run nothing-.*run its notebook first"):
        runs.find_experiment("nothing")


# --- the same again --------------------------------------------------------------------------------------------------


def test_the_same_seed_suggests_the_same_configurations():
    def draw(seed):
        np.random.seed(seed)
        scheduler = RandomSearch(lenet_config_space, metrics=["validation_error"])
        return [scheduler.suggest().config for _ in range(20)]

    assert draw(0) == draw(0) != draw(1)


def test_the_same_configuration_gives_the_same_curve_here_and_on_a_worker():
    config = {"learning_rate": 0.5, "batch_size": 256, "max_epochs": 1}
    np.random.seed(0)
    tuner = Tuner(
        trial_backend=PythonBackend(tune_function=hpo_objective_lenet_synetune, config_space=lenet_config_space),
        scheduler=RandomSearch(
            lenet_config_space | {"max_epochs": 1}, metrics=["validation_error"], points_to_evaluate=[config] * 2
        ),
        stop_criterion=StoppingCriterion(max_num_trials_completed=2),
        n_workers=2,
        sleep_time=0.5,
        callbacks=[runs.TrialGuard(), runs.SafeResults()],
        output_logger=runs.QuietLogger(),
    )
    tuner.run()
    on_workers = load_experiment(tuner.name).results.query("trial_id < 2").validation_error
    here = runs.run_here(hpo_objective_lenet_synetune, config).validation_error
    assert len(on_workers) == 2 and set(on_workers) == set(here)


@pytest.mark.parametrize("short, value", [("1", "2"), ("0", "10"), ("", "10")])
def test_shorten_looks_at_one_variable(short, value):
    code = "from async_hpo.runs import shorten; print(shorten(10, to=2))"
    env = os.environ | {"SHORT_BUDGET": short}
    assert subprocess.check_output([sys.executable, "-c", code], env=env, text=True).strip() == value


def test_run_here_collects_reports_and_passes_on_the_rest(capsys):
    def objective(max_epochs):
        from syne_tune import Reporter

        report = Reporter()
        for epoch in range(1, max_epochs + 1):
            print("still here")
            report(epoch=epoch, error=1 / epoch)

    reports = runs.run_here(objective, {"max_epochs": 3})
    assert reports.epoch.tolist() == [1, 2, 3] and reports.error.tolist() == [1, 1 / 2, 1 / 3]
    out = capsys.readouterr().out
    assert out.count("still here") == 3 and "epoch 3 of 3" in out and "tune-metric" not in out
