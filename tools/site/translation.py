"""Text that Sphinx's catalogues would leave out, and that translations need."""

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx_exercise.nodes import exercise_subtitle


def setup(app: Sphinx) -> None:
    app.add_transform(TitlesAsMessages)
    app.add_transform(TitlesOfSolutions)


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
        for exercise in getattr(self.env, "sphinx_exercise_registry", {}).values():
            for title in self.document.findall(exercise_subtitle):
                node = title.parent.parent
                if exercise["docname"] == self.env.docname and node["label"] == exercise["node"]["label"]:
                    exercise["node"][0] = title.parent.deepcopy()
