"""Exercises 1.2, 1.3 and 2.3: runs that are compared."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from async_hpo.check.checklist import Checklist


def comparison(reports: pd.DataFrame, by: str, values: Sequence[Any], exercise: str, n_repetitions: int = 2) -> bool:
    """Check that runs can be compared: all there, repeated, and with the same budget (exercises 1.2, 1.3 and 2.3).

    Args:
        reports: a row a report, with the columns `by`, `repetition`, `trial`, `time` (seconds) and `validation_error`.
        by: what is compared, such as `method`; if it is `n_workers`, that many trials must run at a time.
        values: what has to be in column `by`.
        exercise: where the hint is.
        n_repetitions: how many runs of each there must be, at least.

    Returns:
        Whether everything holds; what does not is printed.
    """
    checks = Checklist(exercise)
    columns = [by, "repetition", "trial", "time", "validation_error"]
    if not checks("it is a table", isinstance(reports, pd.DataFrame), "a pandas DataFrame", type(reports).__name__):
        return checks.verdict()
    missing = [name for name in columns if name not in reports]
    if not checks("it has its columns", not missing, ", ".join(columns), f"no {', '.join(missing)}"):
        return checks.verdict()
    absent = [value for value in values if value not in set(reports[by])]
    wanted = ", ".join(map(str, values))
    if not checks(f"it has every {by}", not absent, wanted, f"no {', '.join(map(str, absent))}"):
        return checks.verdict()
    reports = reports[reports[by].isin(values)]
    right = reports.validation_error.between(0, 1).all()
    checks("validation_error is a share of images", right, "numbers between 0 and 1", "others")
    groups = reports.groupby(by)
    _check_repetitions(checks, groups, n_repetitions)
    ends = groups.time.max()
    seen = ", ".join(f"{value}: {end:.0f} s" for value, end in ends.items())
    checks("all have the same budget", ends.max() <= 1.5 * ends.min(), "last reports at about the same time", seen)
    if by == "n_workers":
        _check_concurrency(checks, groups)
    return checks.verdict()


def _check_repetitions(checks: Checklist, groups, n_repetitions: int) -> None:
    few = groups.repetition.nunique()
    seen = ", ".join(f"{value}: {n}" for value, n in few.items())
    expected = f"at least {n_repetitions} of each"
    if checks("every one is repeated", (few >= n_repetitions).all(), expected, seen):
        alike = [
            value
            for value, rows in groups
            if len({tuple(run.validation_error) for _, run in rows.groupby("repetition")}) < rows.repetition.nunique()
        ]
        expected = "repetitions with random numbers of their own"
        checks("repetitions differ", not alike, expected, f"the same errors again with {', '.join(map(str, alike))}")


def _check_concurrency(checks: Checklist, groups) -> None:
    for n_workers, rows in groups:
        most = 0
        for _, run in rows.groupby("repetition"):
            times = run.groupby("trial").time.agg(["min", "max"])
            most = max(most, *(((times["min"] <= t) & (t <= times["max"])).sum() for t in times["min"]))
        claim = f"{n_workers} worker{'s' * (n_workers != 1)} run {n_workers} trial{'s' * (n_workers != 1)} at a time"
        # A trial also runs before its first report, which is not seen here: fewer are found than there are.
        right = n_workers / 2 < most <= n_workers
        checks(claim, right, f"up to {n_workers} trials between their first and last report", f"up to {most}")
