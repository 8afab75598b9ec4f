"""Make a virtual environment, or find that it is as it should be: `make .venv` and its like call this.

    python3 tools/environment.py .venv-book requirements-book.txt
    python3 tools/environment.py .venv requirements.txt --editable
    python3 tools/environment.py .venv-bench benchmarks/requirements.txt --over .venv

What goes wrong is said in one line, and the next call starts over. Only the standard library, and syntax that an old
Python understands, so that it can say that it is too old.
"""

import configparser
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile

OLDEST, NEWEST = (3, 11), (3, 14)  # what the lock is compiled and tested for


def main(folder, requirements, *options):
    check_python()
    below = options[options.index("--over") + 1] if "--over" in options else None
    stamp = os.path.join(folder, "complete")
    wanted = fingerprint(folder, requirements) + (read(os.path.join(below, "complete")) if below else "")
    if read(stamp) == wanted:
        return
    what = "%s from %s" % (folder, requirements)
    size = "about 7 GB, some 5 minutes" if "--editable" in options else "about 300 MB, under a minute"
    print("Making %s (%s) ..." % (what, size), flush=True)
    make_room(folder)
    python = os.path.join(folder, "bin", "python")
    run("cannot make %s" % folder, sys.executable, "-m", "venv", os.path.realpath(folder))  # venv refuses a link
    if below:
        lay_over(python, below)
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-input", "--no-deps"]
    run("cannot install %s" % what, *(pip + ["-r", requirements]))
    if "--editable" in options:
        run("cannot install the package async_hpo", *(pip + ["--no-build-isolation", "--editable", "."]))
    with open(stamp, "w") as file:
        file.write(wanted)


def make_room(folder):
    """Empty what stands there, half made or made for other requirements. A link, to a larger disk say, stays a link."""
    target = os.path.realpath(folder)
    if os.path.lexists(target) and not os.path.isdir(target):
        stop("%s is a file, where a folder has to be. Move it away." % folder)
    if os.path.isdir(target):
        for entry in os.scandir(target):
            remove = shutil.rmtree if entry.is_dir(follow_symlinks=False) else os.remove
            remove(entry.path)
    else:
        os.makedirs(target)


def lay_over(python, below):
    """Let an environment see another one's packages, editable ones too, behind its own."""
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own, others = (
        subprocess.check_output([path, "-c", where]).decode().strip()
        for path in (python, os.path.join(below, "bin", "python"))
    )
    with open(os.path.join(own, "below.pth"), "w") as file:
        file.write("import site; site.addsitedir(%r)\n" % others)


def check_python():
    found, version = sys.version_info[:2], "%d.%d" % sys.version_info[:2]
    if found < OLDEST:
        stop("Python %d.%d or newer is needed, this is %s. Try: make PYTHON=python3.12 ..." % (OLDEST + (version,)))
    if found > NEWEST:
        print("Python %s is newer than the newest one tested (%d.%d); trying all the same." % ((version,) + NEWEST))


def fingerprint(folder, requirements):
    """Changes with the requirements, the Python, and the place of the clone (a moved environment is broken)."""
    parts = [read(requirements), sys.version, os.path.abspath(folder)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def run(complaint, *command):
    with tempfile.TemporaryDirectory() as folder:
        variables = surroundings(folder)
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=variables)
    if result.returncode != 0:
        stop("%s: %s" % (complaint, reason(result.stdout.decode(errors="replace"))))


def surroundings(folder):
    """The environment variables for pip. Where it installs is for us to say, and where it finds packages for the
    reader's settings, in variables and in files; an empty value in the last file outdoes the ones before it."""
    variables = dict(os.environ)
    for name in WHERE_TO_INSTALL:
        variables.pop("PIP_" + name.replace("-", "_").upper(), None)
    variables.pop("PYTHONHOME", None)
    theirs = variables.get("PIP_CONFIG_FILE", "")
    if theirs != os.devnull:  # which stands for no file at all
        settings = configparser.RawConfigParser()
        settings.read(theirs, encoding="utf-8")
        for section in ("global", "install"):
            if not settings.has_section(section):
                settings.add_section(section)
            for name in WHERE_TO_INSTALL:
                settings.set(section, name, "")
        variables["PIP_CONFIG_FILE"] = os.path.join(folder, "pip.conf")
        with open(variables["PIP_CONFIG_FILE"], "w", encoding="utf-8") as file:
            settings.write(file)
    return variables


WHERE_TO_INSTALL = ("user", "target", "prefix", "root", "python", "require-virtualenv", "dry-run", "upgrade")


def reason(output):
    for sign, meaning in SIGNS.items():
        if sign in output:
            return meaning
    errors = [line for line in output.splitlines() if line.strip()]
    return errors[-1].strip() if errors else "no reason given"


NO_NETWORK = "no package registry can be reached. Check the network, then call make again."
NO_VENV = "this Python has no venv. On Debian and Ubuntu, install the package python3-venv."
SIGNS = {
    "No space left on device": "the disk is full.",
    "Failed to establish a new connection": NO_NETWORK,
    "Connection refused": NO_NETWORK,
    "Temporary failure in name resolution": NO_NETWORK,
    "Name or service not known": NO_NETWORK,
    "Network is unreachable": NO_NETWORK,
    "ensurepip is not available": NO_VENV,
    "No module named venv": NO_VENV,
}


def stop(message):
    sys.exit("make: " + message)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except KeyboardInterrupt:
        stop("interrupted; the next call starts the environment over.")
