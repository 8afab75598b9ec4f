"""Checks of a reader's own answers to the exercises.

Each runs the answer on a small real problem, prints what holds and, for what does not, what was expected, what was
seen, and where the hint is; it returns True or False. Any right answer passes. None knows a solution.
"""

import builtins
import contextlib
import functools
import inspect
import io
import json
import logging
import math
import os
import random
import re
import subprocess
import tempfile
import time
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from syne_tune import StoppingCriterion, Tuner
from syne_tune.backend.trial_status import Status, Trial, TrialResult
from syne_tune.config_space import Domain, loguniform, randint, uniform
from syne_tune.optimizer.schedulers.single_objective_scheduler import SingleObjectiveScheduler
from syne_tune.tuner_callback import TunerCallback

from async_hpo.forkserver_backend import ForkserverBackend
from async_hpo.runs import shorten

#: Hyperparameter -> smallest and largest value of the exercise, where it gives them, and whether it is a whole number.
RANGES: dict[str, tuple[float | None, float | None, bool]] = {
    "num_hiddens_1": (8, 1024, True),
    "num_hiddens_2": (8, 1024, True),
    "dropout_1": (0, 0.95, False),
    "dropout_2": (0, 0.95, False),
    "lr": (None, None, False),
    "batch_size": (16, 384, True),
}
#: The default configuration of the exercise.
DEFAULT = {
    "num_hiddens_1": 256,
    "num_hiddens_2": 256,
    "dropout_1": 0.5,
    "dropout_2": 0.5,
    "lr": 0.1,
    "batch_size": 256,
}


class _Report:
    """What a check prints, and its verdict."""

    def __init__(self, hint: str):
        self.hint, self.passed = hint, True

    def __call__(self, claim: str, holds: bool, expected: str = "", seen: str = "") -> bool:
        print(f"{'✓' if holds else '✗'} {claim}")
        if not holds:
            self.passed = False
            print(f"    expected: {expected}\n    seen:     {seen}")
        return holds

    def note(self, text: str) -> None:
        print(f"– {text}")

    def verdict(self) -> bool:
        print("All of it holds." if self.passed else f"Not there yet. The hint is below exercise {self.hint}.")
        return self.passed


# --- 1.1: the configuration space ------------------------------------------------------------------------------------


def config_space(space: dict[str, Any]) -> bool:
    """Check a configuration space for `DropoutMLP` (exercise 1.1).

    Args:
        space: hyperparameter -> Syne Tune domain; constants, such as `max_epochs`, may be in it.

    Returns:
        Whether everything holds; what does not is printed.
    """
    report = _Report("1.1")
    if not report("it is a dictionary", isinstance(space, dict), "a dict", repr(type(space).__name__)):
        return report.verdict()
    missing = [name for name in RANGES if name not in space]
    names = ", ".join(RANGES)
    report("it has every hyperparameter", not missing, names, f"no {', '.join(missing)}")
    for name, (low, high, whole) in RANGES.items():
        if name in space:
            _check_domain(report, name, space[name], low, high, whole)
    others = {name: value for name, value in space.items() if name not in RANGES}
    searched = [name for name, value in others.items() if isinstance(value, Domain)]
    report("it searches nothing else", not searched, "constants besides the hyperparameters", ", ".join(searched))
    return report.verdict()


def _check_domain(report: _Report, name: str, domain: Any, low: float | None, high: float | None, whole: bool) -> None:
    kind = "whole numbers" if whole else "numbers"
    span = f"{kind} from {low} to {high}" if low is not None else f"{kind} above 0, over orders of magnitude"
    if not report(f"{name} is drawn from a distribution", isinstance(domain, Domain), span, repr(domain)):
        return
    values = _values(domain)
    seen = f"{min(values):.4g} to {max(values):.4g}" if values else repr(domain)
    numbers = bool(values) and (not whole or all(float(value).is_integer() for value in values))
    if not report(f"{name} takes {kind}", numbers, span, seen if values else repr(domain)):
        return
    if low is not None and high is not None:
        ends = math.isclose(min(values), low, abs_tol=1e-9) and math.isclose(max(values), high)
        report(f"{name} has its range", ends, f"{low} to {high}", seen)
    else:
        report(f"{name} is positive", min(values) > 0, "above 0", seen)
    default = DEFAULT[name]
    listed = _listed(domain)
    holds = min(values) <= default <= max(values) and (
        listed is None or any(math.isclose(value, default, rel_tol=1e-6) for value in listed)
    )
    report(f"{name} can be the default, {default}", holds, f"a domain that holds {default}", repr(domain))
    if name == "lr" and min(values) > 0 and max(values) > 30 * min(values):
        median = float(np.median(_draws(domain, 401)))
        middle, log_middle = (min(values) + max(values)) / 2, math.sqrt(min(values) * max(values))
        expected = f"a logarithmic scale: half of all draws below about {log_middle:.2g}"
        says = f"half of all draws above {median:.2g}, in a range of {seen}"
        report("lr is drawn by its order of magnitude", median**2 < middle * log_middle, expected, says)


def _listed(domain: Domain) -> list[Any] | None:
    """All values of a domain that lists them."""
    return getattr(domain, "categories", None) or getattr(domain, "values", None)


def _draws(domain: Domain, n: int) -> list[Any]:
    state = np.random.RandomState(0)
    return [domain.sample(random_state=state) for _ in range(n)]


def _values(domain: Domain) -> list[float]:
    """The ends of a domain, or all its values if they are listed, and a few draws; empty if they are no numbers."""
    found = [*(_listed(domain) or (domain.lower, domain.upper)), *_draws(domain, 20)]
    numbers = all(isinstance(value, (int, float, np.number)) and not isinstance(value, bool) for value in found)
    return found if numbers else []


# --- 1.1: the objective ----------------------------------------------------------------------------------------------

_N_EPOCHS = 3
_N_TRAIN, _N_VALIDATION = 6_000, 1_000
_SECONDS = shorten(25, to=250)  # for all trials; a cap alone where the tests run
# Learns quickly: an error and an accuracy cannot be taken for each other.
_EASY = {"num_hiddens_1": 64, "num_hiddens_2": 64, "dropout_1": 0.1, "dropout_2": 0.1, "lr": 0.1, "batch_size": 32}
_CHANGED = {
    "batch_size": 128,
    "lr": 0.02,
    "num_hiddens_1": 16,
    "num_hiddens_2": 16,
    "dropout_1": 0.6,
    "dropout_2": 0.6,
}
_TAG = "[check] "


def objective(f: Callable[..., None], config_space: dict[str, Any]) -> bool:
    """Check an objective for `DropoutMLP` (exercise 1.1) by running it on 6,000 images of Fashion-MNIST.

    It runs in processes of its own, without the names around it, as on Syne Tune's `PythonBackend`.

    Args:
        f: the objective.
        config_space: its keys are the arguments of `f`.

    Returns:
        Whether everything holds; what does not is printed.
    """
    report = _Report("1.1")
    if _takes_its_arguments(report, f, config_space):
        with _quiet_log():
            _run_trials(report, f, config_space)
    return report.verdict()


def _takes_its_arguments(report: _Report, f: Callable[..., None], space: dict[str, Any]) -> bool:
    is_function = isinstance(f, types.FunctionType)
    if not report("it is a function", is_function, "a function made with def", type(f).__name__):
        return False
    parameters = inspect.signature(f).parameters
    takes_all = any(p.kind == p.VAR_KEYWORD for p in parameters.values())
    missing = [name for name in (*RANGES, "max_epochs") if name not in parameters and not takes_all]
    needed = ", ".join([*RANGES, "max_epochs"])
    right = report("it takes the hyperparameters and max_epochs", not missing, needed, f"no {', '.join(missing)}")
    if not isinstance(space, dict):
        return report("the configuration space is a dictionary", False, "a dict", type(space).__name__)
    arguments = dict.fromkeys([*RANGES, "max_epochs", *(n for n, p in parameters.items() if p.kind != p.VAR_KEYWORD)])
    lacking = [name for name in arguments if name not in space]
    expected = "every argument of the objective, max_epochs too (a constant)"
    right &= report("the configuration space has its arguments", not lacking, expected, f"no {', '.join(lacking)}")
    outside = ", ".join(f.__code__.co_freevars)
    return right & report(
        "it uses nothing that is defined around it", not outside, "all that it needs, inside the function", outside
    )


def _run_trials(report: _Report, f: Callable[..., None], space: dict[str, Any]) -> None:
    constants = {name: value for name, value in space.items() if name not in RANGES}
    base = constants | _EASY | {"max_epochs": _N_EPOCHS}
    configs = {"max_epochs": base | {"max_epochs": _N_EPOCHS - 1}, "again": base}  # what matters most comes first
    configs |= {name: base | {name: value} for name, value in _CHANGED.items()}
    # Without globals and defaults, as PythonBackend does it.
    bare = types.FunctionType(f.__code__, {"__builtins__": builtins}, f.__name__)
    start = time.monotonic()
    trials = _trials(bare, {"": base}, space, _SECONDS)
    expected = f"{_N_EPOCHS} epochs on {_N_TRAIN} images within {_SECONDS} s"
    if not report("it ends in reasonable time", bool(trials), expected, "it was still running"):
        return
    if not _runs_alone(report, trials[""]) or not _reports_every_epoch(report, trials[""], _N_EPOCHS):
        return
    trials |= _trials(bare, configs, space, _SECONDS - (time.monotonic() - start))
    if "max_epochs" in trials:
        epochs = trials["max_epochs"].epochs()
        expected = f"epochs {[*range(1, _N_EPOCHS)]} with max_epochs={_N_EPOCHS - 1}"
        report("max_epochs decides when it ends", epochs == [*range(1, _N_EPOCHS)], expected, f"epochs {epochs}")
    if "again" in trials:
        _uses_every_hyperparameter(report, trials)
    if late := [name for name in configs if name not in trials]:
        report.note(f"not checked, because {_SECONDS} s were over: {', '.join(late)}")


class _Ended:
    """A trial that has ended: its reports, its error if it failed, and how many steps it had taken at each report."""

    def __init__(self, stdout: list[str], stderr: list[str], result: TrialResult):
        self.reports, self.error = result.metrics, ""
        if result.status == Status.failed:
            self.error = (stderr or ["it ended without a message"])[-1].strip()
        tagged = [json.loads(line.removeprefix(_TAG)) for line in stdout if line.startswith(_TAG)]
        self.steps: list[int] = tagged[-1] if tagged else []

    def epochs(self) -> list[Any]:
        return [report.get("epoch") for report in self.reports]

    def errors(self) -> list[float]:
        return [report.get("validation_error") for report in self.reports]


def _trials(
    f: Callable[..., None], configs: dict[str, dict[str, Any]], space: dict[str, Any], seconds: float
) -> dict[str, _Ended]:
    """Run a trial of each configuration, two at a time, in processes forked off a warm one.

    A trial that has not ended after `seconds` is stopped and left out.
    """
    backend = ForkserverBackend(functools.partial(_on_few_images, f), {name: None for name in space})
    ended: dict[str, _Ended] = {}
    waiting = list(configs.items())
    running: dict[int, str] = {}  # a trial's number -> the name of its configuration
    with tempfile.TemporaryDirectory() as folder:
        backend.set_path(folder)
        backend.warm_up()
        end = time.monotonic() + seconds
        try:
            while (waiting or running) and time.monotonic() < end:
                while waiting and len(running) < 2:
                    name, config = waiting.pop(0)
                    running[backend.start_trial(config).trial_id] = name
                statuses, _ = backend.fetch_status_results(list(running))
                for trial_id, (_, status) in statuses.items():
                    if status != Status.in_progress:
                        (result,) = backend._all_trial_results([trial_id])
                        logs = backend.stdout(trial_id), backend.stderr(trial_id)
                        ended[running.pop(trial_id)] = _Ended(*logs, result)
        finally:
            backend.stop_all()
    return ended


def _on_few_images(f: Callable[..., None], **config) -> None:
    """In a trial's process: call `f` with a part of the images, and count the steps that it takes until each report."""
    import torchvision
    from syne_tune import Reporter
    from torch.optim.optimizer import register_optimizer_step_post_hook

    from async_hpo import data

    few = {
        part: (X[:n], y[:n])
        for (part, (X, y)), n in zip(data.load().items(), (_N_TRAIN, _N_VALIDATION, _N_VALIDATION), strict=True)
    }
    data.load = lambda *_: few
    _shorten_init(torchvision.datasets.FashionMNIST)  # D2L's own FashionMNIST reads it
    n_steps, at_reports = 0, []

    def count(*_) -> None:
        nonlocal n_steps
        n_steps += 1

    register_optimizer_step_post_hook(count)
    report = Reporter.__call__

    def counted(self, **values) -> None:
        report(self, **values)
        at_reports.append(n_steps)

    Reporter.__call__ = counted
    try:
        f(**config)
    finally:
        print(f"\n{_TAG}{json.dumps(at_reports)}", flush=True)


def _shorten_init(dataset: Any) -> None:
    init = dataset.__init__

    def __init__(self, *args, **kwargs):
        init(self, *args, **kwargs)
        n = _N_TRAIN if self.train else _N_VALIDATION
        self.data, self.targets = self.data[:n], self.targets[:n]

    dataset.__init__ = __init__


def _runs_alone(report: _Report, trial: _Ended) -> bool:
    if unknown := re.search(r"NameError: name '(\w+)' is not defined", trial.error):
        seen = f"the global name {unknown[1]!r}, which a worker does not have"
        return report("it uses nothing that is defined around it", False, "imports and all else inside", seen)
    return report("it runs in a process of its own, by itself", not trial.error, "no exception", trial.error)


def _reports_every_epoch(report: _Report, trial: _Ended, n_epochs: int) -> bool:
    names = ["epoch", "validation_error"]
    found = sorted({name for values in trial.reports for name in values if not name.startswith("st_")})
    expected = f"{n_epochs} reports, with epoch = {', '.join(map(str, range(1, n_epochs + 1)))}"
    if not report("it reports to Syne Tune", bool(trial.reports), expected, "no report"):
        return False
    named = all(name in values for name in names for values in trial.reports)
    if not report("it reports epoch and validation_error", named, ", ".join(names), ", ".join(found)):
        return False
    epochs = trial.epochs()
    what = f"{len(epochs)} report{'s' * (len(epochs) != 1)}, with epoch = {', '.join(map(str, epochs))}"
    if epochs == [n_epochs]:
        what += ": only at the end"
    elif epochs and len(epochs) == n_epochs - 1:
        what += ": one epoch too few"
    if not report("it reports after every epoch", epochs == [*range(1, n_epochs + 1)], expected, what):
        return False
    steps = trial.steps if trial.steps and trial.steps[-1] > 0 else None  # None: not trained by a torch optimizer
    spread = steps is None or all(before < after for before, after in zip([0, *steps], steps, strict=False))
    seen = f"{', '.join(map(str, steps or []))} training steps before the reports"
    if not report("it trains between its reports", spread, "an epoch of training before each report", seen):
        return False
    return _reports_errors(report, trial.errors())


def _reports_errors(report: _Report, errors: list[Any]) -> bool:
    claim = "validation_error is an error"
    shown = ", ".join(f"{error:.3f}" if isinstance(error, float) else repr(error) for error in errors)
    numbers = all(isinstance(error, (int, float)) and 0 <= error <= 1 for error in errors)
    if not report("validation_error is a share of images", numbers, "numbers between 0 and 1", shown):
        return False
    # Guessing errs on 0.9 of the images; this small network gets below 0.4 in three epochs.
    wrong = "validation errors that fall below 0.5; guessing has 0.9"
    if errors[-1] > 0.5 and errors[-1] > errors[0]:
        return report(claim, False, wrong, f"{shown}, rising: is it the accuracy? The error is 1 - accuracy")
    return report(claim, errors[-1] < 0.5, wrong, f"{shown}: it does not learn, or this is not the error")


def _uses_every_hyperparameter(report: _Report, trials: dict[str, _Ended]) -> None:
    base, again = trials[""], trials["again"]
    repeatable = base.errors() == again.errors()
    for name, value in _CHANGED.items():
        if (trial := trials.get(name)) is None:
            continue
        claim, expected = f"it uses {name}", f"another learning curve with {name}={value} than with {_EASY[name]}"
        if trial.error:
            report(claim, False, f"reports with {name}={value}", trial.error)
        elif name == "batch_size" and base.steps and base.steps[-1] > 0 and trial.steps:
            ratio = base.steps[-1] / trial.steps[-1]
            wanted = value / _EASY[name]
            expected = f"{wanted:.0f} times as many steps with batch_size={_EASY[name]} as with batch_size={value}"
            seen = f"{ratio:.1f} times as many" + ": batch_size is ignored" * (abs(ratio - 1) < 0.05)
            report(claim, abs(ratio / wanted - 1) < 0.1, expected, seen)
        elif repeatable:
            report(claim, trial.errors() != base.errors(), expected, f"the same one: {name} is ignored")
    if not repeatable:
        report.note("the same configuration gave two learning curves: set PyTorch's seed inside, to see them again")


# --- 1.2, 1.3, 2.3: comparisons --------------------------------------------------------------------------------------


def comparison(reports: pd.DataFrame, by: str, values: Sequence[Any], exercise: str, n_repetitions: int = 2) -> bool:
    """Check that runs can be compared: all there, repeated, and with the same budget (exercises 1.2, 1.3 and 2.3).

    Args:
        reports: a row a report, with the columns `by`, `repetition`, `trial`, `time` (seconds) and `validation_error`.
        by: what is compared, such as `method`; if it is `n_workers`, that many trials must run at a time.
        values: what has to be in column `by`.
        exercise: where the hint is.
        n_repetitions: how many runs of each there must be, at least.

    Returns:
        Whether everything holds; what does not is printed.
    """
    report = _Report(exercise)
    columns = [by, "repetition", "trial", "time", "validation_error"]
    if not report("it is a table", isinstance(reports, pd.DataFrame), "a pandas DataFrame", type(reports).__name__):
        return report.verdict()
    missing = [name for name in columns if name not in reports]
    if not report("it has its columns", not missing, ", ".join(columns), f"no {', '.join(missing)}"):
        return report.verdict()
    absent = [value for value in values if value not in set(reports[by])]
    wanted = ", ".join(map(str, values))
    if not report(f"it has every {by}", not absent, wanted, f"no {', '.join(map(str, absent))}"):
        return report.verdict()
    reports = reports[reports[by].isin(values)]
    right = reports.validation_error.between(0, 1).all()
    report("validation_error is a share of images", right, "numbers between 0 and 1", "others")
    groups = reports.groupby(by)
    _check_repetitions(report, groups, n_repetitions)
    ends = groups.time.max()
    seen = ", ".join(f"{value}: {end:.0f} s" for value, end in ends.items())
    report("all have the same budget", ends.max() <= 1.5 * ends.min(), "last reports at about the same time", seen)
    if by == "n_workers":
        _check_concurrency(report, groups)
    return report.verdict()


def _check_repetitions(report: _Report, groups, n_repetitions: int) -> None:
    few = groups.repetition.nunique()
    seen = ", ".join(f"{value}: {n}" for value, n in few.items())
    expected = f"at least {n_repetitions} of each"
    if report("every one is repeated", (few >= n_repetitions).all(), expected, seen):
        alike = [
            value
            for value, rows in groups
            if len({tuple(run.validation_error) for _, run in rows.groupby("repetition")}) < rows.repetition.nunique()
        ]
        expected = "repetitions with random numbers of their own"
        report("repetitions differ", not alike, expected, f"the same errors again with {', '.join(map(str, alike))}")


def _check_concurrency(report: _Report, groups) -> None:
    for n_workers, rows in groups:
        most = 0
        for _, run in rows.groupby("repetition"):
            times = run.groupby("trial").time.agg(["min", "max"])
            most = max(most, *(((times["min"] <= t) & (t <= times["max"])).sum() for t in times["min"]))
        claim = f"{n_workers} worker{'s' * (n_workers != 1)} run {n_workers} trial{'s' * (n_workers != 1)} at a time"
        # A trial also runs before its first report, which is not seen here: fewer are found than there are.
        right = n_workers / 2 < most <= n_workers
        report(claim, right, f"up to {n_workers} trials between their first and last report", f"up to {most}")


# --- 2.1: the environment --------------------------------------------------------------------------------------------


def environment(python: str | Path) -> bool:
    """Check an environment with the sources of d2l and Syne Tune (exercise 2.1).

    Args:
        python: path of its Python.

    Returns:
        Whether everything holds; what does not is printed.
    """
    report = _Report("2.1")
    if not report("there is a Python", Path(python).is_file(), f"a file {os.path.relpath(python)}", "none"):
        return report.verdict()
    code = (
        "import json, sys; from importlib.util import find_spec; "
        "found = [find_spec(name) for name in ('d2l', 'syne_tune')]; "
        "print(json.dumps([sys.prefix != sys.base_prefix, *(spec and spec.origin for spec in found)]))"
    )
    run = subprocess.run([python, "-c", code], capture_output=True, text=True)
    is_virtual, *origins = json.loads(run.stdout) if run.returncode == 0 else (True, None, None)
    missing = [name for name, origin in zip(("d2l", "syne_tune"), origins, strict=True) if origin is None]
    if not report("it finds d2l and syne_tune", not missing, "both", f"no {', '.join(missing)}"):
        return report.verdict()
    report("it is a virtual environment", is_virtual, "an environment of its own", "the system's Python")
    for name, origin in zip(("d2l", "syne_tune"), origins, strict=True):
        source = Path(origin).parents[1]
        editable = any((source / file).is_file() for file in ("setup.py", "pyproject.toml"))
        report(
            f"{name} comes from its source",
            editable,
            "a folder with setup.py or pyproject.toml",
            os.path.relpath(source),
        )
    return report.verdict()


# --- 2.2: the searcher -----------------------------------------------------------------------------------------------

_SPACE = {
    "a": uniform(0, 1),
    "b": loguniform(1e-3, 1),
    "c": randint(0, 10**6),
    "d": uniform(0, 0.95),
    "e": loguniform(1e-4, 10),
    "max_epochs": 7,  # a constant
}
_NAMES = [name for name, domain in _SPACE.items() if isinstance(domain, Domain)]
_INITIAL = [
    {"a": 0.25, "b": 0.1, "c": 256, "d": 0.5, "e": 1.0},
    {"a": 0.75, "b": 0.01, "c": 64, "d": 0.25, "e": 0.1},
]
_SHARE, _N_INIT, _N_DRAWS = 0.75, 8, 600


def searcher(S: type) -> bool:
    """Check a `LocalSearcher` (exercise 2.2) by asking it for suggestions, telling it results, and a real run.

    Args:
        S: the class. It is called as `S(config_space, probab_local=…, num_init_random=…, points_to_evaluate=…,
            random_seed=…)`.

    Returns:
        Whether everything holds; what does not is printed.
    """
    report = _Report("2.2")
    states = np.random.get_state(), random.getstate()
    np.random.seed(0)  # the answer may draw from them
    random.seed(0)
    try:
        with _quiet_log():
            if _can_be_made(report, S):
                for check in (_starts, _stays_near_the_best, _bears_disorder, _bears_failures, _runs_for_real):
                    _guarded(report, check, S)
    finally:
        np.random.set_state(states[0])
        random.setstate(states[1])
    return report.verdict()


def _guarded(report: _Report, check: Callable, S: type) -> None:
    try:
        check(report, S)
    except Exception as error:  # the reader's code may raise anything
        report(str(check.__doc__), False, "no exception", f"{type(error).__name__}: {error}")


def _can_be_made(report: _Report, S: Any) -> bool:
    if not report("it is a class", isinstance(S, type), "a class", type(S).__name__):
        return False
    parameters = inspect.signature(S.__init__).parameters
    takes_all = any(p.kind == p.VAR_KEYWORD for p in parameters.values())
    needed = ["config_space", "probab_local", "num_init_random", "points_to_evaluate"]
    missing = [name for name in needed if name not in parameters and not takes_all]
    if not report("it takes its arguments", not missing, ", ".join(needed), f"no {', '.join(missing)}"):
        return False
    try:
        asked = _Asked(S)
        config = asked.ask()
    except NotImplementedError:
        return report("it suggests configurations", False, "a configuration", "suggest is not implemented")
    except Exception as error:
        return report("it suggests configurations", False, "a configuration", f"{type(error).__name__}: {error}")
    missing = [name for name in _SPACE if name not in config]
    return report("it suggests configurations", not missing, ", ".join(_SPACE), f"no {', '.join(missing)}")


class _Asked:
    """A searcher behind Syne Tune's scheduler, as a tuner would ask and tell it."""

    def __init__(self, S: Any, seed: int = 0, initial: list[dict[str, Any]] | None = None, share: float = _SHARE):
        options: dict[str, Any] = {"points_to_evaluate": _INITIAL if initial is None else initial}
        parameters = inspect.signature(S.__init__).parameters
        if "random_seed" in parameters or any(p.kind == p.VAR_KEYWORD for p in parameters.values()):
            options["random_seed"] = seed
        searcher = S(dict(_SPACE), probab_local=share, num_init_random=_N_INIT, **options)
        self.scheduler = SingleObjectiveScheduler(dict(_SPACE), metric="validation_error", searcher=searcher)
        self.trials: list[Trial] = []

    def ask(self) -> dict[str, Any]:
        suggestion = self.scheduler.suggest()
        config = {} if suggestion is None else suggestion.config
        self.trials.append(Trial(len(self.trials), config, creation_time=None))
        self.scheduler.on_trial_add(self.trials[-1])
        return config

    def tell(self, trial_id: int, error: float) -> None:
        self.scheduler.on_trial_result(self.trials[trial_id], {"epoch": 1, "validation_error": error})

    def complete(self, trial_id: int, error: float) -> None:
        self.scheduler.on_trial_complete(self.trials[trial_id], {"epoch": 1, "validation_error": error})

    def fail(self, trial_id: int) -> None:
        self.scheduler.on_trial_error(self.trials[trial_id])

    def differences(self, config: dict[str, Any], other: int) -> list[str]:
        """The hyperparameters in which a configuration differs from that of trial `other`."""
        return [name for name in _NAMES if config[name] != self.trials[other].config[name]]


def _starts(report: _Report, S: type) -> None:
    """it starts with the initial configurations, then at random"""
    asked = _Asked(S)
    configs = []
    for trial_id in range(_N_INIT):
        configs.append(asked.ask())
        asked.tell(trial_id, 0.9 - 0.05 * trial_id)
        asked.complete(trial_id, 0.9 - 0.05 * trial_id)
    first = [{name: config[name] for name in _NAMES} for config in configs[: len(_INITIAL)]]
    seen = ", ".join(f"a={config['a']:.3g}" for config in first)
    wanted = ", ".join(f"a={config['a']}" for config in _INITIAL)
    report("it suggests the initial configurations first", first == _INITIAL, f"configurations with {wanted}", seen)
    near = [
        later
        for later in range(len(_INITIAL), _N_INIT)
        if any(len(asked.differences(configs[later], before)) <= len(_NAMES) - 2 for before in range(later))
    ]
    expected = f"the first {_N_INIT} (num_init_random) drawn at random"
    seen = f"suggestion {near[0] + 1} near an earlier one" if near else ""
    report("it starts at random", not near, expected, seen)
    again = [_Asked(S, seed=1, initial=[]) for _ in range(2)]
    if again[0].ask() != again[1].ask():
        report.note("two searchers with the same random_seed differ: a run cannot be repeated")


# Trial 2 is the best, trial 5 the worst; neither is the first, the last, or the last one told.
_ERRORS = [0.6, 0.5, 0.1, 0.45, 0.7, 0.95, 0.4, 0.3, 0.35, 0.55]


def _stays_near_the_best(report: _Report, S: type) -> None:
    """it stays near the best configuration so far"""
    asked = _Asked(S)
    for trial_id, error in enumerate(_ERRORS):
        asked.ask()
        asked.tell(trial_id, error)
        asked.complete(trial_id, error)
    draws = [asked.ask() for _ in range(_N_DRAWS)]
    if _check_neighbours(report, asked, draws, _ERRORS, "it stays near the best configuration so far"):
        _check_shares(report, draws, [asked.differences(draw, _ERRORS.index(min(_ERRORS))) for draw in draws])


def _check_neighbours(
    report: _Report, asked: _Asked, draws: list[dict[str, Any]], errors: list[float], claim: str
) -> bool:
    """Whether suggestions are random, or the best trial's configuration with one hyperparameter changed."""
    best, worst = errors.index(min(errors)), errors.index(max(errors))
    counts = [min(len(asked.differences(draw, trial)) for trial in range(len(errors))) for draw in draws]
    nearest = [
        min(range(len(errors)), key=lambda trial: len(asked.differences(draw, trial)))
        for draw, count in zip(draws, counts, strict=True)
        if count < len(_NAMES) - 1
    ]
    expected = f"suggestions near trial {best}, whose error {errors[best]} is the smallest"
    if not nearest:
        seen = f"{_N_DRAWS} suggestions, none near any earlier trial"
        return report(claim, False, expected, seen)
    usual = max(set(nearest), key=nearest.count)
    seen = f"near trial {usual}, whose error is {errors[usual]}"
    if usual == worst:
        seen += ", the worst: results arrive so that smaller is better"
    if not report(claim, set(nearest) == {best}, expected, seen if usual != best else "near others, too"):
        return False
    many = [count for count in counts if 1 < count < len(_NAMES) - 1]
    expected = "one hyperparameter drawn anew, all others kept"
    seen = f"{len(many)} of {_N_DRAWS} suggestions change {max(many)} hyperparameters" if many else ""
    return report("it changes one hyperparameter at a time", not many, expected, seen)


def _check_shares(report: _Report, draws: list[dict[str, Any]], changed: list[list[str]]) -> None:
    """`changed` are the hyperparameters in which each of the draws differs from the best trial's configuration."""
    local = [names for names in changed if len(names) <= 1]
    share, tolerance = len(local) / _N_DRAWS, 5 * math.sqrt(_SHARE * (1 - _SHARE) / _N_DRAWS)
    claim = f"it explores with probability 1 - probab_local, here {1 - _SHARE:.2f}"
    seen = f"a share of {1 - share:.2f} in {_N_DRAWS} suggestions" + ": it never explores" * (share == 1)
    report(claim, abs(share - _SHARE) < tolerance, f"a share of {1 - _SHARE:.2f}, give or take {tolerance:.2f}", seen)
    times = {name: sum(names == [name] for names in local) for name in _NAMES}
    rare = [name for name, count in times.items() if count < len(local) / len(_NAMES) / 2]
    expected = f"each of {len(_NAMES)} hyperparameters about equally often; constants never"
    seen = ", ".join(f"{name} {times[name]} times" for name in rare)
    report("it changes every hyperparameter now and then", not rare, expected, seen)
    drawn = [draw["a"] for draw, names in zip(draws, changed, strict=True) if names == ["a"]]
    if drawn:
        wide = min(drawn) < 0.25 and max(drawn) > 0.75
        seen = f"values of a from {min(drawn):.2f} to {max(drawn):.2f}"
        report("it draws anew from the whole range", wide, "values of a from nearly 0 to nearly 1", seen)


# In this order, with these errors: trial 1 is the best. The searcher that counts results takes it for trial 4, the
# one that remembers its last suggestion for trial 9, the one that believes the last result for trial 3.
_ARRIVALS = [(6, 0.5), (9, 0.8), (0, 0.6), (8, 0.4), (1, 0.1), (5, 0.9), (2, 0.3), (4, 0.7), (7, 0.35), (3, 0.2)]


def _bears_disorder(report: _Report, S: type) -> None:
    """it is not fooled by results that arrive out of order"""
    asked = _Asked(S)
    for _ in _ARRIVALS:
        asked.ask()
    for trial_id, error in _ARRIVALS:
        asked.tell(trial_id, error)
        asked.complete(trial_id, error)
    errors = [error for _, error in sorted(_ARRIVALS)]
    draws = [asked.ask() for _ in range(_N_DRAWS)]
    _check_neighbours(report, asked, draws, errors, "it is not fooled by results that arrive out of order")


def _bears_failures(report: _Report, S: type) -> None:
    """it goes on when trials fail"""
    asked = _Asked(S, share=1.0)
    for trial_id in range(_N_INIT + 2):  # nothing but failures: there is no best yet
        asked.ask()
        asked.fail(trial_id)
    more = [asked.ask() for _ in range(5)]
    whole = all(name in config for config in more for name in _SPACE)
    report("it goes on when trials fail", whole, "configurations with every hyperparameter", repr(more[0]))
    asked.tell(_N_INIT + 2, 0.3)
    asked.complete(_N_INIT + 2, 0.3)
    asked.fail(_N_INIT + 3)
    near = [len(asked.differences(asked.ask(), _N_INIT + 2)) for _ in range(20)]
    report(
        "it finds the best among the trials that did not fail",
        max(near) <= 1,
        f"with probab_local=1, suggestions near trial {_N_INIT + 2}, the only one with a result",
        f"up to {max(near)} hyperparameters changed",
    )


def _quick(a: float, b: float, c: int, d: float, e: float, max_epochs: int) -> None:
    from syne_tune import Reporter

    report = Reporter()
    for epoch in range(1, 3):
        time.sleep(0.02 + 0.08 * a)  # results overtake each other
        if d > 0.7:
            raise RuntimeError("meant to fail")
        report(epoch=epoch, validation_error=a + d / epoch)


class _CountTrials(TunerCallback):
    def __init__(self):
        self.n_started = 0

    def on_start_trial(self, trial: Trial) -> None:
        self.n_started += 1


def _runs_for_real(report: _Report, S: type) -> None:
    """it runs on two real workers, where some trials fail"""
    asked = _Asked(S)
    backend = ForkserverBackend(_quick, dict(_SPACE), preload=["syne_tune"])
    backend.warm_up()
    count = _CountTrials()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        tuner = Tuner(
            trial_backend=backend,
            scheduler=asked.scheduler,
            stop_criterion=StoppingCriterion(max_num_trials_finished=20, max_wallclock_time=shorten(10, to=100)),
            n_workers=2,
            sleep_time=0,
            max_failures=1000,
            callbacks=[count],
            save_tuner=False,
            trial_backend_path=folder,
        )
        tuner.tuner_path = Path(folder)
        tuner.run()
    seen = f"{count.n_started} trials in 10 s"
    report("it runs on two real workers, where some trials fail", count.n_started > 20, "20 trials and more", seen)


@contextlib.contextmanager
def _quiet_log() -> Iterator[None]:
    """Without Syne Tune's log messages: some trials are meant to fail."""
    logger = logging.getLogger("syne_tune")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
