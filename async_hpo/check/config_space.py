"""Exercise 1.1: the configuration space."""

import math
from numbers import Integral
from typing import Any

import numpy as np
from syne_tune.config_space import Domain

from async_hpo.check.checklist import Checklist

#: Hyperparameter -> smallest and largest value of the exercise, where it gives them, and whether it is a whole number.
RANGES: dict[str, tuple[float | None, float | None, bool]] = {
    "num_hiddens_1": (8, 1024, True),
    "num_hiddens_2": (8, 1024, True),
    "dropout_1": (0, 0.95, False),
    "dropout_2": (0, 0.95, False),
    "lr": (None, None, False),
    "batch_size": (16, 384, True),
}
#: The default configuration of the exercise.
DEFAULT = {
    "num_hiddens_1": 256,
    "num_hiddens_2": 256,
    "dropout_1": 0.5,
    "dropout_2": 0.5,
    "lr": 0.1,
    "batch_size": 256,
}


def config_space(space: dict[str, Any]) -> bool:
    """Check a configuration space for `DropoutMLP` (exercise 1.1).

    Args:
        space: hyperparameter -> Syne Tune domain; constants, such as `max_epochs`, may be in it.

    Returns:
        Whether everything holds; what does not is printed.
    """
    checks = Checklist("1.1")
    if not checks("it is a dictionary", isinstance(space, dict), "a dict", repr(type(space).__name__)):
        return checks.verdict()
    missing = [name for name in RANGES if name not in space]
    names = ", ".join(RANGES)
    checks("it has every hyperparameter", not missing, names, f"no {', '.join(missing)}")
    for name, (low, high, whole) in RANGES.items():
        if name in space:
            _check_domain(checks, name, space[name], low, high, whole)
    others = {name: value for name, value in space.items() if name not in RANGES}
    searched = [name for name, value in others.items() if isinstance(value, Domain)]
    checks("it searches nothing else", not searched, "constants besides the hyperparameters", ", ".join(searched))
    return checks.verdict()


def _check_domain(
    checks: Checklist, name: str, domain: Any, low: float | None, high: float | None, whole: bool
) -> None:
    kind = "whole numbers" if whole else "numbers"
    span = f"{kind} from {low} to {high}" if low is not None else f"{kind} above 0, over orders of magnitude"
    if not checks(f"{name} is drawn from a distribution", isinstance(domain, Domain), span, repr(domain)):
        return
    values = _values(domain)
    seen = f"{min(values):.4g} to {max(values):.4g}" if values else repr(domain)
    drawn = _draws(domain, 20)
    numbers = bool(values) and (not whole or all(isinstance(value, Integral) for value in drawn))
    if whole and values and not numbers:
        seen += f", such as {drawn[0]!r}: PyTorch takes no float for a size"
    if not checks(f"{name} takes {kind}", numbers, span, seen):
        return
    if low is not None and high is not None:
        ends = math.isclose(min(values), low, abs_tol=1e-9) and math.isclose(max(values), high)
        checks(f"{name} has its range", ends, f"{low} to {high}", seen)
    else:
        checks(f"{name} is positive", min(values) > 0, "above 0", seen)
    default = DEFAULT[name]
    listed = _listed(domain)
    holds = min(values) <= default <= max(values) and (
        listed is None or any(math.isclose(value, default, rel_tol=1e-6) for value in listed)
    )
    checks(f"{name} can be the default, {default}", holds, f"a domain that holds {default}", repr(domain))
    if name == "lr" and min(values) > 0 and max(values) > 30 * min(values):
        median = float(np.median(_draws(domain, 401)))
        middle, log_middle = (min(values) + max(values)) / 2, math.sqrt(min(values) * max(values))
        expected = f"a logarithmic scale: half of all draws below about {log_middle:.2g}"
        says = f"half of all draws above {median:.2g}, in a range of {seen}"
        checks("lr is drawn by its order of magnitude", median**2 < middle * log_middle, expected, says)


def _listed(domain: Domain) -> list[Any] | None:
    """All values of a domain that lists them."""
    return getattr(domain, "categories", None) or getattr(domain, "values", None)


def _draws(domain: Domain, n: int) -> list[Any]:
    state = np.random.RandomState(0)
    return [domain.sample(random_state=state) for _ in range(n)]


def _values(domain: Domain) -> list[float]:
    """The ends of a domain, or all its values if they are listed, and a few draws; empty if they are no numbers."""
    found = [*(_listed(domain) or (domain.lower, domain.upper)), *_draws(domain, 20)]
    numbers = all(isinstance(value, (int, float, np.number)) and not isinstance(value, bool) for value in found)
    return found if numbers else []
