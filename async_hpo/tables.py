"""Recorded trials: tables, and what a search over them would have found."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from syne_tune.config_space import Domain

from async_hpo.paths import RECORDINGS


def read_table(name_or_path: str | Path) -> pd.DataFrame:
    """Read a table of recorded trials: a row an epoch, sorted by trial and epoch.

    Args:
        name_or_path: a table of the book, such as "lenet" (see `recordings/README.md`), or a CSV file with the
            columns `trial`, `config_<hyperparameter>`, `epoch` (1, 2, ...), `validation_error` and `seconds` (since
            the trial's order, at the end of the epoch). What follows a `#` is a note.

    Raises:
        FileNotFoundError: there is no such table.
        ValueError: a column is missing, or a trial is not as it should be; the message says which.
    """
    path = Path(name_or_path)
    if path.suffix != ".csv":
        path = RECORDINGS / f"{name_or_path}.csv"
    if not path.exists():
        known = ", ".join(sorted(found.stem for found in RECORDINGS.glob("*.csv")))
        raise FileNotFoundError(f"There is no table {path}. The book has: {known}.")
    table = read_csv(path, comment="#")
    if missing := {"trial", "epoch", "validation_error", "seconds"} - set(table):
        raise ValueError(f"{path.name} has no column {', '.join(sorted(missing))}")
    table = table.sort_values(["trial", "epoch"], ignore_index=True)
    by_trial = table.groupby("trial")
    is_whole = table.notna().all(axis=1) & (by_trial.epoch.transform("size") == table.epoch.max())
    is_next = (table.epoch == by_trial.cumcount() + 1) & ~(by_trial.seconds.diff() <= 0)
    if not (is_whole & is_next).all():
        trial = table.trial[~(is_whole & is_next)].iloc[0]
        raise ValueError(f"{path.name}, trial {trial:g}: a value or an epoch is missing, or time does not increase")
    configs = by_trial.first().filter(regex="^config_")
    if configs.duplicated().any():
        raise ValueError(f"{path.name}, trial {configs.index[configs.duplicated()][0]} repeats another's configuration")
    return table


def durations(table: pd.DataFrame) -> pd.Series:
    """Seconds that each trial of a table takes in all; the index is the trial's number."""
    return table.groupby("trial").seconds.max()


def public() -> dict[str, pd.DataFrame]:
    """Trainings that others published (see `recordings/public/README.md`): table -> a row a configuration, with the
    columns `seconds`, of one training from beginning to end, and `error`, the final validation error."""
    paths = sorted(RECORDINGS.glob("public/*.csv.xz"))
    return {path.name.removesuffix(".csv.xz"): pd.read_csv(path) for path in paths}


def draw(table: pd.DataFrame, n_trials: int, seed: int) -> np.ndarray:
    """Random search over what was recorded: the numbers of trials, drawn at random with replacement. Shape (n_trials,);
    the same `seed` draws the same trials."""
    return np.random.default_rng(seed).choice(table.trial.unique(), n_trials)


def configurations(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The configuration of each recorded trial, in the table's order: a scheduler's `points_to_evaluate`."""
    rows = table.groupby("trial").first().filter(regex="^config_").astype(object)
    return rows.rename(columns=lambda name: name.removeprefix("config_")).to_dict("records")


def resample(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """A table that might have been recorded in its place: as many trials, drawn from it by `draw`."""
    drawn = draw(table, table.trial.nunique(), seed)
    trials = [table[table.trial == trial].assign(trial=number) for number, trial in enumerate(drawn)]
    return pd.concat(trials, ignore_index=True)


def incumbent(table: pd.DataFrame, trials: Iterable[int], plan: pd.DataFrame) -> pd.DataFrame:
    """The incumbent trajectory of a search that runs recorded trials by a plan.

    Args:
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
    """A regression model's inputs and outputs: a row a trial.

    Returns:
        The configurations, a column a hyperparameter of `config_space`; and a column for each of `validation_error`
        and `seconds` after each epoch.

    Raises:
        KeyError: the table lacks a hyperparameter.
    """
    columns = {f"config_{name}": name for name, domain in config_space.items() if isinstance(domain, Domain)}
    configs = table.groupby("trial")[list(columns)].first().rename(columns=columns)
    return configs, table.pivot(index="trial", columns="epoch", values=["validation_error", "seconds"])


def read_csv(path: Path, **options) -> pd.DataFrame:
    """Read a CSV file as it was written: only an empty field is missing, a word such as "None" is a word, and what
    `with_quotes` put quotation marks around is a text."""
    frame = pd.read_csv(path, keep_default_na=False, na_values=[""], **options)
    return frame.transform(
        lambda column: column.map(_unquoted, na_action="ignore") if column.dtype in ("object", "str") else column
    )


def with_quotes(frame: pd.DataFrame) -> pd.DataFrame:
    """Put quotation marks around texts that a CSV file would make numbers of, or nothing: "02", "True", ""."""
    texts = frame.select_dtypes(["object", "str"])
    return frame.assign(**texts.map(lambda value: json.dumps(value) if _misleads(value) else value))


def _misleads(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        float(value)
    except ValueError:
        return value == "" or value[0] == '"' or value.lower() in ("true", "false")
    return True


def _unquoted(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) and value[:1] == '"' else value
