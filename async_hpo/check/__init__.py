"""Checks of a reader's own answers to the exercises. Any right answer passes; none knows a solution.

Each prints what holds of an answer, its first faults, and where the hint is. It returns whether all of it holds.
"""

from async_hpo.check.inspections import comparison, config_space, environment
from async_hpo.check.suggestions import searcher
from async_hpo.check.trials import objective

__all__ = ["comparison", "config_space", "environment", "objective", "searcher"]
