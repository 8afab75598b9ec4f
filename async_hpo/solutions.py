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
from async_hpo import FASHION_MNIST, ForkserverBackend
from async_hpo.search import search


def tune_dropoutmlp(name, scheduler, n_workers, max_wallclock_time):
    """Run a scheduler on DropoutMLP with warm workers."""
    return search(
        ForkserverBackend(
            hpo_objective_dropoutmlp_synetune,
            scheduler.config_space,
            share=[FASHION_MNIST],
        ),
        scheduler,
        name,
        seconds=max_wallclock_time,
        n_workers=n_workers,
    )


# notebooks/solutions/random_search_vs_bayesian.ipynb
import pandas as pd
from syne_tune.optimizer import baselines


def train_incumbents(replays):
    """Train, for real, what each replay found best.

    Args:
        replays: the reports of one each, as `replay` returns them.

    Returns:
        A row a replay: the error `replayed`, and the error `trained`.
    """
    best = pd.concat(
        [one.loc[[one.validation_error.idxmin()]] for one in replays],
        ignore_index=True,
    )
    space = dropoutmlp_config_space
    names = [name for name in space if name != "max_epochs"]
    configs = best[[f"config_{name}" for name in names]]
    configs = configs.set_axis(names, axis=1)
    once = configs.drop_duplicates(ignore_index=True)
    run = search(
        ForkserverBackend(
            hpo_objective_dropoutmlp_synetune, space, share=[FASHION_MNIST]
        ),
        baselines.RandomSearch(
            space,
            metrics=["validation_error"],
            points_to_evaluate=once.astype(object).to_dict("records"),
        ),
        "incumbents",
        seconds=30 * 60,  # a cap: it ends with the trials
        n_trials=len(once),
    )
    trained = run.reports.groupby("trial_id").validation_error.min()
    once["trained"] = trained.reindex(once.index)
    return configs.merge(once, how="left")[["trained"]].assign(
        replayed=best.validation_error
    )


# notebooks/solutions/local_searcher.ipynb
import math

import numpy as np
from syne_tune.optimizer.schedulers.searchers import (
    single_objective_searcher as base,
)


class LocalSearcher(base.SingleObjectiveBaseSearcher):
    """Random search that often stays near the best configuration.

    The first `num_init_random` suggestions are the initial configurations
    and random ones. Then a suggestion is random with probability
    `1 - probab_local`, else the best configuration so far with one
    hyperparameter, chosen at random, drawn anew.
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
