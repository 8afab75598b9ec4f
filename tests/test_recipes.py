"""The recipes run as a reader runs them, in short, and leave behind what they promise."""

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

#: Few epochs, and a number of trials in place of seconds, so that as much is done on a slow machine. Syne Tune ends a
#: search when *more* than so many trials have ended.
SHORT = {
    r"max_wallclock_time=\d+": "max_num_trials_finished=9",
    r"max_num_trials_finished=4\b": "max_num_trials_finished=2",
    r'"max_epochs": (4|5|10|20)\b': '"max_epochs": 3',
    r"seed in range\(1, 11\)": "seed in range(1, 4)",
    r"seconds, resume=True": "1000, resume=True, n_trials=int(sys.argv[1])",
}


#: The packages that the page's first recipe needs.
FIRST = ["syne-tune", "path/to/this/book/workers"]


def run_script(name, tmp_path, *arguments, python=sys.executable):
    """Run a recipe, made short, in an empty folder, which it leaves empty; and return its output."""
    cwd, recipes = tmp_path / "cwd", tmp_path / "recipes"
    cwd.mkdir(exist_ok=True)
    shutil.copytree(ROOT / "recipes", recipes, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    for script in recipes.glob("*.py"):
        text = script.read_text()
        for long, short in SHORT.items():
            text = re.sub(long, short, text)
        script.write_text(text)
    own = os.environ | {"SYNETUNE_FOLDER": str(tmp_path / "searches"), "DO_NOT_TRACK": "true"}
    command = [python, recipes / f"{name}.py", *arguments]
    done = subprocess.run(command, cwd=cwd, env=own, capture_output=True, text=True, timeout=1200)  # if it hangs
    assert done.returncode == 0, done.stderr
    assert not list(cwd.iterdir())
    return done.stdout


def run_recipe(name, tmp_path, **options):
    """Run a recipe that searches once; no trial may fail, or complain.

    Returns:
        The folder of its search, the reports (a row each), and the recipe's output.
    """
    printed = run_script(name, tmp_path, **options)
    (folder,) = (path for path in (tmp_path / "searches").iterdir() if path.is_dir())
    said = {path.parent.name: path.read_text() for path in folder.glob("*/std.err")}
    assert said and not any(said.values()), said
    return folder, pd.read_csv(folder / "results.csv.zip"), printed


def test_the_page_names_every_recipe_and_the_first_ones_packages():
    text = "\n".join(cell.source for cell in read(ROOT / "notebooks" / "own_search.ipynb").cells)
    assert not [path.name for path in (ROOT / "recipes").glob("*.py") if f"recipes/{path.name}" not in text]
    assert re.findall(r"^pip install (.+)$", text, re.MULTILINE) == FIRST


@pytest.fixture(scope="module", params=["here", pytest.param("from nothing", marks=pytest.mark.long)])
def python_with(request, tmp_path_factory):
    """A Python in which packages are installed, on top of those before: the tests' own, or one without the book."""
    folder = tmp_path_factory.mktemp("environment") / ".venv"
    if request.param == "from nothing":
        venv.create(folder, with_pip=True)

    def python_with(*packages):
        if request.param == "here":
            return sys.executable
        python = folder / "bin" / "python"
        what = " ".join(packages).replace("path/to/this/book", str(ROOT)).split()
        done = subprocess.run([python, "-m", "pip", "install", "-q", *what], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return python

    return python_with


@pytest.mark.slow
def test_start(python_with, tmp_path):
    _, results, printed = run_recipe("start", tmp_path, python=python_with(*FIRST))
    assert_a_report_an_epoch(results)
    assert f", error {results.validation_error.min():.3f}\n" in printed


@pytest.mark.slow
def test_checkpoints_and_then_going_on(python_with, tmp_path):
    python = python_with(*FIRST, "torch")
    folder, results, printed = run_recipe("checkpoints", tmp_path, python=python)
    assert_a_report_an_epoch(results)
    trial_id, test_error = re.search(r"Best: trial (\d+), .*\nTest error: (0\.\d+)\n$", printed).groups()
    assert {"best.pt", "checkpoint.pt"} <= {path.name for path in (folder / trial_id / "checkpoints").iterdir()}
    assert float(test_error) < 0.9, "chance"

    python = python_with("path/to/this/book")
    numbers_of_reports = []
    for n_trials in "36":
        run_script("resume", tmp_path, n_trials, python=python)
        (folder,) = (tmp_path / "searches").glob("digits-*")  # the second one goes on with the first one's
        results = pd.read_csv(folder / "results.csv.zip")
        numbers_of_reports.append(len(results))
    assert_a_report_an_epoch(results)
    assert numbers_of_reports[0] < numbers_of_reports[1]

    printed = run_script("report", tmp_path, "digits", python=python)
    assert f"validation error {results.validation_error.min():.3f}" in printed
    mean, low, high = map(float, re.search(r"seeds: (\S+), 95 %: (\S+) to (\S+)", printed).groups())
    assert low <= mean <= high and mean < 0.9


@pytest.mark.slow
@pytest.mark.parametrize("name", ["asha", pytest.param("promotion", marks=pytest.mark.long)])
def test_bad_trials_train_less(name, tmp_path):
    _, results, printed = run_recipe(name, tmp_path)
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


def assert_a_report_an_epoch(results):
    """In each trial; and the search ended when at least three were complete."""
    epochs = results.groupby("trial_id").epoch.apply(list)
    assert all(reported == list(range(1, len(reported) + 1)) for reported in epochs), epochs
    assert sum(len(reported) == 3 for reported in epochs) >= 3, epochs
    assert results.validation_error.between(0, 1).all()


@pytest.mark.slow
def test_tensorboard_shows_what_each_trial_reported(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, results, printed = run_recipe("with_tensorboard", tmp_path)
    assert_a_report_an_epoch(results)
    for trial_id, reports in results.groupby("trial_id"):
        (events,) = (folder / str(trial_id) / "tensorboard").iterdir()
        shown = EventAccumulator(str(events)).Reload()
        # A trial that the end of the search stopped may have written what nobody read any more.
        errors = shown.Scalars("validation_error")[: len(reports)]
        assert [event.step for event in errors] == list(reports.epoch)
        assert [event.value for event in errors] == pytest.approx(list(reports.validation_error))
        assert len(shown.Scalars("training_loss")) >= len(reports)
    assert printed.endswith(f'tensorboard --logdir "{folder}"\n')


@pytest.mark.slow
@pytest.mark.long
def test_mlflow_has_a_run_for_each_trial(tmp_path):
    from mlflow import MlflowClient

    folder, results, printed = run_recipe("with_mlflow", tmp_path)
    assert_a_report_an_epoch(results)
    database = f"sqlite:///{folder.parent / 'mlflow.db'}"
    assert printed.endswith(f'mlflow ui --backend-store-uri "{database}"\n')
    client = MlflowClient(database)
    runs = client.search_runs([client.get_experiment_by_name(folder.name).experiment_id])
    assert len(runs) == len([*folder.glob("*/config.json")])
    completed = re.findall(r"Trial (\d+) completed", printed)
    for run in runs:
        trial_id = run.info.run_name.removeprefix("trial ")
        config = json.loads((folder / trial_id / "config.json").read_text())
        assert run.data.params == {name: str(value) for name, value in config.items()}
        assert run.info.status == ("FINISHED" if trial_id in completed else "KILLED")
        logged = client.get_metric_history(run.info.run_id, "validation_error")
        reports = results.loc[results.trial_id == int(trial_id), ["epoch", "validation_error"]]
        assert [(one.step, one.value) for one in logged] == [*reports.itertuples(index=False, name=None)]


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("name", ["with_lightning", "with_transformers"])
def test_a_librarys_callback_reports_after_each_validation(name, tmp_path):
    folder, results, printed = run_recipe(name, tmp_path)
    assert_a_report_an_epoch(results)
    best = results.trial_id[results.validation_error == results.validation_error.min()]
    trial_id, path = re.search(r"Trial (\d+) was the best: (.+)\n$", printed).groups()
    assert int(trial_id) in best.values and Path(path) == folder / trial_id / "std.out"
