"""Recorded trials: tables, and what a search over them would have found."""

from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from syne_tune.config_space import Domain

from async_hpo.paths import RECORDINGS

#: The columns of a table beside the configuration's.
COLUMNS = ("trial", "epoch", "validation_error", "seconds")


def read_table(name_or_path: str | Path) -> pd.DataFrame:
    """Read a table of recorded trials: a row an epoch, sorted by trial and epoch.

    Args:
        name_or_path: a table of the book, such as "lenet" (see `recordings/README.md`), or a CSV file with the
            columns `trial`, `config_<hyperparameter>`, `epoch` (1, 2, ...), `validation_error` and `seconds` (since
            the trial's order, at the end of the epoch). Lines before the header that begin with `#` are notes.

    Raises:
        FileNotFoundError: there is no such table.
        ValueError: a row is not as it should be; the message names it as a text editor numbers it.
    """
    path = Path(name_or_path)
    if path.suffix != ".csv":
        path = RECORDINGS / f"{name_or_path}.csv"
    if not path.exists():
        known = ", ".join(sorted(found.stem for found in RECORDINGS.glob("*.csv")))
        raise FileNotFoundError(f"There is no table {path}. The book has: {known}.")
    notes = _lines_of_notes(path)
    table = read_csv(path, skiprows=notes)
    if missing := [column for column in COLUMNS if column not in table]:
        raise ValueError(f"{path.name} has no column {', '.join(missing)}")
    configs = [column for column in table if column.startswith("config_")]
    table["row"] = table.index + notes + 2  # the first line is the header
    table = table.sort_values(["trial", "epoch"], ignore_index=True)
    for fault, rows in _faults(table, configs).items():
        if rows.any():
            row = table[rows].iloc[0]
            raise ValueError(f"{path.name}, row {row.row:.0f} (trial {row.trial:g}, epoch {row.epoch:g}): {fault}")
    return table.drop(columns="row")


def _lines_of_notes(path: Path) -> int:
    with open(path, encoding="utf-8") as file:
        return sum(1 for _ in takewhile(lambda line: line.startswith("#"), file))


def _faults(table: pd.DataFrame, configs: list[str]) -> dict[str, pd.Series]:
    """What may be wrong -> the rows in which it is. `table` is sorted by trial and epoch."""
    by_trial = table.groupby("trial")
    number = by_trial.cumcount() + 1
    first = table[number == 1]
    length = by_trial.epoch.transform("size")
    return {
        "a value is missing": table[[*COLUMNS, *configs]].isna().any(axis=1),
        "an epoch before it is missing, or it is there twice": table.epoch != number,
        "the last epochs of this trial are missing": (number == length) & (length < length.max()),
        "time does not increase": table.seconds <= by_trial.seconds.shift(fill_value=0),
        "the configuration changes within the trial": (table[configs] != by_trial[configs].transform("first")).any(
            axis=1
        ),
        "another trial has the same configuration": first.duplicated(configs).reindex(table.index, fill_value=False),
    }


def durations(table: pd.DataFrame) -> pd.Series:
    """Seconds that each trial of a table takes in all; the index is the trial's number."""
    return table.groupby("trial").seconds.max()


def public() -> dict[str, pd.DataFrame]:
    """Trainings that others published (see `recordings/public/README.md`): table -> a row a configuration, with the
    columns `seconds`, of one training from beginning to end, and `error`, the final validation error."""
    paths = sorted(RECORDINGS.glob("public/*.csv.xz"))
    return {path.name.removesuffix(".csv.xz"): pd.read_csv(path) for path in paths}


def draw(table: pd.DataFrame, n_trials: int, seed: int) -> np.ndarray:
    """Numbers of `n_trials` recorded trials, drawn at random with replacement: random search over what was recorded."""
    return np.random.default_rng(seed).choice(table.trial.unique(), n_trials)


def configurations(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The configuration of each recorded trial, in the table's order: a scheduler's `points_to_evaluate`."""
    rows = table.groupby("trial").first().filter(regex="^config_").astype(object)
    return rows.rename(columns=lambda name: name.removeprefix("config_")).to_dict("records")


def resample(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """A table that might have been recorded in its place: as many trials, drawn from it at random with replacement."""
    drawn = draw(table, table.trial.nunique(), seed)
    by_trial = table.set_index("trial")
    return pd.concat(
        [by_trial.loc[trial].assign(trial=number) for number, trial in enumerate(drawn)], ignore_index=True
    )


def incumbent(table: pd.DataFrame, trials: Iterable[int], plan: pd.DataFrame) -> pd.DataFrame:
    """The incumbent trajectory of a search that runs recorded trials by a plan.

    Args:
        table: from `read_table`.
        trials: the numbers of the trials that run, in their order.
        plan: when they run, from `schedule`: a row each.

    Returns:
        The columns `time` (seconds) and `validation_error` (the smallest so far), a row for each improvement. An
        epoch's report comes at the same fraction of the trial's time as when it was recorded.
    """
    seconds = table.pivot(index="trial", columns="epoch", values="seconds")
    errors = table.pivot(index="trial", columns="epoch", values="validation_error").loc[trials].to_numpy()
    fractions = seconds.div(seconds.iloc[:, -1], axis=0).loc[trials].to_numpy()
    start, end = plan.start.to_numpy()[:, None], plan.end.to_numpy()[:, None]
    times = (start + fractions * (end - start)).ravel()
    order = np.argsort(times, kind="stable")
    times, best = times[order], np.minimum.accumulate(errors.ravel()[order])
    improved = np.diff(best, prepend=np.inf) < 0
    return pd.DataFrame({"time": times[improved], "validation_error": best[improved]})


def configs_and_curves(table: pd.DataFrame, config_space: dict) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What a regression model learns from, and what it predicts: a row a trial.

    Returns:
        The configurations, a column a hyperparameter of `config_space`; and a column for each of `validation_error`
        and `seconds` after each epoch.

    Raises:
        ValueError: the table is incomplete, or lacks a hyperparameter.
    """
    space = [name for name, domain in config_space.items() if isinstance(domain, Domain)]
    columns = {f"config_{name}": name for name in space}
    if missing := {"trial", "epoch", "validation_error", "seconds", *columns} - set(table):
        raise ValueError(f"the table has no column {', '.join(sorted(missing))}")
    configs = table.groupby("trial")[list(columns)].first().rename(columns=columns)
    if configs.duplicated().any():
        raise ValueError(f"trial {configs.index[configs.duplicated()][0]} repeats another one's configuration")
    curves = table.pivot(index="trial", columns="epoch", values=["validation_error", "seconds"])
    n_epochs = int(table.epoch.max())
    if list(curves.columns.unique("epoch")) != [*range(1, n_epochs + 1)] or curves.isna().any(axis=None):
        trial = curves.index[curves.isna().any(axis=1)].tolist()[:1]
        raise ValueError(f"not every trial has a number for each epoch from 1 to {n_epochs}: see trial {trial}")
    return configs, curves


def read_csv(path: Path, **options) -> pd.DataFrame:
    """Read a CSV file as it was written: only an empty field is missing, and a word such as "None" is a word."""
    return pd.read_csv(path, keep_default_na=False, na_values=[""], **options)
