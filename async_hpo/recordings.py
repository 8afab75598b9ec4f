"""Recordings: what took long is run once, and kept so that its page can be drawn at any time.

A recording is a folder `recordings/<page>/<what>/`: `recording.json`, the results files of its runs as they were, and
tables as CSV files.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterable
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

import joblib
import pandas as pd
from syne_tune.constants import ST_METADATA_FILENAME, ST_RESULTS_DATAFRAME_FILENAME

from async_hpo import paths
from async_hpo.digest import digest
from async_hpo.language import _
from async_hpo.runs import TRIALS_FILENAME, Run, read_run
from async_hpo.tables import read_csv

FILENAME = "recording.json"
#: In `recording.json`, the keys of a folder's or file's name.
RUN, TABLE = "$run", "$table"


def recorded(name: str, make: Callable[[], dict[str, Any]], anew: bool, of: Iterable[str]) -> dict[str, Any]:
    """The book's recording `name`; or, with `anew`, what `make` returns now.

    A recording made anew is kept in `experiments/`, from where `make measure` takes it into the book.

    Args:
        name: "<page>/<what>", the recording's folder.
        make: returns what is recorded, by name: runs, tables (`DataFrame` with the default index), numbers and texts,
            and lists and dictionaries of those.
        anew: call `make`.
        of: what the result depends on (see `digest`): the objective, its space, a table.

    Raises:
        RecordingError: the recording is missing, damaged, or of another objective, space, data or table.
    """
    if not anew:
        found, about = load(paths.RECORDINGS / name, of)
        print(described(about))
        return found
    begin = time.monotonic()
    made = make()
    folder = keep(made, paths.experiments() / "recordings" / name, of, time.monotonic() - begin)
    return load(folder, of)[0]


class RecordingError(LookupError):
    """A recording can't be used; the message says why, and which command makes it anew."""


def keep(made: dict[str, Any], folder: Path, of: Iterable[str], seconds: float) -> Path:
    """Write a recording, in place of an older one, and return its folder. Its runs' own files are in `experiments/`.

    Args:
        made: what `make` of `recorded` returned, in so many `seconds`.
        folder: `.../<page>/<what>`.
        of: see `recorded`.
    """
    of, part = [*of], folder.with_name(f".part-{folder.name}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    value = json.loads(json.dumps(made, default=partial(_as_file, part)))
    about = {
        "of": of,
        "digest": digest(of),
        "date": date.today().isoformat(),
        "seconds": round(seconds),
        "cores": joblib.cpu_count(),
        "versions": {"torch": version("torch"), "syne-tune": version("syne-tune"), "Python": python_version()},
        "files": {path.relative_to(part).as_posix(): _sha(path) for path in sorted(part.rglob("*")) if path.is_file()},
        "value": value,
    }
    part.joinpath(FILENAME).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    part.replace(folder)
    return folder


def load(folder: Path, of: Iterable[str] | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a recording: what `make` had returned, and what `recording.json` says of it.

    Args:
        of: see `recorded`; by default what the recording says itself.

    Raises:
        RecordingError: see `recorded`.
    """
    try:
        text = (folder / FILENAME).read_text(encoding="utf-8")
        about = json.loads(text)
        changed = [name for name, sha in about["files"].items() if _sha(folder / name) != sha]
        if changed:
            raise ValueError(_("{} is not the file that was recorded", changed[0]))
        found = json.loads(text, object_hook=partial(_from_file, folder))["value"]
        made_from, of = about["digest"], about["of"] if of is None else [*of]
    except FileNotFoundError as error:
        raise _error(folder, _("{} is missing", Path(error.filename).name)) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _error(folder, _("it is damaged: {}", error)) from None
    if digest(of) != made_from:
        raise _error(folder, _("it was recorded from other code or data than today's {}", ", ".join(of)))
    return found, about


def described(about: dict[str, Any]) -> str:
    """When, on how many cores and with which versions a recording was made."""
    with_what = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    seconds = about["seconds"]
    took = _("{} minutes", f"{seconds / 60:.0f}") if seconds >= 90 else _("{} seconds", seconds)
    return _("Recorded {} in {} on {} cores,\n  with {}", about["date"], took, about["cores"], with_what)


def _error(folder: Path, why: str) -> RecordingError:
    page, what = folder.parts[-2:]
    hint = f"make measure PAGE={page}"
    return RecordingError(_("The recording {}/{} can't be used: {}. Make it anew: {}", page, what, why, hint))


def _sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _as_file(folder: Path, value: Any) -> Any:
    """Runs and tables, which JSON has not, become files; NumPy's numbers become Python's."""
    if isinstance(value, Run):
        target = folder / value.name
        target.mkdir(exist_ok=True)
        for name in (ST_METADATA_FILENAME, ST_RESULTS_DATAFRAME_FILENAME, TRIALS_FILENAME):
            if (source := paths.experiments() / value.name / name).exists():  # no results without a report
                shutil.copy(source, target)
        return {RUN: value.name}
    if isinstance(value, pd.DataFrame):
        name = f"table-{len([*folder.glob('table-*')])}.csv"
        value.to_csv(folder / name, index=False)
        return {TABLE: name}
    return value.item()


def _from_file(folder: Path, value: dict[str, Any]) -> Any:
    if RUN in value:
        return read_run(folder / value[RUN])
    if TABLE in value:
        return read_csv(folder / value[TABLE], float_precision="round_trip")
    return value
