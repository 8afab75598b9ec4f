"""Build the HTML with Jupyter Book, let any warning fail, and say which file to open: `make book` calls this."""

import filecmp
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # called by its path: `tools/` would be searched for modules, and hide Sphinx behind our own
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from tools.languages import NAMES, SOURCE, TO_FIRST_PAGE
from tools.sphinx import BUILD, LOCALE, kept, output

STATIC = Path("book", "_static")
EXTENSION = Path(__file__).with_name("site")
NAME = "asynchronous-random-search"
ZIP = BUILD / f"{NAME}.zip"
FIRST_PAGE = "book/index.html"


def must_start_over(page: Path, language: str) -> bool:
    """Sphinx copies static files only when it writes a page anew, and does not look at extensions' code and words."""
    copies = page.parent / "_static"
    written = page.stat().st_mtime
    words = (LOCALE / language / "LC_MESSAGES").glob("*.po")
    return any(file.stat().st_mtime > written for file in [*EXTENSION.glob("*.py"), *words]) or any(
        not (copies / file.name).exists() or not filecmp.cmp(file, copies / file.name, shallow=False)
        for file in STATIC.iterdir()
    )


def build(builder: str = "html", languages: Sequence[str] = tuple(NAMES)) -> list[Path]:
    """Build the book in some languages, side by side, and return the first page of each."""
    pages = {language: output(builder, language) / "index.html" for language in languages}
    for language, page in pages.items():
        if page.exists() and must_start_over(page, language):
            forget(builder, language)
    env = os.environ | {"PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    commands = {language: [sys.executable, "-m", "tools.sphinx", builder, language] for language in languages}
    builds = {language: subprocess.Popen(command, env=env) for language, command in commands.items()}
    failed = [language for language, build in builds.items() if build.wait() != 0 or not pages[language].exists()]
    for language in failed:
        forget(builder, language)
    if failed:
        sys.exit("make: the book has warnings or errors (above); the next build reads every page again.")
    return list(pages.values())


def forget(builder: str, language: str) -> None:
    shutil.rmtree(kept(builder, language), ignore_errors=True)


def lead_to_first_page(page: Path, language: str) -> None:
    """For the book's address, Jupyter Book would write a page without title, language, and anything to preview."""
    head = (page.parent / FIRST_PAGE).read_text()
    shared = "\n".join(re.findall(r"<title>.*?</title>|<meta (?:property|name)=\"(?:og|twitter):[^>]*>", head))
    refresh = f'<meta http-equiv="refresh" content="0; url={FIRST_PAGE}">'
    link = f'<p><a href="{FIRST_PAGE}">{TO_FIRST_PAGE[language]}</a></p>'
    page.write_text(
        f'<!doctype html>\n<html lang="{language}">\n<meta charset="utf-8">\n{refresh}\n{shared}\n{link}\n</html>\n'
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
    for page, language in zip(build(), NAMES, strict=True):
        lead_to_first_page(page, language)
    write_zip(output("html", SOURCE))
    ready = ", ".join(f"{output('html', language)}/index.html ({name})" for language, name in NAMES.items())
    print(f"The book is ready. Open {ready}; all of it in one file: {ZIP}")


if __name__ == "__main__":
    main()
