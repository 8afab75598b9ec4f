"""Set the book up in Google Colab: the first cell of each notebook gets it there and runs this.

What Colab has already stays as it is: the kernel may hold parts of it (NumPy, torch). The rest comes from the lock.
"""

import os
import re
import subprocess
import sys
import tempfile
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def missing(lock: str, installed: set[str]) -> list[str]:
    """The requirements of a lock file whose packages are not among the `installed`."""
    lines = [line for line in lock.splitlines() if re.match(r"[A-Za-z0-9]", line)]
    return [line for line in lines if normalized(re.split(r"[^\w.-]", line)[0]) not in installed]


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> None:
    installed = {normalized(one.metadata["Name"]) for one in distributions()}
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(missing((ROOT / "requirements.txt").read_text(), installed)))
        file.flush()
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "-r", file.name], check=True)
    own = [str(ROOT), str(ROOT / "workers")]
    sys.path[:0] = own
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [*own, os.environ.get("PYTHONPATH")]))  # of trials
    os.chdir(ROOT / "notebooks")


if __name__ == "__main__":
    main()
