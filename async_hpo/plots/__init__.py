"""Every figure's one home. Functions draw what `runs`, `schedule` and `compare` compute, and return the figure.

One drawing serves a page and a phone: narrow enough for its text to be legible on either.
"""

from async_hpo.plots.bars import compared, images_per_second, seconds_of_a_trial
from async_hpo.plots.curves import collapsed, comparison, learning_curve
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
    "learning_curve",
    "nodes",
    "scaling",
    "schedules",
    "seconds_of_a_trial",
    "slowed_by_waiting",
    "speed_up",
    "trial_color",
    "use_style",
]
