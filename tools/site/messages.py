"""Text that Sphinx's catalogues would leave out: translated here, or made a message of theirs."""

from typing import Any

from docutils import nodes
from myst_nb.sphinx_ import HideCodeCellNode
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.locale import get_translation
from sphinx.transforms import SphinxTransform
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx_exercise.nodes import exercise_subtitle

from tools.site.languages import text_of

_ = get_translation("site")
#: What MyST-NB writes above folded cells. Here, `_` is lazy: the language is not known yet.
PROMPTS = {
    "Show code cell source": _("Show code cell source"),
    "Hide code cell source": _("Hide code cell source"),
    "Show code cell output": _("Show code cell output"),
    "Hide code cell output": _("Hide code cell output"),
}


def setup(app: Sphinx) -> None:
    app.add_transform(TitlesAsMessages)
    app.add_transform(TitlesOfSolutions)
    app.add_transform(PartsOfTheBook)
    app.add_post_transform(Prompts)


class PartsOfTheBook(SphinxTransform):
    """Their captions in the table of contents: sphinx-external-toc adds them after Sphinx has translated the page."""

    default_priority = 101  # it adds them at 100

    def apply(self, **kwargs: Any) -> None:
        translated = text_of(self.env.docname, self.config.language)
        for contents in self.document.findall(addnodes.toctree):
            if contents.get("caption"):
                contents["caption"] = translated.gettext(contents["caption"])


class Prompts(SphinxPostTransform):
    default_priority = 200  # MyST-NB folds at 199

    def run(self, **kwargs: Any) -> None:
        for cell in self.document.findall(HideCodeCellNode):
            for prompt in ("prompt_show", "prompt_hide"):
                cell[prompt] = str(PROMPTS[cell[prompt]])


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
            label = title.parent.parent["label"]
            registry[label]["node"][0] = title.parent.deepcopy()
