"""One PDF of the book in each language: `make pdf` calls this. All pages on a single one, printed by Chromium."""

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tools.browser import MISSING, find_browser
from tools.build import BUILD, FIRST_PAGE, NAME, build
from tools.languages import NAMES, SOURCE

#: A language whose letters many machines have no font for -> a package of Debian's and Ubuntu's that has one.
FONTS = {"ko": "fonts-nanum"}


def pdf_in(language: str) -> Path:
    return BUILD / (f"{NAME}.pdf" if language == SOURCE else f"{NAME}-{language}.pdf")


def single_page(folder: Path) -> str:
    """Sphinx writes it below `book/`, with links as if it were above: it goes there, and its links lead to itself."""
    return (folder / FIRST_PAGE).read_text().replace(f'href="{FIRST_PAGE}#', 'href="#')


def print_page(browser: str, page: Path, pdf: Path) -> None:
    with tempfile.TemporaryDirectory() as profile:  # not the reader's own, which a running browser holds
        command = [browser, "--headless", "--disable-gpu", f"--user-data-dir={profile}", f"--print-to-pdf={pdf}"]
        command += [
            "--no-pdf-header-footer",
            "--generate-pdf-document-outline",
            *(["--no-sandbox"] if os.getuid() == 0 else []),
        ]
        result = subprocess.run([*command, page.resolve().as_uri()], capture_output=True, text=True)
    if result.returncode != 0 or not pdf.exists():
        sys.exit(f"make: {browser} printed no PDF: {(result.stderr.splitlines() or ['no reason given'])[-1]}")


def has_letters(language: str) -> bool:
    """Whether some font has them, as far as there is somebody to ask."""
    fonts = shutil.which("fc-list")
    return not fonts or bool(subprocess.run([fonts, f":lang={language}"], capture_output=True).stdout.strip())


def warn_of_missing_letters() -> None:
    for language, package in FONTS.items():
        if not has_letters(language):
            instead = f"boxes are printed (Debian and Ubuntu: apt-get install {package})"
            print(f"make: no font here has the letters of {NAMES[language]}: {instead}")


def main() -> None:
    browser = find_browser()
    if browser is None:
        sys.exit(f"make: the PDF is printed by a browser, and there is {MISSING}")
    warn_of_missing_letters()
    pages = build("singlehtml")
    pdfs = [pdf_in(language) for language in NAMES]
    for page, pdf in zip(pages, pdfs, strict=True):
        page.write_text(single_page(page.parent))
        pdf.unlink(missing_ok=True)
    with ThreadPoolExecutor() as side_by_side:
        list(side_by_side.map(partial(print_page, browser), pages, pdfs))
    print(*(f"The PDF is ready: {pdf}" for pdf in pdfs), sep="\n")


if __name__ == "__main__":
    main()
