"""Build the HTML with Jupyter Book, let any warning fail, and say which file to open: `make book` calls this."""

import filecmp
import os
import shutil
import subprocess
import sys
from pathlib import Path

BUILD = Path("_build")
PAGE = BUILD / "html" / "index.html"
STATIC = Path("book", "_static")


def static_files_changed() -> bool:
    """Sphinx copies them only when it writes a page anew."""
    copies = BUILD / "html" / "_static"
    return any(
        not (copies / file.name).exists() or not filecmp.cmp(file, copies / file.name, shallow=False)
        for file in STATIC.iterdir()
    )


def main() -> None:
    if PAGE.exists() and static_files_changed():
        shutil.rmtree(BUILD / ".doctrees", ignore_errors=True)
    start = "from jupyter_book.cli.main import main; main()"  # it has no `python -m`
    command = [sys.executable, "-c", start, "build", ".", "-W", "--keep-going", "--quiet"]
    result = subprocess.run(command, env=os.environ | {"PYDEVD_DISABLE_FILE_VALIDATION": "1"})
    if result.returncode != 0 or not PAGE.exists():
        shutil.rmtree(BUILD / ".doctrees", ignore_errors=True)
        sys.exit("make: the book has warnings or errors (above); the next build reads every page again.")
    print(f"The book is ready. Open {PAGE}")


if __name__ == "__main__":
    main()
