"""The back-ends without the book: in somebody else's project, on a scikit-learn model, with what they need alone."""

import shutil
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tools.environment import own_variables
from tools.notebooks import ROOT

pytestmark = pytest.mark.slow

#: What each needs. The learner's scikit-learn comes with Syne Tune.
NEEDS = {"ForkserverBackend": ["syne-tune", "cloudpickle"], "RayBackend": ["syne-tune", "cloudpickle", "ray"]}
NOT_NEEDED = ("torch", "torchvision", "d2l", "ray")

SHARED = """
def make():
    from sklearn.datasets import load_iris
    return load_iris(return_X_y=True)

def take(made):
    global data
    data = made
"""
PROGRAM = """
import importlib.util, sys
from syne_tune import StoppingCriterion, Tuner
from syne_tune.config_space import loguniform
from syne_tune.optimizer.baselines import RandomSearch
from PACKAGE import BACKEND

def objective(C):
    import iris
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from syne_tune import Reporter
    report = Reporter()
    for n_folds in (2, 3):
        scores = cross_val_score(LogisticRegression(C=C), *iris.data, cv=n_folds)
        report(n_folds=n_folds, error=1 - scores.mean())

space = {"C": loguniform(1e-3, 1e3)}
backend = BACKEND(objective, space, preload=["sklearn.linear_model"], share=[("iris:make", "iris:take")])
tuner = Tuner(
    trial_backend=backend, scheduler=RandomSearch(space, metrics=["error"]), n_workers=2, sleep_time=0,
    stop_criterion=StoppingCriterion(max_num_trials_completed=4, max_wallclock_time=600), **backend.tuner_options,
)
tuner.run()
print("best", tuner.best_config()[1])
print("missing", [name for name in NOT_NEEDED if importlib.util.find_spec(name) is None])
print("loaded", sorted(name for name in sys.modules if name.startswith("async_hpo") and "backends" not in name))
"""


def with_requirements(*names):
    """Distributions, and what they require, as they are installed here."""
    found, todo = {}, [*names]
    while todo:
        name = todo.pop().lower().replace("_", "-")
        if name in found:
            continue
        found[name] = metadata.distribution(name)
        for text in found[name].requires or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                todo.append(requirement.name)
    return found.values()


@pytest.fixture(scope="module", params=["ForkserverBackend", pytest.param("RayBackend", marks=pytest.mark.cluster)])
def backend(request):
    return request.param


@pytest.fixture(scope="module")
def environment(backend, tmp_path_factory):
    """One with what the back-end needs alone: links to what this one has."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    site = next((folder / "lib").glob("python*/site-packages"))
    for distribution in with_requirements(*NEEDS[backend]):
        for top in {Path(file).parts[0] for file in distribution.files if ".." not in Path(file).parts}:
            if not (site / top).exists():
                (site / top).symlink_to(distribution.locate_file(top))
    return folder


def tune(venv_folder, folder, package, backend):
    (folder / "iris.py").write_text(SHARED)
    (folder / "tune.py").write_text(
        PROGRAM.replace("PACKAGE", package).replace("BACKEND", backend).replace("NOT_NEEDED", str(NOT_NEEDED))
    )
    python = venv_folder / "bin" / "python"
    variables = {"HOME": str(folder), "RAY_OVERRIDE_RESOURCES": '{"CPU": 2}'}  # on any machine
    run = subprocess.run([python, "tune.py"], cwd=folder, capture_output=True, text=True, env=variables)
    assert run.returncode == 0, run.stderr
    *_, best, missing, loaded = run.stdout.splitlines()
    assert "best {'C': " in best
    assert missing == f"missing {[name for name in NOT_NEEDED if name not in NEEDS[backend]]}"
    return loaded


def test_the_folder_is_copied_into_another_project(environment, tmp_path, backend):
    shutil.copytree(ROOT / "async_hpo" / "backends", tmp_path / "theirs" / "tuning")
    assert tune(environment, tmp_path, "theirs.tuning", backend) == "loaded []"


def test_the_package_is_installed_alone(environment, tmp_path, backend):
    copy = tmp_path / "source"
    shutil.copytree(ROOT / "async_hpo", copy / "async_hpo", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    shutil.copy(ROOT / "LICENSE", copy)
    here = tmp_path / "here"
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", here]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, copy], env=own_variables(), check=True)
    assert (here / "async_hpo" / "py.typed").exists()
    assert tune(environment, here, "async_hpo", backend) == "loaded ['async_hpo', 'async_hpo.paths']"
