"""Compile the locks with uv: `make lock` calls this."""

import re
import subprocess
import sys
from pathlib import Path

FIRST_LINE = "# Install with: pip install --no-deps -r {}   (complete; why --no-deps: see overrides.txt)\n"


def compile_lock(source: str, target: str, *options: str) -> None:
    command = [sys.executable, "-m", "uv", "pip", "compile", source, "--output-file", target, "--quiet"]
    # --universal: one lock for Python 3.11 to 3.14, Linux and macOS. No index address belongs into it.
    command += ["--universal", "--python-version", "3.11", "--no-emit-index-url", "--no-header"]
    subprocess.run([*command, *options, *sys.argv[1:]], check=True)
    path = Path(target)
    path.write_text(FIRST_LINE.format(target) + path.read_text())


def leave_out(target: str, other: str) -> None:
    """Drop from one lock what another one holds already: its environment is laid over that one's."""
    held = set(Path(other).read_text().splitlines())
    blocks = re.split(r"^(?=[a-z0-9])", Path(target).read_text(), flags=re.MULTILINE | re.IGNORECASE)
    Path(target).write_text("".join(block for block in blocks if block.splitlines()[0] not in held))


if __name__ == "__main__":
    compile_lock("requirements.in", "requirements.txt", "--override", "overrides.txt")
    compile_lock("requirements-book.in", "requirements-book.txt", "--constraint", "requirements.txt")
    for name in ("benchmarks/requirements", "requirements-mutate"):
        compile_lock(f"{name}.in", f"{name}.txt", "--constraint", "requirements.txt")
        leave_out(f"{name}.txt", "requirements.txt")
