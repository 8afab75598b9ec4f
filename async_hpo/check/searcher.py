"""Exercise 2.2: the searcher."""

import contextlib
import inspect
import io
import math
import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from syne_tune.config_space import Domain, loguniform, randint, uniform
from syne_tune.optimizer.schedulers.single_objective_scheduler import SingleObjectiveScheduler
from syne_tune_workers import ForkserverBackend

from async_hpo.check.checklist import Checklist, quiet_log
from async_hpo.paths import SHORT
from async_hpo.replay import Asker
from async_hpo.search import search

_SPACE = {
    "a": uniform(0, 1),
    "b": loguniform(1e-3, 1),
    "c": randint(0, 10**6),
    "d": uniform(0, 0.95),
    "e": loguniform(1e-4, 10),
    "max_epochs": 7,  # a constant
}
_NAMES = [name for name, domain in _SPACE.items() if isinstance(domain, Domain)]
_INITIAL = [
    {"a": 0.25, "b": 0.1, "c": 256, "d": 0.5, "e": 1.0},
    {"a": 0.75, "b": 0.01, "c": 64, "d": 0.25, "e": 0.1},
]
_SHARE, _N_INIT, _N_DRAWS = 0.75, 8, 600


def searcher(S: type) -> bool:
    """Check a `LocalSearcher` (exercise 2.2) by asking it for suggestions, telling it results, and a real run.

    Args:
        S: the class. It is called as `S(config_space, probab_local=…, num_init_random=…, points_to_evaluate=…,
            random_seed=…)`.

    Returns:
        Whether everything holds; what does not is printed.
    """
    checks = Checklist("2.2")
    states = np.random.get_state(), random.getstate()
    np.random.seed(0)  # the answer may draw from them
    random.seed(0)
    try:
        with quiet_log():
            if _can_be_made(checks, S):
                for check in (_starts, _stays_near_the_best, _bears_disorder, _bears_failures, _runs_for_real):
                    _guarded(checks, check, S)
    finally:
        np.random.set_state(states[0])
        random.setstate(states[1])
    return checks.verdict()


def _guarded(checks: Checklist, check: Callable, S: type) -> None:
    try:
        check(checks, S)
    except Exception as error:  # the reader's code may raise anything
        checks(str(check.__doc__), False, "no exception", f"{type(error).__name__}: {error}")


def _can_be_made(checks: Checklist, S: Any) -> bool:
    if not checks("it is a class", isinstance(S, type), "a class", type(S).__name__):
        return False
    parameters = inspect.signature(S.__init__).parameters
    takes_all = any(p.kind == p.VAR_KEYWORD for p in parameters.values())
    needed = ["config_space", "probab_local", "num_init_random", "points_to_evaluate"]
    missing = [name for name in needed if name not in parameters and not takes_all]
    if not checks("it takes its arguments", not missing, ", ".join(needed), f"no {', '.join(missing)}"):
        return False
    try:
        asked = _Asked(S)
        config = asked.suggestion()
    except NotImplementedError:
        return checks("it suggests configurations", False, "a configuration", "suggest is not implemented")
    except Exception as error:
        return checks("it suggests configurations", False, "a configuration", f"{type(error).__name__}: {error}")
    missing = [name for name in _SPACE if name not in config]
    return checks("it suggests configurations", not missing, ", ".join(_SPACE), f"no {', '.join(missing)}")


class _Asked(Asker):
    """A searcher behind Syne Tune's scheduler."""

    def __init__(self, S: Any, seed: int = 0, initial: list[dict[str, Any]] | None = None, share: float = _SHARE):
        options: dict[str, Any] = {"points_to_evaluate": _INITIAL if initial is None else initial}
        parameters = inspect.signature(S.__init__).parameters
        if "random_seed" in parameters or any(p.kind == p.VAR_KEYWORD for p in parameters.values()):
            options["random_seed"] = seed
        searcher = S(dict(_SPACE), probab_local=share, num_init_random=_N_INIT, **options)
        super().__init__(SingleObjectiveScheduler(dict(_SPACE), metric="validation_error", searcher=searcher))

    def suggestion(self) -> dict[str, Any]:
        trial = self.ask()
        return {} if trial is None else trial.config

    def complete(self, trial_id: int, error: float) -> None:
        self.tell(trial_id, {"epoch": 1, "validation_error": error}, last=True)

    def differences(self, config: dict[str, Any], other: int) -> list[str]:
        """The hyperparameters in which a configuration differs from that of trial `other`."""
        return [name for name in _NAMES if config[name] != self.trials[other].config[name]]


def _starts(checks: Checklist, S: type) -> None:
    """it starts with the initial configurations, then at random"""
    asked = _Asked(S)
    configs = []
    for trial_id in range(_N_INIT):
        configs.append(asked.suggestion())
        asked.complete(trial_id, 0.9 - 0.05 * trial_id)
    first = [{name: config[name] for name in _NAMES} for config in configs[: len(_INITIAL)]]
    seen = ", ".join(f"a={config['a']:.3g}" for config in first)
    wanted = ", ".join(f"a={config['a']}" for config in _INITIAL)
    checks("it suggests the initial configurations first", first == _INITIAL, f"configurations with {wanted}", seen)
    near = [
        later
        for later in range(len(_INITIAL), _N_INIT)
        if any(len(asked.differences(configs[later], before)) <= len(_NAMES) - 2 for before in range(later))
    ]
    expected = f"the first {_N_INIT} (num_init_random) drawn at random"
    seen = f"suggestion {near[0] + 1} near an earlier one" if near else ""
    checks("it starts at random", not near, expected, seen)
    again = [_Asked(S, seed=1, initial=[]) for _ in range(2)]
    if again[0].suggestion() != again[1].suggestion():
        checks.note("two searchers with the same random_seed differ: a run cannot be repeated")


# Trial 2 is the best, trial 5 the worst; neither is the first, the last, or the last one told.
_ERRORS = [0.6, 0.5, 0.1, 0.45, 0.7, 0.95, 0.4, 0.3, 0.35, 0.55]


def _stays_near_the_best(checks: Checklist, S: type) -> None:
    """it stays near the best configuration so far"""
    asked = _Asked(S)
    for trial_id, error in enumerate(_ERRORS):
        asked.suggestion()
        asked.complete(trial_id, error)
    draws = [asked.suggestion() for _ in range(_N_DRAWS)]
    outside = {name for draw in draws for name in _NAMES if not _SPACE[name].is_valid(draw[name])}
    seen = ", ".join(f"{name} up to {max(draw[name] for draw in draws):.4g}" for name in sorted(outside))
    checks("it stays within the ranges of the configuration space", not outside, "values that each domain holds", seen)
    if _check_neighbours(checks, asked, draws, _ERRORS, "it stays near the best configuration so far"):
        _check_shares(checks, draws, [asked.differences(draw, _ERRORS.index(min(_ERRORS))) for draw in draws])


def _check_neighbours(
    checks: Checklist, asked: _Asked, draws: list[dict[str, Any]], errors: list[float], claim: str
) -> bool:
    """Whether suggestions are random, or the best trial's configuration with one hyperparameter changed."""
    best, worst = errors.index(min(errors)), errors.index(max(errors))
    counts = [min(len(asked.differences(draw, trial)) for trial in range(len(errors))) for draw in draws]
    nearest = [
        min(range(len(errors)), key=lambda trial: len(asked.differences(draw, trial)))
        for draw, count in zip(draws, counts, strict=True)
        if count < len(_NAMES) - 1
    ]
    expected = f"suggestions near trial {best}, whose error {errors[best]} is the smallest"
    if not nearest:
        seen = f"{_N_DRAWS} suggestions, none near any earlier trial"
        return checks(claim, False, expected, seen)
    usual = max(set(nearest), key=nearest.count)
    seen = f"near trial {usual}, whose error is {errors[usual]}"
    if usual == worst:
        seen += ", the worst: results arrive so that smaller is better"
    if not checks(claim, set(nearest) == {best}, expected, seen if usual != best else "near others, too"):
        return False
    many = [count for count in counts if 1 < count < len(_NAMES) - 1]
    expected = "one hyperparameter drawn anew, all others kept"
    seen = f"{len(many)} of {_N_DRAWS} suggestions change {max(many)} hyperparameters" if many else ""
    return checks("it changes one hyperparameter at a time", not many, expected, seen)


def _check_shares(checks: Checklist, draws: list[dict[str, Any]], changed: list[list[str]]) -> None:
    """`changed` are the hyperparameters in which each of the draws differs from the best trial's configuration."""
    local = [names for names in changed if len(names) <= 1]
    share, tolerance = len(local) / _N_DRAWS, 5 * math.sqrt(_SHARE * (1 - _SHARE) / _N_DRAWS)
    claim = f"it explores with probability 1 - probab_local, here {1 - _SHARE:.2f}"
    seen = f"a share of {1 - share:.2f} in {_N_DRAWS} suggestions" + ": it never explores" * (share == 1)
    checks(claim, abs(share - _SHARE) < tolerance, f"a share of {1 - _SHARE:.2f}, give or take {tolerance:.2f}", seen)
    times = {name: sum(names == [name] for names in local) for name in _NAMES}
    rare = [name for name, count in times.items() if count < len(local) / len(_NAMES) / 2]
    expected = f"each of {len(_NAMES)} hyperparameters about equally often; constants never"
    seen = ", ".join(f"{name} {times[name]} times" for name in rare)
    checks("it changes every hyperparameter now and then", not rare, expected, seen)
    drawn = [draw["a"] for draw, names in zip(draws, changed, strict=True) if names == ["a"]]
    if drawn:
        wide = min(drawn) < 0.25 and max(drawn) > 0.75
        seen = f"values of a from {min(drawn):.2f} to {max(drawn):.2f}"
        checks("it draws anew from the whole range", wide, "values of a from nearly 0 to nearly 1", seen)


# In this order, with these errors: trial 1 is the best. The searcher that counts results takes it for trial 4, the
# one that remembers its last suggestion for trial 9, the one that believes the last result for trial 3.
_ARRIVALS = [(6, 0.5), (9, 0.8), (0, 0.6), (8, 0.4), (1, 0.1), (5, 0.9), (2, 0.3), (4, 0.7), (7, 0.35), (3, 0.2)]


def _bears_disorder(checks: Checklist, S: type) -> None:
    """it is not fooled by results that arrive out of order"""
    asked = _Asked(S)
    for _ in _ARRIVALS:
        asked.suggestion()
    for trial_id, error in _ARRIVALS:
        asked.complete(trial_id, error)
    errors = [error for _, error in sorted(_ARRIVALS)]
    draws = [asked.suggestion() for _ in range(_N_DRAWS)]
    _check_neighbours(checks, asked, draws, errors, "it is not fooled by results that arrive out of order")


def _bears_failures(checks: Checklist, S: type) -> None:
    """it goes on when trials fail"""
    asked = _Asked(S, share=1.0)
    for trial_id in range(_N_INIT + 2):  # nothing but failures: there is no best yet
        asked.suggestion()
        asked.fail(trial_id)
    more = [asked.suggestion() for _ in range(5)]
    whole = all(name in config for config in more for name in _SPACE)
    checks("it goes on when trials fail", whole, "configurations with every hyperparameter", repr(more[0]))
    asked.complete(_N_INIT + 2, 0.3)
    asked.fail(_N_INIT + 3)
    near = [len(asked.differences(asked.suggestion(), _N_INIT + 2)) for _ in range(20)]
    checks(
        "it finds the best among the trials that did not fail",
        max(near) <= 1,
        f"with probab_local=1, suggestions near trial {_N_INIT + 2}, the only one with a result",
        f"up to {max(near)} hyperparameters changed",
    )


def _quick(a: float, b: float, c: int, d: float, e: float, max_epochs: int) -> None:
    from syne_tune import Reporter

    report = Reporter()
    for epoch in range(1, 3):
        time.sleep(0.02 + 0.08 * a)  # results overtake each other
        if d > 0.7:
            raise RuntimeError("meant to fail")
        report(epoch=epoch, validation_error=a + d / epoch)


def _runs_for_real(checks: Checklist, S: type) -> None:
    """it runs on two real workers, where some trials fail"""
    backend = ForkserverBackend(_quick, dict(_SPACE), preload=[__name__])
    with contextlib.redirect_stdout(io.StringIO()):
        run = search(backend, _Asked(S).scheduler, "check-of-a-searcher", seconds=100 if SHORT else 10, n_trials=20)
    claim = "it runs on two real workers, where some trials fail"
    checks(claim, len(run.trials) >= 20, "20 trials and more", f"{len(run.trials)} trials in 10 s")
