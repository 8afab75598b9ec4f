"""Checks of a reader's own answers to the exercises.

Each runs the answer on a small real problem, prints what holds and, for what does not, what was expected, what was
seen, and where the hint is; it returns True or False. Any right answer passes. None knows a solution.
"""

from async_hpo.check.comparison import comparison
from async_hpo.check.config_space import config_space
from async_hpo.check.environment import environment
from async_hpo.check.objective import objective
from async_hpo.check.searcher import searcher

__all__ = ["comparison", "config_space", "environment", "objective", "searcher"]
