"""The book's pages are those of its table of contents, and nothing else in the folder is read.

Jupyter Book's own `only_build_toc_files` does the same, except below a folder called `x[1]`: it takes the folder's
path for a pattern. These patterns begin where the book does.
"""

import glob

from sphinx.application import Sphinx
from sphinx.config import Config


def setup(app: Sphinx) -> None:
    app.connect("config-inited", only_pages, priority=901)  # sphinx-external-toc reads the table of contents at 900


def only_pages(app: Sphinx, config: Config) -> None:
    pages = [glob.escape(name) for name in config.external_site_map]
    config.include_patterns = [page + suffix for page in pages for suffix in ("", *config.source_suffix)]
