"""Build the HTML with Jupyter Book, let any warning fail, and say which file to open: `make book` calls this.

python -m tools.build [html ko]     a builder of Sphinx's, and one language; without: HTML in all of them
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from jupyter_book.sphinx import build_sphinx
from sphinx.util.i18n import CatalogRepository

from tools.languages import NAMES, TO_FIRST_PAGE, folder

BUILD = Path("_build")
LOCALE = Path("locale")
FIRST_PAGE = "book/index.html"


def output(builder: str, language: str) -> Path:
    """Where the pages go: translations below the original."""
    return BUILD / builder / folder(language)


def kept(builder: str, language: str) -> Path:
    """Where Sphinx keeps what it has read. The catalogues' builder reads more of a page than the others."""
    return BUILD / ("gettext" if builder == "gettext" else folder(language)) / ".doctrees"


def build_one(builder: str, language: str) -> bool:
    """Build one language: Jupyter Book's own command knows one language, and one folder for what it keeps."""
    # Sphinx compiles the catalogues of pages by itself, but not those of extensions.
    for catalogue in CatalogRepository(Path().resolve(), [str(LOCALE)], language, "utf-8").catalogs:
        if catalogue.is_outdated():
            catalogue.write_mo(language)
    result = build_sphinx(
        Path().resolve(),
        output(builder, language).resolve(),
        noconfig=True,
        path_config="_config.yml",
        confoverrides={"external_toc_path": "_toc.yml", "latex_individualpages": False, "language": language},
        doctreedir=kept(builder, language).resolve(),
        builder=builder,
        warningiserror=True,
        keep_going=True,
        quiet=True,
    )
    return result == 0


def build(builder: str = "html") -> list[Path]:
    """Build the book in all languages, side by side, and return the first page of each."""
    pages = {language: output(builder, language) / "index.html" for language in NAMES}
    builds = {}
    for language, page in pages.items():
        if page.exists() and must_start_over(page):
            forget(builder, language)
        builds[language] = subprocess.Popen([sys.executable, "-m", "tools.build", builder, language])
    failed = [language for language, build in builds.items() if build.wait() != 0 or not pages[language].exists()]
    for language in failed:
        forget(builder, language)
    if failed:
        sys.exit("make: the book has warnings or errors (above); the next build reads every page again.")
    return list(pages.values())


def must_start_over(page: Path) -> bool:
    """Sphinx copies static files only when it writes a page anew, and does not look at extensions' code and words."""
    files = [*Path("book", "_static").iterdir(), *Path("tools").rglob("*.py"), *LOCALE.rglob("*.po")]
    return any(file.stat().st_mtime > page.stat().st_mtime for file in files)


def forget(builder: str, language: str) -> None:
    shutil.rmtree(kept(builder, language), ignore_errors=True)


def lead_to_first_page(page: Path, language: str) -> None:
    """For the book's address, Jupyter Book would write a page without title, language, and anything to preview."""
    head = (page.parent / FIRST_PAGE).read_text("utf-8")
    shared = "\n".join(re.findall(r"<title>.*?</title>|<meta (?:property|name)=\"(?:og|twitter):[^>]*>", head))
    refresh = f'<meta http-equiv="refresh" content="0; url={FIRST_PAGE}">'
    link = f'<p><a href="{FIRST_PAGE}">{TO_FIRST_PAGE[language]}</a></p>'
    page.write_text(
        f'<!doctype html>\n<html lang="{language}">\n<meta charset="utf-8">\n{refresh}\n{shared}\n{link}\n</html>\n',
        encoding="utf-8",
    )


def main() -> None:
    for page, language in zip(build(), NAMES, strict=True):
        lead_to_first_page(page, language)
    ready = ", ".join(f"{output('html', language)}/index.html ({name})" for language, name in NAMES.items())
    print(f"The book is ready. Open {ready}")


if __name__ == "__main__":
    if sys.argv[1:]:
        sys.exit(not build_one(*sys.argv[1:]))
    main()
