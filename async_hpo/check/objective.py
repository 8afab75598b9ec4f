"""Exercise 1.1: the objective."""

import builtins
import functools
import inspect
import json
import re
import tempfile
import time
import types
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from syne_tune.backend.trial_status import Status
from syne_tune_workers import ForkserverBackend
from syne_tune_workers.function_backend import SILENT

from async_hpo import FASHION_MNIST
from async_hpo.check.checklist import Checklist, quiet_log
from async_hpo.check.config_space import RANGES
from async_hpo.paths import SHORT

_N_EPOCHS = 3
_N_TRAIN, _N_VALIDATION = 6_000, 1_000
_SECONDS = 250 if SHORT else 25  # for all trials; a cap alone where the tests run
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
# On so few training images a network learns these by heart, and little about others.
_FEW = "few images"
_BY_HEART = {"num_hiddens_1": 256, "num_hiddens_2": 256, "batch_size": 16, "max_epochs": 30, "_n_train": 60}
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
    checks = Checklist("1.1")
    if _takes_its_arguments(checks, f, config_space):
        with quiet_log():
            _run_trials(checks, f, config_space)
    return checks.verdict()


def _takes_its_arguments(checks: Checklist, f: Callable[..., None], space: dict[str, Any]) -> bool:
    is_function = isinstance(f, types.FunctionType)
    if not checks("it is a function", is_function, "a function made with def", type(f).__name__):
        return False
    parameters = inspect.signature(f).parameters
    takes_all = any(p.kind == p.VAR_KEYWORD for p in parameters.values())
    missing = [name for name in (*RANGES, "max_epochs") if name not in parameters and not takes_all]
    needed = ", ".join([*RANGES, "max_epochs"])
    right = checks("it takes the hyperparameters and max_epochs", not missing, needed, f"no {', '.join(missing)}")
    if not isinstance(space, dict):
        return checks("the configuration space is a dictionary", False, "a dict", type(space).__name__)
    arguments = dict.fromkeys([*RANGES, "max_epochs", *(n for n, p in parameters.items() if p.kind != p.VAR_KEYWORD)])
    lacking = [name for name in arguments if name not in space]
    expected = "every argument of the objective, max_epochs too (a constant)"
    right &= checks("the configuration space has its arguments", not lacking, expected, f"no {', '.join(lacking)}")
    outside = ", ".join(f.__code__.co_freevars)
    return right & checks(
        "it uses nothing that is defined around it", not outside, "all that it needs, inside the function", outside
    )


def _run_trials(checks: Checklist, f: Callable[..., None], space: dict[str, Any]) -> None:
    constants = {name: value for name, value in space.items() if name not in RANGES}
    base = constants | _EASY | {"max_epochs": _N_EPOCHS}
    configs = {"max_epochs": base | {"max_epochs": _N_EPOCHS - 1}, "again": base}  # what matters most comes first
    configs[_FEW] = base | _BY_HEART
    configs |= {name: base | {name: value} for name, value in _CHANGED.items()}
    # Without globals and defaults, as PythonBackend does it.
    bare = types.FunctionType(f.__code__, {"__builtins__": builtins}, f.__name__)
    start = time.monotonic()
    trials = _trials(bare, {"": base}, space, _SECONDS)
    expected = f"{_N_EPOCHS} epochs on {_N_TRAIN} images within {_SECONDS} s"
    if not checks("it ends in reasonable time", bool(trials), expected, "it was still running"):
        return
    if not _runs_alone(checks, trials[""]) or not _reports_every_epoch(checks, trials[""], _N_EPOCHS):
        return
    trials |= _trials(bare, configs, space, _SECONDS - (time.monotonic() - start))
    if "max_epochs" in trials:
        epochs = trials["max_epochs"].epochs()
        expected = f"epochs {[*range(1, _N_EPOCHS)]} with max_epochs={_N_EPOCHS - 1}"
        checks("max_epochs decides when it ends", epochs == [*range(1, _N_EPOCHS)], expected, f"epochs {epochs}")
    if _FEW in trials:
        _validates_on_other_images(checks, trials[_FEW])
    if "again" in trials:
        _uses_every_hyperparameter(checks, trials)
    if late := [name for name in configs if name not in trials]:
        checks.note(f"not checked, because {_SECONDS} s were over: {', '.join(late)}")


class _Ended:
    """A trial that has ended: its reports, its error if it failed, and how many steps it had taken at each report."""

    def __init__(self, reports: list[dict[str, Any]], failed: bool, stdout: list[str], stderr: list[str]):
        self.reports, self.error = reports, ""
        if failed:
            self.error = (stderr or ["it ended without a message"])[-1].strip()
        tagged = [json.loads(line.removeprefix(_TAG)) for line in stdout if line.startswith(_TAG)]
        self.steps: list[int] = tagged[-1] if tagged else []

    def epochs(self) -> list[Any]:
        return [report.get("epoch") for report in self.reports]

    def errors(self) -> list[Any]:
        return [report.get("validation_error") for report in self.reports]


def _trials(
    f: Callable[..., None], configs: dict[str, dict[str, Any]], space: dict[str, Any], seconds: float
) -> dict[str, _Ended]:
    """Run a trial of each configuration, two at a time, in processes forked off a warm one.

    A trial that has not ended after `seconds` is stopped and left out.
    """
    backend = ForkserverBackend(
        functools.partial(_on_few_images, f),
        dict.fromkeys([*space, "_n_train"]),
        preload=[__name__],
        share=[FASHION_MNIST],
    )
    ended: dict[str, _Ended] = {}
    waiting = list(configs.items())
    running: dict[int, str] = {}  # a trial's number -> the name of its configuration
    reports = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        backend.set_path(folder)
        backend.warm_up()
        end = time.monotonic() + seconds
        try:
            while (waiting or running) and time.monotonic() < end:
                while waiting and len(running) < 2:
                    name, config = waiting.pop(0)
                    running[backend.start_trial(config).trial_id] = name
                statuses, new = backend.fetch_status_results(list(running))
                for trial_id, report in new:
                    reports[trial_id].append(report)
                for trial_id, (_, status) in statuses.items():
                    if status != Status.in_progress:
                        logs = backend.stdout(trial_id), backend.stderr(trial_id)
                        ended[running.pop(trial_id)] = _Ended(reports[trial_id], _raised(status, logs[1]), *logs)
        finally:
            backend.stop_all()
    return ended


def _raised(status: str, stderr: list[str]) -> bool:
    return status == Status.failed and stderr[-1:] != [f"{SILENT}\n"]


def _on_few_images(f: Callable[..., None], _n_train: int = _N_TRAIN, **config) -> None:
    """In a trial's process: call `f` with a part of the images, and count the steps that it takes until each report."""
    import torchvision
    from syne_tune import Reporter
    from torch.optim.optimizer import register_optimizer_step_post_hook

    from async_hpo import data

    sizes = {"train": _n_train, "validation": _N_VALIDATION, "test": _N_VALIDATION}
    data.use({part: (X[: sizes[part]], y[: sizes[part]]) for part, (X, y) in data.arrays().items()})
    _shorten_init(torchvision.datasets.FashionMNIST, _n_train)  # D2L's own FashionMNIST reads it
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


def _shorten_init(dataset: Any, n_train: int) -> None:
    init = dataset.__init__

    def __init__(self, *args, **kwargs):
        init(self, *args, **kwargs)
        n = n_train if self.train else _N_VALIDATION
        self.data, self.targets = self.data[:n], self.targets[:n]

    dataset.__init__ = __init__


def _runs_alone(checks: Checklist, trial: _Ended) -> bool:
    if unknown := re.search(r"NameError: name '(\w+)' is not defined", trial.error):
        seen = f"the global name {unknown[1]!r}, which a worker does not have"
        return checks("it uses nothing that is defined around it", False, "imports and all else inside", seen)
    return checks("it runs in a process of its own, by itself", not trial.error, "no exception", trial.error)


def _reports_every_epoch(checks: Checklist, trial: _Ended, n_epochs: int) -> bool:
    names = ["epoch", "validation_error"]
    found = sorted({name for values in trial.reports for name in values if not name.startswith("st_")})
    expected = f"{n_epochs} reports, with epoch = {', '.join(map(str, range(1, n_epochs + 1)))}"
    if not checks("it reports to Syne Tune", bool(trial.reports), expected, "no report"):
        return False
    named = all(name in values for name in names for values in trial.reports)
    if not checks("it reports epoch and validation_error", named, ", ".join(names), ", ".join(found)):
        return False
    epochs = trial.epochs()
    what = f"{len(epochs)} report{'s' * (len(epochs) != 1)}, with epoch = {', '.join(map(str, epochs))}"
    if epochs == [n_epochs]:
        what += ": only at the end"
    elif epochs and len(epochs) == n_epochs - 1:
        what += ": one epoch too few"
    if not checks("it reports after every epoch", epochs == [*range(1, n_epochs + 1)], expected, what):
        return False
    steps = trial.steps if trial.steps and trial.steps[-1] > 0 else None  # None: not trained by a torch optimizer
    spread = steps is None or all(before < after for before, after in zip([0, *steps], steps, strict=False))
    seen = f"{', '.join(map(str, steps or []))} training steps before the reports"
    if not checks("it trains between its reports", spread, "an epoch of training before each report", seen):
        return False
    return _reports_errors(checks, trial.errors())


def _reports_errors(checks: Checklist, errors: list[Any]) -> bool:
    claim = "validation_error is an error"
    shown = ", ".join(f"{error:.3f}" if isinstance(error, float) else repr(error) for error in errors)
    numbers = all(isinstance(error, (int, float)) and 0 <= error <= 1 for error in errors)
    if not checks("validation_error is a share of images", numbers, "numbers between 0 and 1", shown):
        return False
    # Guessing errs on 0.9 of the images; this small network gets below 0.4 in three epochs.
    wrong = "validation errors that fall below 0.5; guessing has 0.9"
    if errors[-1] > 0.5 and errors[-1] > errors[0]:
        return checks(claim, False, wrong, f"{shown}, rising: is it the accuracy? The error is 1 - accuracy")
    return checks(claim, errors[-1] < 0.5, wrong, f"{shown}: it does not learn, or this is not the error")


def _validates_on_other_images(checks: Checklist, trial: _Ended) -> None:
    if trial.error or not trial.reports:  # it splits so few images in another way, say
        checks.note("not checked: whether the validation images are others than the training images")
        return
    best = min(trial.errors())
    seen = f"{best:.3f}: it knows them by heart, so these are the images that it was trained on"
    expected = f"errors above 0.2 on images that {_BY_HEART['_n_train']} training images say little about"
    checks("it validates on images that it was not trained on", best > 0.2, expected, seen)


def _uses_every_hyperparameter(checks: Checklist, trials: dict[str, _Ended]) -> None:
    base, again = trials[""], trials["again"]
    repeatable = base.errors() == again.errors()
    for name, value in _CHANGED.items():
        if (trial := trials.get(name)) is None:
            continue
        claim, expected = f"it uses {name}", f"another learning curve with {name}={value} than with {_EASY[name]}"
        if trial.error:
            checks(claim, False, f"reports with {name}={value}", trial.error)
        elif name == "batch_size" and base.steps and base.steps[-1] > 0 and trial.steps:
            ratio = base.steps[-1] / trial.steps[-1]
            wanted = value / _EASY[name]
            expected = f"{wanted:.0f} times as many steps with batch_size={_EASY[name]} as with batch_size={value}"
            seen = f"{ratio:.1f} times as many" + ": batch_size is ignored" * (abs(ratio - 1) < 0.05)
            checks(claim, abs(ratio / wanted - 1) < 0.1, expected, seen)
        elif repeatable:
            checks(claim, trial.errors() != base.errors(), expected, f"the same one: {name} is ignored")
    if not repeatable:
        checks.note("the same configuration gave two learning curves: set PyTorch's seed inside, to see them again")
