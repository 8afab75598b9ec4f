"""Exercise 1.1: the objective, which a few short trials run."""

import builtins
import functools
import inspect
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from numbers import Real
from types import FunctionType
from typing import Any

import pandas as pd
from syne_tune.backend.trial_status import Status
from syne_tune_workers import ForkserverBackend

from async_hpo import FASHION_MNIST
from async_hpo.check.checklist import Checklist
from async_hpo.check.inspections import HYPERPARAMETERS
from async_hpo.language import _
from async_hpo.paths import SHORT

_SECONDS = 250 if SHORT else 20  # for all trials; a cap alone where the tests run
_FEW = 6_000  # training images
# Learns quickly, with other optimizers, too: an error and an accuracy cannot be taken for each other.
_EASY = dict(zip(HYPERPARAMETERS, [64, 48, 0.1, 0.1, 0.02, 32], strict=True)) | {"max_epochs": 3}
# Few images, whose labels may be learnt by heart, even if they are random.
_BY_HEART = dict(zip(HYPERPARAMETERS, [256, 256, 0.0, 0.0, 0.05, 4], strict=True)) | {"max_epochs": 40}
# How a trial runs: images to train on, whether only their loader is cut, whether labels are random, and the seed.
_HOW = {"_n_train": _FEW, "_whole": False, "_noise": False, "_seed": 0}


def objective(f: Callable[..., None], config_space: dict[str, Any]) -> bool:
    """Check an objective for `DropoutMLP` (exercise 1.1) in processes of its own, as on Syne Tune's `PythonBackend`."""
    checks = Checklist("1.1")
    with checks.part(_("it ends in reasonable time")):
        _check_arguments(checks, f, config_space)
        with _trials(f, config_space) as run:
            _check_trials(checks, run)
    return checks.verdict()


def _check_arguments(checks: Checklist, f: Callable[..., None], space: dict[str, Any]) -> None:
    checks(_("it is a function"), isinstance(f, FunctionType), type(f).__name__, _("a function made with def"))
    parameters = inspect.signature(f).parameters
    named = [name for name, parameter in parameters.items() if parameter.kind != parameter.VAR_KEYWORD]
    missing = ", ".join(name for name in _EASY if name not in named and len(named) == len(parameters))
    checks(_("it takes the hyperparameters and max_epochs"), not missing, _("no {}", missing))
    lacking = ", ".join(name for name in dict.fromkeys([*_EASY, *named]) if name not in space)
    expected = _("every argument of the objective, max_epochs too (a constant)")
    checks(_("the configuration space has its arguments"), not lacking, _("no {}", lacking), expected)
    outside = ", ".join(f.__code__.co_freevars)
    checks(
        _("it uses nothing that is defined around it"),
        not outside,
        outside,
        _("all that it needs, inside the function"),
    )


@contextmanager
def _trials(f: Callable[..., None], space: dict[str, Any]) -> Iterator[Callable[..., tuple[pd.DataFrame, str]]]:
    """Give a function that runs a trial, with what is to differ from `_EASY`, and returns its reports and its error."""
    # Without globals and defaults, as PythonBackend does it.
    bare = FunctionType(f.__code__, {"__builtins__": builtins}, f.__name__)
    base = {name: value for name, value in space.items() if name not in HYPERPARAMETERS} | _EASY | _HOW
    backend = ForkserverBackend(functools.partial(_on_few_images, bare), base, [__name__], [FASHION_MNIST])

    def run(**changes) -> tuple[pd.DataFrame, str]:
        trial_id = backend.start_trial(base | changes).trial_id
        reports, status = [], Status.in_progress
        while status == Status.in_progress:
            if time.monotonic() > end:
                raise TimeoutError(_("it was still running after {} s", _SECONDS))
            statuses, new = backend.fetch_status_results([trial_id])
            reports += [report for _, report in new]
            status = statuses[trial_id][1]
        said = [line.strip() for line in backend.stderr(trial_id) if line.strip()] or [_("it ended without a message")]
        return pd.DataFrame(reports), said[-1] if status == Status.failed else ""

    with tempfile.TemporaryDirectory() as folder:
        backend.set_path(folder)
        backend.warm_up()
        end = time.monotonic() + _SECONDS
        try:
            yield run
        finally:
            backend.stop_all()


def _on_few_images(f: Callable[..., None], /, _n_train: int, _whole: bool, _noise: bool, _seed: int, **config) -> None:
    """In a trial's process: call `f` with a part of the images; its reports also tell what it does: `report_seen`."""
    import random

    import numpy as np
    import torch
    import torchvision
    from syne_tune import Reporter
    from torch.nn.modules.module import register_module_forward_hook
    from torch.optim.optimizer import register_optimizer_step_post_hook

    from async_hpo import data

    def few(part, X, y, whole):
        n = None if whole else _n_train if part == "train" or _noise else 1_000
        return X[:n], np.random.permutation(y[:n]) if _noise else y[:n]

    def read_few(self, *args, **kwargs) -> None:
        read(self, *args, **kwargs)
        self.data, targets = few("train" if self.train else "test", self.data, self.targets.numpy(), _whole)
        self.targets = torch.from_numpy(targets)

    def get_once(self, i):  # it decodes an image each time
        kept = self.__dict__.setdefault("_kept", {})
        return kept[i] if i in kept else kept.setdefault(i, get(self, i))

    def load_few(self, images, *args, **kwargs) -> None:
        # What an answer splits by itself keeps its size; of the larger part, to train on, its loader has but a few.
        if _whole and not {"sampler", "batch_sampler"} & {*kwargs} and len(images) > 30_000:
            images = torch.utils.data.Subset(images, range(_n_train))
        load(self, images, *args, **kwargs)

    def look_at_layer(layer, inputs, output) -> None:
        seen["output"] = output
        if isinstance(layer, torch.nn.Dropout):
            modes.add(layer.training)

    def look_at_step(*_) -> None:
        seen["steps"] += 1
        modes.clear()

    def report_seen(self, **values) -> None:
        # The last output tells two learning curves apart that have the same errors by chance.
        output = float(seen["output"].double().sum()) if isinstance(seen["output"], torch.Tensor) else None
        report(self, **values, _steps=seen["steps"], _output=f"{output}", _dropped=modes == {True})

    images, modes = {}, set[bool]()  # modes: whether Dropout was on, since the last step
    seen: dict[str, Any] = {"steps": 0, "output": None}
    for set_seed in (random.seed, np.random.seed, torch.manual_seed):
        set_seed(_seed)
    for part, arrays in data.arrays().items():
        images[part] = few(part, *arrays, _whole and (part, _noise) != ("train", True))  # already split
    data.use(images)
    Images, DataLoader = torchvision.datasets.FashionMNIST, torch.utils.data.DataLoader  # D2L's own FashionMNIST, too
    read, get, load, report = Images.__init__, Images.__getitem__, DataLoader.__init__, Reporter.__call__
    Images.__init__, Images.__getitem__ = read_few, get_once
    DataLoader.__init__, Reporter.__call__ = load_few, report_seen
    register_module_forward_hook(look_at_layer)
    register_optimizer_step_post_hook(look_at_step)
    f(**config)


def _check_trials(checks: Checklist, run: Callable[..., tuple[pd.DataFrame, str]]) -> None:
    """Check what one trial reports and then, while there is time, whether its arguments matter."""
    reports, error = run()
    try:
        errors = [float(error) for error in reports.get("validation_error", []) if isinstance(error, Real)]
        # It may count on all images, as to split them by itself: it can't learn from few or divides by another number.
        is_whole = bool(error) or (bool(errors) and not (0.1 <= min(errors) < 0.5 and max(errors) <= 1))
        if is_whole:
            run = functools.partial(run, _whole=True)
            reports, error = run()
        checks(_("it ends in reasonable time"), True)
        expected = _("no exception, and all that it needs inside, imports too")
        checks(_("it runs in a process of its own, by itself"), not error, error, expected)
        _check_reports(checks, reports)
        reports = run(max_epochs=2)[0]
        epochs = [*reports.get("epoch", [])]
        checks(_("max_epochs decides when it ends"), epochs == [1, 2], _("epochs {} with max_epochs=2", epochs))
        _check_hyperparameters(checks, run, reports[:1])
        # Random labels can be learnt by heart, but not guessed. Of 200 images a part may be split off to validate.
        noise, error = run(_noise=True, **_BY_HEART, _n_train=60 if is_whole else 200)
        if not error:  # as when it can't split so few
            best, worst = noise["validation_error"].min(), noise["validation_error"].max()
            expected = _("errors near 0.9 where all labels are random")
            checks(_("it validates on images that it was not trained on"), not best < 0.35, f"{best:.3f}", expected)
            checks(_("validation_error is a share of wrong labels"), not worst > 1, f"{worst:.3f}", expected)
    except TimeoutError:
        print(_("– not checked any further, because {} s were over", _SECONDS))


def _check_hyperparameters(
    checks: Checklist, run: Callable[..., tuple[pd.DataFrame, str]], first: pd.DataFrame
) -> None:
    """Compare what trials of one epoch come to with the first epoch of a trial."""

    def curve(reports: pd.DataFrame) -> list[Any]:
        return [*reports.get("validation_error", []), *reports.get("_output", [])]

    is_repeatable = curve(run(max_epochs=1, _seed=1)[0]) == curve(first)
    if not is_repeatable:
        print(_("– the same configuration gave two learning curves: set PyTorch's seed inside, to see them again"))
        is_repeatable = curve(run(max_epochs=1)[0]) == curve(first)
    for name, (value, *_limits) in HYPERPARAMETERS.items():
        reports, error = run(**{name: value}, max_epochs=1)
        with checks.part(_("it uses {}", name)):
            if error:
                checks(_("it uses {}", name), False, error, _("reports with {}={}", name, value))
            elif name == "batch_size" and first["_steps"].max():
                ratio = first["_steps"].max() / reports["_steps"].max()
                seen = _("{} times as many steps with {} as with {}", f"{ratio:.1f}", _EASY[name], value)
                checks(_("it uses batch_size"), abs(ratio * _EASY[name] / value - 1) < 0.1, seen)
            elif is_repeatable:
                seen = _("the same learning curve with {}={} as with {}", name, value, _EASY[name])
                checks(_("it uses {}", name), curve(reports) != curve(first), seen)


def _check_reports(checks: Checklist, reports: pd.DataFrame) -> None:
    checks(_("it reports to Syne Tune"), len(reports) > 0, _("no report"))
    found = ", ".join(name for name in reports if not name.startswith(("st_", "_")))
    checks(_("it reports epoch and validation_error"), {"epoch", "validation_error"} <= {*reports}, found)
    epochs, errors, steps = ([*reports[name]] for name in ("epoch", "validation_error", "_steps"))
    checks(_("it reports after every epoch"), epochs == [1, 2, 3], f"epoch = {epochs}", "epoch = [1, 2, 3]")
    # No steps at all: it was not trained by an optimizer of PyTorch's.
    n_steps = [after - before for before, after in pairwise([0, *steps])]
    trains = steps[-1] == 0 or min(n_steps) > 0
    checks(_("it trains between its reports"), trains, _("{} training steps before the reports", steps))
    even = max(n_steps) <= 1.5 * min(n_steps)
    checks(_("it trains for one epoch between its reports"), even, _("{} steps", n_steps), _("as many each time"))
    right = all(isinstance(error, Real) and 0 <= float(error) <= 1 for error in errors)
    checks(
        _("validation_error is a share of images"),
        right,
        f"{errors}",
        _("numbers between 0 and 1; of a tensor, .item()"),
    )
    # Guessing errs on 0.9 of the images; this small network gets below 0.4 in three epochs.
    expected = _("errors that fall below 0.5; guessing has 0.9, and the error is 1 - accuracy")
    checks(_("validation_error is an error"), min(errors) < 0.5, f"{errors}", expected)
    checks(
        _("it validates without dropout"), not any(reports["_dropped"]), _("dropout was on"), _("model.eval() before")
    )
