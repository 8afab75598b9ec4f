"""`make .venv`: what goes wrong is one line, and the next call recovers."""

import os
import subprocess
import sys

import environment
import pytest
from nbtools import ROOT

SCRIPT = str(ROOT / "tools" / "environment.py")


def make(folder, requirements, *options, **env):
    command = [sys.executable, SCRIPT, str(folder), str(requirements), *options]
    return subprocess.run(command, env=os.environ | env, capture_output=True, text=True)


def test_no_network_is_one_line_and_the_next_call_recovers(tmp_path):
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("a-package-that-is-not-there==1.0\n")
    registry = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_EXTRA_INDEX_URL": "", "PIP_RETRIES": "1"}
    result = make(tmp_path / "venv", requirements, **registry, PIP_CONFIG_FILE=os.devnull)
    assert result.returncode != 0
    assert result.stderr.splitlines() == [
        f"make: cannot install {tmp_path / 'venv'} from {requirements}: {environment.NO_NETWORK}"
    ]
    requirements.write_text("# nothing\n")
    assert make(tmp_path / "venv", requirements).returncode == 0, "the half-made environment is made anew"
    assert make(tmp_path / "venv", requirements).stdout == "", "nothing to do"


def test_an_environment_laid_over_another_sees_its_packages(tmp_path):
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("# nothing\n")
    below, above = tmp_path / "below", tmp_path / "above"
    assert make(below, requirements).returncode == 0
    (site,) = below.glob("lib/python*/site-packages")
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "editable.py").write_text("where = 'source'")
    (site / "editable.pth").write_text(str(tmp_path / "source"))
    assert make(above, requirements, "--over", str(below)).returncode == 0
    assert (
        subprocess.check_output([above / "bin" / "python", "-c", "import editable; print(editable.where)"])
        == b"source\n"
    )
    assert make(above, requirements, "--over", str(below)).stdout == "", "nothing to do"
    (below / "complete").write_text("made anew")
    assert "Making" in make(above, requirements, "--over", str(below)).stdout, "it follows the one below"


def test_a_python_that_is_too_old_is_told(monkeypatch):
    monkeypatch.setattr(environment, "OLDEST", (3, 99))
    with pytest.raises(SystemExit, match=r"Python 3.99 or newer is needed, this is 3.*make PYTHON="):
        environment.check_python()


def test_make_alone_lists_the_targets():
    out = subprocess.check_output(["make"], cwd=ROOT, text=True)
    for target in ("book", "lab", "test", "execute", "save", "lock"):
        assert f"make {target} " in out
