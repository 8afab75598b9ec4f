"""Change the package in small ways, one at a time, and see whether the tests notice: `make mutate` calls this.

python -m tools.mutate [async_hpo/runs.py ...] [--mutants 4] [--seed 0]

A mutant is the package with one operator, number or keyword replaced (by cosmic-ray). The tests of its module run on
it; a mutant that they don't notice is printed. A copy of the working tree is changed, never the tree itself.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import TestOutcome

from tools.notebooks import ROOT

QUICK = "not cluster and not slow and not idle"  # what `make check` runs
TIMEOUT = 300  # seconds for the tests of one mutant: one that never ends is noticed, too
ENOUGH = 0.8


class Tests(NamedTuple):
    """The tests of a module: files, and which of their marks count."""

    files: str
    marks: str = QUICK


SLOW = "not cluster and not idle"  # what `make test` runs, but for Ray
MODULES = {
    "async_hpo/schedule.py": Tests("tests/test_schedule.py"),
    "async_hpo/tables.py": Tests("tests/test_tables.py"),
    "async_hpo/compare.py": Tests("tests/test_compare.py"),
    "async_hpo/replay.py": Tests("tests/test_replay.py"),
    "async_hpo/callbacks.py": Tests("tests/test_runs.py"),
    "async_hpo/progress.py": Tests("tests/test_runs.py"),
    "async_hpo/runs.py": Tests("tests/test_runs.py"),
    "async_hpo/search.py": Tests("tests/test_runs.py"),
    "async_hpo/plots/style.py": Tests("tests/test_plots.py"),
    "async_hpo/plots/bars.py": Tests("tests/test_plots.py"),
    "async_hpo/plots/curves.py": Tests("tests/test_plots.py"),
    "async_hpo/plots/images.py": Tests("tests/test_plots.py"),
    "async_hpo/plots/timelines.py": Tests("tests/test_plots.py"),
    "async_hpo/plots/workers.py": Tests("tests/test_plots.py"),
    "async_hpo/data.py": Tests("tests/test_data.py"),
    "async_hpo/fetch.py": Tests("tests/test_data.py"),
    "async_hpo/paths.py": Tests("tests/test_runs.py"),
    "async_hpo/check/checklist.py": Tests("tests/test_check.py"),
    "async_hpo/check/environment.py": Tests("tests/test_check.py"),
    "async_hpo/check/config_space.py": Tests("tests/test_check.py"),
    "async_hpo/check/comparison.py": Tests("tests/test_check.py"),
    "async_hpo/check/objective.py": Tests("tests/test_check.py"),
    "async_hpo/check/searcher.py": Tests("tests/test_check.py"),
    "async_hpo/backends/objective.py": Tests("tests/test_objective.py"),
    "async_hpo/backends/gpus.py": Tests("tests/test_gpus.py"),
    "tools/colab.py": Tests("tests/test_colab.py"),
    "tools/figures.py": Tests("tests/test_prose.py tests/test_plots.py"),
    "tools/site/captions.py": Tests("tests/test_inline_figures.py"),
    "tools/site/citation.py": Tests("tests/test_site.py"),
    "tools/site/dataframes.py": Tests("tests/test_dataframes.py"),
    "tools/site/glossary.py": Tests("tests/test_site.py"),
    "tools/site/inline_figures.py": Tests("tests/test_inline_figures.py"),
    "tools/site/korean.py": Tests("tests/test_site.py"),
    "tools/site/ways_in.py": Tests("tests/test_site.py"),
    "tools/translation.py": Tests("tests/test_translation.py"),
    "tools/made_from.py": Tests("tests/test_made_from.py tests/test_notebooks.py"),
    "tools/record.py": Tests("tests/test_record.py", SLOW),
    "tools/environment.py": Tests("tests/test_environment.py", SLOW),
    "benchmarks/bench.py": Tests("tests/test_benchmarks.py"),
    "async_hpo/backends/forkserver.py": Tests("tests/test_forkserver_backend.py tests/test_backends.py", SLOW),
    "async_hpo/backends/server.py": Tests("tests/test_forkserver_backend.py tests/test_backends.py", SLOW),
    "async_hpo/backends/worker.py": Tests("tests/test_forkserver_backend.py tests/test_backends.py", SLOW),
    "async_hpo/backends/forkserver_backend.py": Tests("tests/test_forkserver_backend.py tests/test_backends.py", SLOW),
    "async_hpo/backends/fresh.py": Tests("tests/test_forkserver_backend.py", SLOW),
    "async_hpo/backends/sources.py": Tests("tests/test_forkserver_backend.py tests/test_trials.py", SLOW),
    "async_hpo/backends/function_backend.py": Tests("tests/test_backends.py tests/test_trials.py", SLOW),
    "async_hpo/sleeping.py": Tests("tests/test_replays.py", SLOW),
    "async_hpo/backends/ray_backend.py": Tests("tests/test_ray_backend.py", "not idle"),
    "async_hpo/backends/ray_output.py": Tests("tests/test_ray_backend.py tests/test_trials.py", "not idle"),
    "async_hpo/backends/ray_trial.py": Tests("tests/test_ray_backend.py tests/test_trials.py", "not idle"),
}


def copy_of_the_tree(target: Path) -> None:
    names = subprocess.check_output(["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, text=True).split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes((ROOT / name).read_bytes())
    (target / "data").symlink_to(ROOT / "data")


def configure(copy: Path, module: str, tests: Tests) -> Path:
    command = f"{sys.executable} -m pytest -x -q -p no:cacheprovider {tests.files} -m '{tests.marks}'"
    path = copy / "mutate.toml"
    path.write_text(
        f'[cosmic-ray]\nmodule-path = "{module}"\ntimeout = {TIMEOUT}.0\nexcluded-modules = []\n'
        f'test-command = "{command}"\n\n[cosmic-ray.distributor]\nname = "local"\n'
    )
    return path


def cosmic_ray(copy: Path, *arguments: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(copy), "SYNETUNE_FOLDER": str(copy / "experiments")}
    subprocess.run([sys.executable, "-m", "cosmic_ray.cli", *arguments], cwd=copy, env=environment, check=True)


def survivors(copy: Path, module: str, n_mutants: int, seed: int) -> tuple[int, list[str]]:
    """Run the tests on a sample of a module's mutants: how many there were, and what the tests did not notice."""
    config, session = configure(copy, module, MODULES[module]), copy / "mutate.sqlite"
    session.unlink(missing_ok=True)
    try:
        cosmic_ray(copy, "baseline", str(config))
    except subprocess.CalledProcessError:
        sys.exit(f"{module}: its tests fail on the tree as it is (above)")
    cosmic_ray(copy, "init", str(config), str(session))
    with use_db(str(session), WorkDB.Mode.open) as database:
        items = sorted(database.work_items, key=lambda item: str(item.mutations))
        sample = random.Random(seed).sample(items, min(n_mutants, len(items)))
        database.clear()
        database.add_work_items(sample)
    cosmic_ray(copy, "exec", str(config), str(session))
    with use_db(str(session), WorkDB.Mode.open) as database:
        results = [result for _, result in database.results]
    return len(results), [result.diff for result in results if result.test_outcome == TestOutcome.SURVIVED]


def main(modules: list[str], n_mutants: int, seed: int) -> None:
    total = noticed = 0
    for module in modules:
        with tempfile.TemporaryDirectory(prefix="mutate-") as folder:
            copy_of_the_tree(Path(folder))
            n, unnoticed = survivors(Path(folder), module, n_mutants, seed)
        for diff in unnoticed:
            print(diff)
        print(f"{module}: {n - len(unnoticed)} of {n} mutants noticed", flush=True)
        if MODULES[module].marks == QUICK:
            total, noticed = total + n, noticed + n - len(unnoticed)
    print(f"`make check` notices {noticed} of {total} mutants in the modules that it covers")
    if noticed < ENOUGH * total:
        sys.exit(f"That is less than {ENOUGH:.0%}.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("modules", nargs="*", default=[*MODULES], help=f"of {', '.join(MODULES)}; by default all")
    parser.add_argument("--mutants", type=int, default=4, help="at most, for each module")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    arguments = parser.parse_args()
    main(arguments.modules, arguments.mutants, arguments.seed)
