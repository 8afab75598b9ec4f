"""Compile the locks with uv: `make lock` calls this."""

import re
import subprocess
import sys
from pathlib import Path


def compile_lock(name: str, *options: str) -> None:
    command = [sys.executable, "-m", "uv", "pip", "compile", f"{name}.in", "--output-file", f"{name}.txt", "--quiet"]
    # --universal: one lock for Python 3.11 to 3.14, Linux and macOS. No index address belongs into it.
    command += ["--universal", "--python-version", "3.11", "--no-emit-index-url", "--no-header"]
    subprocess.run([*command, *options, *sys.argv[1:]], check=True)
    first_line = f"# Install with: pip install --no-deps -r {name}.txt   (complete; why --no-deps: see overrides.txt)\n"
    Path(f"{name}.txt").write_text(first_line + Path(f"{name}.txt").read_text("utf-8"), "utf-8")


def leave_out(lock: Path, *others: str) -> None:
    """Drop from a lock what others hold, on top of which it is installed."""
    held = {line for other in others for line in Path(other).read_text("utf-8").splitlines()}
    blocks = re.split(r"^(?=[a-z0-9])", lock.read_text("utf-8"), flags=re.MULTILINE | re.IGNORECASE)
    text = "".join(block for block in blocks if not {block.splitlines()[0], block.split(" ;")[0]} & held)
    lock.write_text(text.replace("complete", "on top of the two others", 1), "utf-8")


if __name__ == "__main__":
    below = "requirements.txt", "requirements-book.txt"
    compile_lock("requirements", "--override", "overrides.txt")
    compile_lock("requirements-book", "--override", "overrides-book.txt", "--constraint", below[0])
    overrides = "--override", "overrides.txt", "--override", "overrides-dev.txt"
    compile_lock("requirements-dev", *overrides, "--constraint", below[0], "--constraint", below[1])
    leave_out(Path("requirements-dev.txt"), *below)
