"""Sphinx as Jupyter Book sets it up, with a builder and a language of our choice: the other tools start this.

Jupyter Book's own command knows one language, and one folder for what it keeps between builds.
"""

import sys
from pathlib import Path

from jupyter_book.sphinx import build_sphinx
from sphinx.util.i18n import CatalogRepository

from tools.languages import SOURCE, folder

BUILD = Path("_build")
LOCALE = Path("locale")


def output(builder: str, language: str) -> Path:
    """Where the pages go: translations below the original."""
    return BUILD / builder / folder(language)


def kept(builder: str, language: str) -> Path:
    """Where Sphinx keeps what it has read. The catalogues' builder reads more of a page than the others."""
    home = BUILD / "gettext" if builder == "gettext" else BUILD / folder(language)
    return home / ".doctrees"


def run(builder: str, language: str) -> bool:
    # Before Sphinx is set up: it compiles those of pages, and too late for extensions.
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


if __name__ == "__main__":
    sys.exit(not run(*(sys.argv[1:] or ["html", SOURCE])))
