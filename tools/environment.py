"""Make a virtual environment, or find that it is as it should be: `make .venv` and its like call this.

    python3 tools/environment.py .venv-book requirements-book.txt
    python3 tools/environment.py .venv requirements.txt --editable
    python3 tools/environment.py .venv-bench benchmarks/requirements.txt --over .venv

What goes wrong is said in one line, and the next call starts over. Only the standard library, and syntax that an old
Python understands, so that it can say that it is too old.
"""

from __future__ import print_function

import hashlib
import os
import shutil
import subprocess
import sys

OLDEST, NEWEST = (3, 11), (3, 14)  # what the lock is compiled and tested for


def main(folder, requirements, *options):
    check_python()
    below = options[options.index("--over") + 1] if "--over" in options else None
    stamp = os.path.join(folder, "complete")
    wanted = fingerprint(folder, requirements, options) + (read(os.path.join(below, "complete")) if below else "")
    if read(stamp) == wanted:
        return
    what = "%s from %s" % (folder, requirements)
    size = "about 7 GB, some 5 minutes" if "--editable" in options else "about 300 MB, under a minute"
    print("Making %s (%s) ..." % (what, size), flush=True)
    variables = own_variables()
    try:
        make_room(folder)
        # venv refuses a link, hence the path that it leads to.
        run("cannot make %s" % folder, variables, sys.executable, "-m", "venv", os.path.realpath(folder))
        own_settings(os.path.join(folder, "pip.conf"), variables)
    except OSError as error:
        stop("cannot make %s: %s: %s" % (folder, error.filename, error.strerror))
    python = os.path.join(folder, "bin", "python")
    if below:
        lay_over(python, below, variables)
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-input", "--no-deps"]
    run("cannot install %s" % what, variables, *(pip + ["-r", requirements]))
    if "--editable" in options:
        run("cannot install the package async_hpo", variables, *(pip + ["--no-build-isolation", "--editable", "."]))
    os.remove(os.path.join(folder, "pip.conf"))  # from here on it is the reader's
    with open(stamp, "w") as file:
        file.write(wanted)


def make_room(folder):
    """Empty what stands there, half made or made for other requirements. A link, to a larger disk say, stays a link."""
    target = os.path.realpath(folder)
    if not os.path.lexists(target):
        os.makedirs(target)
    if not os.path.isdir(target):
        stop("%s is no folder. Move it away, then call make again." % folder)
    names = os.listdir(target)
    if os.path.islink(folder) and names and "pyvenv.cfg" not in names:
        stop("%s leads to %s, which holds something else: link it to an empty folder." % (folder, target))
    for name in sorted(names, key="pyvenv.cfg".__eq__):  # that one last: an interrupt leaves an environment, too
        path = os.path.join(target, name)
        remove = shutil.rmtree if os.path.isdir(path) and not os.path.islink(path) else os.remove
        remove(path)


def lay_over(python, below, variables):
    """Let an environment see another one's packages, editable ones too, behind its own."""
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own, others = (
        subprocess.check_output([path, "-c", where], env=variables).decode().strip()
        for path in (python, os.path.join(below, "bin", "python"))
    )
    with open(os.path.join(own, "below.pth"), "w") as file:
        file.write("import site; site.addsitedir(%a)\n" % others)  # ASCII: the file's encoding varies


def check_python():
    found, version = sys.version_info[:2], "%d.%d" % sys.version_info[:2]
    if found < OLDEST:
        stop("Python %d.%d or newer is needed, this is %s. Try: make PYTHON=python3.12 ..." % (OLDEST + (version,)))
    if found > NEWEST:
        print("Python %s is newer than the newest one tested (%d.%d); trying all the same." % ((version,) + NEWEST))


def fingerprint(folder, requirements, options):
    """Changes with requirements, options, the Python, and the place of the clone (a moved environment is broken)."""
    places = sorted({os.path.abspath(folder), os.path.realpath(folder)})  # a link's, and where it leads
    parts = [read(requirements), sys.version] + list(options) + places
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def run(complaint, variables, *command):
    result = subprocess.run(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if result.returncode != 0:
        stop("%s: %s" % (complaint, reason(result.stdout.decode(errors="replace"))))


# Of the reader's settings for pip, those hold that say how to reach packages (index-url, proxy, cert, ...). What is
# installed, and where, is for this script to say. The names of pip's options, as in its files and variables:
NOT_THEIRS = ["user", "target", "prefix", "root", "python", "require-virtualenv", "require-venv", "dry-run"]
NOT_THEIRS += ["platform", "python-version", "implementation", "abi", "no-binary", "only-binary", "require-hashes"]
NOT_THEIRS += ["constraint", "build-constraint", "requirement", "editable", "group"]


def own_variables():
    """The environment's variables, without what makes a Python, or pip, look elsewhere than in its environment."""

    def is_theirs(name):
        option = name[4:].lower().replace("_", "-") if name.startswith("PIP_") else None
        return option not in NOT_THEIRS and name not in ("PYTHONHOME", "PYTHONPATH")

    return {name: value for name, value in os.environ.items() if is_theirs(name)}


def own_settings(path, variables):
    """Write the settings file of an environment, which outranks the user's and the system's: empty values undo theirs.

    PIP_CONFIG_FILE would outrank it, and leaves out the user's: where it names a file, a changed copy takes its place.
    """
    import configparser  # here, because Python 2 hasn't got it

    settings = configparser.RawConfigParser()
    if os.path.isfile(variables.get("PIP_CONFIG_FILE", "")):  # os.devnull stands for no files at all, and is none
        try:
            settings.read(variables["PIP_CONFIG_FILE"], encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            return  # pip says so
        variables["PIP_CONFIG_FILE"] = os.path.abspath(path)
    for section in ("global", "install"):
        if not settings.has_section(section):
            settings.add_section(section)
        for option in NOT_THEIRS:
            settings.set(section, option, "")
    with open(path, "w", encoding="utf-8") as file:
        settings.write(file)


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
