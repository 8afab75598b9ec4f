"""`make .venv`: what goes wrong is one line, and the next call recovers."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile

import nbformat
import pytest

from tools import environment, execute
from tools.notebooks import ROOT


def make(folder, *parts, **variables):
    command = [sys.executable, str(ROOT / "tools" / "environment.py"), *map(str, (folder, *parts))]
    return subprocess.run(command, env=os.environ | variables, capture_output=True, encoding="utf-8")


def lock(folder, *lines, name="requirements.txt"):
    (folder / name).write_text("\n".join(["# a lock", *lines]), "utf-8")
    return folder / name


def wheel(folder, requirement):
    """A package that holds a module without content."""
    name, version = requirement.replace("-", "_").split("==")
    about = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}.py", "")
        file.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        file.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{about}/RECORD", "")


def installed(folder):
    """Names with versions, of all but pip itself and what venv brings along with it."""
    command = [folder / "bin" / "python", "-m", "pip", "list", "--format=freeze"]
    listed = subprocess.check_output(command, encoding="utf-8")
    return sorted(line for line in listed.splitlines() if not line.startswith(("pip=", "setuptools=")))


@pytest.mark.long
def test_no_network_is_one_line_and_the_next_call_recovers(tmp_path):
    requirements, venv = lock(tmp_path, "a-package-that-is-not-there==1.0"), tmp_path / "책"
    result = make(venv, requirements, PIP_INDEX_URL="http://127.0.0.1:9/", PIP_RETRIES="1", PIP_EXTRA_INDEX_URL="")
    assert result.returncode != 0
    assert re.fullmatch(f"make: cannot install {requirements}: no package registry .*\n", result.stderr)
    lock(tmp_path)
    assert make(venv, requirements).returncode == 0, "the half-made environment is made anew"
    assert make(venv, requirements).stdout == "", "nothing to do"
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    assert make(venv, requirements, **plain).stdout == "", "in a locale without its letters, too"


@pytest.mark.long
def test_a_missing_part_is_added_and_a_changed_one_makes_it_anew(tmp_path):
    """Behind a link, and whatever pip's settings say of where to install."""
    for version in "12":
        wheel(tmp_path, f"tiny=={version}")
    elsewhere, settings = tmp_path / "elsewhere", tmp_path / "pip.conf"
    settings.write_text("[install]\nuser = true\nconstraint = none.txt\n[global]\nrequire_hashes = true\n")
    theirs = dict.fromkeys(("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PYTHONPATH"), str(elsewhere))
    theirs |= {
        "PIP_CONFIG_FILE": str(settings),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(tmp_path),
        "PIP_DRY_RUN": "1",
    }
    disk, venv = tmp_path / "disk", tmp_path / "v e[n]v"
    venv.symlink_to(disk)
    reader, tests = lock(tmp_path), lock(tmp_path, "tiny==1", name="dev.txt")
    assert make(venv, reader, **theirs).returncode == 0 and installed(venv) == []
    (disk / "folder").mkdir()
    (disk / "link").symlink_to(tmp_path)
    assert make(venv, reader, tests, **theirs).returncode == 0
    assert installed(venv) == ["tiny==1"] and (disk / "folder").exists()
    assert make(venv, reader).stdout == "", "it has what a reader needs, and more"
    lock(tmp_path, "tiny==2", name="dev.txt")
    assert make(venv, reader, tests, **theirs).returncode == 0
    assert installed(disk) == ["tiny==2"] and not (disk / "folder").exists()
    assert venv.is_symlink() and reader.exists() and not elsewhere.exists()


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has wheels of torch with and without GPU libraries")
def test_torch_for_the_cpu_comes_from_its_own_index_and_nothing_of_nvidias(tmp_path):
    """A folder stands for each index: PyTorch's, and the one that holds all else."""
    found = re.findall(r"^(?:torch|nvidia|cuda).*", (ROOT / "requirements.txt").read_text("utf-8"), re.MULTILINE)
    requirements = [line.split(" ")[0] for line in found if "python_full_version < '3.12'" not in line]
    torch = [one for one in requirements if one.startswith("torch")]
    assert len(requirements) > 10 and torch[0].startswith("torch==")
    index, others = tmp_path / "index", tmp_path / "others"
    for folder, held in ((index, [f"{one}+cpu" for one in torch]), (others, requirements)):
        folder.mkdir()
        for requirement in held:
            wheel(folder, requirement)
    env = {"TORCH_INDEX": str(index), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(others)}
    locked, venv = lock(tmp_path, *requirements), tmp_path / "venv"
    result = make(venv, locked, TORCH="cpu", **env)
    assert result.returncode == 0, result.stderr
    assert installed(venv) == [f"{one}+cpu" for one in torch]
    assert make(venv, locked, TORCH="", **env).stdout == "", "it stays so until something else is asked for"
    assert make(venv, locked, TORCH="gpu", **env).returncode == 0
    assert len(installed(venv)) == len(requirements) and {*torch} <= {*installed(venv)}


@pytest.mark.parametrize("kind", ["link", "folder", "file"])
def test_what_make_did_not_put_there_is_told_and_not_removed(tmp_path, kind):
    photo = tmp_path / "photos" / "one.png"
    photo.parent.mkdir()
    photo.touch()
    (tmp_path / "link").symlink_to(photo.parent)
    result = make({"link": tmp_path / "link", "folder": photo.parent, "file": photo}[kind], lock(tmp_path))
    assert result.returncode != 0 and photo.exists()
    assert re.fullmatch("make: .*photos.*(: File exists| holds what make did not put there.*)\n", result.stderr)


def test_an_unknown_torch_is_told(tmp_path):
    result = make(tmp_path / "venv", lock(tmp_path), TORCH="cuda12")
    assert result.stderr.startswith("make: TORCH=cuda12 is unknown. TORCH=cpu ") and not (tmp_path / "venv").exists()


def test_a_python_that_is_too_old_is_told(monkeypatch):
    monkeypatch.setattr(environment, "OLDEST", (3, 99))
    with pytest.raises(SystemExit, match=r"Python 3.99 or newer is needed, this is 3.*make PYTHON="):
        environment.main("venv")


def test_locks_agree():
    """They are installed into one environment: what two of them hold has one version."""
    found = {}  # a package -> the versions that each lock has, which may be several on several Pythons
    for path in ROOT.glob("requirements*.txt"):
        pins = re.findall(r"^(\S+)==(\S+)", path.read_text("utf-8"), re.MULTILINE)
        for package, _ in pins:
            found.setdefault(package, set()).add(frozenset(version for name, version in pins if name == package))
    assert not {package: versions for package, versions in found.items() if len(versions) > 1}


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_every_target_that_a_page_names_is_there(page):
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = set(re.findall(r"(?:`|^    )make ([a-z-]+)", (ROOT / page).read_text("utf-8"), re.MULTILINE))
    assert {"check", "test", "book"} <= named <= known


def test_what_others_set_does_not_reach_what_make_runs():
    theirs = ["JUPYTER_PATH", "MPLBACKEND", "PYTEST_ADDOPTS", "PYTHONOPTIMIZE", "PYTHONSAFEPATH", "PYTHONWARNINGS"]
    env = os.environ | dict.fromkeys(theirs, "others") | {"PYTHONUTF8": "0"}
    command = ["make", "-s", "-f", "Makefile", "-f", "-", "show"]
    shown = subprocess.check_output(command, cwd=ROOT, env=env, input="show:\n\t@env\n", encoding="utf-8")
    assert "=others" not in shown and "PYTHONUTF8=1" in shown.splitlines()


def test_notebooks_run_on_this_python_whatever_else_has_the_kernel_s_name(tmp_path, monkeypatch):
    kernel = tmp_path / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    about = {"argv": ["/of/others/python", "{connection_file}"], "display_name": "Others'", "language": "python"}
    kernel.write_text(json.dumps(about), "utf-8")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    cell = nbformat.v4.new_code_cell("import sys\nprint(sys.executable)")
    (done,) = execute.run_cells(tmp_path / "page.ipynb", [cell])
    assert done.outputs[0].text.strip() == sys.executable


@pytest.mark.parametrize("setting", ["core.autocrlf=true", "core.eol=crlf"])
def test_lines_end_the_same_in_every_clone(tmp_path, setting):
    def git(*arguments):
        subprocess.run(["git", "-c", setting, *arguments], cwd=tmp_path, check=True, capture_output=True)

    script = tmp_path / "script"
    script.write_bytes("#!/bin/sh\necho 책\n".encode())
    shutil.copy(ROOT / ".gitattributes", tmp_path)
    git("init")
    git("add", ".")
    script.unlink()
    git("checkout", "--", "script")
    assert b"\r" not in script.read_bytes()
