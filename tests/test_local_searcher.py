"""`LocalSearcher`: how it draws, what it believes, and that it stands a real asynchronous run."""

import math
import time

import numpy as np
import pytest
from syne_tune.backend.trial_status import Trial
from syne_tune.config_space import choice, lograndint, loguniform, uniform
from syne_tune.optimizer.schedulers.single_objective_scheduler import SingleObjectiveScheduler

from async_hpo import ForkserverBackend
from async_hpo.search import search
from async_hpo.solutions import LocalSearcher

SPACE = {
    "width": lograndint(8, 1024),
    "dropout": uniform(0, 0.95),
    "lr": loguniform(1e-3, 1),
    "kind": choice(["a", "b", "c"]),
    "max_epochs": 7,
}
SEARCHED = ["width", "dropout", "lr", "kind"]


def made(probab_local=0.8, num_init_random=5, **options):
    return LocalSearcher(SPACE, probab_local, num_init_random, **({"random_seed": 0} | options))


def without_constants(config):
    return {name: config[name] for name in SEARCHED}


def changed(config, other):
    return [name for name in SEARCHED if config[name] != other[name]]


def within(count, n, p):
    """Within four standard deviations of a binomial count."""
    return abs(count - n * p) <= 4 * math.sqrt(n * p * (1 - p))


@pytest.mark.parametrize("probab_local", [0.0, 0.3, 0.8, 1.0])
def test_shares_of_random_and_local_suggestions(probab_local):
    n = 5000
    searcher = made(probab_local, num_init_random=3)
    configs = [searcher.suggest() for _ in range(3)]
    for trial_id, error in ((2, 0.5), (0, 0.9), (1, 0.2)):
        searcher.on_trial_complete(trial_id, without_constants(configs[trial_id]), error)
    draws = [without_constants(configs[1]) | searcher.suggest() for _ in range(n)]
    names = [changed(draw, configs[1]) for draw in draws]
    local = [changes for changes in names if len(changes) <= 1]
    assert within(len(local), n, probab_local)
    assert all({"dropout", "lr"} <= set(changes) for changes in names if len(changes) > 1), "else all are drawn anew"
    for name in ("dropout", "lr"):  # a new value is never the old one
        assert within(local.count([name]), n, probab_local / 4)
    assert within(local.count(["kind"]), n, probab_local / 4 * 2 / 3), "a third of the draws is the old value"
    assert all(draw["max_epochs"] == 7 for draw in draws if "max_epochs" in draw)


def test_a_new_value_is_drawn_from_the_whole_distribution():
    searcher = made(probab_local=1.0, num_init_random=1)
    best = without_constants(searcher.suggest())
    searcher.on_trial_result(0, best, 0.1)
    draws = [searcher.suggest() for _ in range(4000)]
    rates = np.array([draw["lr"] for draw in draws if draw["lr"] != best["lr"]])
    for low, high in ((1e-3, 1e-2), (1e-2, 1e-1), (1e-1, 1)):
        assert within(((low <= rates) & (rates < high)).sum(), len(rates), 1 / 3)


def test_the_start_is_random_whatever_is_known():
    initial = [{"width": 64, "dropout": 0.5, "lr": 0.1, "kind": "b"}]
    searcher = made(probab_local=1.0, num_init_random=50, points_to_evaluate=initial)
    assert searcher.suggest() == initial[0]
    searcher.on_trial_result(0, initial[0], 0.0)
    assert all(len(changed(searcher.suggest(), initial[0])) >= 2 for _ in range(49))
    assert all(len(changed(searcher.suggest(), initial[0])) <= 1 for _ in range(50))


def test_more_initial_configurations_than_random_ones_are_all_suggested():
    initial = [{"width": 8 + i, "dropout": 0.5, "lr": 0.1, "kind": "b"} for i in range(5)]
    searcher = made(num_init_random=2, points_to_evaluate=initial)
    assert [searcher.suggest() for _ in range(5)] == initial


def told(searcher, n=30):
    configs = []
    for trial_id in range(n):
        configs.append(searcher.suggest())
        searcher.on_trial_complete(trial_id, without_constants(configs[-1]), math.sin(trial_id))
    return configs


def test_a_seed_repeats_a_run_and_leaves_numpys_generator_alone():
    np.random.seed(1)
    first = told(made(random_seed=3))
    untouched = np.random.rand()
    np.random.seed(1)
    assert np.random.rand() == untouched
    assert told(made(random_seed=3)) == first != told(made(random_seed=4))


def test_results_count_by_what_they_are_not_by_when_they_come():
    searcher = made(probab_local=1.0, num_init_random=6)
    configs = [without_constants(searcher.suggest()) for _ in range(6)]
    reports = [(4, 0.6), (1, 0.5), (4, 0.2), (0, 0.9), (1, 0.7), (5, 0.3), (4, 0.8), (3, math.nan)]
    for trial_id, error in reports:
        searcher.on_trial_result(trial_id, configs[trial_id], error)
    assert all(len(changed(searcher.suggest(), configs[4])) <= 1 for _ in range(50)), "trial 4 had 0.2"
    searcher.on_trial_complete(2, configs[2], 0.1)  # the last to end is the best
    assert all(len(changed(searcher.suggest(), configs[2])) <= 1 for _ in range(50))


def test_failed_trials_are_forgotten():
    searcher = made(probab_local=1.0, num_init_random=2)
    configs = [without_constants(searcher.suggest()) for _ in range(2)]
    searcher.on_trial_error(0)  # without a report
    assert len(changed(searcher.suggest(), configs[0])) >= 2, "nothing is known: a random one"
    searcher.on_trial_result(0, configs[0], 0.4)
    searcher.on_trial_result(1, configs[1], 0.1)
    searcher.on_trial_error(1)  # it had the best report
    assert all(len(changed(searcher.suggest(), configs[0])) <= 1 for _ in range(20))


def test_a_scheduler_that_maximizes():
    space = {"x": uniform(0, 1), "y": uniform(0, 1)}
    searcher = LocalSearcher(space, 0.8, 3, random_seed=0)
    scheduler = SingleObjectiveScheduler(space, metric="accuracy", do_minimize=False, searcher=searcher)
    trials = [Trial(i, scheduler.suggest().config, None) for i in range(3)]
    for trial, accuracy in zip(trials, (0.3, 0.9, 0.5), strict=True):
        scheduler.on_trial_complete(trial, {"accuracy": accuracy})
    _, best = min(searcher.best_of_trial.values(), key=lambda pair: pair[0])
    assert best == trials[1].config


class Remembers(LocalSearcher):
    """Notes, with every suggestion, what the best was at that moment."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.notes = []

    def suggest(self):
        known = min(self.best_of_trial.values(), key=lambda pair: pair[0], default=(None, None))
        self.notes.append((super().suggest(), known[1]))
        return self.notes[-1][0]


def objective(width, dropout, lr, kind, max_epochs):
    from syne_tune import Reporter

    report = Reporter()
    for epoch in range(1, 4):
        time.sleep(0.01 + 0.03 * dropout)  # they overtake each other
        if kind == "c" and epoch == 2:
            raise RuntimeError("meant to fail")
        report(epoch=epoch, validation_error=1 + abs(math.log10(lr) + 1) + dropout - epoch / 10)


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
def test_a_real_asynchronous_run():
    searcher = Remembers(SPACE, 0.8, 5, random_seed=0)
    run = search(
        ForkserverBackend(objective, SPACE, preload=["syne_tune", __name__]),
        SingleObjectiveScheduler(SPACE, metric="validation_error", searcher=searcher),
        "local",
        seconds=600,
        n_workers=4,
        n_trials=121,
    )
    ended = run.finished.sort_values("trial_id")
    assert len(run.trials) >= 120 and len(run.failed) and (ended.end.diff() < 0).any()
    # It remembers just what was reported, each with its own trial, and nothing of failed ones.
    reported = run.reports.groupby("trial_id").validation_error.min()
    alive = reported[reported.index.isin(run.finished.trial_id)]
    remembered = {trial_id: best for trial_id, (best, _) in searcher.best_of_trial.items()}
    assert {trial_id: remembered[trial_id] for trial_id in alive.index} == alive.to_dict()
    assert not set(remembered) & set(run.failed.trial_id)
    # And each suggestion was random or near what was best at that moment, with the right shares.
    later = [(config, best) for config, best in searcher.notes[5:] if best is not None]
    names = [changed(config, best) for config, best in later]
    assert within(sum(len(changes) <= 1 for changes in names), len(names), 0.8)
    assert all({"dropout", "lr"} <= set(changes) for changes in names if len(changes) > 1)
