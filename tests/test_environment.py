"""`make .venv`: what goes wrong is one line, and the next call recovers."""

import itertools
import os
import re
import subprocess
import sys
import zipfile

import pytest

from tools import environment
from tools.notebooks import ROOT

SCRIPT = str(ROOT / "tools" / "environment.py")


def make(folder, requirements, *options, **env):
    command = [sys.executable, SCRIPT, str(folder), str(requirements), *options]
    return subprocess.run(command, env=os.environ | env, capture_output=True, text=True)


def lock(folder, text="# nothing\n", name="requirements.txt"):
    (folder / name).write_text(text)
    return folder / name


def installed(folder):
    """Names with versions, of all but pip itself and what venv brings along with it."""
    listed = subprocess.check_output([folder / "bin" / "python", "-m", "pip", "list", "--format=freeze"], text=True)
    return sorted(line for line in listed.splitlines() if not line.startswith(("pip=", "setuptools=")))


def wheel(folder, requirement):
    """A package that holds a module without content."""
    name, version = requirement.replace("-", "_").split("==")
    about = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}.py", "")
        file.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        file.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{about}/RECORD", "")


@pytest.mark.slow
def test_no_network_is_one_line_and_the_next_call_recovers(tmp_path):
    requirements = lock(tmp_path, "a-package-that-is-not-there==1.0\n")
    registry = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_EXTRA_INDEX_URL": "", "PIP_RETRIES": "1"}
    result = make(tmp_path / "venv", requirements, **registry, PIP_CONFIG_FILE=os.devnull)
    assert result.returncode != 0
    assert result.stderr.splitlines() == [f"make: cannot install {requirements}: {environment.NO_NETWORK}"]
    lock(tmp_path)
    assert make(tmp_path / "venv", requirements).returncode == 0, "the half-made environment is made anew"
    assert make(tmp_path / "venv", requirements).stdout == "", "nothing to do"


@pytest.mark.slow
def test_what_an_environment_lacks_is_added_and_what_has_changed_is_made_anew(tmp_path):
    reader, tests, venv = lock(tmp_path), lock(tmp_path, "tiny==1\n", "dev.txt"), tmp_path / "venv"
    (tmp_path / "wheels").mkdir()
    for version in "12":
        wheel(tmp_path / "wheels", f"tiny=={version}")
    wheels = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "wheels")}
    assert make(venv, reader).returncode == 0 and installed(venv) == []
    (venv / "kept").touch()
    assert make(venv, reader, tests, **wheels).returncode == 0
    assert installed(venv) == ["tiny==1"] and (venv / "kept").exists()
    assert make(venv, reader).stdout == "", "it has what a reader needs, and more"
    lock(tmp_path, "tiny==2\n", "dev.txt")
    assert make(venv, reader, tests, **wheels).returncode == 0
    assert installed(venv) == ["tiny==2"] and not (venv / "kept").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has wheels of torch with and without GPU libraries")
def test_torch_for_the_cpu_comes_from_its_own_index_and_nothing_of_nvidias(tmp_path):
    """A folder stands for each index: PyTorch's, and the one that holds all else."""
    chosen = re.findall(r"^(?:torch|nvidia|cuda).*", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    chosen = [line for line in chosen if not re.search("python_full_version < '3.12'", line)]
    requirements = [re.match(r"[^ ]+", line)[0] for line in chosen]
    (torch, torchvision), nvidia = [one for one in requirements if one.startswith("torch")], len(requirements) - 2
    assert nvidia > 10 and torch.startswith("torch==")
    index, others = tmp_path / "index", tmp_path / "others"
    index.mkdir(), others.mkdir()
    for requirement in torch, torchvision:
        wheel(index, f"{requirement}+cpu")
    for requirement in requirements:
        wheel(others, requirement)
    env = {"TORCH_INDEX": str(index), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(others)}
    locked, venv = lock(tmp_path, "\n".join(re.sub(" ;.*", "", line) for line in chosen)), tmp_path / "venv"
    result = make(venv, locked, TORCH="cpu", **env)
    assert result.returncode == 0, result.stderr
    assert installed(venv) == [f"{torch}+cpu", f"{torchvision}+cpu"]
    assert make(venv, locked, TORCH="", **env).stdout == "", "it stays so until something else is asked for"
    assert make(venv, locked, TORCH="gpu", **env).returncode == 0
    assert len(installed(venv)) == nvidia + 2 and {torch, torchvision} <= set(installed(venv))


def test_an_unknown_torch_is_told(tmp_path):
    result = make(tmp_path / "venv", lock(tmp_path), TORCH="cuda12")
    assert result.stderr.startswith("make: TORCH=cuda12 is unknown. TORCH=cpu ") and not (tmp_path / "venv").exists()


def test_locks_agree():
    """They are installed into one environment: what two of them hold has one version."""
    names = ["requirements.txt", "requirements-book.txt", "requirements-dev.txt"]
    locks = [re.findall(r"^([\w.-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE) for name in names]
    versions = [{name: {v for n, v in one if n == name} for name, _ in one} for one in locks]
    for one, other in itertools.combinations(versions, 2):
        assert {name: one[name] for name in one.keys() & other.keys()} == {
            n: other[n] for n in one.keys() & other.keys()
        }


def test_a_python_that_is_too_old_is_told(monkeypatch):
    monkeypatch.setattr(environment, "OLDEST", (3, 99))
    with pytest.raises(SystemExit, match=r"Python 3.99 or newer is needed, this is 3.*make PYTHON="):
        environment.check_python()


def installs_for_real(tmp_path, folder, **env):
    """Make an environment with a small package of our own in it, and ask its Python for the package."""
    wheel(tmp_path, "tiny==1")
    result = make(folder, lock(tmp_path, "tiny==1\n"), PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path), **env)
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
    env = {"XDG_CONFIG_HOME": str(tmp_path), "PIP_CONFIG_FILE": "", "PIP_RETRIES": "1", "PIP_EXTRA_INDEX_URL": ""}
    result = make(tmp_path / "venv", lock(tmp_path, "a-package-that-is-not-there==1.0\n"), **env)
    assert result.returncode != 0 and result.stderr.endswith(f": {environment.NO_NETWORK}\n")


def test_of_pips_settings_those_hold_that_say_how_to_reach_packages(tmp_path, monkeypatch):
    lines = ["[global]", "index-url = http://127.0.0.1:9/", "proxy = one", "cert = one", "target = here", "user = true"]
    (tmp_path / "theirs.conf").write_text("\n".join([*lines, "[install]", "proxy = two"]))
    for name, value in {"CONFIG_FILE": str(tmp_path / "theirs.conf"), "CERT": "three", "USER": "1"}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    found = environment.only_ways_to_packages(sys.executable)
    ours = {name: value for name, value in found.items() if name.startswith("PIP_")}
    expected = {"INDEX_URL": "http://127.0.0.1:9/", "PROXY": "two", "CERT": "three", "CONFIG_FILE": os.devnull}
    assert ours.items() >= {f"PIP_{name}": value for name, value in expected.items()}.items()
    assert not ours.keys() & {"PIP_TARGET", "PIP_USER"}


@pytest.mark.slow
@pytest.mark.parametrize("before", ["used", "empty", "dangling"])
def test_a_linked_environment_stays_a_link(tmp_path, before):
    disk, link = tmp_path / "disk", tmp_path / "v e[n]v"
    if before != "dangling":
        disk.mkdir()
    if before == "used":
        (disk / "old").mkdir()
        (disk / "old" / "file").write_text("")
        (disk / "complete").write_text("")
        (disk / "other").symlink_to(tmp_path)
    link.symlink_to(disk)
    found = installs_for_real(tmp_path, link)
    assert link.is_symlink() and not (disk / "old").exists() and tmp_path.exists()
    assert os.path.realpath(found).startswith(str(disk))


@pytest.mark.parametrize("kind", ["link", "folder"])
def test_what_make_did_not_put_there_is_told_and_not_removed(tmp_path, kind):
    photos = tmp_path / ("photos" if kind == "link" else "venv")
    photos.mkdir()
    (photos / "one.png").touch()
    if kind == "link":
        (tmp_path / "venv").symlink_to(photos)
    result = make(tmp_path / "venv", lock(tmp_path))
    assert result.returncode != 0 and (photos / "one.png").exists()
    assert result.stderr == f"make: {photos} holds what make did not put there. Move it away, then call make again.\n"


def test_a_file_in_the_way_is_told(tmp_path):
    (tmp_path / "venv").write_text("mine")
    result = make(tmp_path / "venv", lock(tmp_path))
    assert result.returncode != 0 and (tmp_path / "venv").read_text() == "mine"
    assert result.stderr == f"make: {tmp_path / 'venv'} is no folder. Move it away, then call make again.\n"


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_every_target_that_a_page_names_is_there(page):
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|^    )make ([a-z-]+)", (ROOT / page).read_text(), re.MULTILINE))
    assert {"check", "test", "book"} <= named <= known
