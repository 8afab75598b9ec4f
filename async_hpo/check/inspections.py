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
from async_hpo.language import _

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
    with checks.part(_("it is a configuration space")):
        checks(_("it is a dictionary"), isinstance(space, dict), type(space).__name__, _("a dict"))
        missing = ", ".join(name for name in HYPERPARAMETERS if name not in space)
        checks(_("it has every hyperparameter"), not missing, _("no {}", missing), ", ".join(HYPERPARAMETERS))
        for name, expected in HYPERPARAMETERS.items():
            with checks.part(_("{} has its range", name)):
                _check_domain(checks, name, space[name], *expected)
        others = [name for name, value in space.items() if isinstance(value, Domain) and name not in HYPERPARAMETERS]
        checks(_("it searches nothing else"), not others, f"{others}", _("constants besides the hyperparameters"))
    return checks.verdict()


def _check_domain(checks: Checklist, name: str, domain: Any, default: float, lowest: Any, highest: Any) -> None:
    checks(_("{} is drawn from a distribution", name), isinstance(domain, Domain), f"{domain!r}")
    number, kind = (Integral, _("whole numbers")) if isinstance(default, int) else (Real, _("numbers"))
    state = np.random.RandomState(0)
    draws = [domain.sample(random_state=state) for _ in range(401)]
    right = all(isinstance(value, number) and not isinstance(value, bool) for value in draws)
    checks(_("{} takes {}", name, kind), right, _("{}, such as {}", domain, repr(draws[0])))
    listed = getattr(domain, "categories", None) or getattr(domain, "values", None)
    low, high = (min(listed), max(listed)) if listed else (domain.lower, domain.upper)
    if name == "lr":
        checks(_("lr is positive"), low > 0, f"{domain}")
    else:
        right = math.isclose(low, lowest, abs_tol=1e-9) and math.isclose(high, highest)
        checks(_("{} has its range", name), right, f"{domain}", _("{} to {}", lowest, highest))
    holds = any(math.isclose(value, default, rel_tol=1e-6) for value in listed) if listed else low <= default <= high
    checks(_("{} can be the default, {}", name, default), holds, f"{domain}")
    if name == "lr" and high > 30 * low:
        median, log_middle = np.median(draws), math.sqrt(low * high)
        expected = _("a logarithmic scale: half of all draws below about {}", f"{log_middle:.2g}")
        right = median**2 < (low + high) / 2 * log_middle
        checks(
            _("lr is drawn by its order of magnitude"),
            right,
            _("half of all draws above {}", f"{median:.2g}"),
            expected,
        )


def comparison(reports: pd.DataFrame, by: str, values: Sequence[Any], exercise: str, n_repetitions: int = 2) -> bool:
    """Check that runs can be compared: all there, repeated, and with the same budget (exercises 1.2, 1.3 and 2.3).

    `reports` has a row a report, with the columns `by`, `repetition`, `trial`, `time` (seconds) and `validation_error`;
    `by` has all `values`. If it is `n_workers`, so many trials must run at a time. The hint is below `exercise`.
    """
    checks = Checklist(exercise)
    with checks.part(_("its columns hold numbers")):
        checks(_("it is a table"), isinstance(reports, pd.DataFrame), type(reports).__name__, _("a pandas DataFrame"))
        columns = [by, "repetition", "trial", "time", "validation_error"]
        missing = ", ".join(name for name in columns if name not in reports)
        checks(_("it has its columns"), not missing, _("no {}", missing), ", ".join(columns))
        absent = [value for value in values if value not in set(reports[by])]
        checks(_("it has every {}", by), not absent, _("no {}", absent), f"{values}")
        reports = reports[reports[by].isin(values)]
        shares = reports.validation_error.between(0, 1)
        checks(_("validation_error is a share of images"), shares.all(), _("others"), _("numbers between 0 and 1"))
        runs = reports.groupby([by, "repetition"], observed=True)
        groups = pd.DataFrame({"curve": runs.validation_error.agg(tuple), "end": runs.time.max()}).groupby(by)
        n_runs, n_curves, ends = groups.size(), groups.curve.nunique(), groups.end.max()
        seen = _("repetitions: {}", n_runs.to_dict())
        checks(_("every one is repeated"), n_runs.min() >= n_repetitions, seen, _("at least {} of each", n_repetitions))
        alike = [*n_runs.index[n_curves < n_runs]]
        expected = _("repetitions with random numbers of their own")
        checks(_("repetitions differ"), not alike, _("the same errors again with {}", alike), expected)
        seen = _("last reports after {} seconds", ends.round().to_dict())
        checks(_("all have the same budget"), ends.max() <= 1.5 * ends.min(), seen)
        if by == "n_workers":
            for n_workers, most in runs[["trial", "time"]].apply(_most_at_a_time).groupby(by).max().items():
                # A trial also runs before its first report, which is not seen here: fewer are found than there are.
                right = n_workers / 2 < most <= n_workers
                claim = _("n_workers={}: so many trials run at a time", n_workers)
                checks(claim, right, _("up to {} between their first and last report", most))
    return checks.verdict()


def _most_at_a_time(run: pd.DataFrame) -> int:
    spans = run.groupby("trial").time.agg(["min", "max"])
    return max(((spans["min"] <= start) & (start <= spans["max"])).sum() for start in spans["min"])


def environment(python: str | Path) -> bool:
    """Check an environment with the sources of d2l and Syne Tune, of which `python` is the path (exercise 2.1)."""
    checks = Checklist("2.1")
    with checks.part(_("it runs")):
        checks(_("there is a Python"), Path(python).is_file(), _("none"), _("a file {}", os.path.relpath(python)))
        run = subprocess.run([python, "-c", _LOOK], capture_output=True, text=True)
        is_virtual, origins = json.loads(run.stdout or "[true, {}]")
        missing = ", ".join(name for name in ("d2l", "syne_tune") if name not in origins)
        checks(_("it finds d2l and syne_tune"), not missing, _("no {}", missing))
        checks(_("it is a virtual environment"), is_virtual, _("the system's Python"))
        for name, origin in origins.items():
            source = Path(origin).parents[1]
            is_source = (source / "setup.py").is_file() or (source / "pyproject.toml").is_file()
            expected = _("a folder with setup.py or pyproject.toml")
            checks(_("{} comes from its source", name), is_source, os.path.relpath(source), expected)
    return checks.verdict()


_LOOK = """
import json, sys
from importlib.util import find_spec
specs = {name: find_spec(name) for name in ("d2l", "syne_tune")}
origins = {name: spec.origin for name, spec in specs.items() if spec and spec.origin}
print(json.dumps([sys.prefix != sys.base_prefix, origins]))
"""
