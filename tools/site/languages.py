"""Each page is there in each of the book's languages (tools/languages.py), and leads to the others.

What the book's own extension says is translated by the catalogue `site`, what its templates say by `sphinx`, as all of
Sphinx's own; a page's text by the catalogue of its name.
"""

from gettext import NullTranslations, translation
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.locale import get_translation, translators

from tools.languages import NAMES, SOURCE, folder

_ = get_translation("site")
LOCALE = Path(__file__).parents[2] / "locale"
#: Catalogues of others, to which ours adds, or which it corrects.
OTHERS = ("booktheme", "exercise")


def setup(app: Sphinx) -> None:
    app.add_message_catalog("site", str(LOCALE))
    for catalogue in OTHERS:
        prefer_ours(app, catalogue)
    app.connect("config-inited", speak, priority=850)
    app.connect("builder-inited", keep_outputs_apart, priority=900)
    app.connect("html-page-context", add_twins)


def text_of(page: str, language: str) -> NullTranslations:
    """The catalogue of a page's own text."""
    return translation(page, LOCALE, [language], fallback=True)


def prefer_ours(app: Sphinx, catalogue: str) -> None:
    theirs = translators.pop(("general", catalogue), None)
    app.add_message_catalog(catalogue, str(LOCALE))
    if theirs:
        translators["general", catalogue].add_fallback(theirs)


def speak(app: Sphinx, config: Config) -> None:
    """What _config.yml and Jupyter Book say in English."""
    config.project = config.html_title = _(config.html_title)
    config.author = _(config.author)
    options = config.html_theme_options
    options["search_bar_text"] = _("Search this book")
    options["logo"] = options.get("logo", {}) | {"alt_text": _("{}: the first page").format(config.html_title)}
    licences = _('Text CC BY 4.0, code MIT-0. Follows the section “Asynchronous Random Search” of <a href="{}">{}</a>.')
    options["extra_footer"] = "<p>{}</p>".format(licences.format("https://D2L.ai", "Dive into Deep Learning"))
    options["article_header_end"] = ["languages.html", "article-header-buttons.html"]


def keep_outputs_apart(app: Sphinx) -> None:
    """MyST-NB would write the notebooks' figures beside the pages, and two builds at once into one folder."""
    beside = str(Path(app.doctreedir).parent / "jupyter_execute")
    app.env.mystnb_config = app.env.mystnb_config.copy(output_folder=beside)  # type: ignore[attr-defined]


def add_twins(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    if app.builder.name != "html":
        return
    here = app.config.language
    up = "" if here == SOURCE else "../"
    page = f"{quote(pagename)}.html"
    editions = []
    for language, name in NAMES.items():
        path = f"{folder(language)}{page}"
        address = page.rpartition("/")[2] if language == here else context["pathto"](f"{up}{path}", 1)
        editions.append({"language": language, "name": name, "address": address, "path": path})
    context["twins"] = [edition for edition in editions if edition["language"] != here]
    # Search engines want to hear all of them on each, and which one is for readers of yet another language.
    for_others = next(edition for edition in editions if edition["language"] == SOURCE)
    context["editions"] = [*editions, for_others | {"language": "x-default"}]
