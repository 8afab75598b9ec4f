"""Record tables of trials, two at a time and one thread each: `make record`. Interrupt it as you like; it goes on.

python -m tools.record [lenet ...] [--minutes 30]

A table is random search over a space: a fixed sequence of configurations, each trained to its end. A row an epoch with
the columns `trial`, `config_<hyperparameter>`, `epoch`, `validation_error` and `seconds` (since the trial's order).
Its first line is a digest of the objective and the space (see `async_hpo/digest.py`): only runs that were made from the
same are put into it.
"""

import argparse
import io
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from syne_tune import StoppingCriterion
from syne_tune.config_space import Domain
from syne_tune.optimizer.schedulers.searchers.searcher import BaseSearcher
from syne_tune.optimizer.schedulers.single_fidelity_scheduler import SingleFidelityScheduler

from async_hpo import FASHION_MNIST, ForkserverBackend, paths, runs
from async_hpo.digest import digest
from async_hpo.search import search
from tools import figures

MADE_FROM = "# made from "
IN_TABLE = "in-table"  # a file in a run's folder: its trials are in the table


class Table(NamedTuple):
    """What a table is recorded from. Objects are named as `module:object`."""

    objective: str
    space: str
    n_trials: int
    initial: str | None = None  # a configuration that comes first

    @property
    def function(self) -> Callable[..., None]:
        return resolve_name(self.objective)

    @property
    def config_space(self) -> dict[str, Any]:
        return resolve_name(self.space)

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
N_WORKERS = 2


def configurations(table: Table) -> list[dict[str, Any]]:
    """The same sequence at every call; constants left out."""
    np.random.seed(0)
    initial = [resolve_name(table.initial)] if table.initial else []
    domains = {name: domain for name, domain in table.config_space.items() if isinstance(domain, Domain)}
    n_drawn = table.n_trials - len(initial)
    return [*initial, *({name: domain.sample() for name, domain in domains.items()} for _ in range(n_drawn))]


def path_of(name: str) -> Path:
    return paths.RECORDINGS / f"{name}.csv"


def made_from(path: Path) -> str:
    """The digest in a table's first line; empty if it has none."""
    with open(path, encoding="utf-8") as file:
        first = file.readline()
    return first.removeprefix(MADE_FROM).strip() if first.startswith(MADE_FROM) else ""


def update(name: str) -> pd.DataFrame:
    """Add to a table what the runs since then have finished, and return the table.

    Raises:
        SystemExit: the table was recorded from another objective or space.
    """
    path, table = path_of(name), TABLES[name]
    found = []
    if path.exists():
        if made_from(path) != table.digest:
            sys.exit(f"{path.name} was recorded from another objective or space: delete it to record it anew.")
        found.append(pd.read_csv(path, skiprows=1))
    folders = [*_new_runs(name, table.digest)]
    wanted = configurations(table)
    found += [_finished(run, wanted) for run in map(runs.read_run, folders) if len(run.reports)]
    found = [rows for rows in found if len(rows)]
    if not found:
        return pd.DataFrame(columns=["trial"])
    rows = pd.concat(found).drop_duplicates(["trial", "epoch"]).sort_values(["trial", "epoch"])
    write(rows, path, table.digest)
    for folder in folders:
        (folder / IN_TABLE).touch()
    return rows


def _new_runs(name: str, digest: str) -> Iterable[Path]:
    """Folders of runs made from the same whose trials are not in the table yet: a killed recording leaves one."""
    for _, folder in sorted(runs.folders(f"record-{name}", paths.experiments())):
        trials, mark = folder / runs.TRIALS_FILENAME, folder / IN_TABLE
        if not trials.exists() or (mark.exists() and mark.stat().st_mtime >= trials.stat().st_mtime):
            continue  # else a deleted table would come back, and nothing be recorded anew
        if json.loads((folder / "metadata.json").read_text()).get("made_from") == digest:
            yield folder
        else:
            print(f"{folder.name}: of another objective or space, not used")


def write(rows: pd.DataFrame, path: Path, digest: str) -> None:
    text = io.StringIO()
    rows.to_csv(text, index=False)
    part = path.with_name(f".part-{path.name}")
    part.write_text(f"{MADE_FROM}{digest}\n{text.getvalue()}")
    part.replace(path)


def _finished(run: runs.Run, wanted: list[dict[str, Any]]) -> pd.DataFrame:
    columns = [f"config_{key}" for key in wanted[0]]
    numbers = {_key(config.values()): number for number, config in enumerate(wanted)}
    found = [numbers.get(_key(row)) for row in run.reports[columns].itertuples(index=False, name=None)]
    in_table = pd.Series(found, run.reports.index, "Int64")
    if others := run.reports.trial_id[in_table.isna()].nunique():  # the list was longer then
        print(f"{run.name}: {others} trials of configurations that the table does not ask for, not used")
    trials = run.finished.set_index("trial_id")
    reports = run.reports[run.reports.trial_id.isin(trials.index) & in_table.notna()]
    trial = in_table[reports.index].tolist()
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


class _Listed(BaseSearcher):
    """Suggests what is listed and then nothing, which ends the run."""

    # A criterion that counts started trials comes too late where several workers are free at once.
    def suggest(self, **kwargs: Any) -> dict[str, Any] | None:
        return self._next_points_to_evaluate()


def record(name: str, minutes: float) -> None:
    table = TABLES[name]
    done = set(update(name).trial)
    missing = [config for number, config in enumerate(configurations(table)) if number not in done]
    print(f"{name}: {len(done)} of {table.n_trials} trials recorded")
    if not missing:
        return
    try:
        search(
            ForkserverBackend(table.function, table.config_space, share=[FASHION_MNIST]),
            SingleFidelityScheduler(
                table.config_space, metrics=["validation_error"], searcher=_Listed(table.config_space, missing)
            ),
            f"record-{name}",
            seconds=None,
            n_workers=N_WORKERS,
            stop_criterion=StoppingCriterion(max_wallclock_time=minutes * 60),
            wait_trial_completion_when_stopping=True,
            metadata={"made_from": table.digest},
        )
    finally:
        print(f"{name}: {update(name).trial.nunique()} of {table.n_trials} trials recorded")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(TABLES)}; all of them if none is given")
    parser.add_argument("--minutes", type=float, default=24 * 60, help="start no trial after this many, for each table")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(TABLES):
        parser.error(f"there is no table {', '.join(sorted(unknown))}; there are {', '.join(TABLES)}")
    for name in arguments.names or TABLES:
        record(name, arguments.minutes)
    if figures.table_is_there():
        figures.draw()
