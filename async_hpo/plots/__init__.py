"""Every figure's one home. Functions draw what `runs`, `schedule` and `compare` compute, and return the figure.

One drawing serves a page and a phone: narrow enough for its text to be legible on either.
"""

from async_hpo.plots.charts import compared as compared
from async_hpo.plots.charts import comparison as comparison
from async_hpo.plots.charts import incumbent as incumbent
from async_hpo.plots.charts import learning_curve as learning_curve
from async_hpo.plots.charts import learning_curves as learning_curves
from async_hpo.plots.charts import on_public_tables as on_public_tables
from async_hpo.plots.charts import scaling as scaling
from async_hpo.plots.charts import seconds_of_a_trial as seconds_of_a_trial
from async_hpo.plots.charts import speed_up as speed_up
from async_hpo.plots.style import trial_color as trial_color
from async_hpo.plots.style import use_style as use_style
from async_hpo.plots.timelines import gantt as gantt
from async_hpo.plots.timelines import gantts as gantts
from async_hpo.plots.timelines import nodes as nodes
from async_hpo.plots.timelines import schedules as schedules
