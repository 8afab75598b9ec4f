"""Exercises 1.1 to 1.3, 2.1 and 2.3: what can be checked by looking at it."""

import json
import math
import os
import subprocess
from collections.abc import Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from syne_tune.config_space import Domain

from async_hpo.check.checklist import Checklist

#: Hyperparameter of exercise 1.1 -> its default, and its smallest and largest value, where they are given.
HYPERPARAMETERS: dict[str, tuple[float, Any, Any]] = {
    "num_hiddens_1": (256, 8, 1024),
    "num_hiddens_2": (256, 8, 1024),
    "dropout_1": (0.5, 0, 0.95),
    "dropout_2": (0.5, 0, 0.95),
    "lr": (0.1, None, None),
    "batch_size": (256, 16, 384),
}


def config_space(space: dict[str, Any]) -> bool:
    """Check a configuration space for `DropoutMLP` (exercise 1.1): name -> Syne Tune domain, or a constant."""
    checks = Checklist("1.1")
    with checks.part("it is a configuration space"):
        checks("it is a dictionary", isinstance(space, dict), type(space).__name__, "a dict")
        missing = ", ".join(name for name in HYPERPARAMETERS if name not in space)
        checks("it has every hyperparameter", not missing, f"no {missing}", ", ".join(HYPERPARAMETERS))
        for name, expected in HYPERPARAMETERS.items():
            with checks.part(f"{name} has its range"):
                _check_domain(checks, name, space[name], *expected)
        others = [name for name, value in space.items() if isinstance(value, Domain) and name not in HYPERPARAMETERS]
        checks("it searches nothing else", not others, f"{others}", "constants besides the hyperparameters")
    return checks.verdict()


def _check_domain(checks: Checklist, name: str, domain: Any, default: float, lowest: Any, highest: Any) -> None:
    checks(f"{name} is drawn from a distribution", isinstance(domain, Domain), f"{domain!r}")
    number, kind = (Integral, "whole numbers") if isinstance(default, int) else (Real, "numbers")
    state = np.random.RandomState(0)
    draws = [domain.sample(random_state=state) for _ in range(401)]
    right = all(isinstance(value, number) and not isinstance(value, bool) for value in draws)
    checks(f"{name} takes {kind}", right, f"{domain}, such as {draws[0]!r}")
    listed = getattr(domain, "categories", None) or getattr(domain, "values", None)
    low, high = (min(listed), max(listed)) if listed else (domain.lower, domain.upper)
    if name == "lr":
        checks("lr is positive", low > 0, f"{domain}")
    else:
        right = math.isclose(low, lowest, abs_tol=1e-9) and math.isclose(high, highest)
        checks(f"{name} has its range", right, f"{domain}", f"{lowest} to {highest}")
    holds = any(math.isclose(value, default, rel_tol=1e-6) for value in listed) if listed else low <= default <= high
    checks(f"{name} can be the default, {default}", holds, f"{domain}")
    if name == "lr" and high > 30 * low:
        median, log_middle = np.median(draws), math.sqrt(low * high)
        expected = f"a logarithmic scale: half of all draws below about {log_middle:.2g}"
        right = median**2 < (low + high) / 2 * log_middle
        checks("lr is drawn by its order of magnitude", right, f"half of all draws above {median:.2g}", expected)


def comparison(reports: pd.DataFrame, by: str, values: Sequence[Any], exercise: str, n_repetitions: int = 2) -> bool:
    """Check that runs can be compared: all there, repeated, and with the same budget (exercises 1.2, 1.3 and 2.3).

    `reports` has a row a report, with the columns `by`, `repetition`, `trial`, `time` (seconds) and `validation_error`;
    `by` has all `values`. If it is `n_workers`, so many trials must run at a time. The hint is below `exercise`.
    """
    checks = Checklist(exercise)
    with checks.part("its columns hold numbers"):
        checks("it is a table", isinstance(reports, pd.DataFrame), type(reports).__name__, "a pandas DataFrame")
        columns = [by, "repetition", "trial", "time", "validation_error"]
        missing = ", ".join(name for name in columns if name not in reports)
        checks("it has its columns", not missing, f"no {missing}", ", ".join(columns))
        absent = [value for value in values if value not in set(reports[by])]
        checks(f"it has every {by}", not absent, f"no {absent}", f"{values}")
        reports = reports[reports[by].isin(values)]
        shares = reports.validation_error.between(0, 1)
        checks("validation_error is a share of images", shares.all(), "others", "numbers between 0 and 1")
        runs = reports.groupby([by, "repetition"], observed=True)
        groups = pd.DataFrame({"curve": runs.validation_error.agg(tuple), "end": runs.time.max()}).groupby(by)
        n_runs, n_curves, ends = groups.size(), groups.curve.nunique(), groups.end.max()
        seen = f"{n_runs.to_dict()} times"
        checks("every one is repeated", n_runs.min() >= n_repetitions, seen, f"at least {n_repetitions} of each")
        alike = [*n_runs.index[n_curves < n_runs]]
        expected = "repetitions with random numbers of their own"
        checks("repetitions differ", not alike, f"the same errors again with {alike}", expected)
        seen = f"last reports after {ends.round().to_dict()} seconds"
        checks("all have the same budget", ends.max() <= 1.5 * ends.min(), seen)
        if by == "n_workers":
            for n_workers, most in runs[["trial", "time"]].apply(_most_at_a_time).groupby(by).max().items():
                s = "s" * (n_workers != 1)
                # A trial also runs before its first report, which is not seen here: fewer are found than there are.
                right = n_workers / 2 < most <= n_workers
                claim = f"{n_workers} worker{s} run {n_workers} trial{s} at a time"
                checks(claim, right, f"up to {most} between their first and last report")
    return checks.verdict()


def _most_at_a_time(run: pd.DataFrame) -> int:
    spans = run.groupby("trial").time.agg(["min", "max"])
    return max(((spans["min"] <= start) & (start <= spans["max"])).sum() for start in spans["min"])


def environment(python: str | Path) -> bool:
    """Check an environment with the sources of d2l and Syne Tune, of which `python` is the path (exercise 2.1)."""
    checks = Checklist("2.1")
    with checks.part("it runs"):
        checks("there is a Python", Path(python).is_file(), "none", f"a file {os.path.relpath(python)}")
        run = subprocess.run([python, "-c", _LOOK], capture_output=True, text=True)
        is_virtual, origins = json.loads(run.stdout or "[true, {}]")
        missing = ", ".join(name for name in ("d2l", "syne_tune") if name not in origins)
        checks("it finds d2l and syne_tune", not missing, f"no {missing}")
        checks("it is a virtual environment", is_virtual, "the system's Python")
        for name, origin in origins.items():
            source = Path(origin).parents[1]
            is_source = (source / "setup.py").is_file() or (source / "pyproject.toml").is_file()
            expected = "a folder with setup.py or pyproject.toml"
            checks(f"{name} comes from its source", is_source, os.path.relpath(source), expected)
    return checks.verdict()


_LOOK = """
import json, sys
from importlib.util import find_spec
specs = {name: find_spec(name) for name in ("d2l", "syne_tune")}
origins = {name: spec.origin for name, spec in specs.items() if spec and spec.origin}
print(json.dumps([sys.prefix != sys.base_prefix, origins]))
"""
