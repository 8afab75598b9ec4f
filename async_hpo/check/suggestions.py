"""Exercise 2.2: the searcher, which is asked for suggestions and told results as a tuner does it."""

import copy
import inspect
from collections import defaultdict
from itertools import combinations, pairwise
from typing import Any

import numpy as np
from syne_tune.backend.trial_status import Trial
from syne_tune.config_space import is_log_space, lograndint, loguniform, randint, uniform
from syne_tune.optimizer.schedulers.single_objective_scheduler import SingleObjectiveScheduler

from async_hpo.check.checklist import Checklist
from async_hpo.language import _
from async_hpo.replay import ask

# Ranges in which two random draws are hardly ever the same.
_DOMAINS = {"a": uniform(0, 0.95), "b": loguniform(1e-3, 1), "c": randint(0, 10**9), "d": lograndint(10**6, 10**9)}
_SPACE = _DOMAINS | {"max_epochs": 7}
_INITIAL = [{"a": 0.5, "b": 0.1, "c": 256, "d": 10**7}, {"a": 0.1, "b": 0.01, "c": 10**8, "d": 10**8}]
_N_INIT, _N_DRAWS = 8, 1200
# Trials and their errors in the order of arrival, three under way at a time. The best is trial 1; it is taken for trial
# 2 by who counts arrivals, and for trial 4 by who takes the newest suggestion or the newest result. Trial 1 reports a
# worse error first: it is taken for trial 4 by who takes first reports, too.
_ARRIVALS = {2: 0.5, 0: 0.6, 1: 0.1, 5: 0.9, 3: 0.3, 7: 0.7, 6: 0.35, 4: 0.2}


def searcher(S: type) -> bool:
    """Check a `LocalSearcher` (exercise 2.2), given as a class.

    It gets `config_space`, `probab_local`, `num_init_random`, `points_to_evaluate` and, if it names it, `random_seed`.
    Where a check depends on chance, a right answer fails it with a probability below one in a million.
    """
    checks = Checklist("2.2")
    with checks.part(_("it suggests configurations")):
        checks(_("it is a class"), isinstance(S, type), type(S).__name__, _("a class"))
        asked = _Asked(checks, S, 0.75, _N_INIT, _INITIAL)
        checks(_("it takes its arguments"), True)
        _check_suggestions(checks, asked)
        with checks.part(_("it does without initial configurations")):
            _check_start(checks, _Asked(checks, S, 1.0, _N_INIT, None))
        with checks.part(_("it goes on when trials fail")):
            _check_failures(checks, _Asked(checks, S, 1.0, 1, _INITIAL))
    return checks.verdict()


class _Asked:
    """A searcher behind Syne Tune's scheduler."""

    def __init__(self, checks: Checklist, S: Any, share: float, n_init: int, initial: list[dict[str, Any]] | None):
        self._checks, self.space, self.initial = checks, {**_SPACE}, copy.deepcopy(initial)
        seed = {"random_seed": 0} if "random_seed" in inspect.signature(S).parameters else {}
        made = S(self.space, probab_local=share, num_init_random=n_init, points_to_evaluate=self.initial, **seed)
        self._scheduler = SingleObjectiveScheduler({**_SPACE}, metric="validation_error", searcher=made)
        self._trials: list[Trial] = []
        self.configs: list[dict[str, Any]] = []  # of all trials, without constants
        self.errors: dict[int, float] = {}  # trial -> its last one

    def suggestions(self, n: int) -> list[int]:
        """Ask for `n` new trials, and return their numbers."""
        for _number in range(n):
            trial = ask(self._scheduler, self._trials)
            config = {name: trial.config[name] if trial else None for name in _DOMAINS}
            for name, domain in _DOMAINS.items():
                is_there = config[name] is not None and config[name] is not domain  # which the scheduler fills in
                if not is_there or not domain.is_valid(config[name]):
                    seen = f"{name}={config[name]}" if is_there else _("no {}", name)
                    self._checks(_("it always suggests {} within its range", name), False, seen, f"{domain}")
            self.configs.append(config)
        return [*range(len(self.configs) - n, len(self.configs))]

    def tell(self, trial_id: int, *errors: float) -> None:
        trial, self.errors[trial_id] = self._trials[trial_id], errors[-1]
        for error in errors:
            self._scheduler.on_trial_result(trial, {"validation_error": error})
        self._scheduler.on_trial_complete(trial, {"validation_error": errors[-1]})

    def fail(self, trial_id: int) -> None:
        self._scheduler.on_trial_error(self._trials[trial_id])

    def changes(self, trial_id: int, other: int) -> list[str]:
        """The hyperparameters in which two trials differ."""
        return [name for name in _DOMAINS if self.configs[trial_id][name] != self.configs[other][name]]

    def check_near(self, claim: str, best: int, n: int, expected: str) -> list[list[str]]:
        """Check that `n` new trials are near the best one, or random. Returns what differs from the best in each."""
        trials, near = self.suggestions(n), defaultdict[int, int](int)
        for trial_id in trials:
            n_changes, nearest = min((len(self.changes(other, trial_id)), other) for other in self.errors)
            near[nearest] += n_changes < len(_DOMAINS)
        seen = ", ".join(
            _("{} near trial {} with {}", k, trial_id, self.errors[trial_id]) for trial_id, k in near.items() if k
        )
        # A random one may share a value with another one by chance.
        self._checks(
            claim, near[best] > max(0, sum(near.values()) - 2), seen or _("none near an earlier one"), expected
        )
        return [self.changes(best, trial_id) for trial_id in trials]


def _check_suggestions(checks: Checklist, asked: _Asked) -> None:
    try:
        asked.suggestions(2)
    except NotImplementedError:
        checks(_("it suggests configurations"), False, _("suggest is not implemented"), _("a configuration"))
    checks(
        _("it suggests the initial configurations first"), asked.configs == _INITIAL, f"{asked.configs}", f"{_INITIAL}"
    )
    for trial_id, error in _ARRIVALS.items():
        if len(asked.configs) < _N_INIT:
            asked.suggestions(1)
        asked.tell(trial_id, 0.95 if trial_id == 1 else error, error)
    # One value may be the same by chance, but not two.
    random = all(len(asked.changes(*pair)) >= len(_DOMAINS) - 1 for pair in combinations(range(_N_INIT), 2))
    checks(_("it starts at random"), random, _("some of the first {} (num_init_random) share values", _N_INIT))
    expected = _("all near trial 1, whose error 0.1 is the smallest; its result arrived as the third")
    found = asked.check_near(_("it stays near the best configuration so far"), 1, _N_DRAWS, expected)
    _check_shares(checks, found)
    for name in _DOMAINS:
        drawn = [
            (config[name], len(names))
            for config, names in zip(asked.configs[_N_INIT:], found, strict=True)
            if name in names
        ]
        near, far = [value for value, n in drawn if n == 1], [value for value, n in drawn if n > 1]
        _check_distribution(checks, _("near the best, it draws {} anew from its distribution", name), name, near)
        _check_distribution(checks, _("elsewhere, it draws {} from its distribution", name), name, far)
    # A better one is found; another trial is worse, and one fails.
    better, worse, failed = [trial_id for trial_id, names in enumerate(found, _N_INIT) if len(names) > 1][:3]
    asked.tell(better, 0.0)
    asked.tell(worse, 0.3)
    asked.fail(failed)
    expected = _("all near trial {}, whose error is 0", better)
    asked.check_near(_("it moves on to a better configuration"), better, 60, expected)
    checks(_("it leaves points_to_evaluate as it was"), asked.initial == _INITIAL, f"{asked.initial}", f"{_INITIAL}")
    seen, expected = ", ".join(asked.space), ", ".join(_SPACE)
    checks(_("it leaves config_space as it was"), seen == expected, seen, expected)


def _check_shares(checks: Checklist, found: list[list[str]]) -> None:
    """Check how often which hyperparameters change. All limits are five standard deviations or more from the mean."""
    local = [names for names in found if len(names) < len(_DOMAINS)]
    most = max(map(len, local))
    checks(_("it changes one hyperparameter at a time"), most <= 1, _("up to {} change in a suggestion", most))
    share = 1 - len(local) / len(found)
    seen = _("a share of {} in {} suggestions", f"{share:.2f}", len(found))
    checks(_("it explores with probability 1 - probab_local, here 0.25"), abs(share - 0.25) < 0.07, seen)
    n_same = local.count([])
    seen = _("the best configuration again in {} of {} suggestions", n_same, len(local))
    checks(_("near the best, it changes a hyperparameter, no constant"), n_same < len(local) / 20, seen)
    times = {name: local.count([name]) for name in _DOMAINS}
    often = min(times.values()) > 0.65 * len(local) / len(times)
    checks(_("it changes every hyperparameter as often"), often, _("changes of each: {}", times))
    n_again = sum(names == following for names, following in pairwise(local))
    seen = _("the same one again in {} of {} suggestions", n_again, len(local))
    # In a sixteenth where each is drawn once before any is drawn again; where they take turns, in none.
    checks(
        _("chance decides which hyperparameter it changes"), n_again > len(local) / 40, seen, _("in about a quarter")
    )
    n_again = sum(len(names) == len(following) == len(_DOMAINS) for names, following in pairwise(found))
    seen = _("twice in a row in {} of {} suggestions", n_again, len(found))
    checks(_("chance decides when it explores"), n_again > len(found) / 80, seen, _("in about a sixteenth"))


def _check_distribution(checks: Checklist, claim: str, name: str, values: list[float]) -> None:
    """Compare shares below all values with those of the distribution (Kolmogorov and Smirnov)."""
    domain = _DOMAINS[name]
    low, high, drawn = (
        np.log(x) if is_log_space(domain) else np.array(x) for x in (domain.lower, domain.upper, values)
    )
    positions = np.sort((drawn - low) / (high - low))  # uniform between 0 and 1
    shares = np.linspace(0, 1, len(values) + 1)
    distance = max(abs(shares[1:] - positions).max(), abs(shares[:-1] - positions).max())
    quarters = np.histogram(positions, [0, 0.25, 0.5, 0.75, 1])[0]
    # By chance it is larger with a probability of 2 exp(-20) at most (Dvoretzky, Kiefer and Wolfowitz).
    expected = _("equally many in each quarter of {}", domain)
    checks(claim, distance < (10 / len(values)) ** 0.5, f"{[*map(int, quarters)]}", expected)


def _check_start(checks: Checklist, asked: _Asked) -> None:
    """With `probab_local` 1, and one result that is known from the start."""
    asked.suggestions(1)
    asked.tell(0, 0.5)
    n_random = 1 + sum(len(asked.changes(0, trial_id)) > 1 for trial_id in asked.suggestions(_N_INIT + 10))
    seen = _("{} of the first {} with probab_local=1", n_random, len(asked.configs))
    checks(_("it draws num_init_random suggestions at random, here {}", _N_INIT), n_random == _N_INIT, seen)


def _check_failures(checks: Checklist, asked: _Asked) -> None:
    asked.suggestions(2)
    claim = _("it suggests all initial configurations, though num_init_random is 1")
    checks(claim, asked.configs == _INITIAL, f"{asked.configs}", f"{_INITIAL}")
    asked.suggestions(_N_INIT)
    for trial_id in range(len(asked.configs)):
        asked.fail(trial_id)
    (best,) = asked.suggestions(1)  # there is nothing to stay near yet
    asked.tell(best, 0.3)
    most = max(len(asked.changes(best, trial_id)) for trial_id in asked.suggestions(50))
    expected = _("with probab_local=1, suggestions near the first trial with a result, which is the best")
    checks(_("it goes on when trials fail"), most <= 1, _("up to {} hyperparameters changed", most), expected)
