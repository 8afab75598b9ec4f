"""The recipes run as a reader runs them, and leave behind what they promise."""

import json
import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pandas as pd
import pytest
from backend_helpers import nvidia_smi

from tools.notebooks import ROOT, read

#: Fails with a test whose recipe hangs; no recipe needs a twentieth of it.
FOREVER = 1200
#: Syne Tune ends a search when *more* than so many trials have ended.
TRIALS = {
    name: (f"max_wallclock_time={seconds}", f"max_num_trials_finished={n}")
    for name, seconds, n in (("start", 20, 4), ("checkpoints", 30, 4), ("asha", 30, 15), ("promotion", 30, 15))
}


def run_script(name, tmp_path, *arguments, python=sys.executable, replace=("", "")):
    """Run a recipe in an empty folder, which it leaves empty.

    Args:
        replace: a text in the file, and what stands in its place: a number of trials, not of seconds, so that as much
            is done on a slow machine.

    Returns:
        What it printed.
    """
    cwd, recipes = tmp_path / "cwd", tmp_path / "recipes"
    cwd.mkdir(exist_ok=True)
    shutil.copytree(ROOT / "recipes", recipes, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    script = recipes / f"{name}.py"
    text = script.read_text()
    assert replace[0] in text
    script.write_text(text.replace(*replace) if replace[0] else text)
    searches = {"SYNETUNE_FOLDER": str(tmp_path / "searches")}
    own = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "SHORT_BUDGET")}
    done = subprocess.run(
        [python, script, *arguments],
        cwd=cwd,
        env=own | searches | {"DO_NOT_TRACK": "true"},  # MLflow would tell its makers
        capture_output=True,
        text=True,
        timeout=FOREVER,
    )
    assert done.returncode == 0, done.stderr
    assert not list(cwd.iterdir())
    return done.stdout


def run_recipe(name, tmp_path, **options):
    """Run a recipe that searches once; no trial may fail, or complain.

    Returns:
        The folder of its search, the reports (a row each), and what the recipe printed.
    """
    printed = run_script(name, tmp_path, **options)
    (folder,) = (path for path in (tmp_path / "searches").iterdir() if path.is_dir())
    said = {path.parent.name: path.read_text() for path in folder.glob("*/std.err")}
    assert said and not any(said.values()), said
    return folder, pd.read_csv(folder / "results.csv.zip"), printed


def test_the_page_names_every_recipe():
    page = (ROOT / "notebooks" / "own_search.ipynb").read_text(encoding="utf-8")
    recipes = [path.name for path in (ROOT / "recipes").glob("*.py")]
    assert len(recipes) > 5 and not [name for name in recipes if f"recipes/{name}" not in page]


# --- in an environment from nothing, without the book ---------------------------------------------------------------


@pytest.fixture(scope="module")
def from_nothing(tmp_path_factory):
    """A Python with what the page installs, line by line."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder / ".venv", with_pip=True)
    page = read(ROOT / "notebooks" / "own_search.ipynb")
    text = "\n".join(cell.source for cell in page.cells if cell.cell_type == "markdown")
    lines = re.findall(r"^pip install (.+)$", text, re.MULTILINE)
    assert lines == ["syne-tune", "path/to/this/book/workers"]
    for line in lines:
        pip_install(folder / ".venv", line)
    return folder / ".venv"


def pip_install(environment, line):
    what = line.replace("path/to/this/book", str(ROOT))
    python = environment / "bin" / "python"
    done = subprocess.run([python, "-m", "pip", "install", "-q", *what.split()], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_start(from_nothing, tmp_path):
    _, results, printed = run_recipe("start", tmp_path, python=from_nothing / "bin" / "python", replace=TRIALS["start"])
    assert_a_report_an_epoch(results, 20)
    assert f", error {results.validation_error.min():.3f}\n" in printed


@pytest.mark.slow
def test_checkpoints_and_then_going_on(from_nothing, tmp_path):
    python = from_nothing / "bin" / "python"
    pip_install(from_nothing, "torch")
    folder, results, printed = run_recipe("checkpoints", tmp_path, python=python, replace=TRIALS["checkpoints"])
    assert_a_report_an_epoch(results, 10)
    trial_id, test_error = re.search(r"Best: trial (\d+), .*\nTest error: (0\.\d+)\n$", printed).groups()
    assert {"best.pt", "checkpoint.pt"} <= {path.name for path in (folder / trial_id / "checkpoints").iterdir()}
    assert float(test_error) < 0.9, "chance"

    pip_install(from_nothing, "path/to/this/book")
    run_script("resume", tmp_path, "1000", python=python, replace=("resume=True", "resume=True, n_trials=3"))
    first = reports_of("digits", tmp_path)
    run_script("resume", tmp_path, "1000", python=python, replace=("resume=True", "resume=True, n_trials=8"))
    results = reports_of("digits", tmp_path)
    assert_a_report_an_epoch(results, 10)
    assert len(results) > len(first)
    assert len([path for path in (tmp_path / "searches").iterdir() if path.name.startswith("digits")]) == 1

    printed = run_script("report", tmp_path, "digits", python=python)
    assert f"validation error {results.validation_error.min():.3f}" in printed
    mean, low, high = map(float, re.search(r"seeds: (\S+), 95 %: (\S+) to (\S+)", printed).groups())
    assert low <= mean <= high < 0.9


def reports_of(name, tmp_path):
    (folder,) = (tmp_path / "searches").glob(f"{name}-*")
    return pd.read_csv(folder / "results.csv.zip")


# --- in the book's environment ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["asha", "promotion"])
def test_bad_trials_train_less(name, tmp_path):
    _, results, printed = run_recipe(name, tmp_path, replace=TRIALS[name])
    epochs = results.groupby("trial_id").epoch
    assert printed.endswith(f"{len(epochs)} trials, {len(results)} epochs\n")
    assert (epochs.max() == 1).any() and epochs.max().max() > 1
    # A trial that is paused may train an epoch of which nobody hears.
    assert epochs.is_monotonic_increasing.all() and not results.duplicated(["trial_id", "epoch"]).any()


@pytest.mark.slow
def test_each_trial_has_gpus_of_its_own(tmp_path, monkeypatch):
    """With stand-ins for four GPUs."""
    nvidia_smi(tmp_path, monkeypatch, *(f"GPU {i}: NVIDIA A100 (UUID: GPU-{i}abc)" for i in range(4)))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    lines = [line for line in run_script("gpus", tmp_path).splitlines() if " workers {" in line]
    assert lines == [
        "4 workers {}: 0, 1, 2, 3",
        "2 workers {'num_gpus_per_trial': 2}: 0,1, 2,3",
        "8 workers {}: 0, 1, 2, 3, 0, 1, 2, 3",
    ]


# --- other people's libraries ----------------------------------------------------------------------------------------


def assert_a_report_an_epoch(results, n_epochs):
    """In each trial; and the search ended with the fifth that was complete."""
    epochs = results.groupby("trial_id").epoch.apply(list)
    assert all(reported == list(range(1, len(reported) + 1)) for reported in epochs), epochs
    assert sum(len(reported) == n_epochs for reported in epochs) >= 5, epochs
    assert results.validation_error.between(0, 1).all()


def assert_best_is_named(folder, results, printed):
    best = results.trial_id[results.validation_error == results.validation_error.min()]
    trial_id, path = re.search(r"Trial (\d+) was the best: (.+)\n$", printed).groups()
    assert int(trial_id) in best.values
    assert Path(path) == folder / trial_id / "std.out"


def names_in_trials(folder):
    """What lies in the folders of all trials: paths within them."""
    trials = [path.parent for path in folder.glob("*/config.json")]
    return {path.relative_to(trial).as_posix() for trial in trials for path in trial.rglob("*")}


@pytest.mark.slow
def test_tensorboard_shows_what_each_trial_reported(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, results, printed = run_recipe("with_tensorboard", tmp_path)
    assert_a_report_an_epoch(results, 10)
    for trial_id, reports in results.groupby("trial_id"):
        (events,) = (folder / str(trial_id) / "tensorboard").iterdir()
        shown = EventAccumulator(str(events)).Reload()
        errors, losses = shown.Scalars("validation_error"), shown.Scalars("training_loss")
        # A trial that the end of the search stopped may have written what nobody read any more.
        assert [event.step for event in errors][: len(reports)] == list(reports.epoch)
        assert [event.value for event in errors][: len(reports)] == pytest.approx(list(reports.validation_error))
        assert len(losses) >= len(errors) >= len(reports)
    assert printed.endswith(f'tensorboard --logdir "{folder}"\n')


@pytest.mark.slow
def test_mlflow_has_a_run_for_each_trial(tmp_path):
    from mlflow import MlflowClient

    folder, results, printed = run_recipe("with_mlflow", tmp_path)
    assert_a_report_an_epoch(results, 10)
    database = f"sqlite:///{folder.parent / 'mlflow.db'}"
    assert printed.endswith(f'mlflow ui --backend-store-uri "{database}"\n')
    client = MlflowClient(database)
    runs = client.search_runs([client.get_experiment_by_name(folder.name).experiment_id])
    configs = {path.parent.name: json.loads(path.read_text()) for path in folder.glob("*/config.json")}
    assert sorted(run.info.run_name for run in runs) == sorted(f"trial {trial_id}" for trial_id in configs)
    completed = re.findall(r"Trial (\d+) completed", printed)
    for run in runs:
        trial_id = run.info.run_name.removeprefix("trial ")
        assert run.data.params == {name: str(value) for name, value in configs[trial_id].items()}
        assert run.info.status == ("FINISHED" if trial_id in completed else "KILLED")
        assert run.info.end_time >= run.info.start_time
        reports = results[results.trial_id == int(trial_id)]
        logged = client.get_metric_history(run.info.run_id, "validation_error")
        assert [(one.step, one.value) for one in logged] == list(
            zip(reports.epoch, reports.validation_error, strict=True)
        )
        assert set(run.data.metrics) <= {"validation_error"}


@pytest.mark.slow
def test_lightning_reports_after_each_validation(tmp_path):
    folder, results, printed = run_recipe("with_lightning", tmp_path)
    assert_a_report_an_epoch(results, 5)
    assert_best_is_named(folder, results, printed)
    assert names_in_trials(folder) == {"config.json", "std.out", "std.err"}


@pytest.mark.slow
def test_transformers_reports_after_each_evaluation(tmp_path):
    folder, results, printed = run_recipe("with_transformers", tmp_path)
    assert_a_report_an_epoch(results, 4)
    assert_best_is_named(folder, results, printed)
    assert names_in_trials(folder) == {"config.json", "std.out", "std.err", "checkpoints"}
