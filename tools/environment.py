"""Make a virtual environment, or find that it is as it should be: `make .venv` and `make .venv-book` call this.

    python3 tools/environment.py .venv-book requirements-book.txt
    python3 tools/environment.py .venv requirements.txt . requirements-dev.txt

Its parts are locks, and folders of packages, which are installed editable. What it lacks is added; when a part has
changed, it is made anew. TORCH=cpu among the environment variables leaves NVIDIA's libraries out.

What goes wrong is said in one line, and the next call starts over. Only the standard library, and syntax that an old
Python understands, so that it can say that it is too old.
"""

from __future__ import print_function

import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys

OLDEST, NEWEST = (3, 11), (3, 14)  # what the lock is compiled and tested for
SIZES = {
    "requirements.txt": " (6 GB, some 5 minutes; with TORCH=cpu or on macOS 2 GB)",
    "requirements-book.txt": " (200 MB, half a minute)",
    "requirements-dev.txt": " (500 MB, half a minute)",
}


def main(folder, *parts):
    check_python()
    stamp = os.path.join(folder, "complete")
    found = read(stamp).splitlines() if os.path.exists(stamp) else []
    torch = os.environ.get("TORCH") or ("cpu" if any(line.endswith(" cpu") for line in found) else "gpu")
    if torch not in ("cpu", "gpu"):
        stop("TORCH=%s is unknown. TORCH=cpu leaves NVIDIA's libraries out, TORCH=gpu installs them." % torch)
    # A moved environment is broken, hence the places: a link's, and the one that it leads to.
    base = digest(sys.version, os.path.abspath(folder), os.path.realpath(folder))
    lines = {state(part, torch == "cpu"): part for part in parts}
    wanted = [base] + list(lines)
    if set(wanted) <= set(found):
        return
    if base not in found or not set(found) <= set(wanted):
        make_empty(folder, stamp)
        found = []
        # venv refuses a link, hence the path that it leads to.
        run("cannot make %s" % folder, own_variables(), [sys.executable, "-m", "venv", os.path.realpath(folder)])
    python = os.path.join(folder, "bin", "python")
    variables = only_ways_to_packages(python)
    for line, part in lines.items():
        if line not in found:
            print("Installing %s into %s%s ..." % (part, folder, SIZES.get(part, "")))
            sys.stdout.flush()
            install(python, part, line.endswith(" cpu"), variables)
    with open(stamp, "w") as file:
        file.write("\n".join(wanted))


def state(part, cpu):
    """The line of a part in an environment's stamp."""
    if os.path.isdir(part):
        return part
    lock = read(part)
    return " ".join([part, digest(lock)] + ["cpu"] * (cpu and re.search("^torch==", lock, re.MULTILINE) is not None))


def install(python, part, cpu, variables):
    pip = [python, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet", "--no-deps"]
    pip += ["--no-compile"]  # Python compiles what it imports, which is a small part of what is installed
    if os.path.isdir(part):
        return run("cannot install %s" % part, variables, pip + ["--no-build-isolation", "--editable", part])
    lines = re.findall(r"^[A-Za-z0-9].*", read(part), re.MULTILINE)
    if cpu:
        lines = [line for line in lines if not re.match("nvidia-|cuda-", line)]
    if cpu and sys.platform == "linux":  # elsewhere the wheels of the package index are for the CPU
        index = os.environ.get("TORCH_INDEX") or "https://download.pytorch.org/whl/cpu"
        options = ["--no-index", "--find-links", index] if os.path.isdir(index) else ["--index-url", index]
        torch = [line for line in lines if re.match("torch(vision)?==", line)]
        lines = [line for line in lines if line not in torch]
        run("cannot install torch from %s" % index, variables, pip + options + torch)
    some = [lines[start::4] for start in range(4)]  # side by side: each pip does one thing at a time
    run("cannot install %s" % part, variables, *[pip + lines for lines in some if lines])


def make_empty(folder, stamp):
    """Empty what stands there, half made or made from other parts. A link, to a larger disk say, stays a link."""
    target = os.path.realpath(folder)
    if not os.path.lexists(target):
        os.makedirs(target)
    if not os.path.isdir(target):
        stop("%s is no folder. Move it away, then call make again." % folder)
    names = os.listdir(target)
    if names and "complete" not in names:
        stop("%s holds what make did not put there. Move it away, then call make again." % target)
    open(stamp, "w").close()  # first, and kept: what an interrupt leaves is ours, and not complete
    for name in names:
        path = os.path.join(target, name)
        if name != "complete":
            (shutil.rmtree if os.path.isdir(path) and not os.path.islink(path) else os.remove)(path)


def check_python():
    found, version = sys.version_info[:2], "%d.%d" % sys.version_info[:2]
    if found < OLDEST:
        stop("Python %d.%d or newer is needed, this is %s. Try: make PYTHON=python3.12 ..." % (OLDEST + (version,)))
    if found > NEWEST:
        print("Python %s is newer than the newest one tested (%d.%d); trying all the same." % ((version,) + NEWEST))


def digest(*parts):
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def run(complaint, variables, *commands):
    """Run commands side by side and return what they print."""
    running = [
        subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for command in commands
    ]
    outputs = [process.communicate()[0].decode(errors="replace") for process in running]
    for process, output in zip(running, outputs, strict=True):
        if process.returncode != 0:
            stop("%s: %s" % (complaint, reason(output)))
    return "".join(outputs)


def own_variables():
    """The environment variables, without those that make a Python look elsewhere than in its environment."""
    return {name: os.environ[name] for name in set(os.environ) - {"PYTHONHOME", "PYTHONPATH", "PIP_PYTHON"}}


# Of the reader's settings for pip, those hold that say how to reach packages. What is installed, and where, is for this
# script to say.
WAYS = ["index-url", "extra-index-url", "find-links", "no-index", "trusted-host", "proxy", "cert", "client-cert"]
WAYS += ["keyring-provider", "retries", "timeout", "default-timeout", "cache-dir", "no-cache-dir", "use-feature"]


def only_ways_to_packages(python):
    """The environment variables, with those settings from pip's files and variables and no others."""
    all_files = dict(own_variables(), PIP_USER="0", PIP_GLOBAL="0", PIP_SITE="0")  # "1" lists that one file alone
    listed = run("cannot read pip's settings", all_files, [python, "-m", "pip", "config", "list"])
    variables = {name: value for name, value in own_variables().items() if not name.startswith("PIP_")}
    for section in "global", "install", ":env:":  # each outranks the one before
        for option, value in re.findall(r"^%s\.([\w-]+)=(.+)" % section, listed, re.MULTILINE):
            if option in WAYS and value != "''":  # which pip ignores, too
                variables["PIP_" + option.upper().replace("-", "_")] = ast.literal_eval(value)
    return dict(variables, PIP_CONFIG_FILE=os.devnull)


def reason(output):
    for signs, meaning in SIGNS.items():
        if re.search(signs, output):
            return meaning
    return (output.strip() or "no reason given").splitlines()[-1].strip()


NO_NETWORK = "no package registry can be reached. Check the network, then call make again."
SIGNS = {
    "No space left on device": "the disk is full.",
    "Failed to establish|Connection refused|in name resolution|service not known|Network is unreachable": NO_NETWORK,
    "ensurepip is not|No module named venv": "this Python has no venv. On Debian and Ubuntu, install python3-venv.",
}


def stop(message):
    sys.exit("make: " + message)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except OSError as error:
        stop("cannot make %s: %s: %s" % (sys.argv[1], error.filename, error.strerror))
    except KeyboardInterrupt:
        stop("interrupted. Call make again.")
