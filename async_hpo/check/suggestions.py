"""Exercise 2.2: the searcher, which is asked for suggestions and told results as a tuner does it."""

import inspect
from collections import defaultdict
from itertools import combinations
from typing import Any

from syne_tune.backend.trial_status import Trial
from syne_tune.config_space import loguniform, randint, uniform
from syne_tune.optimizer.schedulers.single_objective_scheduler import SingleObjectiveScheduler

from async_hpo.check.checklist import Checklist
from async_hpo.replay import ask

_DOMAINS = {"a": uniform(0, 1), "b": loguniform(1e-3, 1), "c": randint(0, 10**6), "d": uniform(0, 0.95)}
_SPACE = _DOMAINS | {"max_epochs": 7}
_INITIAL = [{"a": 0.25, "b": 0.1, "c": 256, "d": 0.5}, {"a": 0.75, "b": 0.01, "c": 64, "d": 0.25}]
_N_INIT, _N_DRAWS = 8, 600
# Trials and their errors in the order of arrival, three under way at a time. The best is trial 1; it is taken for trial
# 2 by who counts arrivals, and for trial 4 by who takes the newest suggestion, or the newest result.
_ARRIVALS = {2: 0.5, 0: 0.6, 1: 0.1, 5: 0.9, 3: 0.3, 7: 0.7, 6: 0.35, 4: 0.2}


def searcher(S: type) -> bool:
    """Check a `LocalSearcher` (exercise 2.2), given as a class.

    It gets `config_space`, `probab_local`, `num_init_random`, `points_to_evaluate` and, if it names it, `random_seed`.
    """
    checks = Checklist("2.2")
    with checks.part("it suggests configurations"):
        checks("it is a class", isinstance(S, type), type(S).__name__, "a class")
        asked = _Asked(S)
        checks("it takes its arguments", True)
        _check_suggestions(checks, asked)
        with checks.part("it goes on when trials fail"):
            _check_failures(checks, _Asked(S, share=1.0))
    return checks.verdict()


class _Asked:
    """A searcher behind Syne Tune's scheduler."""

    def __init__(self, S: Any, share: float = 0.75):
        seed = {"random_seed": 0} if "random_seed" in inspect.signature(S).parameters else {}
        made = S({**_SPACE}, probab_local=share, num_init_random=_N_INIT, points_to_evaluate=[*_INITIAL], **seed)
        self._scheduler = SingleObjectiveScheduler({**_SPACE}, metric="validation_error", searcher=made)
        self._trials: list[Trial] = []

    def suggestion(self) -> dict[str, Any]:
        trial = ask(self._scheduler, self._trials)
        return trial.config if trial else {}

    def tell(self, trial_id: int, error: float) -> None:
        trial, result = self._trials[trial_id], {"validation_error": error}
        self._scheduler.on_trial_result(trial, result)
        self._scheduler.on_trial_complete(trial, result)

    def fail(self, trial_id: int) -> None:
        self._scheduler.on_trial_error(self._trials[trial_id])


def _changes(config: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The hyperparameters in which two configurations differ."""
    return [name for name in _DOMAINS if config[name] != other[name]]


def _check_suggestions(checks: Checklist, asked: _Asked) -> None:
    try:
        configs = [asked.suggestion(), asked.suggestion()]
    except NotImplementedError:
        checks("it suggests configurations", False, "suggest is not implemented", "a configuration")
    missing = ", ".join(name for name in _SPACE if name not in configs[0])
    checks("it suggests configurations", not missing, f"no {missing}")
    first = [{name: config[name] for name in _DOMAINS} for config in configs]
    checks("it suggests the initial configurations first", first == _INITIAL, f"{first}", f"{_INITIAL}")
    for trial_id, error in _ARRIVALS.items():
        if len(configs) < _N_INIT:
            configs.append(asked.suggestion())
        asked.tell(trial_id, error)
    random = all(len(_changes(x, y)) == len(_DOMAINS) for x, y in combinations(configs, 2))
    checks("it starts at random", random, f"some of the first {_N_INIT} (num_init_random) share values")
    draws = [asked.suggestion() for _ in range(_N_DRAWS)]
    outside = [(name, draw[name]) for draw in draws for name in _DOMAINS if not _DOMAINS[name].is_valid(draw[name])]
    checks("it stays within the ranges of the configuration space", not outside, f"{outside[:1]}")
    near = defaultdict(list)  # trial -> suggestions that share a value with it
    for draw in draws:
        n_changes, trial_id = min((len(_changes(draw, configs[trial_id])), trial_id) for trial_id in _ARRIVALS)
        if n_changes < len(_DOMAINS):
            near[trial_id].append(draw)
    seen = ", ".join(f"{len(found)} near trial {trial} with {_ARRIVALS[trial]}" for trial, found in near.items())
    expected = "all near trial 1, whose error 0.1 is the smallest; its result arrived as the third"
    checks("it stays near the best configuration so far", {*near} == {1}, seen or "none near an earlier one", expected)
    changes = [_changes(draw, configs[1]) for draw in near[1]]
    most = max(map(len, changes))
    checks("it changes one hyperparameter at a time", most <= 1, f"up to {most} change in a suggestion")
    share = 1 - len(changes) / _N_DRAWS  # its standard deviation is 0.018
    seen = f"a share of {share:.2f} in {_N_DRAWS} suggestions"
    checks("it explores with probability 1 - probab_local, here 0.25", abs(share - 0.25) < 0.09, seen)
    times = {name: changes.count([name]) for name in _DOMAINS}
    often = min(times.values()) > len(changes) / len(times) / 2
    checks("it changes every hyperparameter now and then", often, f"changes of each: {times}")
    drawn = [draw["a"] for draw, names in zip(near[1], changes, strict=True) if names == ["a"]]
    low, high = min(drawn), max(drawn)
    checks("it draws anew from the whole range", low < 0.25 and high > 0.75, f"a from {low:.2f} to {high:.2f}")


def _check_failures(checks: Checklist, asked: _Asked) -> None:
    n_failed = _N_INIT + 2
    for trial_id in range(n_failed):
        asked.suggestion()
        asked.fail(trial_id)
    best = asked.suggestion()  # there is nothing to stay near yet
    drawn = list[dict[str, Any]]()
    for trial_id in range(n_failed, n_failed + 50):
        asked.tell(trial_id, 0.4 if drawn else 0.3)
        drawn.append(asked.suggestion())
    most = max(len(_changes(config, best)) for config in drawn)
    expected = "with probab_local=1, suggestions near the first trial with a result, which is the best"
    checks("it goes on when trials fail", most <= 1, f"up to {most} hyperparameters changed", expected)
