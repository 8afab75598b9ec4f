"""Sphinx as Jupyter Book sets it up, with a builder and a language of our choice: the other tools start this.

Jupyter Book's own command knows one language, and one folder for what it keeps between builds.
"""

import sys
from pathlib import Path

from jupyter_book.sphinx import build_sphinx

BUILD = Path("_build")
SOURCE = "en"  # the language that the pages are written in


def output(builder: str, language: str) -> Path:
    """Where the pages go: translations below the original."""
    return BUILD / builder / ("" if language == SOURCE else language)


def kept(builder: str, language: str) -> Path:
    """Where Sphinx keeps what it has read. The catalogues' builder reads more of a page than the others."""
    if builder == "gettext":
        return BUILD / "gettext"
    return BUILD if language == SOURCE else BUILD / language


def run(builder: str, language: str) -> bool:
    result = build_sphinx(
        Path().resolve(),
        output(builder, language).resolve(),
        noconfig=True,
        path_config="_config.yml",
        confoverrides={"external_toc_path": "_toc.yml", "latex_individualpages": False, "language": language},
        doctreedir=(kept(builder, language) / ".doctrees").resolve(),
        builder=builder,
        warningiserror=True,
        keep_going=True,
        quiet=True,
    )
    return result == 0


if __name__ == "__main__":
    sys.exit(not run(*sys.argv[1:]))
