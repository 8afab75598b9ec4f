"""What the data looks like."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from async_hpo.plots import style

if TYPE_CHECKING:  # it takes seconds to import
    from async_hpo.data import FashionMNIST


def one_image_per_class(data: "FashionMNIST") -> Figure:
    """The first training image of each class.

    Raises:
        IndexError: one of the ten classes has none.
    """
    X, y = data.tensors["train"]
    figure, axes = plt.subplots(2, 5, figsize=style.size(2.5))
    for label, ax in enumerate(axes.flat):
        ax.set_axis_off()
        ax.imshow(X[(y == label).nonzero()[0, 0], 0], cmap="gray_r")
        ax.set_title(data.text_labels([label])[0])
    return figure
