"""Record tables of trials, two at a time and one thread each: `make record`. Interrupt it as you like; it goes on.

python tools/record.py [lenet ...] [--minutes 30]

A table is random search over a space: a fixed sequence of configurations, each trained to its end. A row an epoch with
the columns `trial`, `config_<hyperparameter>`, `epoch`, `validation_error` and `seconds` (since the trial's order).
"""

import argparse
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from syne_tune import StoppingCriterion, Tuner
from syne_tune.config_space import Domain
from syne_tune.optimizer.baselines import RandomSearch
from syne_tune.util import experiment_path

from async_hpo import ForkserverBackend, chapter, runs, solutions


class Table(NamedTuple):
    objective: Callable[..., None]
    space: dict[str, Any]
    n_trials: int
    initial: tuple[dict[str, Any], ...] = ()  # configurations that come first


TABLES = {
    "lenet": Table(chapter.hpo_objective_lenet_synetune, chapter.lenet_config_space, 64),
    "cnn": Table(chapter.hpo_objective_cnn_synetune, chapter.cnn_config_space, 64),
    "dropout_mlp": Table(
        solutions.hpo_objective_dropoutmlp_synetune,
        solutions.dropoutmlp_config_space,
        101,
        (solutions.dropoutmlp_initial_config,),
    ),
}
N_WORKERS = 2


def configurations(table: Table) -> list[dict[str, Any]]:
    """The same sequence at every call; constants left out."""
    np.random.seed(0)
    domains = {name: domain for name, domain in table.space.items() if isinstance(domain, Domain)}
    n_drawn = table.n_trials - len(table.initial)
    return [*table.initial, *({name: domain.sample() for name, domain in domains.items()} for _ in range(n_drawn))]


def update(name: str) -> pd.DataFrame:
    """Add to a table what the runs since then have finished, and return the table."""
    path = runs.RECORDINGS / f"{name}.csv"
    found = [pd.read_csv(path)] if path.exists() else []
    wanted = configurations(TABLES[name])
    for file in experiment_path().glob(f"record-{name}-*/{runs.TRIALS_FILENAME}"):
        found.append(_finished(runs.read_run(file.parent), wanted))
    if not found:
        return pd.DataFrame(columns=["trial"])
    table = pd.concat(found).drop_duplicates(["trial", "epoch"]).sort_values(["trial", "epoch"])
    runs.write_csv(table, path)
    return table


def _finished(run: runs.Run, wanted: list[dict[str, Any]]) -> pd.DataFrame:
    trials = run.trials[run.trials.status == "Completed"].set_index("trial_id")
    reports = run.reports[run.reports.trial_id.isin(trials.index)]
    columns = [f"config_{key}" for key in wanted[0]]
    numbers = {_key(config.values()): number for number, config in enumerate(wanted)}
    trial = [numbers[_key(row)] for row in reports[columns].itertuples(index=False, name=None)]
    return pd.DataFrame(
        {"trial": trial}
        | {column: [wanted[number][key] for number in trial] for key, column in zip(wanted[0], columns, strict=True)}
        | {
            "epoch": reports.epoch.to_numpy(),
            "validation_error": reports.validation_error.round(4).to_numpy(),
            "seconds": (reports.time - reports.trial_id.map(trials.start)).round(3).to_numpy(),
        }
    )


def _key(values: Iterable[float]) -> tuple[str, ...]:
    return tuple(f"{value:.9g}" for value in values)  # what a CSV file keeps of a number, and what pandas reads


def record(name: str, minutes: float) -> None:
    table = TABLES[name]
    done = set(update(name).trial)
    missing = [config for number, config in enumerate(configurations(table)) if number not in done]
    print(f"{name}: {len(done)} of {table.n_trials} trials recorded")
    if not missing:
        return
    backend = ForkserverBackend(table.objective, table.space)
    backend.warm_up()
    tuner = Tuner(
        trial_backend=backend,
        scheduler=RandomSearch(table.space, metrics=["validation_error"], points_to_evaluate=missing),
        stop_criterion=StoppingCriterion(
            max_wallclock_time=minutes * 60,
            max_num_trials_started=len(missing) - 1,  # it stops at one more
        ),
        wait_trial_completion_when_stopping=True,
        n_workers=N_WORKERS,
        sleep_time=0,
        tuner_name=f"record-{name}",
        max_failures=1000,
        callbacks=[runs.TrialGuard(), runs.SafeResults()],
        output_logger=runs.QuietLogger(),
    )
    try:
        tuner.run()
    finally:
        print(f"{name}: {update(name).trial.nunique()} of {table.n_trials} trials recorded")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(TABLES)}; all of them if none is given")
    parser.add_argument("--minutes", type=float, default=24 * 60, help="start no trial after this many, for each table")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(TABLES):
        parser.error(f"there is no table {', '.join(sorted(unknown))}; there are {', '.join(TABLES)}")
    for name in arguments.names or TABLES:
        record(name, arguments.minutes)
