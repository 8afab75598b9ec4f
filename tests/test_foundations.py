"""What the package uses of its libraries that is not documented: each with its reason, and nothing else."""

import ast
import re
from pathlib import Path

import syne_tune

from tools.notebooks import ROOT

#: Members of Syne Tune's that begin with an underscore -> why, and since when there is no other way.
SYNE_TUNE = {
    "_schedule": "TrialBackend calls it to start a trial: no back-end can be without it",
    "_stop_trial": "likewise, to stop one",
    "_pause_trial": "likewise, to pause one",
    "_resume_trial": "likewise, before it schedules a paused trial again",
    "_trial_dict": "where TrialBackend keeps configurations and creation times; its own back-ends read them there",
    "_next_points_to_evaluate": "how a searcher gets its initial configurations; exercise 2.2 names it",
}
PACKAGE = sorted((ROOT / "async_hpo").rglob("*.py"))


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
    ours = [ast.parse(path.read_text()) for path in PACKAGE]
    backend = ast.parse((Path(syne_tune.__file__).parent / "backend" / "trial_backend.py").read_text())
    overridden = private(defined(ours)) & private(defined([backend]))
    used = {node.attr for tree in ours for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert overridden | private(used) & theirs - private(defined(ours)) == set(SYNE_TUNE)


def test_no_private_module_is_imported_but_one():
    """`ray._private.ray_constants`, which `ray_cluster._loopback` explains."""
    pattern = r"(?:import|from) (?:multiprocessing\.(?:forkserver|popen|spawn|reduction|util)|\S*\._\w+).*"
    found = [match for path in PACKAGE for match in re.findall(pattern, path.read_text())]
    assert found == ["from ray._private import ray_constants"]
