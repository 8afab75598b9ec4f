"""What the solutions teach and others reuse. Written by `make save` from their cells marked `#@save`."""


# notebooks/solutions/dropout_mlp.ipynb
def hpo_objective_dropoutmlp_synetune(
    num_hiddens_1,
    num_hiddens_2,
    dropout_1,
    dropout_2,
    lr,
    batch_size,
    max_epochs,
):
    """Train DropoutMLP on Fashion-MNIST, report after every epoch."""
    import torch
    from async_hpo.data import FashionMNIST
    from d2l import torch as d2l
    from syne_tune import Reporter
    from torch import nn

    class DropoutMLP(d2l.Classifier):
        def __init__(self):
            super().__init__()
            self.lr = lr  # D2L's optimizer reads it here
            self.net = nn.Sequential(
                nn.Flatten(),
                nn.LazyLinear(num_hiddens_1),
                nn.ReLU(),
                nn.Dropout(dropout_1),
                nn.LazyLinear(num_hiddens_2),
                nn.ReLU(),
                nn.Dropout(dropout_2),
                nn.LazyLinear(10),
            )

    class ReportingTrainer(d2l.HPOTrainer):
        def fit_epoch(self):
            validation, self.val_dataloader = self.val_dataloader, None
            super().fit_epoch()  # trains; would validate, too
            self.val_dataloader = validation
            error = self.validation_error().item()
            report(epoch=self.epoch + 1, validation_error=error)

    torch.manual_seed(0)  # same configuration, same learning curve
    torch.set_num_threads(1)  # trials run side by side: a core for each
    model = DropoutMLP()
    model.board.display = False  # no live plot: a worker has no screen
    trainer = ReportingTrainer(max_epochs=max_epochs)
    report = Reporter()
    trainer.fit(model, FashionMNIST(batch_size=batch_size))


# notebooks/solutions/dropout_mlp.ipynb
from syne_tune.config_space import lograndint, loguniform, uniform

dropoutmlp_config_space = {
    "num_hiddens_1": lograndint(8, 1024),
    "num_hiddens_2": lograndint(8, 1024),
    "dropout_1": uniform(0, 0.95),
    "dropout_2": uniform(0, 0.95),
    "lr": loguniform(1e-3, 1),
    "batch_size": lograndint(16, 384),
    "max_epochs": 8,
}
dropoutmlp_initial_config = {
    "num_hiddens_1": 256,
    "num_hiddens_2": 256,
    "dropout_1": 0.5,
    "dropout_2": 0.5,
    "lr": 0.1,
    "batch_size": 256,
}


# notebooks/solutions/random_search_vs_bayesian.ipynb
import numpy as np
from syne_tune.optimizer.baselines import RandomSearch


def random_search(seed, first=(dropoutmlp_initial_config,)):
    np.random.seed(seed)  # RandomSearch ignores random_seed
    return RandomSearch(
        dropoutmlp_config_space,
        metrics=["validation_error"],
        points_to_evaluate=[*first],
    )


dropoutmlp = [  # what a recording of its searches depends on
    "async_hpo.solutions:hpo_objective_dropoutmlp_synetune",
    "async_hpo.solutions:dropoutmlp_config_space",
    "async_hpo.solutions:dropoutmlp_initial_config",
]


# notebooks/solutions/random_search_vs_bayesian.ipynb
import pandas as pd
from async_hpo import tables
from async_hpo.replay import replay
from joblib import Parallel, delayed


def replay_all(methods, seconds, n_repetitions, waits=None):
    """Replay each method with so many seeds, on two workers."""
    table = tables.read_table("dropout_mlp")

    def one_replay(name, seed):
        wait = waits[name] if waits else 0
        scheduler = methods[name](seed)
        reports = replay(table, scheduler, 2, seconds, wait)
        return reports.assign(method=name, repetition=seed)

    replays = Parallel(n_jobs=2)(
        delayed(one_replay)(name, seed)
        for name in methods
        for seed in range(n_repetitions)
    )
    return {"reports": pd.concat(replays, ignore_index=True)}


# notebooks/solutions/random_search_vs_bayesian.ipynb
from async_hpo import FASHION_MNIST, ForkserverBackend
from async_hpo.search import search


def tune_dropoutmlp(name, scheduler, seconds, **options):
    """Run a scheduler on DropoutMLP with warm workers: see `search`."""
    backend = ForkserverBackend(
        hpo_objective_dropoutmlp_synetune,
        dropoutmlp_config_space,
        share=[FASHION_MNIST],
    )
    return search(backend, scheduler, name, seconds, **options)


def tune_each(methods, seconds):
    """Run each method once, on two workers: name -> run."""
    return {
        name: tune_dropoutmlp(name.replace(" ", "-"), make(0), seconds)
        for name, make in methods.items()
    }


# notebooks/solutions/random_search_vs_bayesian.ipynb
from async_hpo import compare


def bands_by_method(reports, times):
    """Median and quartiles of the best error so far, for each method."""
    bands = {}
    for name, found in reports.groupby("method", sort=False):
        replays = [one for _, one in found.groupby("repetition")]
        bands[name] = compare.bands(replays, times)
    return bands


def lower_from(bands):
    """When the second median gets lower than the first, and stays so."""
    first, second = bands.values()
    behind = first.time[~(second["median"] < first["median"])].max()
    return first.time[first.time > behind].min()  # NaN: never


def best_at(reports, time):
    """The best errors by then: a row a replay, a column a method."""
    seen = reports.validation_error.where(reports.time <= time)
    best = seen.groupby([reports.repetition, reports.method]).min()
    return best.unstack()


def compare_errors(what, errors):
    """Compare a method's errors with random search's, a column each."""
    (method,) = errors.columns.drop("random search")
    own, drawn = errors[method], errors["random search"]
    p, low, high = compare.probability_lower(own, drawn)
    short = method.split()[0]
    print(f"{what}: median error {drawn.median():.4f} (random),", end=" ")
    print(f"{own.median():.4f} ({short}); {short} lower:", end=" ")
    print(f"probability {p:.2f} [{low:.2f}, {high:.2f}]")


def compare_runs(runs, reports, seconds):
    """Compare real runs with the middle half of their replays."""
    for name, run in runs.items():
        best, trials = run.reports.validation_error.min(), len(run.finished)
        replayed = best_at(reports, seconds)[name]
        low, high = replayed.quantile([0.25, 0.75], "nearest")
        print(f"{name}: {trials} trials, best {best:.4f};", end=" ")
        print(f"replays then {low:.4f} to {high:.4f}")


# notebooks/solutions/random_search_vs_bayesian.ipynb
def train_incumbents(reports):
    """Train what each replay found best: for each method, its errors."""
    replays = reports.groupby(["method", "repetition"], sort=False)
    best = reports.loc[replays.validation_error.idxmin()]
    best = best.reset_index(drop=True)
    configs = tables.configurations(best.assign(trial=best.index))
    run = tune_dropoutmlp(
        "incumbents",
        random_search(0, configs),
        seconds=60 * 60,  # a cap: it ends with the trials
        n_trials=len(configs),
    )
    best["trained"] = run.reports.groupby("trial_id").validation_error.min()
    best["replayed"] = best.validation_error
    return {
        name: found[["trained", "replayed"]].reset_index(drop=True)
        for name, found in best.groupby("method", sort=False)
    }


# notebooks/solutions/local_searcher.ipynb
import math

from syne_tune.optimizer.schedulers.searchers import (
    single_objective_searcher as base,
)


class LocalSearcher(base.SingleObjectiveBaseSearcher):
    """Random search that often stays near the best configuration.

    After `num_init_random` suggestions, initial ones among them, one is
    random with probability `1 - probab_local`, else it is the best so far
    with one hyperparameter, chosen at random, drawn anew.
    """

    def __init__(
        self,
        config_space,
        probab_local,
        num_init_random,
        points_to_evaluate=None,
        random_seed=None,
    ):
        super().__init__(config_space, points_to_evaluate, random_seed)
        self.probab_local = probab_local
        self.num_init_random = num_init_random
        self.random_state = np.random.RandomState(self.random_seed)
        self.num_suggestions = 0
        self.best_of_trial = {}  # trial -> (metric, configuration)

    def suggest(self):
        self.num_suggestions += 1
        initial_config = self._next_points_to_evaluate()
        if initial_config is not None:
            return initial_config
        start = self.num_suggestions <= self.num_init_random
        explore = self.random_state.rand() >= self.probab_local
        if start or explore or not self.best_of_trial:
            return {name: self._draw(name) for name in self.config_space}
        _, best = min(self.best_of_trial.values(), key=lambda pair: pair[0])
        name = self.random_state.choice(list(best))
        return best | {name: self._draw(name)}

    def _draw(self, name):
        domain = self.config_space[name]
        if not hasattr(domain, "sample"):
            return domain  # a constant
        return domain.sample(random_state=self.random_state)

    def on_trial_result(self, trial_id, config, metric):
        best, _ = self.best_of_trial.get(trial_id, (math.inf, None))
        if metric < best:  # never true for NaN
            self.best_of_trial[trial_id] = (metric, config)

    on_trial_complete = on_trial_result

    def on_trial_error(self, trial_id):
        self.best_of_trial.pop(trial_id, None)
