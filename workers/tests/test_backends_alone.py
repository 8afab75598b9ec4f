"""The distribution by itself: the README's example in somebody else's project, with what is required alone."""

import re
import shutil
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path

import pandas as pd
import pytest
from packaging.requirements import Requirement

pytestmark = pytest.mark.slow

DISTRIBUTION = Path(__file__).resolve().parents[1]
EXTRA = {"ForkserverBackend": "", "RayBackend": "ray"}


def requirements(name, extra=""):
    """Distributions that one requires, directly or through others, as they are installed here."""
    found, todo = {}, [(name, extra)]
    while todo:
        name, extra = todo.pop()
        for text in metadata.distribution(name).requires or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                if requirement.name not in found:
                    todo.append((requirement.name, ""))
                found[requirement.name] = metadata.distribution(requirement.name)
    return found.values()


@pytest.fixture(params=["ForkserverBackend", pytest.param("RayBackend", marks=pytest.mark.cluster)])
def backend(request):
    return request.param


@pytest.fixture
def project(backend, tmp_path):
    """A folder with an environment that has what the back-end requires: links to what this one has."""
    folder = tmp_path / "남의 프로젝트"
    venv.create(folder / ".venv", symlinks=True)
    site = next((folder / ".venv" / "lib").glob("python*/site-packages"))
    for distribution in requirements("syne-tune-workers", EXTRA[backend]):
        for top in {Path(file).parts[0] for file in distribution.files if ".." not in Path(file).parts}:
            if not (site / top).exists():
                (site / top).symlink_to(distribution.locate_file(top))
    return folder


def test_it_is_installed_into_another_project_and_searches_there(project, backend):
    pytest.importorskip("setuptools", minversion="77", reason="builds the distribution")
    source, (site,) = project / "workers", (project / ".venv" / "lib").glob("python*/site-packages")
    shutil.copytree(DISTRIBUTION, source, ignore=shutil.ignore_patterns("tests", "build", "*.egg-info", "__pycache__"))
    options = ["--isolated", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", site]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, source], check=True)
    assert (site / "syne_tune_workers" / "py.typed").exists()
    (example,) = re.findall(r"```python\n(.*?)```", (source / "README.md").read_text(), re.DOTALL)
    assert "max_wallclock_time=20" in example and "ForkserverBackend" in example
    shorter = example.replace("max_wallclock_time=20", "max_num_trials_completed=4")
    (project / "tune.py").write_text(shorter.replace("ForkserverBackend", backend))
    variables = {"HOME": str(project), "RAY_OVERRIDE_RESOURCES": '{"CPU": 2}'}  # on any machine
    python = project / ".venv" / "bin" / "python"
    run = subprocess.run([python, "tune.py"], cwd=project, capture_output=True, text=True, env=variables)
    assert run.returncode == 0, run.stderr
    (results,) = (project / "syne-tune").glob("*/results.csv.zip")
    assert len(pd.read_csv(results)) >= 4
    assert {path.name for path in site.iterdir()}.isdisjoint({"torch", "d2l", "async_hpo"})
