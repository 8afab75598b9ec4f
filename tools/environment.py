"""Make a virtual environment, or find that it is as it should be: `make .venv` and `make .venv-book` call this.

    python3 tools/environment.py .venv-book requirements-book.txt
    python3 tools/environment.py .venv requirements.txt . requirements-dev.txt

Its parts are locks, and folders of packages, which are installed editable. A missing part is added; when a part has
changed, the environment is made anew. The environment variable TORCH=cpu leaves NVIDIA's libraries out.

An error is one line, and the next call starts over. Only the standard library, and syntax that an old Python
understands, so that it can say that it is too old.
"""

import hashlib
import os
import re
import subprocess
import sys

OLDEST = (3, 11)  # the lock is compiled for it and newer ones
SIZES = {
    "requirements.txt": " (6 GB, some 5 minutes; with TORCH=cpu or on macOS 2 GB)",
    "requirements-book.txt": " (200 MB, half a minute)",
    "requirements-dev.txt": " (500 MB, half a minute)",
}
#: A pattern in pip's output -> the reason to give.
REASONS = {
    "No space left on device": "the disk is full.",
    "Failed to establish|Connection refused|in name resolution|service not known|Network is unreachable": (
        "no package registry can be reached. Check the network, then call make again."
    ),
    "ensurepip is not|No module named venv": "this Python has no venv. On Debian and Ubuntu, install python3-venv.",
}
#: These make a Python or pip look, or install, elsewhere than in the environment.
ELSEWHERE = {"PYTHONHOME", "PYTHONPATH", "PIP_PYTHON", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT"}
#: These outrank settings in a reader's pip.conf that would do so, too, or refuse the lock, or install nothing.
PIP = {"PIP_USER": "0", "PIP_REQUIRE_HASHES": "0", "PIP_CONSTRAINT": os.devnull, "PIP_DRY_RUN": "0"}


def main(folder, *parts):
    if sys.version_info[:2] < OLDEST:
        oldest, here = (".".join(map(str, version)) for version in (OLDEST, sys.version_info[:2]))
        stop(f"Python {oldest} or newer is needed, this is {here}. Try: make PYTHON=python3.12 ...")
    stamp = os.path.join(folder, "complete")
    found = read(stamp).splitlines() if os.path.exists(stamp) else []
    torch = os.environ.get("TORCH") or ("cpu" if any(line.endswith(" cpu") for line in found) else "gpu")
    if torch not in ("cpu", "gpu"):
        stop(f"TORCH={torch} is unknown. TORCH=cpu leaves NVIDIA's libraries out, TORCH=gpu installs them.")
    # A moved environment is broken, hence the places: a link's, and the one that it leads to.
    base = digest(os.fsencode("\n".join([sys.version, os.path.abspath(folder), os.path.realpath(folder)])))
    lines = {state(part, torch == "cpu"): part for part in parts}
    if {base, *lines} <= set(found):
        return
    if base not in found or not set(found) <= {base, *lines}:
        found = []
        make_anew(os.path.realpath(folder), stamp)  # venv refuses a link, to a larger disk say
    for line, part in lines.items():
        if line not in found:
            print(f"Installing {part} into {folder}{SIZES.get(part, '')} ...", flush=True)
            install(os.path.join(folder, "bin", "python"), part, line.endswith(" cpu"))
    with open(stamp, "w", encoding="utf-8") as file:
        file.write("\n".join([base, *lines]))


def state(part, cpu):
    """The line of a part in an environment's stamp."""
    if os.path.isdir(part):
        return part
    lock = read(part)
    return f"{part} {digest(lock.encode())}" + (" cpu" if cpu and re.search("^torch==", lock, re.MULTILINE) else "")


def make_anew(folder, stamp):
    """Replace what stands there, half made or made from other parts, by an empty environment."""
    os.makedirs(folder, exist_ok=True)
    if os.listdir(folder) and not os.path.exists(stamp):
        stop(f"{folder} holds what make did not put there. Move it away, then call make again.")
    try:
        run(f"cannot make {folder}", [sys.executable, "-m", "venv", "--clear", folder])
    finally:
        open(stamp, "wb").close()  # an environment that was interrupted is make's own, and not complete


def install(python, part, cpu):
    pip = [python, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet", "--no-deps"]
    pip += ["--no-compile"]  # Python compiles what it imports, which is a small part of what is installed
    if os.path.isdir(part):
        run(f"cannot install {part}", [*pip, "--no-build-isolation", "--editable", part])
        return
    lines = re.findall(r"^[A-Za-z0-9].*", read(part), re.MULTILINE)
    if cpu:
        lines = [line for line in lines if not re.match("nvidia-|cuda-", line)]
    if cpu and sys.platform == "linux":  # elsewhere the wheels of the package index are for the CPU
        index = os.environ.get("TORCH_INDEX") or "https://download.pytorch.org/whl/cpu"
        options = ["--no-index", "--find-links", index] if os.path.isdir(index) else ["--index-url", index]
        torch = [line for line in lines if re.match("torch(vision)?==", line)]
        lines = [line for line in lines if line not in torch]
        run(f"cannot install torch from {index}", [*pip, *options, *torch])
    some = [lines[start::4] for start in range(4)]  # side by side: each pip does one thing at a time
    run(f"cannot install {part}", *[[*pip, *lines] for lines in some if lines])


def run(complaint, *commands):
    """Run commands side by side; one that fails ends the script with the reason."""
    variables = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}
    variables.update(PIP)
    running = [
        subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for command in commands
    ]
    outputs = [process.communicate()[0].decode(errors="replace") for process in running]
    for process, output in zip(running, outputs, strict=True):
        if process.returncode != 0:
            last_line = (output.strip() or "no reason given").splitlines()[-1]
            found = [reason for pattern, reason in REASONS.items() if re.search(pattern, output)]
            stop(f"{complaint}: {[*found, last_line][0]}")


def digest(content):
    return hashlib.sha256(content).hexdigest()


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def stop(message):
    sys.exit("make: " + message)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except OSError as error:
        stop(f"cannot make {sys.argv[1]}: {error.filename}: {error.strerror}")
    except KeyboardInterrupt:
        stop("interrupted. Call make again.")
