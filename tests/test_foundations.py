"""What packages and notebooks use of their libraries that is not documented: each with its reason."""

import ast
import re
from pathlib import Path

import pytest
import syne_tune

from tools.notebooks import ROOT, code_cells, notebooks, read, syntax_tree

#: Members of Syne Tune's that begin with an underscore, all that are used -> why.
SYNE_TUNE = {
    "_schedule": "TrialBackend calls it to start a trial: no back-end can be without it",
    "_stop_trial": "likewise, to stop one",
    "_pause_trial": "likewise, to pause one",
    "_resume_trial": "likewise, before it schedules a paused trial again",
    "_trial_dict": "where TrialBackend keeps configurations and creation times; its own back-ends read them there",
    "_next_points_to_evaluate": "how a searcher gets its initial configurations; exercise 2.2 names it",
    "_configs_with_results": "a solution shows in which order Bayesian optimization believes configurations to be",
}
#: What else is undocumented: where, and its code -> why. Found by reading; a test tells when one of them is gone.
OTHERS = {
    ("workers/syne_tune_workers/fresh.py", "current_process().daemon = False"): (
        "a daemon may have no children, and its driver does not wait for it; a trial is to have both"
    ),
    ("workers/syne_tune_workers/ray_trial.py", "logging.root.manager.loggerDict"): (
        "all loggers that there are, to undo what a trial did to them: `logging` lists the children of one at most"
    ),
    ("workers/syne_tune_workers/server.py", "atexit.register = self._record"): (
        "what libraries leave to the server's exit must not be done in its forks: `atexit` tells nobody what it has"
    ),
    ("workers/syne_tune_workers/server.py", '("logging", "weakref", "multiprocessing.util")'): (
        "Python's own exit functions, which know what a fork is, are told by the names of their modules alone"
    ),
    ("workers/syne_tune_workers/ray_cluster.py", "from ray.cluster_utils import Cluster"): (
        "several nodes on one machine, to try things out: Ray's documentation has it among its tips for tests alone"
    ),
    ("workers/syne_tune_workers/worker.py", "Reporter.__call__ = checked"): (
        "what is no number becomes null in Syne Tune's `Reporter`, which has no place for a check"
    ),
    ("async_hpo/check/objective.py", "Reporter.__call__ = counted"): (
        "after how many steps a function reports; `Reporter` tells nobody that it was called"
    ),
    ("async_hpo/callbacks.py", "self.save_results_at_frequency = self._mark"): (
        "`StoreResultsCallback` calls it to write its file, and not in one step"
    ),
    ("async_hpo/callbacks.py", "new_results[:] ="): (
        "Syne Tune's tuner goes on with the objects that it shows its callbacks: there is no other way to drop a report"
    ),
}
PACKAGES = sorted(path for name in ("async_hpo", "workers/syne_tune_workers") for path in (ROOT / name).rglob("*.py"))


def defined(trees):
    """Functions, and attributes that are set."""
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def private(names):
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


def test_what_it_uses_of_syne_tune_that_begins_with_an_underscore():
    theirs = private(defined(ast.parse(path.read_text()) for path in Path(syne_tune.__file__).parent.rglob("*.py")))
    ours = [ast.parse(path.read_text()) for path in PACKAGES]
    ours += [syntax_tree(cell) for path in notebooks() for cell in code_cells(read(path))]
    backend = ast.parse((Path(syne_tune.__file__).parent / "backend" / "trial_backend.py").read_text())
    overridden = private(defined(ours)) & private(defined([backend]))
    used = {node.attr for tree in ours for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert overridden | private(used) & theirs - private(defined(ours)) == set(SYNE_TUNE)


@pytest.mark.parametrize("file, code", OTHERS)
def test_what_else_it_uses_is_still_used(file, code):
    assert (ROOT / file).read_text().count(code) == 1


def test_no_private_module_is_imported_but_one():
    """`ray._private.ray_constants`, which `ray_cluster._loopback` explains."""
    pattern = r"(?:import|from) (?:multiprocessing\.(?:forkserver|popen|spawn|reduction|util)|\S*\._\w+).*"
    found = [match for path in PACKAGES for match in re.findall(pattern, path.read_text())]
    assert found == ["from ray._private import ray_constants"]
