"""Each page is there in each of the book's languages (tools/languages.py), and leads to the others.

Words of this extension are translated by the catalogue `site`, those of the templates by `sphinx`, as all of Sphinx's
own; a page's text by the catalogue of its name, also where Sphinx would leave it out; code and outputs by
`tools.translated`, which also makes the notebooks to download. This extension comes first in
_config.yml: where others have a catalogue of the same name, ours goes before theirs.
"""

import filecmp
import json
from gettext import NullTranslations, translation
from pathlib import Path
from typing import Any
from urllib.parse import quote

import nbformat
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.locale import get_translation
from sphinx.transforms import SphinxTransform
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx_exercise.nodes import exercise_subtitle, is_extension_node

from tools import translated
from tools.languages import NAMES, SOURCE, folder

_ = get_translation("site")
LOCALE = Path(__file__).parents[2] / "locale"


def setup(app: Sphinx) -> None:
    for catalogue in ("site", "booktheme", "exercise"):
        app.add_message_catalog(catalogue, str(LOCALE))
    for transform in (TitlesAsMessages, TitlesOfSolutions, PartsOfTheBook):
        app.add_transform(transform)
    app.add_post_transform(TitlesWithoutParentheses)
    app.connect("config-inited", name_buttons, priority=400)  # sphinx-togglebutton reads the names at 500
    app.connect("config-inited", speak, priority=850)
    app.connect("builder-inited", keep_outputs_apart, priority=900)
    app.connect("source-read", translate_code_and_outputs)
    app.connect("build-finished", translate_downloads)
    app.connect("html-page-context", add_editions)


def text_of(page: str, language: str) -> NullTranslations:
    """The catalogue of a page's own text."""
    return translation(page, LOCALE, [language], fallback=True)


def name_buttons(app: Sphinx, config: Config) -> None:
    config.togglebutton_hint, config.togglebutton_hint_hide = _("Click to show"), _("Click to hide")


def speak(app: Sphinx, config: Config) -> None:
    """The words that _config.yml, Jupyter Book and MyST-NB have in English."""
    config.project = config.html_title = _(config.html_title)
    config.author = _(config.author)
    config.nb_code_prompt_show, config.nb_code_prompt_hide = _("Show this part"), _("Hide this part")
    options = config.html_theme_options
    options["search_bar_text"] = _("Search this book")
    options["logo"] = {"alt_text": _("{}: the first page").format(config.html_title)}
    licences = _('Text CC BY 4.0, code MIT-0. Follows the section “Asynchronous Random Search” of <a href="{}">{}</a>.')
    options["extra_footer"] = "<p>{}</p>".format(licences.format("https://D2L.ai", "Dive into Deep Learning"))
    options["article_header_end"] = ["languages.html", "article-header-buttons.html"]


def keep_outputs_apart(app: Sphinx) -> None:
    """MyST-NB would write the notebooks' figures beside the pages, and two builds at once into one folder."""
    beside = str(Path(app.doctreedir).parent / "jupyter_execute")
    app.env.mystnb_config = app.env.mystnb_config.copy(output_folder=beside)  # type: ignore[attr-defined]


def translate_code_and_outputs(app: Sphinx, docname: str, source: list[str]) -> None:
    if app.config.language != SOURCE and app.env.doc2path(docname).endswith(".ipynb"):
        notebook = nbformat.reads(source[0], as_version=4)
        translated.code_and_outputs(notebook, app.config.language)
        source[0] = nbformat.writes(notebook)


def translate_downloads(app: Sphinx, exception: Exception | None) -> None:
    if app.config.language != SOURCE and app.builder.name == "html" and not exception:
        for docname in app.env.found_docs:
            page = Path(app.env.doc2path(docname))
            download = Path(app.outdir, "_sources", docname).with_suffix(page.suffix)
            if filecmp.cmp(download, page, shallow=False):  # Sphinx has just put it there
                download.write_text(translated.translated(page, app.config.language), encoding="utf-8")


def add_editions(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    if app.builder.name == "html":
        here, page = app.config.language, f"{quote(pagename)}.html"
        up = "" if here == SOURCE else "../"
        if here != SOURCE:
            translate_scripts(app, words_of_the_search())
        context["editions"] = []
        for language, name in NAMES.items():
            path = folder(language) + page
            address = page.rpartition("/")[2] if language == here else context["pathto"](up + path, 1)
            context["editions"].append({"language": language, "name": name, "path": path, "address": address})


def translate_scripts(app: Sphinx, messages: dict[str, str]) -> None:
    """Give a page's scripts these translations, beside Sphinx's own."""
    found = {"locale": app.config.language, "messages": messages, "plural_expr": "0"}
    app.add_js_file(None, body=f"Documentation.addTranslations({json.dumps(found)});")


def words_of_the_search() -> dict[str, str]:
    """Where Sphinx's own translation is awkward, or asks for categories, which no reader can choose."""
    return {
        "Hide Search Matches": _("Hide Search Matches"),
        "Search finished, found ${resultCount} page(s) matching the search query.": _(
            "Search finished, found ${resultCount} page(s) matching the search query."
        ),
        "Your search did not match any documents. Please make sure that all words are spelled correctly and that "
        "you've selected enough categories.": _("No page has all of these words. Is each spelled correctly?"),
    }


class PartsOfTheBook(SphinxTransform):
    """Their captions in the table of contents: sphinx-external-toc adds them after Sphinx has translated the page."""

    default_priority = 101  # it adds them at 100

    def apply(self, **kwargs: Any) -> None:
        text = text_of(self.env.docname, self.config.language)
        for contents in self.document.findall(addnodes.toctree):
            if contents.get("caption"):
                contents["caption"] = text.gettext(contents["caption"])


class TitlesAsMessages(SphinxTransform):
    """Exercises' titles: text is a message when it says so, and knows the file that it is from."""

    default_priority = 9  # Sphinx translates at 20

    def apply(self, **kwargs: Any) -> None:
        for title in self.document.findall(exercise_subtitle):
            message = nodes.inline(title.astext(), "", *title.children, translatable=True)
            message.source = self.document["source"]
            title.children = []
            title += message


class TitlesOfSolutions(SphinxTransform):
    """They are taken from copies of the exercises, made before these were translated."""

    default_priority = 21

    def apply(self, **kwargs: Any) -> None:
        registry = getattr(self.env, "sphinx_exercise_registry", {})
        for title in self.document.findall(exercise_subtitle):
            registry[title.parent.parent["label"]]["node"][0] = title.parent.deepcopy()


class TitlesWithoutParentheses(SphinxPostTransform):
    """sphinx-exercise puts them around an exercise's own title, which begins with the exercise's number."""

    default_priority = 22  # sphinx-exercise is done at 21

    def run(self, **kwargs: Any) -> None:
        for exercise in self.document.findall(is_extension_node):
            for text in list(exercise[0].findall(nodes.Text)):
                if text in (" (", ")"):
                    text.parent.replace(text, nodes.Text(text.strip("()")))
