"""Where the repository's address is known, pages lead to it: launch buttons, edit and issue links, what to clone.

It is `repository: url` in _config.yml or, where that is empty and GitHub Actions builds the book, the repository there.
Where it is not known, nothing of all that shows.
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
    app.add_config_value("book_address", "", "html")  # of all languages
    app.add_directive("in-a-clone", InAClone)
    app.connect("config-inited", find_repository, priority=850)
    app.connect("html-page-context", add_addresses, priority=900)


def find_repository(app: Sphinx, config: Config) -> None:
    options = config.html_theme_options
    url = (options.get("repository_url") or from_github_actions()).rstrip("/")
    if url == from_github_actions():
        options["repository_provider"] = "github"  # under a name of its own, too
    config.book_repository = options["repository_url"] = url
    for button in ("repository", "issues", "edit_page"):
        options[f"use_{button}_button"] = bool(url)
    on_github = url.startswith(f"{GITHUB}/")
    options["launch_buttons"] = dict(options["launch_buttons"]) if on_github else {}
    address = str(config.html_baseurl)
    if on_github and not address:  # where GitHub Pages puts it
        owner, name = url.split("/")[-2:]
        address = f"https://{owner.lower()}.github.io/{name}/"
    config.book_address, config.html_baseurl = address, address and address + folder(config.language)


def from_github_actions() -> str:
    name = os.environ.get("GITHUB_REPOSITORY")
    return f"{os.environ.get('GITHUB_SERVER_URL', GITHUB)}/{name}" if name else ""


def add_addresses(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    site = app.config.html_baseurl
    context["book_address"] = app.config.book_address
    context["site_address"], context["site_path"] = site, urlparse(site).path if site else ""
    for group in context.get("header_buttons", []):
        if group.get("label") == "launch-buttons":
            group["buttons"].append(codespaces(app.config.book_repository))


def codespaces(repository: str) -> dict[str, str]:
    """The theme knows Binder, and not this."""
    return {
        "type": "link",
        "text": "Codespaces",
        "tooltip": _("Open in GitHub Codespaces"),
        "icon": "fab fa-github",
        "url": repository.replace(GITHUB, "https://codespaces.new") + "?quickstart=1",
    }


class InAClone(SphinxDirective):
    """Commands for a shell; first those that make the clone, where its address is known."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        url = self.config.book_repository
        clone = [f"git clone {url}", f"cd {url.split('/')[-1].removesuffix('.git')}"] if url else []
        text = "\n".join([*clone, *self.content])
        return [nodes.literal_block(text, text, language="sh")]
