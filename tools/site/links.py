"""Links to a figure or an exercise on another page, `[text](other.ipynb#label)`.

MyST knows headings behind the `#`, not labels. Links to files work in JupyterLab, too; the role `{ref}` does not.
"""

from typing import Any, cast

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.domains.std import StandardDomain
from sphinx.transforms.post_transforms import SphinxPostTransform


def setup(app: Sphinx) -> None:
    app.add_post_transform(LabelsOfOtherPages)


class LabelsOfOtherPages(SphinxPostTransform):
    """Makes such a link a `{ref}`, which Sphinx resolves, or warns about."""

    default_priority = 8  # MyST's own is 9

    def run(self, **kwargs: Any) -> None:
        labels = cast(StandardDomain, self.env.get_domain("std")).anonlabels
        for link in self.document.findall(addnodes.pending_xref):
            label = link.get("reftargetid")
            if link["refdomain"] == "doc" and label in labels and labels[label][0] == link["reftarget"]:
                link.attributes |= {"refdomain": "std", "reftype": "ref", "reftarget": label}
                link.attributes |= {"refexplicit": True, "refwarn": True}
                link[0].replace_self(nodes.inline("", "", *link[0].children, classes=["std", "std-ref"]))
