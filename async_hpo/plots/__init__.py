"""Every figure's one home. Functions draw what `runs`, `schedule` and `compare` compute, and return the figure.

One drawing serves a page and a phone: narrow enough for its text to be legible on either.
"""

from async_hpo.plots.bars import compared, images_per_second, seconds_of_a_trial, seconds_per_epoch
from async_hpo.plots.curves import collapsed, comparison, incumbent, learning_curve, learning_curves
from async_hpo.plots.images import one_image_per_class
from async_hpo.plots.style import trial_color, use_style
from async_hpo.plots.timelines import gantt, gantts, nodes, schedules
from async_hpo.plots.workers import scaling, slowed_by_waiting, speed_up

__all__ = [
    "collapsed",
    "compared",
    "comparison",
    "gantt",
    "gantts",
    "images_per_second",
    "incumbent",
    "learning_curve",
    "learning_curves",
    "nodes",
    "one_image_per_class",
    "scaling",
    "schedules",
    "seconds_of_a_trial",
    "seconds_per_epoch",
    "slowed_by_waiting",
    "speed_up",
    "trial_color",
    "use_style",
]
