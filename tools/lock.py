"""Compile the two locks with uv: `make lock` calls this."""

import subprocess
import sys
from pathlib import Path

FIRST_LINE = "# Install with: pip install --no-deps -r {}   (complete; why --no-deps: see overrides.txt)\n"


def compile_lock(source: str, target: str, *options: str) -> None:
    command = [sys.executable, "-m", "uv", "pip", "compile", source, "--output-file", target, "--quiet"]
    # --universal: one lock for Python 3.11 to 3.13, Linux and macOS. No index address belongs into it.
    command += ["--universal", "--python-version", "3.11", "--no-emit-index-url", "--no-header"]
    subprocess.run([*command, *options, *sys.argv[1:]], check=True)
    path = Path(target)
    path.write_text(FIRST_LINE.format(target) + path.read_text())


if __name__ == "__main__":
    compile_lock("requirements.in", "requirements.txt", "--override", "overrides.txt")
    compile_lock("requirements-book.in", "requirements-book.txt", "--constraint", "requirements.txt")
