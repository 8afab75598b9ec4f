"""Record tables of trials, two at a time and one thread each: `make record`. Interrupt it as you like; it goes on.

python -m tools.record [lenet ...]

A table is random search over a space: a fixed sequence of configurations, each trained to its end. A row an epoch with
the columns `trial`, `config_<hyperparameter>`, `epoch`, `validation_error` and `seconds` (since the trial's order).
Its first line is a digest of the objective and the space (see `async_hpo/digest.py`).
"""

import sys
from collections import defaultdict
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from syne_tune.config_space import Domain
from syne_tune.constants import ST_WORKER_TIMESTAMP
from syne_tune.optimizer.baselines import RandomSearch
from syne_tune.tuner_callback import TunerCallback

from async_hpo import FASHION_MNIST, ForkserverBackend, paths
from async_hpo.digest import digest
from async_hpo.search import search
from async_hpo.state import in_one_step
from tools import figures

MADE_FROM = "# made from "


class Table(NamedTuple):
    """What a table is recorded from. Objects are named as `module:object`."""

    objective: str
    space: str
    n_trials: int
    initial: str | None = None  # a configuration that comes first

    @property
    def digest(self) -> str:
        return digest(filter(None, (self.objective, self.space, self.initial)))


TABLES = {
    "lenet": Table("async_hpo.chapter:hpo_objective_lenet_synetune", "async_hpo.chapter:lenet_config_space", 64),
    "cnn": Table("async_hpo.chapter:hpo_objective_cnn_synetune", "async_hpo.chapter:cnn_config_space", 64),
    "dropout_mlp": Table(
        "async_hpo.solutions:hpo_objective_dropoutmlp_synetune",
        "async_hpo.solutions:dropoutmlp_config_space",
        101,
        "async_hpo.solutions:dropoutmlp_initial_config",
    ),
}


def configurations(table: Table) -> list[dict[str, Any]]:
    """The same sequence at every call; constants left out."""
    np.random.seed(0)
    initial = [resolve_name(table.initial)] if table.initial else []
    domains = {name: domain for name, domain in resolve_name(table.space).items() if isinstance(domain, Domain)}
    n_drawn = table.n_trials - len(initial)
    return initial + [{name: domain.sample() for name, domain in domains.items()} for _ in range(n_drawn)]


def path_of(name: str) -> Path:
    return paths.RECORDINGS / f"{name}.csv"


def made_from(path: Path) -> str:
    """The digest in a table's first line."""
    with open(path, encoding="utf-8") as file:
        return file.readline().removeprefix(MADE_FROM).strip()


def read(name: str) -> pd.DataFrame:
    """The rows of a table so far; a table of another objective or space ends the script."""
    path = path_of(name)
    if not path.exists():
        return pd.DataFrame({"trial": [], "epoch": []}, dtype=int)
    if made_from(path) != TABLES[name].digest:
        sys.exit(f"{path.name} was recorded from another objective or space: delete it to record it anew.")
    return pd.read_csv(path, skiprows=1)


def write(rows: pd.DataFrame, name: str) -> None:
    with in_one_step(path_of(name)) as part:
        text = rows.sort_values(["trial", "epoch"]).to_csv(index=False)
        part.write_text(f"{MADE_FROM}{TABLES[name].digest}\n{text}", "utf-8")


class _AddFinished(TunerCallback):
    """Adds each trial to the table as soon as it has finished."""

    def __init__(self, name: str, missing: dict[int, dict[str, Any]]):
        self.name, self.missing = name, [*missing.items()]
        self.rows = defaultdict[int, list[dict[str, Any]]](list)

    def on_trial_result(self, trial, status: str, result: dict[str, Any], decision: str) -> None:
        if trial.trial_id >= len(self.missing):  # drawn at random while the last listed trials ran
            return
        number, config = self.missing[trial.trial_id]
        row = {"trial": number} | {f"config_{name}": value for name, value in config.items()}
        row |= {"epoch": result["epoch"], "validation_error": round(result["validation_error"], 4)}
        row["seconds"] = round(result[ST_WORKER_TIMESTAMP] - trial.creation_time.timestamp(), 3)
        self.rows[trial.trial_id].append(row)

    def on_trial_complete(self, trial, result: dict[str, Any]) -> None:
        if trial.trial_id in self.rows:
            write(pd.concat([read(self.name), pd.DataFrame(self.rows[trial.trial_id])]), self.name)


def record(name: str) -> None:
    """Train a table's missing trials."""
    table = TABLES[name]
    done = set(read(name).trial)
    print(f"{name}: {len(done)} of {table.n_trials} trials recorded")
    missing = {number: config for number, config in enumerate(configurations(table)) if number not in done}
    if missing:
        space = resolve_name(table.space)
        search(
            ForkserverBackend(resolve_name(table.objective), space, share=[FASHION_MNIST]),
            RandomSearch(space, metrics=["validation_error"], points_to_evaluate=[*missing.values()]),
            f"record-{name}",
            seconds=None,
            n_workers=2,
            n_trials=len(missing),
            callbacks=[_AddFinished(name, missing)],
        )
        print(f"{name}: {read(name).trial.nunique()} of {table.n_trials} trials recorded")


if __name__ == "__main__":
    for name in sys.argv[1:] or TABLES:
        record(name)
    figures.draw()
