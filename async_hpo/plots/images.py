"""What the data looks like."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from async_hpo.plots import style

if TYPE_CHECKING:  # it takes seconds to import
    from async_hpo.data import FashionMNIST


@style.for_pages_and_phones
def one_image_per_class(data: "FashionMNIST") -> Figure:
    """The first training image of each class.

    Raises:
        IndexError: one of the ten classes has none.
    """
    X, y = data.tensors["train"]
    rows, columns, height = (4, 3, 5.0) if style.on_phone() else (2, 5, 2.9)
    figure, axes = plt.subplots(rows, columns, figsize=(style.width(), height))
    for ax in axes.flat:
        ax.set_axis_off()
    for label, ax in enumerate(axes.flat[:10]):
        ax.imshow(X[(y == label).nonzero()[0, 0], 0], cmap="gray_r")
        ax.set_title(data.text_labels([label])[0], fontsize="medium")
    return figure
