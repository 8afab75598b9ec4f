"""Every figure's one home. Functions draw what `runs`, `schedule` and `compare` compute, and return the figure.

One drawing serves a page and a phone: narrow enough for its text to be legible on either.
"""

from async_hpo.plots.bars import compared, seconds_of_a_trial
from async_hpo.plots.curves import comparison, incumbent, learning_curve
from async_hpo.plots.style import trial_color, use_style
from async_hpo.plots.timelines import gantt, gantts, nodes, schedules
from async_hpo.plots.workers import on_public_tables, scaling, speed_up

__all__ = [
    "compared",
    "comparison",
    "gantt",
    "gantts",
    "incumbent",
    "learning_curve",
    "nodes",
    "on_public_tables",
    "scaling",
    "schedules",
    "seconds_of_a_trial",
    "speed_up",
    "trial_color",
    "use_style",
]
