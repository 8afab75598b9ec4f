"""One PDF of the book in each language: `make pdf` calls this. All pages on a single one, printed by Chromium."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.browser import MISSING, find_browser
from tools.build import BUILD, FIRST_PAGE, build
from tools.languages import NAMES, SOURCE


def pdf_in(language: str) -> Path:
    return BUILD / f"asynchronous-random-search{'' if language == SOURCE else f'-{language}'}.pdf"


def print_page(browser: str, page: Path, pdf: Path) -> None:
    """Sphinx writes the single page below `book/`, with links as if it were above: they are to lead to itself."""
    text = (page.parent / FIRST_PAGE).read_text("utf-8")
    page.write_text(text.replace(f'href="{FIRST_PAGE}#', 'href="#'), "utf-8")
    pdf.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as profile:  # not the reader's own, which a running browser holds
        options = ["--headless", "--disable-gpu", "--no-pdf-header-footer", "--generate-pdf-document-outline"]
        options += ["--no-sandbox"] if os.getuid() == 0 else []
        options += [f"--user-data-dir={profile}", f"--print-to-pdf={pdf}"]
        command = [browser, *options, page.resolve().as_uri()]
        result = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    if result.returncode != 0 or not pdf.exists():
        sys.exit(f"make: {browser} printed no PDF: {(result.stderr.splitlines() or ['no reason given'])[-1]}")
    print(f"The PDF is ready: {pdf}")


def main() -> None:
    browser = find_browser()
    if browser is None:
        sys.exit(f"make: the PDF is printed by a browser, and there is {MISSING}")
    for page, language in zip(build("singlehtml"), NAMES, strict=True):
        print_page(browser, page, pdf_in(language))


if __name__ == "__main__":
    main()
