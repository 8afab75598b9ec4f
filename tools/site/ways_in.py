"""Where the repository's address is known, pages lead to it: launch buttons, edit and issue links, what to clone.

It is `repository: url` in _config.yml or, where that is empty and GitHub Actions builds the book, the repository there.
"""

import os
from typing import Any
from urllib.parse import urlparse

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.locale import get_translation
from sphinx.util.docutils import SphinxDirective

from tools.languages import folder

_ = get_translation("site")
GITHUB = "https://github.com"


def setup(app: Sphinx) -> None:
    app.add_config_value("book_repository", "", "env")
    app.add_directive("in-a-clone", InAClone)
    app.connect("config-inited", find_repository, priority=850)
    app.connect("html-page-context", add_codespaces, priority=900)


def find_repository(app: Sphinx, config: Config) -> None:
    options = config.html_theme_options
    name, server = (os.environ.get(f"GITHUB_{part}") for part in ("REPOSITORY", "SERVER_URL"))
    on_actions = f"{GITHUB}/{name}" if name and server == GITHUB else ""
    url = (options["repository_url"] or on_actions).rstrip("/")
    config.book_repository = options["repository_url"] = url
    for button in ("repository", "issues", "edit_page"):
        options[f"use_{button}_button"] = bool(url)
    address = config.html_baseurl  # of all languages
    if not url.startswith(f"{GITHUB}/"):
        options["launch_buttons"] = {}
    elif not address:  # where GitHub Pages puts it
        owner, name = url.split("/")[-2:]
        address = f"https://{owner.lower()}.github.io/{name}/"
    config.html_baseurl = site = address and address + folder(config.language)
    config.html_context |= {"book_address": address, "site_address": site, "site_path": urlparse(site).path}


def add_codespaces(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """To the launch buttons: the theme knows Binder, and not this."""
    for group in context.get("header_buttons", []):
        if group.get("label") == "launch-buttons":
            url = app.config.book_repository.replace(GITHUB, "https://codespaces.new") + "?quickstart=1"
            words = {"text": "Codespaces", "tooltip": _("Open in GitHub Codespaces")}
            here = f"lab/tree/{folder(app.config.language)}"  # where binder/postBuild puts this language's notebooks
            for button in group["buttons"]:
                button["url"] = button["url"].replace("lab/tree/", here)
            group["buttons"].append({"type": "link", "icon": "fab fa-github", "url": url} | words)


class InAClone(SphinxDirective):
    """Commands for a shell; first those that make the clone, where its address is known."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        url = self.config.book_repository
        clone = [f"git clone {url}", f"cd {url.split('/')[-1].removesuffix('.git')}"] if url else []
        text = "\n".join([*clone, *self.content])
        return [nodes.literal_block(text, text, language="sh")]
