"""Tables that others published: what ships is what the package holds, and `schedule` agrees with their simulator."""

import collections
import hashlib
import io
import itertools
import pickle
import re
import warnings
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from async_hpo import tables
from async_hpo.schedule import expected_maximum, schedule
from tools.public_tables import FOLDER, Plain, from_package

PUBLIC = tables.public()


def test_what_ships_is_what_its_readme_says():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(.+)\.csv\.xz` \| ([\d,]+) \| `([0-9a-f]{16})` \|$", readme, flags=re.MULTILINE)
    assert {name for name, *_ in rows} == {*PUBLIC} and len(rows) == 15
    for name, n, digest in rows:
        assert len(PUBLIC[name]) == int(n.replace(",", ""))
        assert hashlib.sha256((FOLDER / f"{name}.csv.xz").read_bytes()).hexdigest().startswith(digest), name
        assert list(PUBLIC[name]) == ["seconds", "error"]
        assert np.isfinite(PUBLIC[name]).all(axis=None) and (PUBLIC[name].seconds > 0).all()


@pytest.mark.slow
def test_what_ships_is_what_the_package_holds():
    for name, table in from_package().items():
        pd.testing.assert_frame_equal(table, PUBLIC[name], check_exact=True)


def test_a_table_that_would_run_code_is_refused():
    with pytest.raises(pickle.UnpicklingError, match=r"needs no collections\.OrderedDict"):
        Plain(io.BytesIO(pickle.dumps(collections.OrderedDict()))).load()


@pytest.mark.parametrize("name, n_workers", [("nasbench201_cifar10", 4), ("fcnet_slice_localization", 64)])
def test_schedule_agrees_with_another_groups_simulator(name, n_workers, tmp_path, monkeypatch):
    """Watanabe et al., 2024 (arXiv 2403.01888): `mfhpo-simulator`."""
    from benchmark_simulator import ObjectiveFuncWrapper

    def objective(eval_config, fidels, seed):
        return {"loss": 0.0, "runtime": eval_config["seconds"]}

    n_started = 400 + n_workers
    drawn = np.random.default_rng(n_workers).choice(PUBLIC[name].seconds, n_started)
    # The simulator asks for configurations, and tells what became of them: here each is the seconds that it takes.
    configurations = ({"seconds": seconds} for seconds in drawn)
    listed = SimpleNamespace(ask=lambda: (next(configurations), None, None), tell=lambda *_args, **_names: None)
    options = {"n_workers": n_workers, "n_actual_evals_in_opt": n_started, "n_evals": 400, "config_tracking": False}
    with warnings.catch_warnings(action="ignore"), monkeypatch.context() as patched:
        simulator = ObjectiveFuncWrapper(objective, ask_and_tell=True, tmp_dir=str(tmp_path), **options)
        # The simulator adds the time that `ask` really takes: on this clock a tenth of a microsecond, on any machine.
        patched.setattr("time.time", partial(next, itertools.count(0, 1e-7)))
        simulator.simulate(listed)
    theirs = np.sort(simulator.get_results()["cumtime"])
    ours = np.sort(schedule(drawn[: n_started - 1], n_workers).end)[: len(theirs)]
    assert len(theirs) == 400
    assert np.abs(ours - theirs).max() <= 1e-5 * theirs.max()


#: Mellor et al., 2021 (arXiv 2006.04647), table 2: validation accuracy of a random architecture, and of the best of 10
#: and of 100, with standard deviations over 500 repetitions.
PUBLISHED = {
    "cifar10": [(83.20, 13.28), (89.92, 0.75), (91.05, 0.28)],
    "cifar100": [(60.70, 12.55), (69.61, 1.21), (71.45, 0.79)],
    "imagenet": [(33.34, 9.39), (43.11, 1.85), (45.37, 0.61)],
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_best_of_n_architectures_is_as_published(name):
    accuracy = 100 * (1 - PUBLIC[f"nasbench201_{name}"].error)
    for n, (mean, deviation) in zip((1, 10, 100), PUBLISHED[name], strict=True):
        assert abs(expected_maximum(accuracy, n) - mean) < 3 * deviation / np.sqrt(500) + 0.01
