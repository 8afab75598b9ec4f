"""Build the HTML with Jupyter Book, let any warning fail, and say which file to open: `make book` calls this."""

import filecmp
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

BUILD = Path("_build")
STATIC = Path("book", "_static")
EXTENSION = Path(__file__).with_name("site")
NAME = "asynchronous-random-search"
ZIP = BUILD / f"{NAME}.zip"
FIRST_PAGE = "book/index.html"


def must_start_over(page: Path) -> bool:
    """Sphinx copies static files only when it writes a page anew, and does not look at its extensions' code."""
    copies = page.parent / "_static"
    written = page.stat().st_mtime
    return any(file.stat().st_mtime > written for file in EXTENSION.glob("*.py")) or any(
        not (copies / file.name).exists() or not filecmp.cmp(file, copies / file.name, shallow=False)
        for file in STATIC.iterdir()
    )


def build(builder: str = "html") -> Path:
    """Build the book, and return its first page."""
    page = BUILD / builder / "index.html"
    if page.exists() and must_start_over(page):
        shutil.rmtree(BUILD / ".doctrees", ignore_errors=True)
    start = "from jupyter_book.cli.main import main; main()"  # it has no `python -m`
    command = [sys.executable, "-c", start, "build", ".", "-W", "--keep-going", "--quiet", "--builder", builder]
    result = subprocess.run(command, env=os.environ | {"PYDEVD_DISABLE_FILE_VALIDATION": "1"})
    if result.returncode != 0 or not page.exists():
        shutil.rmtree(BUILD / ".doctrees", ignore_errors=True)
        sys.exit("make: the book has warnings or errors (above); the next build reads every page again.")
    return page


def lead_to_first_page(page: Path) -> None:
    """Jupyter Book's own page for the book's address has no title, no language, and nothing to preview."""
    head = (page.parent / FIRST_PAGE).read_text()
    shared = "\n".join(re.findall(r"<title>.*?</title>|<meta (?:property|name)=\"(?:og|twitter):[^>]*>", head))
    refresh = f'<meta http-equiv="refresh" content="0; url={FIRST_PAGE}">'
    link = f'<p><a href="{FIRST_PAGE}">To the first page</a></p>'
    page.write_text(
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n{refresh}\n{shared}\n{link}\n</html>\n'
    )


def write_zip(html: Path) -> None:
    """All pages in one file, to read without a network. The same pages give the same file."""
    with zipfile.ZipFile(ZIP, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(html.rglob("*")):
            if path.is_file() and path.suffix != ".map" and path.name != ".buildinfo":
                entry = zipfile.ZipInfo(f"{NAME}/{path.relative_to(html).as_posix()}")  # of 1980
                entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                packed.writestr(entry, path.read_bytes())


def main() -> None:
    page = build()
    lead_to_first_page(page)
    write_zip(page.parent)
    print(f"The book is ready. Open {page}; all of it in one file: {ZIP}")


if __name__ == "__main__":
    main()
