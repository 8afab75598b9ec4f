"""Runs as their files tell them: which one is found, and who ran when."""

import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from syne_tune.util import name_from_base

from async_hpo import paths, runs

pytestmark = pytest.mark.usefixtures("folder")


def dated(name, number=1):
    """A run's folder, as Syne Tune calls it."""
    return f"{name}-2099-01-02-03-04-05-{number}"


def write_run(folder, trials=None, reports=None, n_workers=2, mode="min", **fields):
    """By default one trial that reported once; `fields` are other ones that it reported."""
    trials = [(0, "Completed", 1000, 1001)] if trials is None else trials
    reports = [(0, 1001, 1, 0.5)] if reports is None else reports
    folder.mkdir(parents=True)
    metadata = {"metric_names": ["error"], "metric_mode": mode, "n_workers": n_workers}
    metadata["st_tuner_start_timestamp"] = 1000.0
    (folder / "metadata.json").write_text(json.dumps(metadata))
    pd.DataFrame(trials, columns=["trial_id", "status", "start", "end"]).to_csv(folder / "trials.csv", index=False)
    columns = ["trial_id", "st_worker_timestamp", "st_worker_time", "error"]
    kept = pd.DataFrame(reports, columns=columns).assign(**fields)
    kept.to_csv(folder / "results.csv.zip", index=False)


def test_shares_of_a_run_made_by_hand(folder):
    """3 workers, 100 s. Busy: 40 + 20 (failed) + 45 (cut by the budget); the third worker never ran anything. Its files
    have rows in another order than that of time."""
    write_run(
        folder / dated("hand"),
        trials=[(2, "Stopped", 1055, 1100), (0, "Completed", 1000, 1041), (1, "Failed", 1010, 1030)],
        reports=[(2, 1080, 20, np.nan), (0, 1040, 30, 0.4), (0, 1020, 8, 0.5), (2, 1090, 30, 0.6)],
        n_workers=3,
    )
    run = runs.find_run("hand")
    assert run.name == dated("hand") and run.metric == "error" and run.n_workers == 3
    assert run.trials.worker.tolist() == [0, 1, 0]
    assert run.trials.end.tolist() == [40, 30, 100] and run.wallclock_time == 100
    assert run.trials.train_start.tolist()[::2] == [10, 60] and np.isnan(run.trials.train_start[1])
    assert run.shares().to_dict() == pytest.approx({"useful": 70 / 300, "start-up": 35 / 300, "idle": 195 / 300})
    assert run.incumbent().error.tolist() == [0.5, 0.4, 0.4] and run.incumbent().time.tolist() == [20, 40, 90]
    assert run.gaps().to_dict() == {2: 15}
    assert [run.seconds_of_first(n) for n in (1, 2, 3)] == [40, 40, 100]
    assert run.seconds_of_trials(2).to_dict() == {0: 40, 1: 20}
    with pytest.raises(ValueError, match="has 3 trials, not 4"):
        run.seconds_of_first(4)


def test_a_trial_gets_the_lowest_worker_that_is_free(folder):
    """The last one starts before any is free, as the tuner saw it: on the one that is free next."""
    times = [(0, 30), (0, 20), (20, 25), (28, 60), (30, 50), (45, 70)]
    trials = [(trial_id, "Stopped", 1000 + start, 1000 + end) for trial_id, (start, end) in enumerate(times)]
    write_run(folder / dated("hand"), trials)
    run = runs.find_run("hand")
    assert run.trials.worker.tolist() == [0, 1, 1, 1, 0, 0]
    assert run.gaps().to_dict() == {2: 0, 3: 3, 4: 0, 5: -5}, "between trials of one worker"


@pytest.mark.parametrize(("starts", "seconds"), [([1000], 20), ([1000, 1033], 33)])
def test_a_run_that_was_killed_ends_with_the_last_thing_known(folder, starts, seconds):
    trials = [(trial_id, "InProgress", start, None) for trial_id, start in enumerate(starts)]
    write_run(folder / dated("hand"), trials, reports=[(0, 1020, 10, 0.5)])
    run = runs.find_run("hand")
    assert run.wallclock_time == seconds and set(run.trials.end) == {seconds}


def test_a_run_that_maximizes_and_fields_of_the_trials_own(folder):
    reports = [(0, 1000 + i, i, error) for i, error in enumerate([0.5, 0.7, np.nan, 0.6])]
    write_run(folder / dated("hand"), reports=reports, mode="max", time=7.5, config_norm="None", config_region="NA")
    run = runs.find_run("hand")
    assert run.incumbent().error.tolist() == [0.5, 0.7, 0.7]
    report = run.reports.iloc[1]
    assert (report.reported_time, report.time, report.config_norm, report.config_region) == (7.5, 1.0, "None", "NA")


def test_the_readers_own_run_comes_first(folder, capsys):
    assert [*paths.RECORDINGS.rglob(runs.find_run("lenet-random-search").name)]
    assert capsys.readouterr().out == "No run lenet-random-search of your own yet: this is the book's recording.\n"
    write_run(folder / "lenet-random-search-2001-01-02-03-04-05-6")
    assert "-2001-" in runs.find_run("lenet-random-search").name, "older, but the reader's own"
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["mlp", "mlp(1) [x]", "a-2026-01-02", "l" * 80, "wide/mlp"])
def test_a_name_is_no_pattern_and_no_beginning_and_may_be_a_path(folder, name):
    wanted = name_from_base(name)
    write_run(folder / wanted)
    for other in (f"{name[:30]}-with-dropout", "x" + name[:30], "other/mlp"):
        write_run(folder / dated(other))
    assert runs.find_folder(name) == folder / wanted
    with pytest.raises(FileNotFoundError, match=r"No run deep/mlp in .*run its notebook first"):
        runs.find_run("deep/mlp")


def test_the_newest_run_counts_though_all_its_trials_failed_and_damaged_ones_do_not(folder):
    write_run(folder / dated("hand", 1))
    write_run(folder / dated("hand", 2), [(0, "Failed", 1000, 1001)], [])
    (folder / dated("hand", 2) / "results.csv.zip").unlink()
    for number, metadata in enumerate(["", "{", "[]", '{"st_tuner_start_timestamp": 9}'], start=3):
        (folder / dated("hand", number)).mkdir()
        (folder / dated("hand", number) / "metadata.json").write_text(metadata)
    run = runs.find_run("hand")
    assert run.name == dated("hand", 2) and len(run.failed) == 1 and run.reports.empty and run.gaps().empty
    assert (
        run.finished.empty
        and run.incumbent().empty
        and run.shares().to_dict() == {"useful": 0, "start-up": 0.5, "idle": 0.5}
    )
    path = folder / dated("hand", 2) / "metadata.json"
    path.write_text(path.read_text().replace("n_workers", "workers"))
    with pytest.raises(FileNotFoundError, match="SafeResults"):
        runs.find_run("hand")


@pytest.mark.parametrize(
    ("environment", "kept_in"),
    [
        ({"SHORT_BUDGET": "0", "IDLE_MACHINE": "1"}, "full"),
        ({"SHORT_BUDGET": "1"}, "short"),
        ({"SHORT_BUDGET": "1", "IDLE_MACHINE": "1"}, "claims"),
        ({"SYNETUNE_FOLDER": "/of/ones/own"}, "/of/ones/own"),
        ({"ASYNC_HPO_HOME": "/no/clone"}, Path.home() / "syne-tune"),
    ],
)
def test_where_runs_are_kept(monkeypatch, environment, kept_in):
    """By a process with these variables: short runs apart, and without a clone where Syne Tune does."""
    for name in ("SHORT_BUDGET", "IDLE_MACHINE", "SYNETUNE_FOLDER", "ASYNC_HPO_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    spec = importlib.util.spec_from_file_location("paths_anew", paths.__file__)
    anew = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(anew)
    assert os.environ.get("SYNETUNE_FOLDER") == environment.get("SYNETUNE_FOLDER"), "importing sets nothing"
    assert anew.experiments() == paths.ROOT / "experiments" / kept_in
    assert anew.experiments() == Path(os.environ["SYNETUNE_FOLDER"]).expanduser()
