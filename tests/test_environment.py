"""`make .venv`: what goes wrong is one line, and the next call recovers."""

import os
import re
import subprocess
import sys

import pytest

from tools import environment
from tools.notebooks import ROOT

SCRIPT = str(ROOT / "tools" / "environment.py")


def make(folder, requirements, *options, **env):
    command = [sys.executable, SCRIPT, str(folder), str(requirements), *options]
    return subprocess.run(command, env=os.environ | env, capture_output=True, text=True)


@pytest.mark.slow
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


@pytest.mark.slow
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
    assert "Making" in make(above, requirements).stdout, "it stands alone now"


def test_a_python_that_is_too_old_is_told(monkeypatch):
    monkeypatch.setattr(environment, "OLDEST", (3, 99))
    with pytest.raises(SystemExit, match=r"Python 3.99 or newer is needed, this is 3.*make PYTHON="):
        environment.check_python()


def installs_for_real(tmp_path, folder, **env):
    """Make an environment with a small package of our own in it, and ask its Python for the package."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "pyproject.toml").write_text(
        """[build-system]
requires = []
build-backend = "build"
backend-path = ["."]
"""
    )
    (source / "build.py").write_text(
        """import zipfile
def build_wheel(folder, *_):
    name = "tiny-1-py3-none-any.whl"
    with zipfile.ZipFile(f"{folder}/{name}", "w") as wheel:
        wheel.writestr("tiny.py", "")
        wheel.writestr("tiny-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: tiny\\nVersion: 1\\n")
        wheel.writestr("tiny-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("tiny-1.dist-info/RECORD", "")
    return name
"""
    )
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"{source.as_uri()}\n")
    result = make(folder, requirements, **env)
    assert result.returncode == 0, result.stderr
    command = [folder / "bin" / "python", "-c", "import tiny; print(tiny.__file__)"]
    return subprocess.check_output(command, text=True, cwd=tmp_path).strip()


def variables(tmp_path):
    """Settings that send packages elsewhere, or find them there, or refuse them."""
    elsewhere = str(tmp_path / "elsewhere")
    (tmp_path / "constraints.txt").write_text("tiny==2\n")
    settings = {"PIP_PREFIX": elsewhere, "PIP_ROOT": elsewhere, "PIP_NO_BINARY": ":all:", "PIP_REQUIRE_HASHES": "1"}
    return settings | {"PIP_REQUIRE_VIRTUALENV": "1", "PIP_CONSTRAINT": str(tmp_path / "constraints.txt")}


def installed_elsewhere(tmp_path):
    """PYTHONPATH leads to a package of that name: pip would find it installed."""
    found = tmp_path / "python-path" / "tiny-1.dist-info"
    found.mkdir(parents=True)
    (found / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny\nVersion: 1\n")
    return {"PYTHONPATH": str(found.parent)}


def write_settings(path, tmp_path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"[install]\nuser = true\ntarget = {tmp_path / 'elsewhere'}\n[global]\nrequire_hashes = true\n")


def named_file(tmp_path):
    write_settings(tmp_path / "settings.conf", tmp_path)
    return {"PIP_CONFIG_FILE": str(tmp_path / "settings.conf")}


def file_of_the_user(tmp_path):
    write_settings(tmp_path / "pip" / "pip.conf", tmp_path)
    return {"XDG_CONFIG_HOME": str(tmp_path), "PIP_CONFIG_FILE": ""}


@pytest.mark.slow
@pytest.mark.parametrize("env", [variables, installed_elsewhere, named_file, file_of_the_user])
def test_pip_settings_say_nothing_about_where_to_install(tmp_path, env):
    found = installs_for_real(tmp_path, tmp_path / "venv", **env(tmp_path))
    assert found.startswith(str(tmp_path / "venv")) and not (tmp_path / "elsewhere").exists()


@pytest.mark.slow
def test_the_users_file_still_says_where_packages_are(tmp_path):
    write_settings(tmp_path / "pip" / "pip.conf", tmp_path)
    with (tmp_path / "pip" / "pip.conf").open("a") as file:
        file.write("index-url = http://127.0.0.1:9/theirs\n")
    (tmp_path / "requirements.txt").write_text("a-package-that-is-not-there==1.0\n")
    env = {"XDG_CONFIG_HOME": str(tmp_path), "PIP_CONFIG_FILE": "", "PIP_RETRIES": "1", "PIP_EXTRA_INDEX_URL": ""}
    result = make(tmp_path / "venv", tmp_path / "requirements.txt", **env)
    assert result.returncode != 0 and result.stderr.endswith(f": {environment.NO_NETWORK}\n")


def test_pip_settings_still_say_where_packages_are(tmp_path, monkeypatch):
    (tmp_path / "theirs.conf").write_text("[global]\nindex-url = http://127.0.0.1:9/\ntarget = elsewhere\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "theirs.conf"))
    variables = environment.own_variables()
    environment.own_settings(str(tmp_path / "ours.conf"), variables)
    command = [sys.executable, "-m", "pip", "config", "list"]
    found = subprocess.check_output(command, env=variables, text=True)
    assert "global.index-url='http://127.0.0.1:9/'" in found and "global.target=''" in found
    assert (tmp_path / "theirs.conf").read_text().endswith("target = elsewhere\n"), "it is the reader's file"


@pytest.mark.slow
@pytest.mark.parametrize("before", ["used", "empty", "dangling"])
def test_a_linked_environment_stays_a_link(tmp_path, before):
    disk, link = tmp_path / "disk", tmp_path / "v e[n]v"
    if before != "dangling":
        disk.mkdir()
    if before == "used":
        (disk / "old").mkdir()
        (disk / "old" / "file").write_text("")
        (disk / "pyvenv.cfg").write_text("")
        (disk / "other").symlink_to(tmp_path)
    link.symlink_to(disk)
    found = installs_for_real(tmp_path, link)
    assert link.is_symlink() and not (disk / "old").exists() and tmp_path.exists()
    assert os.path.realpath(found).startswith(str(disk))


def test_a_link_to_something_else_is_told_and_nothing_is_removed(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.png").write_text("")
    (tmp_path / "venv").symlink_to(tmp_path / "photos")
    (tmp_path / "requirements.txt").write_text("# nothing\n")
    result = make(tmp_path / "venv", tmp_path / "requirements.txt")
    assert result.returncode != 0 and (tmp_path / "photos" / "one.png").exists()
    assert result.stderr.endswith("which holds something else: link it to an empty folder.\n")


def test_a_file_in_the_way_is_told(tmp_path):
    (tmp_path / "venv").write_text("mine")
    (tmp_path / "requirements.txt").write_text("# nothing\n")
    result = make(tmp_path / "venv", tmp_path / "requirements.txt")
    assert result.returncode != 0 and (tmp_path / "venv").read_text() == "mine"
    assert result.stderr == f"make: {tmp_path / 'venv'} is no folder. Move it away, then call make again.\n"


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_every_target_that_a_page_names_is_there(page):
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|^    )make ([a-z-]+)", (ROOT / page).read_text(), re.MULTILINE))
    assert {"check", "test", "book"} <= named <= known
